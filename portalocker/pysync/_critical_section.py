"""CriticalSection: several mutexes at once, in nests that cannot deadlock."""

from __future__ import annotations

import contextlib
from _thread import _local, allocate_lock

from . import _suspension
from ._mutex import Mutex
from ._shapes import Uncopied, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Self


class CSThread(Uncopied):
    """The critical sections that one thread is in.

    CPython keeps them in its thread state.
    """

    __slots__ = ('__weakref__', '_sections')

    _sections: list[CriticalSection]

    def __init__(self) -> None:
        raise TypeError(
            'cannot make a CSThread: CSThread.current() is the one of this '
            'thread'
        )

    @staticmethod
    def current() -> CSThread:
        """Return the one of the thread that asks."""
        return _own.thread

    def top(self) -> CriticalSection | None:
        """Return the innermost section, or None; in its own thread only."""
        if _own.thread is not self:
            raise RuntimeError(
                "cannot look: these are another thread's sections"
            )
        return self._sections[-1] if self._sections else None


class _PerThread(_local):
    def __init__(self) -> None:
        self.thread = object.__new__(CSThread)
        sections: Any = _suspension.own.sections
        self.thread._sections = sections


_own = _PerThread()


class CriticalSection(Uncopied):
    """A `with` block that holds mutexes, whatever else its thread holds.

    The mutexes are taken in one order for all threads, equal ones once. A
    section that has to wait for a mutex first suspends the sections around
    it: they give their mutexes back, and take them again before their own
    body goes on. So do all other waits of this package inside a section. A
    waiting thread holds nothing that others wait for, and sections cannot
    deadlock. The price: only the innermost section is sure to hold, and what
    an outer one protects may have changed after an inner one.

    `with` takes the mutexes that the section was made with; `begin()` and
    `begin_mutex2()` name theirs, for that once.

    A section without mutexes suspends those around it and holds nothing:
    `suspended()`, for waits that are none of this package.

    Mutexes that sections use are best used by nothing else: one that is
    locked plainly is never suspended.

    An exception in the body, or of a signal handler, ends the section. It
    belongs to its thread, and ends before the one around it does; all else is
    a RuntimeError that changes nothing.

    CPython's names: PyCriticalSection, PyCriticalSection2 (PEP 703).

    state     | meaning
    idle      | not begun
    held      | its mutexes are ours
    suspended | begun, and its mutexes were given back
    nested    | begun inside a section that holds all it wants: nothing to do

    >>> left, right = Mutex(), Mutex()
    >>> with CriticalSection(left, right):
    ...     left.is_locked(), right.is_locked()
    (True, True)
    """

    __slots__ = (
        '__weakref__',
        '_mutexes',
        '_sections',
        '_state',
        '_taken',
        '_wanted',
    )

    def __init__(self, *mutexes: Mutex) -> None:
        for mutex in mutexes:
            _check_mutex(mutex)
        self._wanted = mutexes
        # locked from the first step of begin() to the last one of end()
        self._taken = allocate_lock()
        # while begun: those of its thread, and what it holds, in the order in
        # which it is locked
        self._sections: list[CriticalSection] | None = None
        self._mutexes: Sequence[Mutex] = ()
        self._state = 'idle'

    def begin(self, mutex: Mutex, thread: CSThread | None = None) -> None:
        """Hold `mutex` until `end()`, waiting for as long as it takes."""
        self._begin((mutex,), thread)

    def begin_mutex2(
        self, first: Mutex, second: Mutex, thread: CSThread | None = None
    ) -> None:
        """Hold both until `end()`, waiting for as long as it takes."""
        self._begin((first, second), thread)

    def __enter__(self) -> Self:
        self._begin(self._wanted, None)
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def _begin(self, wanted: Sequence[Mutex], thread: CSThread | None) -> None:
        sections = _own_sections(thread)
        if not self._taken.acquire(blocking=False):
            raise RuntimeError(f'cannot begin {self!r}: it has begun')
        try:
            for mutex in wanted:
                _check_mutex(mutex)
            self._hold(wanted, sections)
        except BaseException:
            self._taken.release()
            raise
        self._sections = sections

    def _hold(
        self, wanted: Sequence[Mutex], sections: list[CriticalSection]
    ) -> None:
        if wanted and sections and sections[-1]._holds(wanted):
            self._state = 'nested'
            return
        mutexes = sorted(set(wanted), key=id)
        if not (mutexes and _try_all(mutexes)):
            _suspension.suspend_all()
            try:
                _lock_all(mutexes)
            except BaseException:
                _suspension.resume_top()
                raise
        self._mutexes = mutexes
        self._state = 'held'
        sections.append(self)

    def end(self, thread: CSThread | None = None) -> None:
        """Give back what it holds; the section around it goes on."""
        sections = _own_sections(thread)
        is_nested = self._state == 'nested'
        if self._sections is not sections or not (
            is_nested or sections[-1] is self
        ):
            raise RuntimeError(
                f'cannot end {self!r}: it is not the innermost section of '
                'this thread'
            )
        mutexes = self._mutexes if self._state == 'held' else ()
        if not is_nested:
            sections.pop()
        self._state = 'idle'
        self._mutexes = ()
        self._sections = None
        try:
            _unlock_all(mutexes)
        finally:
            self._taken.release()
            if not is_nested:
                _suspension.resume_top()

    def _holds(self, mutexes: Sequence[Mutex]) -> bool:
        return self._state == 'held' and all(
            mutex in self._mutexes for mutex in mutexes
        )

    def _suspend(self) -> bool:
        if self._state != 'held':
            return False
        self._state = 'suspended'
        # what somebody else has unlocked is not ours any more
        with contextlib.suppress(RuntimeError):
            _unlock_all(self._mutexes)
        return True

    def _resume(self) -> None:
        # The body that goes on needs its mutexes: a signal handler that
        # raises does so after that
        error: BaseException | None = None
        while self._state == 'suspended':
            try:
                _lock_all(self._mutexes)
                self._state = 'held'
            except BaseException as raised:  # noqa: BLE001
                error = raised
        if error is not None:
            raise error

    def __repr__(self) -> str:
        return f'<{self._state} {name_of(self)} object at {id(self):#x}>'


def _own_sections(thread: CSThread | None) -> list[CriticalSection]:
    own = _own.thread
    if thread is not None and thread is not own:
        raise RuntimeError(
            'cannot use a section of another thread: it belongs to the one '
            'that began it'
        )
    return own._sections


def _check_mutex(mutex: object) -> None:
    if not isinstance(mutex, Mutex):
        raise TypeError(f'cannot hold {mutex!r} in a section: it is no Mutex')


def _try_all(mutexes: Sequence[Mutex]) -> bool:
    for n, mutex in enumerate(mutexes):
        if not mutex.try_lock():
            _unlock_all(mutexes[:n])
            return False
    return True


def _lock_all(mutexes: Sequence[Mutex]) -> None:
    n = 0
    try:
        for mutex in mutexes:
            mutex.acquire()
            n += 1
    except BaseException:
        _unlock_all(mutexes[:n])
        raise


def _unlock_all(mutexes: Sequence[Mutex]) -> None:
    error: RuntimeError | None = None
    for mutex in reversed(mutexes):
        try:
            mutex.release()
        except RuntimeError as raised:
            error = raised
    if error is not None:
        raise error
