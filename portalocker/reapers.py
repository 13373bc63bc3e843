"""Find and remove what crashed processes left behind, nothing that lives.

A process that is killed cleans nothing up. What it leaves can be told from
what is in use, because whoever uses it holds a lock that the kernel drops with
the last process that has it:

- directories that were made to live while they are held,
- lock files of `TemporaryFileLock`, `PidFileLock` and the semaphores,
- files that were being written with `open_atomic` and never appeared.

Each bears a mark besides (the sticky bit, or a name that nobody else gives),
so that what others leave unlocked is never touched.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time

from . import (
    _living_directory,
    _opening,
    _pid_record,
    _publication_directory,
    _publication_draft,
    _record_lock,
    _sweeping,
    _tree_removal,
    portalocker,
)

if sys.platform != 'win32':
    import fcntl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ['private_directory', 'reap']

_LOCK_FILE_SUFFIX = '.lock'
_READ_FLAGS = (
    os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)
_WRITE_FLAGS = _READ_FLAGS | os.O_RDWR
_DIRECTORY_FLAGS = os.O_RDONLY | getattr(os, 'O_DIRECTORY', 0)
_HAS_DIR_FD = os.open in os.supports_dir_fd
# it went, or became something else, since we saw it
_IS_ANOTHER = {errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.EISDIR}
#: others may neither look into a private directory nor change it
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def reap(
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - as tempfile
    prefix: str = '',
    min_age: float = 0,
    dry_run: bool = False,
) -> list[str]:
    """Remove what dead processes left in a directory; return the paths.

    `dir`
        where to look, not in its subdirectories; None: the directory for
        temporary files.
    `prefix`
        how names begin that are considered. Without it, lock files are only
        those whose names end in `.lock`.
    `min_age`
        seconds since the last change, at least.
    `dry_run`
        remove nothing, return what would be removed.

    Removed is what bears our mark, belongs to this user, and is locked by
    nobody: directories that live while they are held, with all that is in
    them; lock files and the process id file that belongs to one; files of
    `open_atomic` that never appeared. Nothing that lives is removed, however
    many reapers and makers are at work. Only while a reaper looks at it, a
    free lock file is locked, so that a try that does not wait can fail.

    It never waits. Raises `OSError` where `dir` cannot be read, and after all
    else was done where something cannot be removed: the first error, the
    others in its notes. Works on file systems with `flock`; on Windows, whose
    open files cannot be removed, lock files are left alone. See
    docs/explanation/cleaning_up.rst.

    >>> import os, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with open(os.path.join(folder, f'.portalocker.{7:016x}.tmp'), 'wb'):
    ...     pass  # what is left of a writer that was killed
    >>> [os.path.basename(path) for path in reap(folder)]
    ['.portalocker.0000000000000007.tmp']
    >>> reap(folder)
    []
    """
    if not isinstance(prefix, str):
        raise TypeError(f'prefix must be a str, not {prefix!r}')
    try:
        is_age = min_age >= 0  # NaN is none
    except TypeError as error:
        raise TypeError(f'min_age must be seconds, not {min_age!r}') from error
    if not is_age:
        raise ValueError(f'cannot be younger than new: min_age={min_age!r}')
    reaper = _Reaper(_absolute(dir), dry_run=dry_run)
    try:
        changed_before = time.time() - min_age
        for name, status in reaper.candidates(prefix):
            if max(status.st_mtime, status.st_ctime) <= changed_before:
                reaper.visit(name, status)
    finally:
        reaper.close()
    _tree_removal.raise_first(reaper.errors)
    return reaper.removed


def _absolute(path: str | os.PathLike[str] | None) -> str:
    place = _opening.directory_or_default(path)
    return os.path.normpath(_publication_directory.anchored(place))


class _Reaper:
    """Goes through one directory, which it holds open."""

    def __init__(self, path: str, *, dry_run: bool) -> None:
        self._path = path
        self._dry_run = dry_run
        self._fd: int | None = None
        if _HAS_DIR_FD:
            self._fd = os.open(path, _DIRECTORY_FLAGS)
        self.removed: list[str] = []
        self.errors: list[OSError] = []

    def close(self) -> None:
        """Let go of the directory."""
        if self._fd is not None:
            os.close(self._fd)

    def candidates(self, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        """What bears a mark of ours, by all that can be seen from outside."""
        place: Any = self._path if self._fd is None else self._fd
        with os.scandir(place) as entries:
            names = [e.name for e in entries if e.name.startswith(prefix)]
        for name in names:
            try:
                status = os.stat(
                    self._at(name), dir_fd=self._fd, follow_symlinks=False
                )
            except OSError:
                continue  # gone already
            if (
                _living_directory.may_be_dead(status)
                or _is_unpublished(name, status)
                or _is_lock_file(name, status, prefix)
            ):
                yield name, status

    def visit(self, name: str, status: os.stat_result) -> None:
        """Remove it, unless it lives."""
        try:
            if stat.S_ISDIR(status.st_mode):
                is_dead = self._bury_directory(name)
            elif sys.platform == 'win32':
                is_dead = _is_closed(self._at(name)) and self._unlink(name)
            else:
                is_dead = self._bury_file(name, status)
        except OSError as error:
            if error.errno not in _IS_ANOTHER:
                error.filename = os.path.join(self._path, name)
                self.errors.append(error)
            return
        if is_dead:
            self.removed.append(os.path.join(self._path, name))

    def _at(self, name: str) -> str:
        return os.path.join(self._path, name) if self._fd is None else name

    def _bury_directory(self, name: str) -> bool:
        if sys.platform == 'win32':
            lock_file = _living_directory.LOCK_FILE
            if not _is_closed(os.path.join(self._path, name, lock_file)):
                return False
            fd = -1
        else:
            seized = _living_directory.seize_dead(self._at(name), self._fd)
            if seized is None:
                return False
            fd = seized
        try:
            if self._dry_run:
                return True
            errors = _tree_removal.remove_tree(self._at(name), self._fd)
        finally:
            if fd >= 0:
                os.close(fd)
        for error in errors:
            error.filename = os.path.join(self._path, error.filename)
        self.errors += errors
        return not errors

    def _unlink(self, name: str) -> bool:
        if not self._dry_run:
            os.unlink(self._at(name), dir_fd=self._fd)
        return True

    if sys.platform != 'win32':

        def _bury_file(self, name: str, seen: os.stat_result) -> bool:
            is_lock_file = not _is_unpublished(name, seen)
            # NFS wants a descriptor that can write for an exclusive lock
            flags = _WRITE_FLAGS if is_lock_file else _READ_FLAGS
            fd = os.open(self._at(name), flags, dir_fd=self._fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # it may have been replaced, or freed, until we had it
                if is_lock_file and not self._is_dead_lock_file(name, fd):
                    return False
                if not self._names(name, fd):
                    return False
                if is_lock_file and name.endswith(_LOCK_FILE_SUFFIX):
                    self._unlink_pid_file(name.removesuffix(_LOCK_FILE_SUFFIX))
                return self._unlink(name)
            except BlockingIOError:
                return False
            finally:
                os.close(fd)

        def _is_dead_lock_file(self, name: str, fd: int) -> bool:
            return _sweeping.was_held(os.fstat(fd)) and not _has_record_locks(
                fd
            )

        def _names(self, name: str, fd: int) -> bool:
            found = os.stat(
                self._at(name), dir_fd=self._fd, follow_symlinks=False
            )
            return os.path.samestat(found, os.fstat(fd))

        def _unlink_pid_file(self, name: str) -> None:
            """The one of a `PidFileLock` goes with the lock file beside it."""
            path = self._at(name)
            if _pid_record.read_pid(path, self._fd) is None or self._dry_run:
                return
            os.unlink(path, dir_fd=self._fd)


def _is_unpublished(name: str, status: os.stat_result) -> bool:
    return (
        _publication_draft.is_draft_name(name)
        and stat.S_ISREG(status.st_mode)
        and _sweeping.is_ours(status)
    )


def _is_lock_file(name: str, status: os.stat_result, prefix: str) -> bool:
    # with record locks of POSIX we would take our own process for a dead one
    if sys.platform == 'win32' or not portalocker.locks_open_files():
        return False
    has_our_name = bool(prefix) or name.endswith(_LOCK_FILE_SUFFIX)
    return has_our_name and _sweeping.was_held(status)


def _is_closed(path: str) -> bool:
    """Windows: whether there is such a file, and nobody has it open."""
    # of a name that is reaped as well, should we die in between
    probe = os.path.join(
        os.path.dirname(path), f'.portalocker.{os.urandom(8).hex()}.tmp'
    )
    try:
        os.rename(path, probe)
        os.rename(probe, path)
    except OSError:
        return False
    return True


if sys.platform != 'win32':

    def _has_record_locks(fd: int) -> bool:
        """Whether somebody locks with lockf, or waits in line for it."""
        get_lock = getattr(fcntl, 'F_OFD_GETLK', None)
        if get_lock is None:
            return False
        everything = _record_lock.pack_range(fcntl.F_WRLCK, 0, 0)
        try:
            answer = fcntl.fcntl(fd, get_lock, everything)
        except OSError:  # a kernel without open-file-description locks
            return False
        return _record_lock.unpack_range(answer)[0] != fcntl.F_UNLCK


def private_directory(
    name: str = 'portalocker',
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 - as tempfile
) -> str:
    """Return a directory that this user alone can enter; make it if needed.

    A place for what shall be found again by `reap`, where nobody else's
    files are in the way: `NAME-UID` in the directory for temporary files, or
    in `dir`.

    Raises `PermissionError` where somebody else has taken the name, or could
    look into the directory or change it: a name that can be guessed can be
    taken (CVE-2025-71176). Does not wait.

    >>> import os, tempfile
    >>> path = private_directory('doc', dir=tempfile.mkdtemp())
    >>> path == private_directory('doc', dir=os.path.dirname(path))
    True
    """
    if not isinstance(name, str):
        raise TypeError(f'cannot call a directory {name!r}: it is no str')
    if not name or os.path.basename(name) != name:
        raise ValueError(f'cannot call a directory {name!r}')
    if sys.platform == 'win32':  # there, the directory is the user's own
        path = os.path.join(_absolute(dir), name)
        os.makedirs(path, exist_ok=True)
        return path
    path = os.path.join(_absolute(dir), f'{name}-{os.geteuid()}')
    try:
        os.mkdir(path, stat.S_IRWXU)
    except FileExistsError:
        pass  # whose it is, is to be seen
    _check_private(path)
    return path


def _check_private(path: str) -> None:
    if sys.platform == 'win32':
        return
    try:
        fd = os.open(path, _DIRECTORY_FLAGS | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            raise
        cause = 'it is no directory'
    else:
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if status.st_uid != os.geteuid():
            cause = f'it belongs to user {status.st_uid}'
        elif status.st_mode & _OTHERS:
            cause = f'others have access: {stat.filemode(status.st_mode)}'
        else:
            return
    raise PermissionError(
        errno.EACCES, f'cannot use it as a private directory: {cause}', path
    )
