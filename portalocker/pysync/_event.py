"""Event: it happens once, and all who wait for it go on."""

from __future__ import annotations

from time import monotonic

from . import _lot
from ._shapes import Uncopied, name_of, wait_seconds


class Event(Uncopied):
    """Something that happens once; there is no way back.

    So `wait()` after `set()` only looks. `set()` is also called `notify()`;
    calling it again changes nothing.

    CPython's name: PyEvent.

    >>> event = Event()
    >>> event.wait(timeout=0.001)
    False
    >>> event.set()
    >>> event.wait()
    True
    """

    __slots__ = ('__weakref__', '_happened')

    def __init__(self) -> None:
        self._happened = False

    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._happened

    def set(self) -> None:
        """Let it happen, and wake all who wait for it."""
        with _lot.guard:
            if _lot.queue_of(self):
                _lot.refuse_callbacks()
            self._happened = True
            _lot.wake_all(self)

    def notify(self) -> None:
        """Let it happen, and wake all who wait for it."""
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened, `timeout` seconds at most.

        None is for ever; zero and below does not wait. Gives whether it has
        happened, and never False before the time is over.
        """
        if self._happened:
            return True
        if timeout is not None and timeout <= 0:
            return False
        return self._wait(wait_seconds(timeout))

    def wait_timed(self, timeout: float | None) -> bool:
        """Wait as `wait()` does; below zero, too, is for ever."""
        return self._happened or self._wait(wait_seconds(timeout))

    def _wait(self, seconds: float) -> bool:
        deadline = monotonic() + seconds
        while not self._happened:
            remaining = deadline - monotonic() if seconds >= 0 else -1
            if seconds >= 0 and remaining <= 0:
                break
            _lot.wait(_lot.Waiter(self), self._may_wait, remaining)
        return self._happened

    def _may_wait(self) -> bool:
        return not self._happened

    def __repr__(self) -> str:
        claim = 'set' if self._happened else 'unset'
        return f'<{name_of(self)} at {id(self):#x}: {claim}>'
