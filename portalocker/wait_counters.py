"""How long we waited, how long we held, and how many wait at this moment.

>>> counter = WaitCounter('example.download')
>>> with counter.guard():
...     counter.snapshot().active
1
>>> counter.snapshot().started
1

The locks report once somebody called `enable()`: a counter NAME.enter
for `acquire()` and `try_acquire()` from the call to its end, NAME.region for
the time the lock is held, NAME.exit for `release()`. A try that finds the lock
taken counts as out of time. While nobody listens that costs one `if` each. Of
`transaction_lock()` on PostgreSQL only the way in is counted, under
portalocker.transaction_lock.enter: the server ends such a hold by itself.
"""

from __future__ import annotations

import _thread
import os
from _weakref import ref
from time import perf_counter_ns

from . import _listening, _this_process, _warning, exceptions
from ._holdings import current_claimant

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any

    Sink = Callable[[str], Callable[[], object]]

__all__ = [
    'OTHERS',
    'WaitCounter',
    'Waits',
    'add_sink',
    'disable',
    'enable',
    'is_enabled',
    'remove_sink',
    'snapshot',
]

logger: logging.Logger = _warning.lazy_logger('portalocker.wait_counters')

#: the counter of all names beyond the thousandth
OTHERS = '(others)'
_MOST_NAMES = 1000
_BUCKETS = 64
_MANY_CELLS = 32
_CANCELLATIONS = frozenset(('Cancelled', 'CancelledError'))


class Waits:
    """One reading of a counter.

    `active`
        waits that have begun and not ended.
    `started`
        all that ever began.
    `total`, `longest`
        seconds, of those that ended.
    `timeouts`, `cancelled`, `errors`
        how many ended without what was waited for: out of time, by a
        cancellation or Ctrl-C, by any other exception.
    `contended`
        how many found somebody else before them.
    `histogram`
        64 numbers: entry n counts the waits that took less than 2**n
        nanoseconds, and at least half of that.
    """

    __slots__ = (
        'active',
        'cancelled',
        'contended',
        'errors',
        'histogram',
        'longest',
        'started',
        'timeouts',
        'total',
    )

    def __init__(self, cells: list[_Cell]) -> None:
        ended = [
            sum(column)
            for column in zip(*(c.ended for c in cells), strict=True)
        ]
        self.histogram: tuple[int, ...] = tuple(ended)
        # A reading is no instant: a wait may end while we add
        self.active: int = max(0, sum(cell.active for cell in cells))
        self.started: int = sum(ended) + self.active
        self.total: float = sum(cell.nanoseconds for cell in cells) / 1e9
        self.longest: float = max(cell.longest for cell in cells) / 1e9
        self.timeouts: int = sum(cell.timeouts for cell in cells)
        self.cancelled: int = sum(cell.cancelled for cell in cells)
        self.errors: int = sum(cell.errors for cell in cells)
        self.contended: int = sum(cell.contended for cell in cells)

    def as_dict(self) -> dict[str, Any]:
        """The numbers by name, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return (
            f'<{type(self).__name__} active={self.active} '
            f'started={self.started} total={self.total:.6g} s '
            f'longest={self.longest:.6g} s timeouts={self.timeouts} '
            f'cancelled={self.cancelled} errors={self.errors} '
            f'contended={self.contended}>'
        )


class _Cell:
    """What one thread counted; nobody else writes to it.

    No call stands between the reading of a field and its writing, so that
    neither another thread nor a signal handler comes in between.
    """

    __slots__ = (
        'active',
        'cancelled',
        'contended',
        'ended',
        'errors',
        'longest',
        'nanoseconds',
        'timeouts',
    )

    def __init__(self) -> None:
        self.active: int = 0
        self.ended: list[int] = [0] * _BUCKETS
        self.nanoseconds: int = 0
        self.longest: int = 0
        self.timeouts: int = 0
        self.cancelled: int = 0
        self.errors: int = 0
        self.contended: int = 0

    def end(self, nanoseconds: int) -> None:
        """A wait of so many nanoseconds is over."""
        bucket = nanoseconds.bit_length()
        self.ended[bucket] += 1
        self.nanoseconds += nanoseconds
        if nanoseconds > self.longest:  # noqa: PLR1730 - no call
            self.longest = nanoseconds

    def note(self, failure: BaseException | type[BaseException]) -> None:
        """It ended without what was waited for."""
        kind = failure if isinstance(failure, type) else type(failure)
        if _is_cancellation(kind):
            self.cancelled += 1
        elif issubclass(kind, (TimeoutError, exceptions.AlreadyLocked)):
            self.timeouts += 1
        else:
            self.errors += 1

    def take_in(self, other: _Cell) -> None:
        """Add what another one counted, which counts no more."""
        for bucket, count in enumerate(other.ended):
            self.ended[bucket] += count
        for name in self.__slots__:
            if name == 'longest':
                self.longest = max(self.longest, other.longest)
            elif name != 'ended':
                total = getattr(self, name) + getattr(other, name)
                setattr(self, name, total)


def _is_cancellation(kind: type[BaseException]) -> bool:
    if not issubclass(kind, Exception):  # KeyboardInterrupt, GeneratorExit
        return True
    # Of asyncio, trio, concurrent.futures, or ours: by name, no import
    return any(ancestor.__name__ in _CANCELLATIONS for ancestor in kind.mro())


class _Tally:
    """All that was counted under one name."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Guards _base and _cells; re-entrant: a signal handler may read
        self._mutex = _thread.RLock()
        # Of threads that ended
        self._base = _Cell()
        self._cells: list[tuple[ref[Any], _Cell]] = []

    def new_cell(self) -> _Cell:
        """A cell for the calling thread."""
        cell = _Cell()
        with self._mutex:
            if len(self._cells) >= _MANY_CELLS:
                self._fold()
            self._cells.append((ref(current_claimant()), cell))
        return cell

    def _fold(self) -> None:
        living = []
        for claimant, cell in self._cells:
            if claimant() is None:
                self._base.take_in(cell)
            else:
                living.append((claimant, cell))
        self._cells = living

    def read(self) -> Waits:
        with self._mutex:
            return Waits([self._base, *(cell for _, cell in self._cells)])

    def forget_parent(self) -> None:
        """In a forked child nobody waits, but what was counted stays."""
        self._mutex = _thread.RLock()
        for _, cell in self._cells:
            self._base.take_in(cell)
        self._base.active = 0
        self._cells = []


_mutex = _thread.RLock()
_tallies: dict[str, _Tally] = {}


class _OfThread(_thread._local):
    """What the calling thread counts with."""

    def __init__(self) -> None:
        self.cells: dict[str, _Cell] = {}
        self.known: dict[str, Phases] = {}
        # What `known` was made for
        self.sinks: tuple[Sink, ...] = ()


_of_thread = _OfThread()


def _tally(name: str) -> _Tally:
    with _mutex:
        found = _tallies.get(name)
        if found is None:
            if len(_tallies) >= _MOST_NAMES:
                name = OTHERS
            found = _tallies.get(name) or _tallies.setdefault(
                name, _Tally(name)
            )
        return found


def _cell(name: str) -> _Cell:
    cells = _of_thread.cells
    found = cells.get(name)
    if found is None:
        tally = _tally(name)
        found = cells.get(tally.name) or tally.new_cell()
        cells[tally.name] = found
        if len(cells) < 2 * _MOST_NAMES:
            cells[name] = found
    return found


class WaitCounter:
    """Counts how often and how long something is waited for.

    Counters of one name are one. Names are meant to be few: all beyond the
    thousandth share the counter `OTHERS`. Never blocks for longer than it
    takes to add some numbers.

    `name`
        what is waited for, like 'cache.download'.

    >>> with WaitCounter('example.query').guard():
    ...     pass
    >>> WaitCounter('example.query').snapshot().errors
    0
    """

    __slots__ = ('name',)

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(
                f'cannot count as {name!r}: a name is a str, not '
                f'{type(name).__name__}'
            )
        self.name: str = name

    def guard(self) -> Guard:
        """A context manager whose block is a wait; see `Guard`."""
        return Guard(self.name)

    def snapshot(self) -> Waits:
        """Read the counter."""
        return _tally(self.name).read()


class Guard:
    """A block that counts as one wait, however it ends.

    It may be entered again, in its block or later, by any thread: each entry
    is a wait of its own. `__exit__()` without arguments is a good end; one
    that no entry belongs to does nothing. What was entered and forgotten ends
    when the guard is collected.
    """

    __slots__ = ('_entries', '_name')

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries: list[tuple[int, Any]] = []

    def __enter__(self) -> None:
        began: int = perf_counter_ns()
        if _sinks:
            began = _Moment(began)
            began.told = _tell_sinks(self._name)
        _cell(self._name).active += 1
        self._entries.append((began, _this_process.here))

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: object = None,
    ) -> None:
        try:
            began, place = self._entries.pop()
        except IndexError:
            return
        if not place.is_here:  # our parent entered it, and counts itself
            return
        elapsed = perf_counter_ns() - began
        cell = _cell(self._name)
        cell.active -= 1
        cell.end(elapsed)
        if exc_type is not None:
            cell.note(exc_type)
        _tell_end(began)

    def __del__(self) -> None:
        while self._entries:
            self.__exit__()


class Phases:
    """What a lock reports to while somebody listens; one for each thread.

    It counts NAME.enter, NAME.region and NAME.exit. A lock gives what
    `begins()` gave to the verb that ends what began.

    `enter`, `region`
        the cells in which a wait, or a region, is active. Whoever ends one
        takes it out himself: in a call a signal handler may be faster.
    """

    __slots__ = ('_exit', '_name', 'enter', 'region')

    # Without a frame of their own
    calls_acquire: Callable[[], int] = staticmethod(perf_counter_ns)
    calls_release: Callable[[], int] = staticmethod(perf_counter_ns)

    def __init__(self, name: str) -> None:
        self._name = name
        self.enter: _Cell = _cell(name + '.enter')
        self.region: _Cell = _cell(name + '.region')
        self._exit = _cell(name + '.exit')

    def waits(self) -> None:
        """Somebody else is before the caller of `acquire()`."""
        self.enter.active += 1
        self.enter.contended += 1

    def waits_no_more(self) -> None:
        """The wait that `waits()` began is over, either way."""
        self.enter.active -= 1

    def enters(self, began: int, new_hold: Any) -> None:
        """`acquire()` succeeds; the region of `new_hold` begins, if any.

        A region is what is held from the outermost `acquire()` to the end.
        """
        now = perf_counter_ns()
        # As `_Cell.end` does, without its frame; so below
        elapsed = now - began
        cell = self.enter
        cell.ended[elapsed.bit_length()] += 1
        cell.nanoseconds += elapsed
        if elapsed > cell.longest:  # noqa: PLR1730 - no call
            cell.longest = elapsed
        if new_hold is not None:
            self.region.active += 1
            new_hold.region = now
            new_hold.counted = self

    def fails(self, began: int, failure: BaseException) -> None:
        """`acquire()` raises."""
        self.enter.end(perf_counter_ns() - began)
        self.enter.note(failure)
        if isinstance(failure, exceptions.AlreadyLocked):
            # Who waited was counted then
            self.enter.contended += failure.waited is None

    def leaves(self, began: int, region: int | None) -> None:
        """`release()` ends; so did the region that began then, if any."""
        now = perf_counter_ns()
        elapsed = now - began
        cell = self._exit
        cell.ended[elapsed.bit_length()] += 1
        cell.nanoseconds += elapsed
        if elapsed > cell.longest:  # noqa: PLR1730 - no call
            cell.longest = elapsed
        if region is not None:
            elapsed = now - region
            cell = self.region
            cell.ended[elapsed.bit_length()] += 1
            cell.nanoseconds += elapsed
            if elapsed > cell.longest:  # noqa: PLR1730 - no call
                cell.longest = elapsed

    def stays(self, began: int, failure: BaseException) -> None:
        """`release()` raises and the region goes on."""
        self.region.active += 1
        self._exit.end(perf_counter_ns() - began)
        self._exit.note(failure)

    def here(self) -> Phases:
        """The same for the calling thread."""
        return _phases(self._name)


class _Moment(int):
    """Nanoseconds of a clock, and the sinks that were told of them."""

    told: list[Callable[[], object]]


class _ToldPhases(Phases):
    """The same where sinks are told of every beginning and every end."""

    __slots__ = ()

    def _begin(self, phase: str, moment: int) -> _Moment:
        begun = _Moment(moment)
        begun.told = _tell_sinks(f'{self._name}.{phase}')
        return begun

    def calls_acquire(self) -> int:
        return self._begin('enter', perf_counter_ns())

    def calls_release(self) -> int:
        return self._begin('exit', perf_counter_ns())

    def enters(self, began: int, new_hold: Any) -> None:
        super().enters(began, new_hold)
        try:
            _tell_end(began)
            if new_hold is not None:
                new_hold.region = self._begin('region', new_hold.region)
        except BaseException:  # a signal handler: no region begins
            if new_hold is not None:
                self.region.active -= 1
                new_hold.counted = None
            raise

    def fails(self, began: int, failure: BaseException) -> None:
        super().fails(began, failure)
        _tell_end(began)

    def leaves(self, began: int, region: int | None) -> None:
        super().leaves(began, region)
        _tell_end(region)
        _tell_end(began)

    def stays(self, began: int, failure: BaseException) -> None:
        super().stays(began, failure)
        _tell_end(began)


# Told of every beginning, as long as they want it; see `add_sink()`
_sinks: tuple[Sink, ...] = ()


def add_sink(sink: Sink) -> None:
    """Have `sink(name)` called whenever a wait begins.

    It returns a function that is called at the end of that wait. Both are
    called by the thread that waits and must not block. A sink that raises is
    told of nothing any more, and the log `portalocker.wait_counters` says so.
    """
    global _sinks
    with _mutex:
        _sinks = (*_sinks, sink)
        if is_enabled():
            enable()


def remove_sink(sink: Sink) -> None:
    """Tell `sink` of no more beginnings; what began still ends."""
    global _sinks
    with _mutex:
        _sinks = tuple(known for known in _sinks if known is not sink)
        if is_enabled():
            enable()


def _tell_sinks(name: str) -> list[Callable[[], object]]:
    ends = []
    for sink in _sinks:
        try:
            ends.append(sink(name))
        except Exception as error:  # noqa: BLE001 - whatever a sink raises
            _give_up(sink, error)
    return ends


def _tell_end(moment: int | None) -> None:
    for end in getattr(moment, 'told', ()):
        try:
            end()
        except Exception as error:  # noqa: BLE001
            _warn('cannot tell a sink of the end: %s', error)


def _give_up(sink: Sink, error: Exception) -> None:
    remove_sink(sink)
    _warn('cannot tell %r of a wait, it is removed: %s', sink, error)


def _warn(text: str, *about: object) -> None:
    try:
        logger.warning(text, *about)
    except Exception:  # noqa: BLE001 - a handler of the log that fails
        pass


def _phases(name: str) -> Phases:
    mine = _of_thread
    if mine.sinks is not _sinks:
        mine.sinks, mine.known = _sinks, {}
    found = mine.known.get(name)
    if found is None:
        found = (_ToldPhases if _sinks else Phases)(name)
        if len(mine.known) < _MOST_NAMES:
            mine.known[name] = found
    return found


def _told_phases_of(lock: Any) -> Phases:
    name: str | None = getattr(lock, 'counter_name', None)
    return _phases(name or f'portalocker.{type(lock).__name__}')


def _phases_of(lock: Any) -> Phases:
    try:  # without more frames, where that is enough
        return _of_thread.known[lock.counter_name]
    except (AttributeError, KeyError):
        name: str | None = getattr(lock, 'counter_name', None)
        return _phases(name or f'portalocker.{type(lock).__name__}')


def enable() -> None:
    """Have the locks report from now on; see `Waits`.

    The counters of a `FileLock` are `pytorch.filelock.enter`, `.region` and
    `.exit`, those of any other lock `portalocker.Lock.enter` and so on, with
    the name of its class. A lock, or a class of locks, that has an attribute
    `counter_name` reports under that name instead.

    >>> enable()
    >>> is_enabled()
    True
    >>> disable()
    """
    with _mutex:
        _listening.listener = _told_phases_of if _sinks else _phases_of


def disable() -> None:
    """Have locks report no more; the counters stay.

    Who waits or holds at this moment is still counted to the end.
    """
    _listening.listener = None


def is_enabled() -> bool:
    """Whether locks report."""
    return _listening.listener is not None


def snapshot() -> dict[str, Waits]:
    """Read all counters, by name."""
    with _mutex:
        tallies = list(_tallies.values())
    return {tally.name: tally.read() for tally in tallies}


def _forget_parent() -> None:
    global _mutex, _of_thread
    _mutex = _thread.RLock()
    _of_thread = _OfThread()
    for tally in list(_tallies.values()):
        tally.forget_parent()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_parent)
