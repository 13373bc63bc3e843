"""Keep one service running, and tell which process it is.

The pid file is there while the service runs. A second start gets the pid of
the first one; after a crash the next start simply takes over.
"""

from __future__ import annotations

import pathlib
import tempfile

import portalocker


def start_service(pid_file: pathlib.Path) -> None:
    with portalocker.PidFileLock(pid_file) as other:
        if other is not None:
            print('runs already')
            return
        print('service starts')
        start_service(pid_file)  # what a second start would see
    print('pid file left behind:', pid_file.exists())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        start_service(pathlib.Path(folder, 'service.pid'))


if __name__ == '__main__':
    main()
