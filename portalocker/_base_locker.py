"""What a locker is: something that locks and unlocks one open file."""

from __future__ import annotations

from . import constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from . import types
else:
    Protocol = object


class LockCallable(Protocol):
    """A function that locks a file: `lock(file, flags)`."""

    def __call__(
        self, file: types.FileArgument, flags: constants.LockFlags
    ) -> Any: ...


class UnlockCallable(Protocol):
    """A function that unlocks a file: `unlock(file)`."""

    def __call__(self, file: types.FileArgument) -> Any: ...


class BaseLocker:
    """Base of the lockers; a subclass implements both methods.

    `lock()` raises `AlreadyLocked` on contention, another `LockException`
    for every other failure.
    """

    def lock(
        self, file_obj: types.FileArgument, flags: constants.LockFlags
    ) -> None:
        """Lock the file as `flags` say."""
        raise NotImplementedError

    def unlock(self, file_obj: types.FileArgument) -> None:
        """Let go of the file."""
        raise NotImplementedError
