"""AtomicInt: a number that threads change without losing a change."""

from __future__ import annotations

import operator
from _thread import RLock

from . import _lot
from ._shapes import Uncopied, name_of, wait_seconds
from ._words import ParkStatus

_LOWEST, _HIGHEST = -(2**63), 2**63 - 1

# Few guards for all numbers, so that a forked child can renew them. A signal
# handler may enter while its own thread is inside; it can run only before or
# after the one statement that reads and writes.
_guards = tuple(RLock() for _ in range(32))


class AtomicInt(Uncopied):
    """A signed number of 64 bits that threads read and change atomically.

    What would not fit raises OverflowError and changes nothing. `park_if()`
    sleeps while it has a certain value.

    >>> word = AtomicInt(5)
    >>> word.fetch_add(2), word.load()
    (5, 7)
    >>> word.compare_exchange(7, 0), word.compare_exchange(7, 1)
    (True, False)
    """

    __slots__ = ('__weakref__', '_guard', '_value')

    def __init__(self, value: int = 0, /) -> None:
        self._guard = _guards[id(self) // 64 % len(_guards)]
        self._value = _fitting(value)

    def load(self) -> int:
        """Return the value."""
        return self._value

    def store(self, value: int, /) -> None:
        """Set the value."""
        value = _fitting(value)
        with self._guard:
            self._value = value

    def exchange(self, value: int, /) -> int:
        """Set the value, and return the one before."""
        value = _fitting(value)
        with self._guard:
            before, self._value = self._value, value
        return before

    def compare_exchange(self, expected: int, desired: int, /) -> bool:
        """Set the value to `desired` if it is `expected`; whether it was."""
        expected, desired = _fitting(expected), _fitting(desired)
        with self._guard:
            if self._value == expected:
                self._value = desired
                return True
            return False

    def fetch_add(self, amount: int = 1, /) -> int:
        """Add `amount`, and return the value before."""
        amount = _fitting(amount)
        with self._guard:
            before = self._value
            if _LOWEST <= before + amount <= _HIGHEST:
                self._value = before + amount
                return before
        raise OverflowError(_TOO_LARGE)

    def fetch_and(self, mask: int, /) -> int:
        """Keep the bits of `mask`, and return the value before."""
        mask = _fitting(mask)
        with self._guard:
            before = self._value
            self._value = before & mask
        return before

    def fetch_or(self, mask: int, /) -> int:
        """Set the bits of `mask`, and return the value before."""
        mask = _fitting(mask)
        with self._guard:
            before = self._value
            self._value = before | mask
        return before

    def __int__(self) -> int:
        return self._value

    def __repr__(self) -> str:
        return f'<{name_of(self)} at {id(self):#x}: {self._value}>'


_TOO_LARGE = 'AtomicInt holds 64 bits: the value does not fit'


def _fitting(value: int) -> int:
    value = operator.index(value)
    if not _LOWEST <= value <= _HIGHEST:
        raise OverflowError(_TOO_LARGE)
    return value


def park_if(
    word: AtomicInt,
    expected: int,
    timeout: float | None = None,
    arg: object = None,
) -> ParkStatus:
    """Sleep until `unpark(word)`, if the word's value is `expected`.

    It is `park(word, lambda: word.load() == expected, timeout, arg)`, and
    runs no function of yours.

    >>> word = AtomicInt(1)
    >>> park_if(word, 0)
    <ParkStatus.AGAIN: 2>
    """
    if not isinstance(word, AtomicInt):
        raise TypeError(f'cannot park on {word!r}: it is no AtomicInt')
    expected = _fitting(expected)
    waiter = _lot.Waiter(word, arg)
    try:
        return _lot.wait(
            waiter, lambda: word.load() == expected, wait_seconds(timeout)
        )
    except BaseException:
        if waiter.is_claimed:
            _lot.unpark(word)
        raise


def after_fork() -> None:
    """Free the guards in a forked child."""
    for guard in _guards:
        guard._at_fork_reinit()  # type: ignore[attr-defined]
