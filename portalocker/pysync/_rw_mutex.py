"""RWMutex: many readers or one writer, and neither side starves."""

from __future__ import annotations

import sys
import weakref
from _thread import get_ident
from time import monotonic

from . import _lot, _suspension
from ._shapes import Uncopied, acquire_seconds, name_of
from ._timed import Timed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Whoever has waited longer is handed the lock. About what a hand-over costs:
# less, and short sections go at its pace; more, and long ones wait for nothing
PATIENCE_SECONDS = 0.0001

_NOT_LOCKED = 'release unlocked lock'


class _Contender(_lot.Waiter):
    """A reader or writer in line, or woken to try again."""

    __slots__ = ('is_handed', 'is_writer', 'since')

    def __init__(self, key: _State, is_writer: bool) -> None:
        super().__init__(key)
        self.is_writer = is_writer
        self.since = monotonic()
        self.is_handed = False  # it owns the lock already, and need not try


class _State:
    """Who is inside.

    gate     | holder | meaning
    [False]  | 0      | free
    [False, None, None] | 0 | two readers; others may join them
    [True, None]  | 0 | one reader; writers wait, and new readers behind them
    [True]   | ident  | that writer

    Readers join and leave without a lock: each adds its None first and looks
    at gate[0] then, while a writer shuts gate[0] first and counts then. Both
    are single operations on one list, so one of the two sees the other.
    """

    # With the lot's guard held: gate[0] is True exactly while a writer holds
    # or somebody is in line
    __slots__ = ('__weakref__', 'face', 'gate', 'holder')

    def __init__(self, face: RWMutex) -> None:
        self.face = weakref.ref(face)
        self.gate: list[bool | None] = [False]
        self.holder = 0

    def _face_of_key(self) -> object:
        return self.face() or self

    def _holder(self) -> int:
        return self.holder

    # With the guard held:

    def _try(self, is_writer: bool) -> bool:
        gate = self.gate
        if gate[0]:
            self._settle()
            if gate[0]:
                return False
        if not is_writer:
            gate.append(None)
            return True
        gate[0] = True
        if len(gate) > 1:
            gate[0] = False
            return False
        self.holder = get_ident()
        return True

    def _settle(self, *, after_writer: bool = False) -> None:
        """Let in whoever may enter now, and shut or open the gate."""
        if self.holder:
            return
        gate = self.gate
        line: list[Any] = list(_lot.queue_of(self))
        if not line:
            gate[0] = False
            return
        writers = [waiter for waiter in line if waiter.is_writer]
        if sys.is_finalizing():
            # who sleeps now never runs again: handed to nobody
            gate[0] = False
            _lot.wake_all(self)
        elif not writers:
            self._hand_to_readers()
        elif len(gate) > 1:
            # a writer gave up: those it kept waiting join the others
            for waiter in line[: line.index(writers[0])]:
                self._hand_to(waiter)
        else:
            oldest = min(waiter.since for waiter in line)
            if monotonic() - oldest < PATIENCE_SECONDS:
                gate[0] = False
                _lot.wake_all(self)
            elif after_writer and len(writers) < len(line):
                self._hand_to_readers()
            else:
                self._hand_to(writers[0])

    def _hand_to_readers(self) -> None:
        if sys.is_finalizing():
            _lot.wake_all(self)
        for waiter in list(_lot.queue_of(self)):
            if not waiter.is_writer:  # type: ignore[attr-defined]
                self._hand_to(waiter)  # type: ignore[arg-type]
        self.gate[0] = bool(_lot.queue_of(self))

    def _hand_to(self, waiter: _Contender) -> None:
        _lot.claim(waiter)
        waiter.is_handed = True
        if waiter.is_writer:
            self.holder = waiter.thread
        else:
            self.gate.append(None)
        waiter.wake()

    # Without it:

    def acquire(
        self, *, is_writer: bool, seconds: float, is_announced: bool = False
    ) -> bool:
        """Enter within so many seconds; -1 is for ever.

        A reader that found the gate shut has announced itself already.
        """
        with _lot.guard:
            if is_announced and len(self.gate) > 1:
                self.gate.pop()
            if self._try(is_writer):
                return True
            if seconds == 0:
                return False
            _lot.refuse_callbacks()
        deadline = monotonic() + seconds if seconds > 0 else None
        contender = _Contender(self, is_writer)
        try:
            return self._wait(contender, deadline)
        except BaseException:
            self._abandon(contender)
            raise

    def _wait(self, contender: _Contender, deadline: float | None) -> bool:
        while self._stand_in_line(contender):
            remaining = -1.0
            if deadline is not None:
                remaining = max(0.0, deadline - monotonic())
            if not _suspension.sleep(contender.sleep, remaining):
                return self._give_up(contender)
        return True

    def _stand_in_line(self, contender: _Contender) -> bool:
        """Get in line; False if that is not needed: we are inside."""
        with _lot.guard:
            if contender.is_handed or self._try(contender.is_writer):
                return False
            _lot.enqueue(contender)
            self.gate[0] = True
            return True

    def _give_up(self, contender: _Contender) -> bool:
        """Leave the line; True if we were let in at the last moment."""
        with _lot.guard:
            if _lot.withdraw(contender):
                # behind a writer that gives up, readers may enter
                self._settle()
                return False
            return contender.is_handed or self._try(contender.is_writer)

    def _abandon(self, contender: _Contender) -> None:
        """An exception ends the wait: be neither inside nor in line."""
        with _lot.guard:
            if _lot.withdraw(contender):
                self._settle()
            elif not contender.is_handed:
                return  # all in line were woken with us
            elif contender.is_writer:
                self.release_write()
            else:
                self.gate.pop()
                self._settle()

    def release_read(self) -> None:
        """A reader leaves through a gate that is shut."""
        with _lot.guard:
            # with a writer inside, who is announced does not hold
            if self.holder or len(self.gate) == 1:
                raise RuntimeError(_NOT_LOCKED)
            self.gate.pop()
            self._settle()

    def reader_left(self) -> None:
        """A reader has left while the gate was shut."""
        with _lot.guard:
            self._settle()

    def release_write(self) -> None:
        """The writer leaves."""
        with _lot.guard:
            if not self.holder:
                raise RuntimeError(_NOT_LOCKED)
            self.holder = 0
            self._settle(after_writer=True)

    def downgrade(self) -> None:
        """The writer becomes a reader, and the readers in line come in."""
        with _lot.guard:
            if not self.holder:
                raise RuntimeError('cannot downgrade: no writer holds it')
            self.gate.append(None)
            self.holder = 0
            self._hand_to_readers()

    def reset(self) -> None:
        """Be free, and know nobody."""
        with _lot.guard:
            for waiter in list(_lot.queue_of(self)):
                _lot.withdraw(waiter)
            self.gate[:] = [False]
            self.holder = 0


class _View(Uncopied):
    """One side of an RWMutex, in the shape of a lock."""

    # Functions, not methods: a slot that is looked up in the type gives
    # what is called, with nothing to bind
    __slots__ = (
        '__enter__',
        '__exit__',
        '__weakref__',
        '_state',
        'acquire',
        'release',
    )

    def __init__(
        self,
        state: _State,
        enter: Callable[[], bool],
        leave: Callable[..., None],
        acquire: Callable[..., bool],
    ) -> None:
        self._state = state
        self.__enter__ = enter
        self.__exit__ = self.release = leave
        self.acquire = acquire

    def locked(self) -> bool:
        """Whether this side holds the lock."""
        raise NotImplementedError

    def timed(self, seconds: float) -> Timed:
        """Hold it in a `with` block, or raise TimeoutError after `seconds`."""
        return Timed(self, seconds)

    def _lot_key(self) -> object:
        return self._state

    def _at_fork_reinit(self) -> None:
        self._state.reset()

    def __repr__(self) -> str:
        claim = 'locked' if self.locked() else 'unlocked'
        return f'<{claim} {name_of(self)} object at {id(self):#x}>'


class _Reader(_View):
    __slots__ = ()
    __qualname__ = 'RWMutex.reader'

    def __init__(self, state: _State) -> None:
        gate = state.gate

        def enter() -> bool:
            gate.append(None)
            if gate[0]:
                state.acquire(is_writer=False, seconds=-1, is_announced=True)
            return True

        def leave(
            _kind: object = None,
            _error: object = None,
            _traceback: object = None,
        ) -> None:
            if gate[0]:
                state.release_read()
                return
            if gate[-1] is not None:
                raise RuntimeError(_NOT_LOCKED)
            last = gate.pop()
            if last is not None:
                # another thread released the same reader meanwhile
                gate.insert(0, last)
                raise RuntimeError(_NOT_LOCKED)
            if gate[0]:
                state.reader_left()

        def acquire(blocking: bool = True, timeout: float = -1) -> bool:
            seconds = acquire_seconds(blocking, timeout)
            gate.append(None)
            if not gate[0]:
                return True
            return state.acquire(
                is_writer=False, seconds=seconds, is_announced=True
            )

        super().__init__(state, enter, leave, acquire)

    def locked(self) -> bool:
        """Whether some reader holds the lock."""
        return len(self._state.gate) > 1


class _Writer(_View):
    __slots__ = ()
    __qualname__ = 'RWMutex.writer'

    def __init__(self, state: _State) -> None:
        def enter() -> bool:
            return state.acquire(is_writer=True, seconds=-1)

        def leave(
            _kind: object = None,
            _error: object = None,
            _traceback: object = None,
        ) -> None:
            state.release_write()

        def acquire(blocking: bool = True, timeout: float = -1) -> bool:
            return state.acquire(
                is_writer=True, seconds=acquire_seconds(blocking, timeout)
            )

        super().__init__(state, enter, leave, acquire)

    def locked(self) -> bool:
        """Whether a writer holds the lock."""
        return self._state.holder != 0


class RWMutex(Uncopied):
    """A lock that many readers hold at a time, or one writer.

    `reader` and `writer` are its two sides in the shape of a lock:
    `acquire(blocking, timeout)`, `release()`, `locked()`, `timed(seconds)`
    and `with`. Any thread may release what another one holds.

    A reader that arrives while a writer waits stands behind it, so readers
    cannot starve writers; for the same reason a reader that comes in twice may
    wait for itself. Nor can writers starve readers: once somebody has waited
    for a tenth of a millisecond, a writer that leaves lets in all the readers
    in line, and the last reader that leaves the first writer. A writer that
    gives up waiting, by its timeout or an exception, lets in the readers
    behind it. A reader cannot become a writer; two of them would wait for each
    other. Releasing what is not held raises RuntimeError and changes nothing.

    CPython's name: _PyRWMutex.

    >>> mutex = RWMutex()
    >>> with mutex.reader:
    ...     mutex.writer.acquire(timeout=0.001)
    False
    >>> with mutex.writer:
    ...     mutex.reader.acquire(blocking=False)
    False
    """

    __slots__ = {
        '__weakref__': '',
        '_state': '',
        'acquire_read': 'Enter as a reader, as threading.Lock.acquire() does.',
        'acquire_write': 'Be the writer, as threading.Lock.acquire() does.',
        'reader': 'The side of the readers, shaped as a lock.',
        'release_read': 'Leave as a reader; RuntimeError if there is none.',
        'release_write': 'Leave as the writer; RuntimeError if none holds.',
        'writer': 'The side of the writers, shaped as a lock.',
    }

    def __init__(self) -> None:
        state = self._state = _State(self)
        self.reader = _Reader(state)
        self.writer = _Writer(state)
        self.acquire_read = self.reader.acquire
        self.acquire_write = self.writer.acquire
        self.release_read = self.reader.release
        self.release_write = self.writer.release

    def r_lock(self) -> None:
        """Enter as a reader, waiting for as long as it takes."""
        self.acquire_read()

    def r_unlock(self) -> None:
        """Leave as a reader; RuntimeError if there is none."""
        self.release_read()

    def lock(self) -> None:
        """Be the writer, waiting for as long as it takes."""
        self.acquire_write()

    def unlock(self) -> None:
        """Leave as the writer; RuntimeError if none holds."""
        self.release_write()

    def downgrade(self) -> None:
        """Turn the writer into a reader, with no writer in between.

        The readers in line come in with it; writers keep waiting.
        RuntimeError if no writer holds the lock.
        """
        self._state.downgrade()

    def _holder(self) -> int:
        return self._state.holder

    def _lot_key(self) -> object:
        return self._state

    def _at_fork_reinit(self) -> None:
        self._state.reset()

    def __repr__(self) -> str:
        claim = 'read-locked' if self.reader.locked() else 'unlocked'
        claim = 'write-locked' if self.writer.locked() else claim
        return f'<{claim} {name_of(self)} object at {id(self):#x}>'
