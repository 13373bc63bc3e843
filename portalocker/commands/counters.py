"""`python -m portalocker counters`: what a process waits for."""

from __future__ import annotations

import argparse
import sys

from ._output import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SUMMARY = 'show the wait counters of processes that show them'

#: exit statuses
SHOWN, NONE_THERE, FAILED = 0, 1, 2

_WAY_OUT = 'one does after portalocker.exporters.view.show() in it'
_GONE = FileNotFoundError, ConnectionRefusedError
_COLUMNS = (
    'active', 'started', 'contended', 'timeouts', 'cancelled', 'errors',
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.epilog = (
        'A process shows its counters after '
        'portalocker.exporters.view.show(). Exit status: 0 if something was '
        'shown, 1 if no process shows any, 2 if one cannot be asked.'
    )
    parser.add_argument(
        'pids', nargs='*', type=_pid, metavar='PID', help='default: all'
    )
    parser.add_argument(
        '--json', action='store_true', help='print an object by process id'
    )


def _pid(text: str) -> int:
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f'not a process id: {text!r}')


def main(args: argparse.Namespace) -> int:
    """Print the counters; return the exit status."""
    from ..exporters import view

    readings = {}
    failed = False
    try:
        pids = args.pids or view.processes()
    except OSError as error:
        print(f'portalocker counters: {_told(error)}', file=sys.stderr)
        return FAILED
    for pid in pids:
        try:
            readings[pid] = view.read(pid)
        except OSError as error:
            # One of all may have died without a word
            if args.pids or not isinstance(error, _GONE):
                failed = True
                print(
                    f'portalocker counters: cannot ask process {pid}: '
                    f'{_told(error)}',
                    file=sys.stderr,
                )
    if args.json:
        import json

        tell(json.dumps(readings))
    else:
        for pid, counters in readings.items():
            _print_table(pid, counters)
    if failed:
        return FAILED
    if not readings:
        print(
            f'portalocker counters: no process shows any; {_WAY_OUT}',
            file=sys.stderr,
        )
    return SHOWN if readings else NONE_THERE


def _told(error: OSError) -> str:
    if isinstance(error, _GONE):
        return f'it shows none; {_WAY_OUT}'
    return error.strerror or str(error)


def _print_table(pid: int, counters: dict[str, dict[str, Any]]) -> None:
    width = max([len('NAME'), *map(len, counters)])
    lines = [f'process {pid}']
    headings = ' '.join(f'{name.upper():>10}' for name in _COLUMNS)
    lines.append(
        f'{"NAME":{width}} {headings} {"TOTAL S":>12} {"LONGEST S":>12}'
    )
    for name, waits in sorted(counters.items()):
        numbers = ' '.join(f'{waits[column]:>10}' for column in _COLUMNS)
        lines.append(
            f'{name:{width}} {numbers} {waits["total"]:>12.6f} '
            f'{waits["longest"]:>12.6f}'
        )
    tell('\n'.join(lines))
