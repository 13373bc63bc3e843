"""What can go wrong with a lock, and what each failure knows about itself."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .holder import Holder


class BaseLockException(Exception):
    """Base of every failure of this package.

    `fh`
        the file argument (handle or descriptor) the failed call was given.
    `strerror`
        the system's own words, where there are some.
    `filename`
        the path that could not be locked, where it is known.
    `holders`
        tuple of `Holder`: who held the lock when we gave up, where the
        system tells; empty otherwise.
    `waited`
        seconds spent waiting before giving up, or None.

    The failure can be pickled (an open file handle is left out), so that it
    crosses `multiprocessing` and `concurrent.futures` borders.

    >>> print(LockException('cannot lock'))
    cannot lock
    """

    # The `fcntl` and Windows lockers number their failures with it
    LOCK_FAILED = 1

    strerror: str | None = None
    # What could not be done
    _verb = 'lock'

    def __init__(
        self,
        *args: Any,
        fh: Any = None,
        filename: str | None = None,
        holders: tuple[Holder, ...] = (),
        waited: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args)
        self.fh = fh
        self.filename = filename
        self.holders = holders
        self.waited = waited
        if len(args) > 1 and isinstance(args[1], str):
            self.strerror = args[1]
        elif args:
            cause_text = getattr(args[0], 'strerror', None)
            if isinstance(cause_text, str):
                self.strerror = cause_text

    @property
    def holder(self) -> Holder | None:
        """The first of `holders`, or None where nobody is known."""
        return self.holders[0] if self.holders else None

    def _file_name(self) -> str | None:
        """The path we know, else the name the handle carries."""
        if self.filename is not None:
            return self.filename
        name = getattr(self.fh, 'name', None)
        return name if isinstance(name, str) else None

    def _thing(self) -> str | None:
        """What was to be locked, in words, where we know it."""
        name = self._file_name()
        if name is not None:
            return repr(name)
        if isinstance(self.fh, int):
            return f'file descriptor {self.fh}'
        return None

    def _because(self) -> str:
        """The cause, in words."""
        if self.holders:
            return 'held by ' + ', '.join(map(str, self.holders))
        if self.strerror:
            return self.strerror
        return super().__str__()

    def __str__(self) -> str:
        thing = self._thing()
        if thing is None or (self.args and isinstance(self.args[0], str)):
            return super().__str__()
        text = f'cannot {self._verb} {thing}'
        because = self._because()
        if because:
            text += f': {because}'
        if self.waited is not None:
            text += f'; waited {self.waited:.3g} s'
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        if not isinstance(self.fh, int):
            state['fh'] = None
        return type(self), self.args, state


class LockException(BaseLockException):
    """A lock could not be taken or given back.

    Anything but contention ends an `acquire()` at once with this error; only
    `AlreadyLocked` is retried.
    """


class AlreadyLocked(LockException):
    """Somebody else holds the lock: the one failure that waiting may cure.

    Raised after the timeout, or at once where waiting was not asked for. The
    text names the file and, where the system tells, who holds it.
    """

    def _because(self) -> str:
        if self.holders:
            return super()._because()
        cause = super()._because()
        return 'somebody else holds it' + (f' ({cause})' if cause else '')


class FileToLarge(LockException):
    """The file or the byte range is too large for the system's locks.

    The system said EFBIG or EOVERFLOW.
    """


class AlreadyActive(LockException, AssertionError):
    """This object holds its lock already and cannot take it a second time."""


class LockLost(LockException):
    """The lock was lost while held: what was done meanwhile is suspect.

    For example the lock file was unlinked or replaced under its holder.
    """


class LockLostError(LockLost):
    """A lock on a server was lost while held: connection, lease or server.

    Raised by `ensure_held()`, by `release()`, and at the end of a `with`
    block whose body succeeded. Others may hold the lock by now, and may have
    for a while.

    `filename`
        the name of the lock.
    `token`
        the fencing token of the hold that was lost, or None.

    >>> LockLostError('the connection is gone', filename='jobs', token=7).token
    7
    """

    def __init__(
        self, *args: Any, token: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.token = token


class DeadlockError(LockException):
    """Waiting was useless: those we waited for wait for us.

    Nothing was taken. What the caller holds already it still holds: let it
    go, and try again in the order that the others take their locks.
    """


class DestinationExists(FileExistsError, AssertionError):
    """`open_atomic` was asked to create a file that exists already.

    `filename` is the path that exists.
    """
