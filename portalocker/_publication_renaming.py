"""Renames that do what `os.rename` does not: refuse to replace, exchange."""

from __future__ import annotations

import errno
import os
import sys
import time

if sys.platform != 'win32':
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# access denied, sharing violation, lock violation
_WINDOWS_BUSY = {5, 32, 33}
# about 2.5 s in all: how long virus scanners and indexers keep a file open
_BUSY_PAUSES = tuple(0.01 * 2**n for n in range(8))

#: the system, or this file system, has no such rename
NO_SUCH_RENAME = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
}
# (of renameat2 in <linux/fs.h>, of renameatx_np in <sys/stdio.h> of macOS)
_NO_REPLACE = (1, 4)
_EXCHANGE = (2, 2)


def insist(call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Call until nobody is in the way for a moment any more."""
    for pause in _BUSY_PAUSES:
        try:
            call(*args, **kwargs)
        except OSError as error:
            if (
                not isinstance(error, BlockingIOError)
                and getattr(error, 'winerror', None) not in _WINDOWS_BUSY
            ):
                raise
        else:
            return
        time.sleep(pause)
    call(*args, **kwargs)


def exchange(old_fd: int, old: str, new_fd: int, new: str) -> None:
    """Swap two names, whatever they are, in one step.

    Each is below the directory of its descriptor. `OSError` with a code of
    `NO_SUCH_RENAME` where that is impossible.
    """
    _rename(old_fd, old, new_fd, new, _EXCHANGE)


def rename_to_new_name(old_fd: int, old: str, new_fd: int, new: str) -> None:
    """Rename; `FileExistsError` where `new` exists, also a directory.

    Of several that try at the same time, one wins. Where the system has no
    such rename, this holds between those that come here.
    """
    try:
        _rename(old_fd, old, new_fd, new, _NO_REPLACE)
    except OSError as error:
        if error.errno not in NO_SUCH_RENAME:
            raise
        _rename_under_directory_lock(old_fd, old, new_fd, new)


def _rename(
    old_fd: int, old: str, new_fd: int, new: str, flags: tuple[int, int]
) -> None:
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        is_linux = hasattr(libc, 'renameat2')
        rename = libc.renameat2 if is_linux else libc.renameatx_np
    except (ImportError, AttributeError):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    for name in (old, new):
        if '\0' in name:  # C would take the part before it for the name
            raise ValueError(f'cannot rename to {name!r}: embedded null byte')
    failed = rename(
        ctypes.c_int(old_fd),
        ctypes.c_char_p(os.fsencode(old)),
        ctypes.c_int(new_fd),
        ctypes.c_char_p(os.fsencode(new)),
        ctypes.c_uint(flags[0] if is_linux else flags[1]),
    )
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def _rename_under_directory_lock(
    old_fd: int, old: str, new_fd: int, new: str
) -> None:
    """Look and rename while no other publication can come in between.

    Others who create `new` without the lock can be replaced.
    """
    if sys.platform != 'win32':
        with DirectoryLock(new_fd):
            if exists(new, new_fd):
                raise FileExistsError(
                    errno.EEXIST, os.strerror(errno.EEXIST), new
                )
            os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)


def exists(name: str, dir_fd: int | None) -> bool:
    """Whether anything has this name, be it a link that leads nowhere."""
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


if sys.platform != 'win32':

    class DirectoryLock:
        """The exclusive `flock` on a directory, waited for 2.5 seconds."""

        def __init__(self, dir_fd: int) -> None:
            self._dir_fd = dir_fd

        def __enter__(self) -> None:
            # what `dir_fd` has open may have been opened for its path alone
            flags = os.O_RDONLY | os.O_DIRECTORY
            self._fd = os.open('.', flags, dir_fd=self._dir_fd)
            try:
                insist(fcntl.flock, self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(self._fd)
                raise

        def __exit__(self, *_: object) -> None:
            os.close(self._fd)
