"""`python -m portalocker who`: who holds a lock file, and who waits for it."""

from __future__ import annotations

import errno
import os
import re
import sys

from .. import _owner, _pid_record, constants, exceptions, portalocker
from ..holder import Holder
from . import _on_servers
from ._output import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator
    from typing import Any

SUMMARY = 'show who holds locks and who waits for them'

#: exit statuses
HELD, FREE, FAILED = 0, 1, 2

_TRY = constants.LockFlags.EXCLUSIVE | constants.LockFlags.NON_BLOCKING
_HEADINGS = ('FILE', 'ROLE', 'KIND', 'PID', 'WAITING', 'COMMAND')
_KINDS = {None: '?', False: 'exclusive', True: 'shared'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.epilog = (
        'Exit status: 0 if any of the locks is held, 1 if none is, 2 if one '
        'cannot be looked at. Only Linux tells who holds the lock of a file. '
        f'Locks on servers: {_on_servers.FORMS}.'
    )
    parser.add_argument('locks', nargs='+', metavar='LOCKFILE|URL')
    parser.add_argument(
        '--json', action='store_true', help='print a list of objects'
    )


def main(args: argparse.Namespace) -> int:
    """Print who holds and who waits; return the exit status.

    Never waits for a lock. Never touches one, except in a container where
    nobody is seen to hold it: holders outside are found by trying.
    """
    reports: list[Report | _on_servers.ServerReport] = []
    for lock in args.locks:
        try:
            if _on_servers.is_url(lock):
                reports.append(_on_servers.ServerReport(lock))
            else:
                reports.append(Report(lock))
        except (OSError, _on_servers.CannotTell) as error:
            cause = getattr(error, 'strerror', None) or error
            one_line = ' '.join(str(cause).split())
            print(
                f'portalocker who: cannot tell who holds '
                f'{_without_password(lock)!r}: {one_line}',
                file=sys.stderr,
            )
    if args.json:
        tell(_as_json(reports))
    elif reports:
        tell(_as_tables(reports))
    if len(reports) < len(args.locks):
        return FAILED
    return HELD if any(report.is_held for report in reports) else FREE


def _without_password(lock: str) -> str:
    """A URL as it may be shown."""
    return re.sub(r'(://[^/@:]*):[^/@]*@', r'\1@', lock)


class Report:
    """What the system tells about one lock file.

    Raises `OSError` where the file is missing or nothing can be told.
    """

    def __init__(self, lock_file: str) -> None:
        self.lock_file = lock_file
        os.stat(lock_file)
        # a PidFileLock locks the file beside the one it writes to
        rows = _owner.lock_rows(lock_file, deep=True) or _owner.lock_rows(
            f'{lock_file}.lock', deep=True
        )
        self.holders: tuple[Holder, ...] = _owner.holders_in(rows)
        self.waiters: tuple[_owner.Waiter, ...] = _owner.waiters_in(rows)
        #: there are holders that the system does not name
        self.has_unknown_holders: bool = any(
            row.is_held and row.pid is None for row in rows
        )
        if _owner.can_tell():
            if not self.is_held and not _owner.shows_all():
                self.has_unknown_holders = _is_locked(lock_file) or _is_locked(
                    f'{lock_file}.lock'
                )
        else:
            pid = _pid_record.read_pid(lock_file.removesuffix('.lock'))
            if pid is None:
                raise OSError(
                    errno.ENOTSUP, 'this system does not show its locks'
                )
            self.holders = (Holder(pid, recorded=True),)

    @property
    def is_held(self) -> bool:
        """Whether anybody holds the lock."""
        return bool(self.holders) or self.has_unknown_holders

    def as_facts(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            'file': self.lock_file,
            'held': self.is_held,
            'holders': [
                {
                    'pid': holder.pid,
                    'command': holder.command,
                    'shared': holder.shared,
                    'recorded': holder.recorded,
                }
                for holder in self.holders
            ],
            'unknown_holders': self.has_unknown_holders,
            'waiters': [
                {
                    'pid': waiter.pid,
                    'command': waiter.command,
                    'shared': waiter.shared,
                    'waiting': waiter.waiting,
                }
                for waiter in self.waiters
            ],
        }


def _is_locked(path: str) -> bool:
    """Whether a file is locked that nobody is seen to hold.

    To know, its lock is taken for an instant where it is free.
    """
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0))
    except OSError:
        return False
    try:
        portalocker.lock(fd, _TRY)
    except exceptions.LockException as failure:
        return isinstance(failure, exceptions.AlreadyLocked)
    finally:
        os.close(fd)
    return False


def _as_json(reports: Iterable[Report | _on_servers.ServerReport]) -> str:
    import json

    return json.dumps([report.as_facts() for report in reports], indent=2)


def _as_tables(
    reports: Iterable[Report | _on_servers.ServerReport],
) -> str:
    """One table of lock files, one of locks on servers, where there are."""
    lines: list[tuple[str, ...]] = []
    on_servers = []
    for report in reports:
        if isinstance(report, _on_servers.ServerReport):
            on_servers.append(report)
        else:
            lines.extend(_lines_about(report))
    tables = [[_HEADINGS, *lines] if lines else []]
    tables.append(_on_servers.as_lines(on_servers))
    return '\n\n'.join(_as_table(table) for table in tables if table)


def _as_table(lines: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join(
        '  '.join(map(str.ljust, line, widths)).rstrip() for line in lines
    )


def _lines_about(report: Report) -> Iterator[tuple[str, ...]]:
    name = ''.join(map(_owner.printable, report.lock_file))
    for holder in report.holders:
        role = 'recorded' if holder.recorded else 'holder'
        kind = _KINDS[None if holder.recorded else holder.shared]
        yield name, role, kind, str(holder.pid), '-', holder.command or '?'
    if report.has_unknown_holders:
        yield name, 'holder', '?', '?', '-', '?'
    for waiter in report.waiters:
        pid = '?' if waiter.pid is None else str(waiter.pid)
        seconds = '?' if waiter.waiting is None else f'{waiter.waiting:.1f} s'
        kind = _KINDS[waiter.shared]
        yield name, 'waiter', kind, pid, seconds, waiter.command or '?'
    if not report.is_held and not report.waiters:
        yield name, 'free', '-', '-', '-', '-'
