"""A process that holds one of the package's locks, until told to go.

As a program: `windows_holder_process.py CLASS PATH OPTIONS`, the options as
JSON. It says `held` or `refused`, then waits for its standard input to end.
"""

from __future__ import annotations

import json
import pathlib
import sys
import typing

import windows_lock_process as processes

from portalocker import exceptions, utils


def made(class_name: str, path: str, **options: object) -> typing.Any:
    """A lock of that class on that path; a semaphore's path is its folder."""
    if class_name == 'BoundedSemaphore':
        return utils.BoundedSemaphore(
            2, name='places', directory=path, **options
        )
    return getattr(utils, class_name)(path, **options)


def holding(
    class_name: str, path: pathlib.Path | str, **options: object
) -> processes.LockProcess:
    """A process that acquires such a lock; ask what it `said()`."""
    return processes.LockProcess(
        __file__, class_name, str(path), json.dumps(options)
    )


def main() -> None:
    class_name, path, options = sys.argv[1:]
    lock = made(class_name, path, **json.loads(options))
    try:
        lock.acquire()
    except exceptions.AlreadyLocked:
        print('refused', flush=True)
    else:
        print('held', flush=True)
        sys.stdin.read()
        lock.release()


if __name__ == '__main__':
    main()
