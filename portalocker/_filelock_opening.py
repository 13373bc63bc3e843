"""How the file of a FileLock is opened, and made where there is none."""

from __future__ import annotations

import os

from . import _signal_handlers

#: O_NOFOLLOW: a link could lead to somebody's data; O_NONBLOCK: a FIFO waits
EXISTING = os.O_RDWR
for _name in ('O_CLOEXEC', 'O_NOFOLLOW', 'O_NONBLOCK', 'O_NOCTTY',
              'O_NOINHERIT', 'O_BINARY'):  # fmt: skip
    EXISTING |= getattr(os, _name, 0)
#: what one call does where nothing is in the way
USUAL = EXISTING | os.O_CREAT
_TRIES = 16


def absolute(lock_file: str) -> str:
    """Where it is now; an empty path stays one, and leads nowhere."""
    if not lock_file or os.path.isabs(lock_file):
        return lock_file
    # Not abspath: `..` after a link leads where the system says
    return os.path.join(os.getcwd(), lock_file)


def open_or_make(path: str, mode: int | None) -> int:
    """Open the file; make it, with its parents, where it does not exist.

    `mode` is given exactly to a file that this call creates. An existing file
    keeps its own, and may be one that only others may create.
    """
    for _ in range(_TRIES):
        try:
            return _signal_handlers.open_kept(path, EXISTING)
        except FileNotFoundError:
            if not path:
                raise
        except NotADirectoryError:
            pass  # makedirs says what is in the way
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            return _make(path, mode)
        except FileExistsError:  # somebody was faster
            continue
        except FileNotFoundError:  # somebody removed the directory
            continue
    return _make(path, mode)


def _make(path: str, mode: int | None) -> int:
    fd = _signal_handlers.open_kept(
        path, USUAL | os.O_EXCL, 0o666 if mode is None else mode
    )
    if mode is not None and hasattr(os, 'fchmod'):
        try:
            os.fchmod(fd, mode)  # the umask does not apply
        except BaseException:
            os.close(fd)
            raise
    return fd
