"""The parking lot: in order, nothing lost, callbacks that misbehave."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import pytest
from crew import SHORT, WRONG_TIME, Crew, in_thread, until, until_parked


class Key:
    """Compared by identity, whatever it says."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1


class Oops(BaseException):
    pass


def park_all(sync: Any, crew: Crew, key: object, count: int) -> list[Any]:
    """Park threads one behind the other; who goes on joins the list."""
    went_on: list[Any] = []
    for n in range(count):

        def wait(n: int = n) -> None:
            status = sync.park(key, lambda: True, arg=n)
            went_on.append((n, status))

        crew.start(wait)
        until_parked(sync, key, n + 1)
    return went_on


def test_check_decides(sync: Any) -> None:
    key = Key()
    assert sync.park(key, lambda: False) is sync.ParkStatus.AGAIN
    assert sync.park(key, list) is sync.PARK_AGAIN
    assert sync.park(key, lambda: True, 0) is sync.ParkStatus.TIMEOUT
    assert sync.park(key, lambda: 'yes', SHORT) is sync.PARK_TIMEOUT
    assert sync.parked_count(key) == 0
    with pytest.raises(TypeError):
        sync.park(key)
    with pytest.raises(TypeError):
        sync.park(key, None, 0)
    assert sync.parked_count(key) == 0


def test_timeouts(sync: Any) -> None:
    key = Key()
    with pytest.raises(OverflowError):
        sync.park(key, lambda: True, 1e300)
    with pytest.raises(ValueError, match=WRONG_TIME):
        sync.park(key, lambda: True, float('nan'))
    for timeout in (None, -1, -0.001):
        with Crew() as crew:
            crew.start(sync.park, key, lambda: True, timeout)
            until_parked(sync, key)
            assert sync.unpark(key)


def test_woken_in_the_order_of_arrival(sync: Any) -> None:
    key = Key()
    with Crew() as crew:
        went_on = park_all(sync, crew, key, 5)
        for n in range(5):
            assert sync.unpark(key) is True
            until(lambda n=n: len(went_on) == n + 1)
        assert sync.unpark(key) is False
    assert went_on == [(n, sync.ParkStatus.OK) for n in range(5)]


def test_unpark_all(sync: Any) -> None:
    key = Key()
    assert sync.unpark_all(key) == 0
    with Crew() as crew:
        went_on = park_all(sync, crew, key, 4)
        assert sync.unpark_all(key) == 4
        assert sync.parked_count(key) == 0
    assert len(went_on) == 4


def test_keys_are_themselves(sync: Any) -> None:
    """Equal keys are different keys."""
    one, other = Key(), Key()
    with Crew() as crew:
        went_on = park_all(sync, crew, one, 1)
        assert sync.unpark(other) is False
        assert sync.unpark_all(other) == 0
        assert sync.parked_count(other) == 0
        assert went_on == []
        sync.unpark(one)


def test_many_keys_at_once(sync: Any) -> None:
    """More than one to a bucket: nobody wakes for another's key."""
    keys = [Key() for _ in range(40)]
    with Crew() as crew:
        lists = [park_all(sync, crew, key, 1) for key in keys]
        for n, key in enumerate(keys):
            assert sync.unpark(key, lambda arg, more: None) is True
            until(lambda n=n: lists[n])
            assert sum(map(len, lists)) == n + 1


def test_a_parked_key_stays_alive(sync: Any) -> None:
    key = Key()
    reference = weakref.ref(key)
    with Crew() as crew:
        crew.start(sync.park, key, lambda: True)
        until_parked(sync, key)
        del key
        gc.collect()
        alive = reference()
        assert alive is not None
        sync.unpark(alive)
        del alive
    gc.collect()
    assert reference() is None


def test_fn_gets_the_argument_and_whether_more_wait(sync: Any) -> None:
    key = Key()
    calls: list[Any] = []

    def fn(arg: Any, has_more: bool) -> None:
        calls.append((arg, has_more))

    with Crew() as crew:
        park_all(sync, crew, key, 3)
        other = park_all(sync, crew, Key(), 1)
        for _ in range(4):
            sync.unpark(key, fn)
        assert calls == [(0, True), (1, True), (2, False), (None, False)]
        for _, _, stranger in sync._waits():
            sync.unpark(stranger)
    assert len(other) == 1


def test_fn_runs_before_its_waiter_goes_on(sync: Any) -> None:
    key = Key()
    with Crew() as crew:
        went_on = park_all(sync, crew, key, 1)
        seen = []
        sync.unpark(key, lambda *_: seen.append(list(went_on)))
    assert seen == [[]]


def test_claimed_in_time_and_woken_too_late(sync: Any) -> None:
    """Whoever was claimed was woken, whatever the clock says by then."""
    key, results = object(), []
    claimed = False

    def park() -> None:
        results.append(sync.park(key, object, 5 * SHORT))

    while not claimed:
        results.clear()
        with Crew() as crew:
            crew.start(park)
            until(lambda: sync.parked_count(key) or results)
            # a slow machine tries again
            claimed = sync.unpark(key, lambda *_: time.sleep(10 * SHORT))
    assert results.pop() is sync.ParkStatus.OK


def test_nobody_parks_while_fn_runs(sync: Any) -> None:
    """What fn changes is seen by every check() that comes after."""
    key = Key()
    free = [False]
    with Crew() as crew:
        park_all(sync, crew, key, 1)
        entered, go_on = threading.Event(), threading.Event()

        def fn(arg: Any, has_more: bool) -> None:
            entered.set()
            go_on.wait()
            free[0] = True

        statuses: list[Any] = []
        crew.start(sync.unpark, key, fn)
        entered.wait()
        crew.start(
            lambda: statuses.append(sync.park(key, lambda: not free[0]))
        )
        go_on.set()
        until(lambda: statuses)
    assert statuses == [sync.ParkStatus.AGAIN]


def test_an_exception_of_fn_wakes_its_waiter_and_rises(sync: Any) -> None:
    key = Key()

    def fn(arg: Any, has_more: bool) -> None:
        raise Oops

    with pytest.raises(Oops):
        sync.unpark(key, fn)
    with Crew() as crew:
        went_on = park_all(sync, crew, key, 2)
        with pytest.raises(Oops):
            sync.unpark(key, fn)
        until(lambda: went_on)
        assert sync.parked_count(key) == 1
        assert sync.unpark(key)
    assert went_on[0] == (0, sync.ParkStatus.OK)


def test_an_exception_of_check_rises_and_parks_nobody(sync: Any) -> None:
    key = Key()

    def check() -> bool:
        raise Oops

    with pytest.raises(Oops):
        sync.park(key, check)
    assert sync.parked_count(key) == 0
    assert sync.park(key, lambda: True, 0) is sync.ParkStatus.TIMEOUT


def test_callbacks_cannot_use_the_lot(sync: Any) -> None:
    key, other = Key(), Key()
    uses = [
        lambda: sync.park(other, lambda: True, 0),
        lambda: sync.park(key, lambda: False),
        lambda: sync.park_if(sync.AtomicInt(), 0, 0),
        lambda: sync.unpark(key),
        lambda: sync.unpark(other),
        lambda: sync.unpark_all(other),
        lambda: sync.parked_count(other),
        sync.Event().wait,
    ]

    def attempt(use: Any) -> None:
        with pytest.raises(RuntimeError, match='inside one of its callbacks'):
            use()

    def check(use: Any) -> bool:
        attempt(use)
        return False

    for use in uses:
        assert (
            sync.park(key, lambda use=use: check(use)) is sync.ParkStatus.AGAIN
        )
        sync.unpark(key, lambda arg, more, use=use: attempt(use))
        # and afterwards all is as before
        assert sync.park(key, lambda: True, 0) is sync.ParkStatus.TIMEOUT
    # only the thread that is inside is refused
    with Crew() as crew:
        park_all(sync, crew, other, 1)
        started = threading.Event()
        sync.unpark(
            key,
            lambda *_: (crew.start(sync.unpark, other), started.set()),
        )
        started.wait()


def test_callbacks_may_use_free_locks(sync: Any) -> None:
    """What does not wait needs no lot; nothing is damaged either way."""
    mutex, rw, event = sync.Mutex(), sync.RWMutex(), sync.Event()

    def use(arg: Any, has_more: bool) -> None:
        with mutex, rw.reader:
            event.set()
        with rw.writer:
            pass

    try:
        sync.unpark(Key(), use)
    except RuntimeError:
        event.set()
    assert event.wait()
    for free in (mutex, rw.writer):
        assert free.acquire(blocking=False)


def test_statuses_have_the_values_of_the_specification(sync: Any) -> None:
    assert [*map(int, sync.ParkStatus)] == [0, 1, 2, 3]
    assert [*map(int, sync.LockStatus)] == [0, 1, 2]
    assert (sync.PARK_OK, sync.PARK_TIMEOUT) == (0, 1)
    assert (sync.PARK_AGAIN, sync.PARK_INTR) == (2, 3)
    assert (sync.LOCK_FAILURE, sync.LOCK_ACQUIRED, sync.LOCK_INTR) == (0, 1, 2)
    assert (sync.LOCK_DETACH, sync.LOCK_HANDLE_SIGNALS) == (1, 2)


def test_counts(sync: Any) -> None:
    key = Key()
    assert sync.parked_count(key) == 0
    with Crew() as crew:
        park_all(sync, crew, key, 2)
        assert sync.parked_count(key) == 2
        assert in_thread(sync.parked_count, key) == 2
        assert sync.parked_count(key=key) == 2
        assert sync.unpark_all(key=key) == 2
