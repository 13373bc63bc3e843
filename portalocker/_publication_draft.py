"""A file that nobody can find yet, and the ways it can appear.

A draft is opened in the directory where it will appear: as a file without
a name where the system has such files (`O_TMPFILE`), else under a random
name, `.portalocker.<16 hex digits>.tmp`. A draft with a name holds a
`flock` on it as long as its writer lives, so that whoever cleans up can
tell the living from the dead. What is kept after a failure is renamed to
`.portalocker.<16 hex digits>.kept`, and nobody cleans that up.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from . import _publication_attributes

if sys.platform != 'win32':
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HAS_DIR_FD = os.supports_dir_fd >= {
    os.link,
    os.mkdir,
    os.open,
    os.rename,
    os.stat,
    os.unlink,
}
# O_PATH needs no permission to read the directory
_ANCHOR_FLAGS = getattr(os, 'O_PATH', 0) | getattr(os, 'O_DIRECTORY', 0)
# without O_EXCL, so that it can be given a name; 0: the system has none
_NAMELESS_FLAG = getattr(os, 'O_TMPFILE', 0)
_NAMED_FLAGS = (
    os.O_RDWR
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, 'O_NOFOLLOW', 0)
    | getattr(os, 'O_BINARY', 0)
)
_NAMES_TRIED = 100

# EISDIR, EINVAL: kernels and file systems that never heard of O_TMPFILE
_NO_NAMELESS_FILES = {
    errno.EINVAL,
    errno.EISDIR,
    errno.ENOENT,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}
# ENOENT: no /proc here; EACCES, EPERM: forbidden by policy or file system
_NO_HARD_LINKS = {
    errno.EACCES,
    errno.EINVAL,
    errno.EMLINK,
    errno.ENOENT,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EXDEV,
}
_NO_EXCLUSIVE_RENAME = {
    errno.EINVAL,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EPERM,
}
# a directory that cannot be synced is no failed publication
_NO_DIRECTORY_SYNC = {
    errno.EACCES,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}
# access denied, sharing violation, lock violation
_WINDOWS_BUSY = {5, 32, 33}
# about 2.5 s in all: how long virus scanners and indexers keep a file open
_BUSY_PAUSES = tuple(0.01 * 2**n for n in range(8))


class Anchor:
    """A directory held open: what becomes of its path does not matter.

    Where descriptors of directories are not supported, its absolute path.
    """

    __slots__ = ('fd', 'path')

    def __init__(self, path: str) -> None:
        self.path = (
            path if path[:1] == '/' else os.path.join(os.getcwd(), path)
        )
        self.fd: int | None = None
        if _HAS_DIR_FD:
            self.fd = os.open(path or '.', _ANCHOR_FLAGS)
        elif not stat.S_ISDIR(os.stat(self.path).st_mode):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), path
            )

    def at(self, name: str) -> str:
        """Return what leads to `name`, together with `dir_fd=self.fd`."""
        return os.path.join(self.path, name) if self.fd is None else name

    def status(self, name: str) -> os.stat_result | None:
        """Return what is there under `name`, link or file, or None."""
        try:
            return os.stat(
                self.at(name), dir_fd=self.fd, follow_symlinks=False
            )
        except FileNotFoundError:
            return None

    def open(self, name: str, flags: int, mode: int = 0o777) -> int:
        """Open `name` in this directory."""
        return os.open(self.at(name), flags, mode, dir_fd=self.fd)

    def present_path(self) -> str:
        """Return where the directory is now, as far as the system tells."""
        try:
            return os.readlink(f'/proc/self/fd/{self.fd}')
        except OSError:
            return self.path

    def sync(self) -> None:
        """Make the entries of this directory survive a power failure."""
        sync_directory('.' if self.fd is not None else self.path, self.fd)

    def close(self) -> None:
        """Let go of the directory."""
        if self.fd is not None:
            os.close(self.fd)


def sync_directory(path: str, dir_fd: int | None = None) -> None:
    """Sync a directory, where the system can and lets us."""
    flags = os.O_RDONLY | getattr(os, 'O_DIRECTORY', 0)
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(fd)


def sync_file(fd: int, durable: str | bool) -> None:
    """Bring what was written to the disk; 'data' leaves out timestamps."""
    if durable is False:
        return
    if sys.platform == 'darwin':
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(fd)  # file systems without it: fsync tells the errors
    elif durable == 'data' and hasattr(os, 'fdatasync'):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def open_draft(anchor: Anchor, mode: int) -> Draft:
    """Open a new file in `anchor`; the umask applies to `mode`."""
    if _NAMELESS_FLAG and anchor.fd is not None:
        try:
            flags = _NAMELESS_FLAG | os.O_RDWR
            fd = os.open('.', flags, mode, dir_fd=anchor.fd)
        except OSError as error:
            if error.errno not in _NO_NAMELESS_FILES:
                raise
        else:
            return Draft(anchor, fd, None)
    return _open_named_draft(anchor, mode)


def _random_name(suffix: str) -> str:
    return f'.portalocker.{os.urandom(8).hex()}.{suffix}'


def _open_named_draft(anchor: Anchor, mode: int) -> Draft:
    for _ in range(_NAMES_TRIED):
        name = _random_name('tmp')
        try:
            fd = anchor.open(name, _NAMED_FLAGS, mode)
        except FileExistsError:
            continue
        if _is_ours_alone(fd):
            return Draft(anchor, fd, name)
        os.close(fd)
    raise FileExistsError(
        errno.EEXIST, 'cannot find a free temporary name', anchor.path
    )


def _is_ours_alone(fd: int) -> bool:
    """False where somebody took the file for a dead writer's meanwhile."""
    return _lock_as_alive(fd) and os.fstat(fd).st_nlink > 0


def _lock_as_alive(fd: int) -> bool:
    if sys.platform != 'win32':  # there, an open file cannot be removed
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # no such locks here, nobody can judge
    return True


class Draft:
    """A file that nobody can find yet.

    `fd`
        its descriptor, ours alone; -1 once closed.
    `name`
        its temporary name; None: it has none, or none any more.
    """

    __slots__ = ('anchor', 'fd', 'name')

    def __init__(self, anchor: Anchor, fd: int, name: str | None) -> None:
        self.anchor = anchor
        self.fd = fd
        self.name = name

    def appear_as(self, name: str) -> None:
        """Appear under a new name.

        Raises FileExistsError where the name exists, and never replaces it:
        of several that try at the same time, one wins.
        """
        if sys.platform == 'win32':
            self._rename_with(os.rename, name)
            self.name = None
            return
        if self.name is None:
            if self._linked(name):
                return
            self._continue_in_named_file()
        assert self.name is not None
        if self._linked(name):
            self._remove_name()
        else:
            rename_to_new_name(self.anchor, self.name, name)
            self.name = None

    def replace(self, name: str) -> None:
        """Appear under a name, in place of what is there."""
        if self.name is None:
            self._take_temporary_name()
        self._rename_with(os.replace, name)
        self.name = None

    def keep(self) -> str:
        """Take a name that is never cleaned up; return the path."""
        if self.name is None:
            self._take_temporary_name()
        assert self.name is not None
        kept = _random_name('kept')
        try:
            self._rename_with(os.rename, kept)
        except FileNotFoundError:
            raise  # somebody removed it
        except OSError:
            kept = self.name  # it leads there as well
        self.name = None
        return os.path.join(self.anchor.present_path(), kept)

    def disown(self) -> None:
        """In a forked child: leave file and name to the parent."""
        self.name = None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fd, inheritable=False)
        os.close(nowhere)

    def discard(self) -> None:
        """Close the file; what has not appeared vanishes."""
        self.close()
        self._remove_name()

    def close(self) -> None:
        """Close the descriptor."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def _remove_name(self) -> None:
        name, self.name = self.name, None
        if name is None:
            return
        try:
            os.unlink(self.anchor.at(name), dir_fd=self.anchor.fd)
        except FileNotFoundError:
            return  # renamed by an interrupted step, or cleaned up

    def _rename_with(self, rename: Callable[..., None], name: str) -> None:
        assert self.name is not None
        if sys.platform == 'win32':
            self.close()
        anchor = self.anchor
        _insist(
            rename,
            anchor.at(self.name),
            anchor.at(name),
            src_dir_fd=anchor.fd,
            dst_dir_fd=anchor.fd,
        )

    def _linked(self, name: str) -> bool:
        """Link the draft; False where the system cannot."""
        anchor = self.anchor
        is_nameless = self.name is None
        source = self.name or f'/proc/self/fd/{self.fd}'
        try:
            # with a dir_fd, Python calls linkat(), and that can follow
            os.link(
                source if is_nameless else anchor.at(source),
                anchor.at(name),
                src_dir_fd=anchor.fd,
                dst_dir_fd=anchor.fd,
                follow_symlinks=is_nameless,
            )
        except OSError as error:
            if error.errno in _NO_HARD_LINKS:
                return False
            raise
        return True

    def _take_temporary_name(self) -> None:
        _lock_as_alive(self.fd)
        name = _random_name('tmp')
        if self._linked(name):
            self.name = name
        else:
            self._continue_in_named_file()

    def _continue_in_named_file(self) -> None:
        """A nameless file that can get no name is copied to one that has."""
        named = _open_named_draft(self.anchor, 0o600)
        try:
            _copy_content(self.fd, named.fd)
            _publication_attributes.carry_attributes_over(
                self.fd,
                os.fstat(self.fd),
                named.fd,
                _publication_attributes.KINDS_OF_ATTRIBUTES,
            )
            sync_file(named.fd, 'file')
        except BaseException:
            named.discard()
            raise
        self.close()
        self.fd, self.name = named.fd, named.name


def _copy_content(old: int, new: int) -> None:
    os.lseek(old, 0, os.SEEK_SET)
    while chunk := os.read(old, 1 << 20):
        while chunk:
            chunk = chunk[os.write(new, chunk) :]


def _insist(call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
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


def rename_to_new_name(anchor: Anchor, old: str, new: str) -> None:
    """Rename without hard links; FileExistsError where `new` exists."""
    try:
        _rename_exclusively(anchor, old, new)
    except OSError as error:
        if error.errno not in _NO_EXCLUSIVE_RENAME:
            raise
        _rename_under_directory_lock(anchor, old, new)


def _rename_exclusively(anchor: Anchor, old: str, new: str) -> None:
    """Rename in one step that refuses to replace: renameat2(2)."""
    assert anchor.fd is not None
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        renameat2 = libc.renameat2
    except (ImportError, AttributeError):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    no_replace = 1  # RENAME_NOREPLACE of linux/fs.h
    failed = renameat2(
        ctypes.c_int(anchor.fd),
        ctypes.c_char_p(os.fsencode(old)),
        ctypes.c_int(anchor.fd),
        ctypes.c_char_p(os.fsencode(new)),
        ctypes.c_uint(no_replace),
    )
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), new)


def _rename_under_directory_lock(anchor: Anchor, old: str, new: str) -> None:
    """Look and rename while no other publication can come in between.

    Others who create `new` without the lock can be replaced.
    """
    if sys.platform != 'win32':
        fd = anchor.open('.', os.O_RDONLY | os.O_DIRECTORY)
        try:
            _insist(fcntl.flock, fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if anchor.status(new) is not None:
                raise FileExistsError(
                    errno.EEXIST, os.strerror(errno.EEXIST), new
                )
            os.rename(old, new, src_dir_fd=anchor.fd, dst_dir_fd=anchor.fd)
        finally:
            os.close(fd)
