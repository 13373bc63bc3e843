"""Mutex and RawMutex over the interpreter's own lock."""

from __future__ import annotations

from _thread import allocate_lock

from ._shapes import Uncopied, name_of, wait_seconds
from ._timed import Timed
from ._words import LockFlags, LockStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RawMutex(Uncopied):
    """The cheapest lock: no timeout, no try, no order among its waiters.

    `with`, `acquire()` and `lock()` block for as long as it takes; signal
    handlers run meanwhile. Any thread may release. Releasing what is not
    locked raises RuntimeError.

    CPython's name: _PyRawMutex.

    >>> mutex = RawMutex()
    >>> with mutex:
    ...     mutex.locked()
    True
    """

    # Special methods are looked up in the type; a slot there gives the bound
    # method of the native lock, and no frame of ours is entered
    __slots__ = {
        '__enter__': 'Lock, waiting for as long as it takes.',
        '__exit__': 'Unlock.',
        '__weakref__': '',
        '_at_fork_reinit': 'Make it free, in a forked child.',
        'locked': 'Whether somebody holds it.',
        'release': 'Unlock; RuntimeError if it is not locked.',
    }

    def __init__(self) -> None:
        native: Any = allocate_lock()
        self.__enter__ = native.__enter__
        self.__exit__ = native.__exit__
        self.release = native.release
        self.locked = native.locked
        self._at_fork_reinit = native._at_fork_reinit

    def acquire(self) -> bool:
        """Lock, waiting for as long as it takes; True."""
        return bool(self.__enter__())

    def lock(self) -> None:
        """Lock, waiting for as long as it takes."""
        self.__enter__()

    def unlock(self) -> None:
        """Unlock; RuntimeError if it is not locked."""
        self.release()

    def __repr__(self) -> str:
        claim = 'locked' if self.locked() else 'unlocked'
        return f'<{claim} {name_of(self)} object at {id(self):#x}>'


class Mutex(Uncopied):
    """A lock that one thread holds at a time, and any thread may release.

    Not re-entrant: a thread that locks it twice waits for itself. `acquire()`
    and `release()` are those of `threading.Lock`, the other methods those of
    CPython's mutex. Releasing what is not locked raises RuntimeError and
    changes nothing. A waiter whose signal handler raises leaves the line.

    Whoever has waited for a millisecond is handed the lock by the next
    release where `pysync.FAIR` says so; else newcomers may overtake.

    CPython's name: PyMutex.

    >>> mutex = Mutex()
    >>> with mutex:
    ...     mutex.try_lock()
    False
    """

    __slots__ = {
        '__enter__': 'Lock, waiting for as long as it takes.',
        '__exit__': 'Unlock.',
        '__weakref__': '',
        '_at_fork_reinit': 'Make it free, in a forked child.',
        'acquire': 'Lock, as threading.Lock.acquire() does.',
        'is_locked': 'Whether somebody holds it.',
        'locked': 'Whether somebody holds it.',
        'release': 'Unlock; RuntimeError if it is not locked.',
    }

    def __init__(self) -> None:
        native: Any = allocate_lock()
        self.__enter__ = native.__enter__
        self.__exit__ = native.__exit__
        self.acquire = native.acquire
        self.release = native.release
        self.locked = self.is_locked = native.locked
        self._at_fork_reinit = native._at_fork_reinit

    def lock(self) -> None:
        """Lock, waiting for as long as it takes."""
        self.acquire()

    def unlock(self) -> None:
        """Unlock; RuntimeError if it is not locked."""
        self.release()

    def try_lock(self) -> bool:
        """Lock if it is free; never waits."""
        return bool(self.acquire(blocking=False))

    def lock_timed(
        self, timeout: float | None, flags: int = LockFlags.DETACH
    ) -> LockStatus:
        """Lock within `timeout` seconds; None and below zero is for ever.

        Gives LockStatus.ACQUIRED or LockStatus.FAILURE. The flags are
        accepted: what they ask for is always done.
        """
        seconds = wait_seconds(timeout)
        locked = self.acquire(seconds != 0, seconds or -1)
        return LockStatus.ACQUIRED if locked else LockStatus.FAILURE

    def timed(self, seconds: float) -> Timed:
        """Hold it in a `with` block, or raise TimeoutError after `seconds`."""
        return Timed(self, seconds)

    def _holder(self) -> int:
        """Nobody knows who holds the interpreter's lock."""
        return 0

    def __repr__(self) -> str:
        claim = 'locked' if self.locked() else 'unlocked'
        return f'<{claim} {name_of(self)} object at {id(self):#x}>'
