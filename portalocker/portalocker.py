"""One descriptor, one lock: `lock()`, `unlock()`, `LOCKER` and the lockers.

`LOCKER` says how files are locked. It is read at every call, so assigning it
changes all locks from then on:

>>> import fcntl
>>> from portalocker import portalocker
>>> portalocker.LOCKER is fcntl.flock
True

It may be a function like `fcntl.flock` (POSIX), a `BaseLocker` subclass or
instance, or a pair of functions `(lock, unlock)`.
"""

from __future__ import annotations

import errno
import os
import sys

from . import _record_lock, _signal_handlers, constants, exceptions
from ._base_locker import BaseLocker, LockCallable, UnlockCallable
from ._lock_request import _LOCK_REQUESTS, check_flags
from ._windows_lockers import (
    MsvcrtLocker,
    Win32Locker,
    _prepare_windows_file,
    _restore_windows_file_pos,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Union

    from . import types

    Locker = Union[
        Callable[..., Any],
        BaseLocker,
        type[BaseLocker],
        tuple[LockCallable, UnlockCallable],
    ]

__all__ = [
    'LOCKER',
    'BaseLocker',
    'LockCallable',
    'MsvcrtLocker',
    'UnlockCallable',
    'Win32Locker',
    '_prepare_windows_file',
    '_restore_windows_file_pos',
    'lock',
    'unlock',
]

LOCKER: Locker
# What `LOCKER` is unless somebody assigned it, where that is a function
_flock: Any

_LOCK_UN = constants.LOCK_UN
_CONTENTION = frozenset((errno.EACCES, errno.EAGAIN))
_TOO_LARGE = frozenset((errno.EFBIG, errno.EOVERFLOW))

# One instance per locker class that `LOCKER` was set to
_locker_instances: dict[type[BaseLocker], BaseLocker] = {}


def _lock_failure(
    error: Exception, file_obj: types.FileArgument
) -> exceptions.LockException:
    """The failure of ours that stands for the system's."""
    if isinstance(error, OSError):
        _signal_handlers.let_pass(error)
    number = getattr(error, 'errno', None)
    if number in _CONTENTION:
        return exceptions.AlreadyLocked(error, fh=file_obj)
    if number in _TOO_LARGE:
        return exceptions.FileToLarge(error, fh=file_obj)
    return exceptions.LockException(error, fh=file_obj)


def _unlock_failure(
    error: Exception, file_obj: types.FileArgument
) -> exceptions.LockException:
    failure = _lock_failure(error, file_obj)
    failure._verb = 'unlock'
    return failure


def _posix_fd(file: Any) -> int:
    """The descriptor of a descriptor or of what has one."""
    try:
        return file.fileno()  # type: ignore[no-any-return]
    except AttributeError:
        if isinstance(file, int):
            return file
        raise TypeError(
            f'cannot lock {file!r}: expected a file descriptor or an object '
            'with fileno()'
        ) from None


def _locker_object(
    locker: Any,
) -> BaseLocker | tuple[LockCallable, UnlockCallable]:
    """What `LOCKER` stands for: something with both verbs."""
    if isinstance(locker, BaseLocker):
        return locker
    if isinstance(locker, tuple) and len(locker) == 2:
        return locker
    if isinstance(locker, type) and issubclass(locker, BaseLocker):
        if locker not in _locker_instances:
            _locker_instances.setdefault(locker, locker())
        return _locker_instances[locker]
    if callable(locker) and sys.platform != 'win32':
        return _posix_locker_instance
    raise TypeError(
        f'cannot lock with LOCKER = {locker!r}: expected a BaseLocker class '
        'or instance, a (lock, unlock) pair'
        + ('' if os.name == 'nt' else ', or a function like fcntl.flock')
    )


def lock(file: types.FileArgument, flags: constants.LockFlags) -> None:
    """Lock an open file the way `LOCKER` says.

    `file` is a descriptor, a file object, or anything with `fileno()`;
    `flags` is `EXCLUSIVE` or `SHARED`, with `NON_BLOCKING` or without.

    Without `NON_BLOCKING` it waits for as long as it takes, Ctrl-C ends the
    wait. The lock lasts until `unlock()` or until the file is closed; with
    the default `flock` it belongs to the open file, so a second `open()` of
    the same path in this process has to wait as well, and locking an already
    locked handle again converts its lock.

    Raises `AlreadyLocked` where somebody else holds the lock (with
    `NON_BLOCKING`), another `LockException` where the system refuses,
    `RuntimeError` for flags that ask for nothing or for both kinds, and
    `TypeError` for what is not a file.

    >>> import tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     lock(file, constants.LockFlags.EXCLUSIVE)
    ...     unlock(file)
    """
    is_usual = LOCKER is _flock
    if is_usual:  # without detours
        if flags not in _LOCK_REQUESTS:
            check_flags(flags)
        try:
            _flock(file, flags)
        except TypeError:  # it says which kind of thing is missing
            _posix_locker_instance.lock(file, flags)
        except OSError as error:
            raise _lock_failure(error, file) from error
        return
    locker = _locker_object(LOCKER)
    if isinstance(locker, tuple):
        locker[0](file, flags)
    else:
        locker.lock(file, flags)


def unlock(file: types.FileArgument) -> None:
    """Let go of a file locked by `lock()`; one that is not locked stays so.

    It never blocks. Raises `LockException` where the system refuses and
    `TypeError` for what is not a file.
    """
    is_usual = LOCKER is _flock
    if is_usual:
        try:
            _flock(file, _LOCK_UN)
        except TypeError:
            _posix_locker_instance.unlock(file)
        except OSError as error:
            raise _unlock_failure(error, file) from error
        return
    locker = _locker_object(LOCKER)
    if isinstance(locker, tuple):
        locker[1](file)
    else:
        locker.unlock(file)


def _kind_of_locker() -> Any:
    return LOCKER if isinstance(LOCKER, type) else type(LOCKER)


# Users rebind `lock`
_our_lock = lock


if sys.platform != 'win32':
    import fcntl

    LOCKER = fcntl.flock
    _flock = fcntl.flock

    class PosixLocker(BaseLocker):
        """Locks by a function like `fcntl.flock`: the one in `LOCKER`."""

        @property
        def locker(
            self,
        ) -> Callable[[int | types.HasFileno, int], Any]:
            """The function that locks: `LOCKER` if it is one, else flock."""
            if callable(LOCKER) and not isinstance(LOCKER, (type, BaseLocker)):
                return LOCKER
            return fcntl.flock

        def _get_fd(self, file_obj: types.FileArgument) -> int:
            """The descriptor of what `lock()` was given."""
            return _posix_fd(file_obj)

        def lock(
            self, file_obj: types.FileArgument, flags: constants.LockFlags
        ) -> None:
            """Lock the file; see `portalocker.lock`."""
            check_flags(flags)
            try:
                self.locker(self._get_fd(file_obj), flags)
            except (OSError, EOFError) as error:  # EOFError: seen on NFS
                raise _lock_failure(error, file_obj) from error

        def unlock(self, file_obj: types.FileArgument) -> None:
            """Let go of the file; see `portalocker.unlock`."""
            try:
                self.locker(self._get_fd(file_obj), constants.LOCK_UN)
            except (OSError, EOFError) as error:
                raise _unlock_failure(error, file_obj) from error

    class FlockLocker(PosixLocker):
        """flock(2): the lock belongs to the open file. The default."""

        @property
        def locker(self) -> Callable[[int | types.HasFileno, int], Any]:
            """Always `fcntl.flock`."""
            return fcntl.flock

    class LockfLocker(PosixLocker):
        """POSIX record locks over the whole file: they belong to the process.

        Two handles of one process do not exclude each other, and closing any
        handle of the file drops the lock. `EXCLUSIVE` needs a writable file,
        `SHARED` a readable one. See `OfdLocker` for record locks without
        these traps.
        """

        @property
        def locker(self) -> Callable[[int | types.HasFileno, int], Any]:
            """Always `fcntl.lockf`."""
            return fcntl.lockf

    class OfdLocker(PosixLocker):
        """Record locks that belong to the open file, with byte ranges.

        Linux and macOS (`F_OFD_SETLK`); they work over NFS, conflict with
        POSIX record locks and, on Linux, not with `flock`. `EXCLUSIVE` needs
        a writable file, `SHARED` a readable one. Source: fcntl(2).

        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file:
        ...     OfdLocker().lock(
        ...         file, constants.LockFlags.EXCLUSIVE, start=0, length=8
        ...     )
        """

        def lock(
            self,
            file_obj: types.FileArgument,
            flags: constants.LockFlags,
            *,
            start: int = 0,
            length: int = 0,
        ) -> None:
            """Lock `length` bytes from `start`; 0: to the end, however far.

            Waits for ever unless `flags` say `NON_BLOCKING`. Raises as
            `portalocker.lock` does.
            """
            check_flags(flags)
            kind = (
                fcntl.F_WRLCK if flags & constants.LOCK_EX else fcntl.F_RDLCK
            )
            verb = 'SETLK' if flags & constants.LOCK_NB else 'SETLKW'
            self._request(file_obj, verb, kind, start, length)

        def unlock(
            self,
            file_obj: types.FileArgument,
            *,
            start: int = 0,
            length: int = 0,
        ) -> None:
            """Let go of `length` bytes from `start`; 0: to the end."""
            self._request(file_obj, 'SETLK', fcntl.F_UNLCK, start, length)

        def _request(
            self,
            file_obj: types.FileArgument,
            verb: str,
            kind: int,
            start: int,
            length: int,
        ) -> None:
            command: int | None = getattr(fcntl, f'F_OFD_{verb}', None)
            if command is None:
                raise exceptions.LockException(
                    'cannot lock: this system has no open-file-description '
                    'locks',
                    fh=file_obj,
                )
            request = _record_lock.pack_range(kind, start, length)
            try:
                fcntl.fcntl(self._get_fd(file_obj), command, request)
            except OSError as error:
                failed = (
                    _unlock_failure if kind == fcntl.F_UNLCK else _lock_failure
                )
                raise failed(error, file_obj) from error

    _posix_locker_instance = PosixLocker()

    __all__ += ['FlockLocker', 'LockfLocker', 'OfdLocker', 'PosixLocker']

    def uses_ours() -> bool:
        """Whether what the system says becomes a `LockException` here."""
        return lock is _our_lock and (
            uses_flock() or _kind_of_locker() in (LockfLocker, OfdLocker)
        )

    def uses_flock() -> bool:
        """Whether `LOCKER` stands for flock: record locks leave it alone."""
        if LOCKER is _flock:
            return True
        return _kind_of_locker() in (FlockLocker, PosixLocker)

    def locks_open_files() -> bool:
        """Whether locks belong to the open file, as far as we know `LOCKER`.

        Record locks of POSIX belong to the process: it never finds its own.
        """
        if uses_flock() or LOCKER is OfdLocker:
            return True
        return isinstance(LOCKER, OfdLocker)

else:  # executed by tests/windows_on_linux
    LOCKER = MsvcrtLocker

    _flock = object()  # nothing that LOCKER could be
    _posix_locker_instance: BaseLocker = MsvcrtLocker()

    def uses_ours() -> bool:
        """Whether what the system says becomes a `LockException` here."""
        kinds = MsvcrtLocker, Win32Locker
        return lock is _our_lock and _kind_of_locker() in kinds

    def uses_flock() -> bool:
        """Never: there is no flock."""
        return False

    def locks_open_files() -> bool:
        """Always: locks belong to the handle."""
        return True
