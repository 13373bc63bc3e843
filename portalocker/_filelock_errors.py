"""Why a FileLock was not acquired."""

from __future__ import annotations

from . import exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .holder import Holder


class Timeout(exceptions.AlreadyLocked, TimeoutError):
    """The lock could not be acquired in time.

    `lock_file`
        the path of the lock, as it was given.
    `holder`
        who holds it, where the system tells: a `Holder` (pid, command, since
        when), or None. Its `since` is None where it got a `FileLock` without
        waiting: to leave the time would cost every free lock a system call.
    `waited`
        seconds spent waiting, or None where nobody waited.

    >>> print(Timeout('cache.lock'))
    The file lock 'cache.lock' could not be acquired.
    """

    def __init__(
        self,
        lock_file: str,
        holder: Holder | str | None = None,
        *,
        others: tuple[Holder, ...] = (),
        waited: float | None = None,
    ) -> None:
        super().__init__(filename=lock_file, holders=others, waited=waited)
        self._holder = holder
        if holder is not None and not isinstance(holder, str):
            self.holders: tuple[Holder, ...] = holder, *self.holders

    @property
    def lock_file(self) -> str:
        """The path of the lock, as it was given."""
        assert self.filename is not None
        return self.filename

    def __str__(self) -> str:
        text = f'The file lock {self.lock_file!r} could not be acquired.'
        if self._holder is None:
            return text
        return f'{text} It is held by {self._holder}.'

    def __repr__(self) -> str:
        return f'{type(self).__name__}({self.lock_file!r})'

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lock_file,), dict(self.__dict__)


class Cancelled(Timeout):
    """The `cancel_check` of an `acquire()` said that it is wanted no more."""
