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
import sys

from . import (
    _publication_attributes,
    _publication_directory,
    _publication_renaming,
)

if sys.platform != 'win32':
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
_DURABILITIES = ('file', 'full', 'data')
_HEX_DIGITS = frozenset('0123456789abcdef')

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


def check_durability(durable: object) -> None:
    """Refuse what says nothing about what survives a power failure."""
    if durable is not False and durable not in _DURABILITIES:
        raise ValueError(
            f"durable must be 'file', 'full', 'data' or False, not {durable!r}"
        )


def sync_file(fd: int, durable: str | bool) -> None:
    """Bring what was written to the disk; 'data' leaves out timestamps."""
    if sys.platform == 'darwin':
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(fd)  # file systems without it: fsync tells the errors
    elif durable == 'data' and hasattr(os, 'fdatasync'):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _random_name(suffix: str) -> str:
    return f'.portalocker.{os.urandom(8).hex()}.{suffix}'


def is_draft_name(name: str) -> bool:
    """Whether a draft may have it until it appears."""
    digits = name.removeprefix('.portalocker.').removesuffix('.tmp')
    return (
        name == f'.portalocker.{digits}.tmp'
        and len(digits) == 16
        and _HEX_DIGITS.issuperset(digits)
    )


def _lock_as_alive(fd: int) -> bool:
    """False where somebody took the file for a dead writer's."""
    if sys.platform != 'win32':  # there, an open file cannot be removed
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # no such locks here, nobody can judge
    return True


class Draft(_publication_directory.Directory):
    """A directory held open, and a file in it that nobody can find yet.

    `fd`
        the file's descriptor, ours alone; -1: not open.
    `name`
        its temporary name; None: it has none, or none any more.
    """

    fd = -1
    name: str | None = None

    def open(self, mode: int) -> int:
        """Open a new file; the umask applies to `mode`."""
        if _NAMELESS_FLAG and self.dir_fd is not None:
            try:
                self.fd = os.open(
                    '.', _NAMELESS_FLAG | os.O_RDWR, mode, dir_fd=self.dir_fd
                )
            except OSError as error:
                if error.errno not in _NO_NAMELESS_FILES:
                    raise
            else:
                return self.fd
        self.fd, self.name = self._opened_with_name(mode)
        return self.fd

    def _opened_with_name(self, mode: int) -> tuple[int, str]:
        for _ in range(_NAMES_TRIED):
            name = _random_name('tmp')
            try:
                fd = self.open_name(name, _NAMED_FLAGS, mode)
            except FileExistsError:
                continue
            try:
                # somebody may have removed it before it was locked
                if _lock_as_alive(fd) and os.fstat(fd).st_nlink > 0:
                    return fd, name
            except BaseException:
                self._give_up(fd, name)
                raise
            os.close(fd)
        raise FileExistsError(
            errno.EEXIST, 'cannot find a free temporary name', self.path
        )

    def appear_as(self, name: str) -> None:
        """Appear under a new name.

        Raises FileExistsError where the name exists, and never replaces it:
        of several that try at the same time, one wins.
        """
        if self.name is None and self._linked(name):
            return
        if self.name is None:
            self._continue_in_named_file()
        self._rename_to_new(name)
        self.name = None

    def _rename_to_new(self, name: str) -> None:
        assert self.name is not None
        if sys.platform == 'win32':
            self._rename_with(os.rename, name)
        elif self._linked(name):
            try:
                self._remove_name()
            except OSError:
                pass  # it has appeared; the rest is the reaper's
        else:
            assert self.dir_fd is not None
            _publication_renaming.rename_to_new_name(
                self.dir_fd, self.name, self.dir_fd, name
            )

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
        return os.path.join(self.present_path(), kept)

    def disown(self) -> None:
        """In a forked child: leave file and name to the parent."""
        self.name = None
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fd, inheritable=False)
        os.close(nowhere)

    def discard(self) -> None:
        """Close all; what has not appeared vanishes."""
        fd, self.fd = self.fd, -1
        try:
            if fd >= 0:
                os.close(fd)
            if self.name is not None:
                self._remove_name()
        finally:
            self.close()

    def _remove_name(self) -> None:
        assert self.name is not None
        try:
            os.unlink(self.at(self.name), dir_fd=self.dir_fd)
        except FileNotFoundError:
            pass  # renamed by an interrupted step, or cleaned up
        self.name = None

    def _rename_with(self, rename: Callable[..., None], name: str) -> None:
        assert self.name is not None
        if sys.platform == 'win32' and self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)
        _publication_renaming.insist(
            rename,
            self.at(self.name),
            self.at(name),
            src_dir_fd=self.dir_fd,
            dst_dir_fd=self.dir_fd,
        )

    def _linked(self, name: str) -> bool:
        """Link the draft; False where the system cannot."""
        try:
            if self.name is None:
                # with a dir_fd, Python calls linkat(), and that can follow
                os.link(
                    f'/proc/self/fd/{self.fd}',
                    name,
                    src_dir_fd=self.dir_fd,
                    dst_dir_fd=self.dir_fd,
                    follow_symlinks=True,
                )
            else:
                os.link(
                    self.at(self.name),
                    self.at(name),
                    src_dir_fd=self.dir_fd,
                    dst_dir_fd=self.dir_fd,
                    follow_symlinks=False,
                )
        except FileExistsError:
            # NFS: the answer to a call that made the link can get lost
            found = self.status(name)
            if not found or not os.path.samestat(found, os.fstat(self.fd)):
                raise
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
        fd, name = self._opened_with_name(0o600)
        try:
            _copy_content(self.fd, fd)
            _publication_attributes.carry_attributes_over(
                self.fd,
                os.fstat(self.fd),
                fd,
                _publication_attributes.KINDS_OF_ATTRIBUTES,
            )
            sync_file(fd, 'file')
        except BaseException:
            self._give_up(fd, name)
            raise
        nameless, self.fd, self.name = self.fd, fd, name
        os.close(nameless)

    def _give_up(self, fd: int, name: str) -> None:
        try:
            os.close(fd)
        finally:
            os.unlink(self.at(name), dir_fd=self.dir_fd)


def _copy_content(old: int, new: int) -> None:
    os.lseek(old, 0, os.SEEK_SET)
    while chunk := os.read(old, 1 << 20):
        while chunk:
            chunk = chunk[os.write(new, chunk) :]
