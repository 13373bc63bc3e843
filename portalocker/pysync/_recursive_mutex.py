"""RecursiveMutex over the interpreter's own re-entrant lock."""

from __future__ import annotations

import re
from _thread import RLock, get_ident

from ._shapes import Uncopied, name_of
from ._timed import Timed


class RecursiveMutex(Uncopied, RLock):  # type: ignore[misc]
    """A lock that its holder may lock again, and then unlocks as often.

    `acquire()` and `release()` are those of `threading.RLock`, and it serves
    as the lock of a `threading.Condition`. Releasing what another thread
    holds, or nobody, raises RuntimeError and changes nothing.

    CPython's name: _PyRecursiveMutex.

    >>> mutex = RecursiveMutex()
    >>> with mutex, mutex:
    ...     mutex.is_locked_by()
    True
    >>> mutex.is_locked_by()
    False
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    def lock(self) -> None:
        """Lock, or lock once more, waiting for as long as it takes."""
        self.acquire()

    def unlock(self) -> None:
        """Undo one lock(); RuntimeError where this thread has none."""
        self.release()

    def locked(self) -> bool:
        """Whether some thread holds it."""
        return self._holder() != 0

    def is_locked(self) -> bool:
        """Whether some thread holds it."""
        return self._holder() != 0

    def is_locked_by(self, ident: int | None = None) -> bool:
        """Whether the thread `ident` holds it; None is the caller."""
        if ident is None:
            ident = get_ident()
        return ident != 0 and self._holder() == ident

    def timed(self, seconds: float) -> Timed:
        """Hold it in a `with` block, or raise TimeoutError after `seconds`."""
        return Timed(self, seconds)

    def _recursion_count(self) -> int:
        # The base has it from 3.11.5 and 3.12.0 on
        owner, count = self._owner_and_count()
        return count if owner == get_ident() else 0

    def _holder(self) -> int:
        return self._owner_and_count()[0]

    def _owner_and_count(self) -> tuple[int, int]:
        # Only its own description tells, to all threads, who holds it
        told = re.search(r'owner=(\d+) count=(\d+)', RLock.__repr__(self))
        assert told is not None
        return int(told[1]), int(told[2])

    def __repr__(self) -> str:
        owner, count = self._owner_and_count()
        return (
            f'<{"locked" if owner else "unlocked"} {name_of(self)} object '
            f'owner={owner} count={count} at {id(self):#x}>'
        )
