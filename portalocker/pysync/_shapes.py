"""What all primitives share: no copies, and one reading of timeouts."""

from __future__ import annotations

from _thread import TIMEOUT_MAX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Uncopied:
    """One lock is one lock: it is neither copied nor pickled."""

    __slots__ = ()

    def __copy__(self) -> NoReturn:
        raise TypeError(
            f'cannot copy {name_of(self)}: it is one lock, and a copy would '
            'be another'
        )

    def __deepcopy__(self, memo: Any) -> NoReturn:
        self.__copy__()

    def __reduce__(self) -> NoReturn:
        self.__copy__()


def name_of(thing: object) -> str:
    """Return the name under which users know the type of `thing`."""
    return f'portalocker.pysync.{type(thing).__qualname__}'


def acquire_seconds(blocking: object, timeout: float) -> float:
    """Return how long threading's acquire() waits: -1 is for ever."""
    if not blocking:
        if timeout != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        return 0
    if timeout == -1:
        return -1
    if not timeout >= 0:
        raise ValueError('timeout value must be a non-negative number')
    return _bounded(timeout)


def wait_seconds(timeout: float | None) -> float:
    """Return how long to wait where None and all below zero is for ever."""
    if timeout is None or timeout < 0:
        return -1
    if timeout != timeout:
        raise ValueError(f'cannot wait for {timeout} seconds')
    return _bounded(timeout)


def _bounded(timeout: float) -> float:
    if timeout > TIMEOUT_MAX:
        raise OverflowError('timeout value is too large')
    return timeout
