"""Mutex, RawMutex, and what all lock-shaped things share."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from crew import SHORT, WRONG_TIME, Crew, in_thread

LOCK_SHAPED = ('Mutex', 'RecursiveMutex', 'reader', 'writer')
ONE_HOLDER = ('Mutex', 'RawMutex', 'RecursiveMutex', 'writer')


@pytest.fixture
def lock(request: pytest.FixtureRequest, sync: Any) -> Any:
    return make(sync, request.param)


def make(sync: Any, name: str) -> Any:
    if name in {'reader', 'writer'}:
        return getattr(sync.RWMutex(), name)
    return getattr(sync, name)()


def try_from_elsewhere(lock: Any) -> bool:
    """Whether another thread could hold the lock now."""

    def attempt() -> bool:
        if not lock.acquire(blocking=False):
            return False
        lock.release()
        return True

    return bool(in_thread(attempt))


@pytest.mark.parametrize(
    'lock', ['Mutex', 'RecursiveMutex', 'writer'], indirect=True
)
def test_held_in_the_block_and_free_after_it(lock: Any) -> None:
    with lock as entered:
        assert entered is True
        assert lock.locked()
        assert not try_from_elsewhere(lock)
    assert not lock.locked()
    assert try_from_elsewhere(lock)


@pytest.mark.parametrize('lock', ONE_HOLDER + ('reader',), indirect=True)
def test_release_of_what_is_free_changes_nothing(lock: Any) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r'release un\S+ lock'):
            lock.release()
        with pytest.raises(RuntimeError):
            lock.__exit__(None, None, None)
        assert not lock.locked()
        with lock:
            assert lock.locked()


@pytest.mark.parametrize('lock', LOCK_SHAPED, indirect=True)
def test_timeouts_are_read_as_threading_reads_them(lock: Any) -> None:
    assert lock.acquire(True, 0)
    lock.release()
    assert lock.acquire(timeout=SHORT)
    lock.release()
    assert lock.acquire(timeout=-1)
    lock.release()
    for wrong in ((False, 1), (False, 0), (True, -2), (True, float('nan'))):
        with pytest.raises(ValueError, match=WRONG_TIME):
            lock.acquire(*wrong)
    for huge in (threading.TIMEOUT_MAX * 1.01, 1e300, float('inf')):
        with pytest.raises(OverflowError):
            lock.acquire(timeout=huge)
    with pytest.raises(TypeError):
        lock.acquire(True, 'soon')
    assert not lock.locked()


@pytest.mark.parametrize(
    'lock', ['Mutex', 'RecursiveMutex', 'writer'], indirect=True
)
def test_time_over_leaves_the_lock_to_its_holder(lock: Any) -> None:
    with lock:
        assert not in_thread(lock.acquire, True, SHORT)
        assert not in_thread(lock.acquire, True, 0)
        assert not in_thread(lock.acquire, False)
        assert lock.locked()
    assert not lock.locked()


@pytest.mark.parametrize('lock', LOCK_SHAPED, indirect=True)
def test_timed_block_holds(lock: Any) -> None:
    block = lock.timed(60)
    for _ in range(2):
        with block as entered:
            assert entered is True
            assert lock.locked()
        assert not lock.locked()


@pytest.mark.parametrize(
    'lock', ['Mutex', 'RecursiveMutex', 'writer'], indirect=True
)
def test_timed_block_raises_when_the_time_is_over(lock: Any) -> None:
    def enter() -> None:
        with lock.timed(SHORT):
            pytest.fail('it is held')

    with lock:
        assert lock.locked()
        with pytest.raises(
            TimeoutError, match=r'cannot lock <.* after 0.01 s'
        ):
            in_thread(enter)
    assert not lock.locked()
    with pytest.raises(ValueError, match=WRONG_TIME):
        lock.timed(-1)
    with pytest.raises(ValueError, match=WRONG_TIME):
        lock.timed(float('nan'))


def test_seed_shaped_methods(sync: Any) -> None:
    mutex = sync.Mutex()
    assert mutex.lock() is None
    assert mutex.is_locked()
    assert mutex.try_lock() is False
    assert mutex.lock_timed(0) is sync.LockStatus.FAILURE
    assert mutex.lock_timed(SHORT, sync.LOCK_HANDLE_SIGNALS) == 0
    assert mutex.unlock() is None
    for forever in (None, -1, -0.5, -7):
        assert mutex.lock_timed(forever) is sync.LockStatus.ACQUIRED
        mutex.unlock()
    assert mutex.try_lock() is True
    mutex.unlock()
    with pytest.raises(RuntimeError):
        mutex.unlock()
    with pytest.raises(ValueError, match=WRONG_TIME):
        mutex.lock_timed(float('nan'))
    with pytest.raises(OverflowError):
        mutex.lock_timed(1e300)
    assert not mutex.is_locked()


def test_another_thread_may_release(sync: Any) -> None:
    mutex = sync.Mutex()
    mutex.acquire()
    in_thread(mutex.release)
    assert mutex.acquire(blocking=False)
    mutex.release()


def test_raw_mutex_takes_no_options(sync: Any) -> None:
    mutex = sync.RawMutex()
    assert mutex.acquire() is True
    assert mutex.locked()
    mutex.release()
    assert mutex.lock() is None
    assert mutex.unlock() is None
    for options in ({'blocking': False}, {'timeout': 1}):
        with pytest.raises(TypeError):
            mutex.acquire(**options)
    assert not hasattr(mutex, 'try_lock')
    with pytest.raises(RuntimeError):
        mutex.unlock()
    with mutex:
        assert mutex.locked()


@pytest.mark.parametrize('lock', ONE_HOLDER, indirect=True)
def test_no_two_holders_and_no_lost_waiter(lock: Any) -> None:
    count = 0

    def add() -> None:
        nonlocal count
        for _ in range(300):
            with lock:
                before = count
                for _ in range(3):
                    pass
                count = before + 1

    with Crew() as crew:
        for _ in range(4):
            crew.start(add)
    assert count == 1200
    assert not lock.locked()


@pytest.mark.parametrize('lock', LOCK_SHAPED + ('RawMutex',), indirect=True)
def test_a_forked_child_may_make_it_free(lock: Any) -> None:
    lock.acquire()
    lock._at_fork_reinit()
    assert not lock.locked()
    with lock:
        assert lock.locked()


@pytest.mark.parametrize('name', ['Mutex', 'RawMutex'])
def test_repr_tells_whether_it_is_locked(sync: Any, name: str) -> None:
    mutex = getattr(sync, name)()
    shape = rf' portalocker.pysync.{name} object at {id(mutex):#x}>'
    assert repr(mutex) == '<unlocked' + shape
    with mutex:
        assert repr(mutex) == '<locked' + shape


def test_condition_over_a_mutex(sync: Any) -> None:
    condition = threading.Condition(sync.Mutex())
    seen: list[int] = []

    def consume() -> None:
        with condition:
            condition.wait_for(lambda: len(seen) == 1)
            seen.append(2)

    with Crew() as crew:
        crew.start(consume)
        with condition:
            seen.append(1)
            condition.notify()
    assert seen == [1, 2]
