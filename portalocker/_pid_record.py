"""One number in one file: writing it, reading it, doubting it."""

from __future__ import annotations

import os
import time

from . import _signal_handlers

# on Windows a file that somebody reads cannot be replaced
_REPLACE_PAUSES_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
_FILES_TRIED = 20
_LONGEST_PID = 20  # digits of the largest number any system counts to


def write_pid(path: str, pid: int) -> None:
    """Make `path` say `pid`; a reader sees the old text or the new one.

    The text is ASCII decimal without a line end. The caller holds the lock
    that says who may write.
    """
    tries_left = _FILES_TRIED
    while True:
        # whoever cleans up removes what has such a name and is not locked
        beside = os.path.join(
            os.path.dirname(path), f'.portalocker.{os.urandom(8).hex()}.tmp'
        )
        try:
            return _write_through(beside, path, b'%d' % pid)
        except FileNotFoundError:  # cleaned up, or the directory is gone
            tries_left -= 1
            if not tries_left:
                raise


def _write_through(beside: str, path: str, text: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, 'O_CLOEXEC', 0) | getattr(os, 'O_NOFOLLOW', 0)
    is_open = False
    try:
        fd = _signal_handlers.open_kept(beside, flags)
        is_open = True
        os.write(fd, text)
        is_open = False
        os.close(fd)
        _put_in_place(beside, path)
    except BaseException as error:
        if is_open:
            os.close(fd)
        if not isinstance(error, FileNotFoundError):
            _unlink_if_there(beside)
        raise


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _put_in_place(beside: str, path: str) -> None:
    for pause in _REPLACE_PAUSES_SECONDS if os.name == 'nt' else ():
        try:
            return os.replace(beside, path)
        except PermissionError:
            time.sleep(pause)
    return os.replace(beside, path)


def read_pid(path: str, dir_fd: int | None = None) -> int | None:
    """The number that `path` says, None if it does not say one.

    It tells who wrote it, not who lives. Never raises for what it finds.
    """
    try:
        flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0)
        fd = _signal_handlers.open_kept(path, flags, dir_fd=dir_fd)
    except (OSError, ValueError):
        return None
    try:
        text = os.read(fd, _LONGEST_PID + 1)
    except OSError:  # a directory, a FIFO with a writer
        return None
    finally:
        os.close(fd)
    # Only digits: a sign would make kill(2) reach a process group, or all
    if not text.isdigit() or len(text) > _LONGEST_PID:
        return None
    return int(text) or None
