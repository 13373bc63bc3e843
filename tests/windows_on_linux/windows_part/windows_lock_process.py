"""A process that holds a lock until it is told to go, or is killed.

As a program: `windows_lock_process.py LOCKER WAY KIND PATH`. It says `held`
or `refused`, then waits for its standard input to end.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import types
import typing

import portalocker
from portalocker import _windows_lockers, constants, exceptions

ROOT = pathlib.Path(portalocker.__file__).parents[1]

LOCKERS = {
    'win32': _windows_lockers.Win32Locker,
    'msvcrt': _windows_lockers.MsvcrtLocker,
}
KINDS = {
    'exclusive': constants.LockFlags.EXCLUSIVE,
    'shared': constants.LockFlags.SHARED,
}


def environment() -> dict[str, str]:
    """Ours, with the package that we have."""
    return {**os.environ, 'PYTHONPATH': str(ROOT)}


def hide_pywin32() -> None:
    """Make `import win32file` fail from now on."""
    typing.cast(dict[str, object], sys.modules)['win32file'] = None


class LockProcess:
    """A process that runs a program of ours; killed at the latest at exit."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.kill()

    def said(self) -> str:
        """The next word it says; waits for it."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def leave(self) -> None:
        """Tell it to go and wait until it has gone."""
        if self._process.poll() is None:
            self._process.communicate()
        assert self._process.returncode == 0

    def kill(self) -> None:
        """End it without a chance to clean up."""
        self._process.kill()
        self._process.communicate()


def holding(
    locker: str, way: str, kind: str, path: pathlib.Path | str
) -> LockProcess:
    """A process that tries to lock the path; ask what it `said()`."""
    return LockProcess(__file__, locker, way, kind, str(path))


def main() -> None:
    locker_name, way, kind, path = sys.argv[1:]
    if way == 'ctypes':
        hide_pywin32()
    locker = LOCKERS[locker_name]()
    with open(path, 'r+b') as file:
        try:
            locker.lock(file, KINDS[kind] | constants.LockFlags.NON_BLOCKING)
        except exceptions.AlreadyLocked:
            print('refused', flush=True)
        else:
            print('held', flush=True)
            sys.stdin.read()
            locker.unlock(file)


if __name__ == '__main__':
    main()
