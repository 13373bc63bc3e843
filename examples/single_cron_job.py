"""Let a job that starts every minute run once at a time.

The second start leaves at once and says who is still at it. Nothing has to
be cleaned up after a crash: the system lets go for a process that dies.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

import portalocker

LOCK_FILE = pathlib.Path(tempfile.gettempdir(), 'example-nightly-job.lock')


def main() -> int:
    try:
        with portalocker.Lock(LOCK_FILE, fail_when_locked=True):
            do_the_job()
    except portalocker.AlreadyLocked as error:
        print(f'the last run is not over: {error}', file=sys.stderr)
        return 75
    return 0


def do_the_job() -> None:
    print('the job runs, and runs alone')


if __name__ == '__main__':
    sys.exit(main())
