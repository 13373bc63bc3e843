"""A lock that is awaited for so long and no longer, as a `with` block."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class LockShaped(Protocol):
        """Whatever can be awaited for some time."""

        def acquire(
            self, blocking: bool = True, timeout: float = -1
        ) -> bool: ...

        def release(self) -> None: ...


class Timed:
    """`with lock.timed(seconds):` holds the lock, or raises TimeoutError."""

    __slots__ = ('_lock', '_seconds')

    def __init__(self, lock: LockShaped, seconds: float) -> None:
        if not seconds >= 0:
            raise ValueError(
                f'cannot wait for {lock!r}: {seconds!r} seconds are no time'
            )
        self._lock = lock
        self._seconds = seconds

    def __enter__(self) -> bool:
        if not self._lock.acquire(timeout=self._seconds):
            raise TimeoutError(
                f'cannot lock {self._lock!r}: still held after '
                f'{self._seconds:g} s'
            )
        return True

    def __exit__(self, *error: object) -> None:
        self._lock.release()
