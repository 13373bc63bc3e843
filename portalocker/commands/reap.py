"""`python -m portalocker reap`: remove what crashed processes left behind."""

from __future__ import annotations

import argparse
import sys

from .. import reapers
from ._output import tell

SUMMARY = 'remove what crashed processes left behind'

#: exit statuses
DONE, FAILED = 0, 2

_UNITS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.epilog = (
        'Directories that live while they are held, lock files, and files '
        'that never appeared are removed if they bear the mark of this '
        'package, belong to you, and nobody holds them. Exit status: 0, or 2 '
        'if something could not be removed.'
    )
    parser.add_argument(
        'directories',
        nargs='*',
        metavar='DIRECTORY',
        help='where to look (default: the one for temporary files)',
    )
    parser.add_argument(
        '--prefix', default='', help='only names that begin like this'
    )
    parser.add_argument(
        '--min-age',
        type=_seconds,
        default=0.0,
        metavar='AGE',
        help='only what has not changed for so long: 90, 90s, 15m, 2h, 1d',
    )
    parser.add_argument(
        '--dry-run', action='store_true', help='say it, and remove nothing'
    )


def _seconds(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS:
        number, unit = text, 's'
    try:
        return float(number) * _UNITS[unit]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'not an age such as 90, 90s, 15m, 2h, or 1d: {text!r}'
        ) from None


def _told(error: Exception) -> str:
    name = getattr(error, 'filename', None)
    if isinstance(error, OSError) and name is not None:
        return f'cannot reap {name!r}: {error.strerror}'
    return str(error)


def main(args: argparse.Namespace) -> int:
    """Print the path of each thing removed; return the exit status.

    Never waits for a lock.
    """
    status = DONE
    for directory in args.directories or [None]:
        try:
            removed = reapers.reap(
                directory, args.prefix, args.min_age, args.dry_run
            )
        except (OSError, ValueError) as error:
            status = FAILED
            for text in (_told(error), *getattr(error, '__notes__', ())):
                print(f'portalocker reap: {text}', file=sys.stderr)
            continue
        for path in removed:
            tell(path)
    return status
