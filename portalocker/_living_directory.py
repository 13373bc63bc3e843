"""A directory that is alive while somebody holds it, and how that is seen.

Who holds a directory has a flock on the directory itself, shared or
exclusive; the kernel drops it with the last process that has the descriptor.
So what is marked and not locked belongs to a process that died, and may be
removed by whoever locks it exclusively. Where directories cannot be opened
(Windows), an open file in it, which the system refuses to unlink, says the
same.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from . import exceptions

if sys.platform != 'win32':
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: how the names of directories begin that nobody gave another prefix
PREFIX = 'portalocker-'
#: the sticky bit says: remove me when nobody holds me. It means nothing else
#: on a directory that only its owner can enter, and is set by mkdir() itself.
MARK = stat.S_ISVTX
#: stands for the lock where directories cannot be locked
LOCK_FILE = '.portalocker.lock'

_ENTER_FLAGS = (
    os.O_RDONLY | getattr(os, 'O_DIRECTORY', 0) | getattr(os, 'O_NOFOLLOW', 0)
)
# since we made it, it went, or something else took its place
_WENT_AWAY = {errno.ELOOP, errno.EMLINK, errno.ENOENT, errno.ENOTDIR}
_NO_DIRECTORY_OF_OURS = _WENT_AWAY | {errno.EACCES, errno.EPERM}


def make(path: Any, *, shared: bool, marked: bool) -> int:
    """Make a directory and hold it; return the descriptor that does.

    Raises FileExistsError where the name exists, and where somebody took the
    directory for a dead one before it was held: use another name.
    """
    os.mkdir(path, stat.S_IRWXU | (MARK if marked else 0))
    try:
        fd = hold(path, shared=shared)
    except exceptions.AlreadyLocked as error:
        raise _taken(path) from error
    except OSError as error:
        if error.errno in _WENT_AWAY:
            raise _taken(path) from error
        os.rmdir(path)
        raise
    except BaseException:
        os.rmdir(path)
        raise
    if marked and sys.platform not in {'linux', 'win32'}:
        # Linux: mkdir() did it; Windows: the file in it does it
        try:
            mark(fd)
        except BaseException:
            os.close(fd)
            os.rmdir(path)
            raise
    return fd


def _taken(path: Any) -> FileExistsError:
    return FileExistsError(
        errno.EEXIST, 'cannot hold a directory that was taken away', path
    )


def hold(path: Any, *, shared: bool) -> int:
    """Hold a directory that exists until the descriptor is closed.

    Raises AlreadyLocked where others hold it in a way that excludes us, and
    FileNotFoundError where it is gone or being removed.
    """
    if sys.platform == 'win32':
        return _hold_by_file(os.path.join(os.fspath(path), LOCK_FILE))
    fd = os.open(path, _ENTER_FLAGS)
    try:
        lock(fd, path, shared=shared)
        held = os.fstat(fd)
        # until it was locked, a reaper may have removed it
        found = os.lstat(path)
        if found.st_ino != held.st_ino or found.st_dev != held.st_dev:
            raise FileNotFoundError(
                errno.ENOENT, 'cannot hold a directory that was replaced', path
            )
    except BaseException:
        os.close(fd)
        raise
    return fd


def lock(fd: int, path: Any, *, shared: bool) -> None:
    """Lock an open directory, or raise AlreadyLocked at once."""
    try:
        _flock(fd, shared=shared)
    except BlockingIOError as error:
        raise exceptions.AlreadyLocked(
            error, fh=fd, filename=os.fsdecode(path)
        ) from error
    except OSError as error:
        # EBADF: NFS wants a descriptor that can write, and there is none
        error.strerror = f'cannot lock a directory here: {error.strerror}'
        error.filename = path
        raise


def _flock(fd: int, *, shared: bool) -> None:
    if sys.platform != 'win32':
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    else:
        raise NotImplementedError('cannot lock directories on Windows')


def _hold_by_file(path: str) -> int:
    # opened without FILE_SHARE_DELETE: nobody can unlink it
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def unmark(fd: int) -> None:
    """Say that this directory stays when nobody holds it any more."""
    if sys.platform != 'win32':  # there, its file goes when it is let go
        os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) & ~MARK)


def mark(fd: int) -> None:
    """Say that this directory goes when nobody holds it any more."""
    if sys.platform != 'win32':
        os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | MARK)


def let_go(path: Any, fd: int) -> None:
    """Hold it no more."""
    os.close(fd)
    if sys.platform == 'win32':
        try:
            os.unlink(os.path.join(os.fspath(path), LOCK_FILE))
        except OSError:
            return  # somebody else holds it, or it is gone


def may_be_dead(status: os.stat_result) -> bool:
    """Whether a directory goes when nobody holds it, and is ours to remove."""
    if not stat.S_ISDIR(status.st_mode):
        return False
    if sys.platform == 'win32':
        return True  # LOCK_FILE in it decides
    return bool(status.st_mode & MARK) and status.st_uid == os.geteuid()


def seize_dead(name: Any, dir_fd: int | None = None) -> int | None:
    """Return a descriptor that locks a dead directory; None: it lives.

    None as well for what is gone, is no directory, is not marked or is not
    ours. Who gets a descriptor empties the directory, removes it, and closes
    the descriptor after that.
    """
    try:
        fd = os.open(name, _ENTER_FLAGS, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in _NO_DIRECTORY_OF_OURS:
            return None
        raise
    try:
        if may_be_dead(os.fstat(fd)):
            lock(fd, name, shared=False)
            # its owner may have kept it until a moment ago
            if may_be_dead(os.fstat(fd)):
                seized, fd = fd, -1
                return seized
    except exceptions.AlreadyLocked:
        return None
    finally:
        if fd >= 0:
            os.close(fd)
    return None
