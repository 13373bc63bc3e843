"""Reading under a SeqLock: look, look again, and then ask for quiet."""

from __future__ import annotations

from ._core import core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar('T')

# After so many looks that a writer spoilt, one is taken while writers wait
LOOKS = 3


class SeqLock(core.SeqLock):
    """Readers take no lock: they look, and look again if somebody wrote.

    Best where reads are many and short and writes are few. A reader must bear
    what it may see while a write is under way, and throw it away.
    `read(fn)` and `reads()` look until they have seen one state; after a few
    looks in vain they take one while writers wait, so readers cannot starve.
    By hand: `begin_read()` gives a token, and `end_read(token)` tells whether
    what was read since is to be used.

    A forked child calls `after_fork()` before it uses it.

    CPython's name: _PySeqLock.

    >>> lock, pair = SeqLock(), [0, 0]
    >>> with lock.write():
    ...     pair[:] = [1, 1]
    >>> lock.read(lambda: tuple(pair))
    (1, 1)
    >>> for _ in lock.reads():
    ...     left, right = pair
    >>> left, right
    (1, 1)
    """

    __slots__ = ()

    def read(self, fn: Callable[[], T], /) -> T:
        """Return what `fn()` returns when nobody writes meanwhile.

        `fn` may run several times. What it raises counts, too, only when
        nobody wrote meanwhile.
        """
        for _ in range(LOOKS):
            token = self.begin_read()
            try:
                seen = fn()
            except Exception:
                if self.end_read(token):
                    raise
            else:
                if self.end_read(token):
                    return seen
        self._lock_read()
        try:
            return fn()
        finally:
            self._unlock_read()

    def reads(self) -> Iterator[None]:
        """Loop until the body has run while nobody wrote.

        What the body raises leaves the loop, even if it comes from a state
        that a writer was changing; `read(fn)` makes the difference.
        """
        for _ in range(LOOKS):
            token = self.begin_read()
            yield
            if self.end_read(token):
                return
        self._lock_read()
        try:
            yield
        finally:
            self._unlock_read()
