"""The parking lot: threads sleep here in line, each on the key it waits for.

As in WebKit's WTF::ParkingLot, where the idea comes from: locks keep their
state in themselves and their waiters here.
"""

from __future__ import annotations

import itertools
from _thread import RLock, allocate_lock, get_ident
from collections import deque

from . import _suspension
from ._shapes import wait_seconds
from ._words import ParkStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

# Guards all below and the fields of every waiter. A signal handler may enter
# while its own thread is inside: a waiter stands in line before anything is
# checked, so that it finds whom to wake.
guard = RLock()

# id(key) -> who waits for key, the first one first; empty only where a signal
# handler raised between two steps of what follows, or forked
_queues: dict[int, deque[Waiter]] = {}

# Whether the thread that is inside runs a function of the user's
_runs_callback = False

_serials = itertools.count(1)

# How many forks lie between us and the first process, and which thread lived
# on in the last one
generation = 0
survivor = 0


class Waiter:
    """One thread in line.

    is_queued | is_claimed | meaning
    no        | no         | not in line yet, or it has left by itself
    yes       | no         | in line
    no        | yes        | somebody took it out of the line and will wake it
    """

    __slots__ = (
        'arg',
        'is_claimed',
        'is_queued',
        'key',
        'serial',
        'sleep',
        'thread',
        'wake',
    )

    def __init__(self, key: object, arg: object = None) -> None:
        self.key = key
        self.arg = arg
        self.thread = get_ident()
        self.serial = next(_serials)
        self.is_queued = self.is_claimed = False
        bed = allocate_lock()
        bed.acquire()
        self.sleep = bed.acquire
        self.wake = bed.release


# With `guard` held:


def refuse_callbacks() -> None:
    """A function that runs inside the lot cannot use the lot."""
    if _runs_callback:
        raise RuntimeError(
            'cannot use the parking lot: this thread is inside one of its '
            'callbacks'
        )


def queue_of(key: object) -> Collection[Waiter]:
    """Return who waits for `key`, the first one first."""
    return _queues.get(id(key), ())


def enqueue(waiter: Waiter) -> None:
    """Put `waiter` at the end of its line."""
    waiter.is_claimed = False
    # before it is true: who is interrupted between the two has left nothing
    waiter.is_queued = True
    _queues.setdefault(id(waiter.key), deque()).append(waiter)


def withdraw(waiter: Waiter) -> bool:
    """Take `waiter` out of its line; False if it is not in line."""
    if not waiter.is_queued:
        return False
    queue = _queues.get(id(waiter.key), ())
    if waiter in queue:
        queue.remove(waiter)  # type: ignore[union-attr]
    if not queue:
        _queues.pop(id(waiter.key), None)
    # last: who is interrupted before comes here again
    waiter.is_queued = False
    return True


def claim(waiter: Waiter) -> None:
    """Take `waiter` out of its line, to be woken."""
    waiter.is_claimed = withdraw(waiter)


def claim_first(key: object) -> Waiter | None:
    """Take out of the line whoever has waited longest for `key`."""
    queue = _queues.get(id(key))
    if not queue:
        return None
    waiter = queue[0]
    claim(waiter)
    return waiter


def wake_all(key: object) -> int:
    """Wake all who wait for `key`, and return how many they were."""
    waiters = list(queue_of(key))
    for waiter in waiters:
        claim(waiter)
        waiter.wake()
    return len(waiters)


def _call(fn: Callable[..., object], *args: object) -> object:
    global _runs_callback
    _runs_callback = True
    try:
        return fn(*args)
    finally:
        _runs_callback = False


# Without it:


def wait(
    waiter: Waiter, check: Callable[[], object], seconds: float
) -> ParkStatus:
    """Sleep in line if `check()`; an exception leaves the line."""
    try:
        with guard:
            refuse_callbacks()
            enqueue(waiter)
            if not check() and withdraw(waiter):
                return ParkStatus.AGAIN
        if _suspension.sleep(waiter.sleep, seconds):
            return ParkStatus.OK
        with guard:
            # whoever was claimed in the last moment was woken
            return ParkStatus.TIMEOUT if withdraw(waiter) else ParkStatus.OK
    except BaseException:
        with guard:
            withdraw(waiter)
        raise


def park(
    key: object,
    check: Callable[[], object],
    timeout: float | None = None,
    arg: object = None,
) -> ParkStatus:
    """Sleep until `unpark(key)`, if `check()` is true.

    The key is compared by identity and kept alive meanwhile. `check()` runs
    while nobody can be woken, so a wake-up between it and the sleep cannot be
    lost. `timeout` is in seconds; None and below zero is for ever. `arg` is
    for the function that `unpark()` calls.

    Gives ParkStatus.OK after a wake-up, AGAIN if `check()` was false,
    TIMEOUT when the time was over first. Raises what `check()` or a signal
    handler raises; a wake-up that was under way then goes to the next one in
    line. RuntimeError inside `check()` and other functions that the lot runs.

    CPython's name: _PyParkingLot_Park.

    >>> word = [0]
    >>> park(word, lambda: word[0] == 1)
    <ParkStatus.AGAIN: 2>
    >>> park(word, lambda: word[0] == 0, timeout=0.001)
    <ParkStatus.TIMEOUT: 1>
    """
    seconds = wait_seconds(timeout)
    waiter = Waiter(key, arg)
    try:
        return wait(waiter, lambda: _call(check), seconds)
    except BaseException:
        if waiter.is_claimed:
            unpark(key)
        raise


def unpark(
    key: object, fn: Callable[[Any, bool], object] | None = None
) -> bool:
    """Wake whoever has waited longest for `key`; False if nobody waits.

    `fn(arg, has_more)` is called first, while nobody can come or go: `arg` is
    what the woken one gave to `park()` (None if nobody waits), `has_more`
    tells whether others wait for the same key. If it raises, the waiter is
    woken all the same.

    CPython's name: _PyParkingLot_Unpark.

    >>> unpark('nobody waits for this')
    False
    """
    waiter = None
    try:
        with guard:
            refuse_callbacks()
            waiter = claim_first(key)
            if fn is not None:
                arg = None if waiter is None else waiter.arg
                _call(fn, arg, bool(queue_of(key)))
    finally:
        if waiter is not None:
            waiter.wake()
    return waiter is not None


def unpark_all(key: object) -> int:
    """Wake all who wait for `key`, and return how many they were.

    CPython's name: _PyParkingLot_UnparkAll.

    >>> unpark_all('nobody waits for this')
    0
    """
    with guard:
        refuse_callbacks()
        return wake_all(key)


def parked_count(key: object) -> int:
    """Return how many threads are parked on `key`, or on that lock.

    A `Mutex`, `RawMutex` or `RecursiveMutex` of the pure implementation lets
    the interpreter keep its waiters: there it is always 0.

    >>> parked_count('nobody waits for this')
    0
    """
    with guard:
        refuse_callbacks()
        return len(queue_of(getattr(type(key), '_lot_key', _itself)(key)))


def _itself(key: object) -> object:
    return key


def waits() -> list[tuple[int, int, object]]:
    """Return (thread, serial number of the wait, key) of all who wait."""
    with guard:
        refuse_callbacks()
        return [
            (waiter.thread, waiter.serial, _face(waiter.key))
            for queue in _queues.values()
            for waiter in queue
        ]


def _face(key: object) -> object:
    face = getattr(type(key), '_face_of_key', _itself)
    return face(key)


def after_fork() -> None:
    """Forget all waiters: in a forked child they are not there.

    It runs by itself in every child of `os.fork()`. Called by hand where
    other threads wait, it makes them wait for ever.

    CPython's name: _PyParkingLot_AfterFork.
    """
    global generation, survivor, _runs_callback
    depth = _depth_of_guard()
    guard._at_fork_reinit()  # type: ignore[attr-defined]
    for _ in range(depth):
        guard.acquire()
    if not depth:
        _runs_callback = False
    generation += 1
    survivor = get_ident()
    for key, queue in list(_queues.items()):
        # whatever their threads were about to do with them; the thread that
        # forked may have done so while it waited, in check() or in a signal
        # handler
        ours = [waiter for waiter in queue if waiter.thread == survivor]
        queue.clear()
        queue.extend(ours)
        if not ours:
            del _queues[key]


def _depth_of_guard() -> int:
    """How often the thread that forked is inside, as after a callback."""
    if not guard._is_owned():  # type: ignore[attr-defined]
        return 0
    state = guard._release_save()  # type: ignore[attr-defined]
    guard._acquire_restore(state)  # type: ignore[attr-defined]
    return int(state[0])
