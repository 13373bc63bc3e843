"""Taking a lock twice, and letting it go twice."""

from __future__ import annotations

import pytest
from locks import GROUPS, handle, hold, law

import portalocker

COUNTS = 'it counts'
ONE_PLACE = 'it refuses: AlreadyActive'
PLAIN_COUNT = 'one release lets go'
NOTHING_TO_RELEASE = 'release of what is not held does nothing'


@law(semaphores=ONE_PLACE)
def test_thread_that_holds_gets_the_same_handle(kind, path) -> None:
    lock = kind.make(path)
    first = hold(lock)
    assert hold(lock) is first
    lock.release()
    if kind.name in GROUPS['counting']:
        lock.release()


@law(
    plain='it gives the same handle again',
    removed='it gives the same handle again',
    file_locks='it counts',
)
def test_semaphore_object_has_one_place(kind, path, can_enter) -> None:
    lock = kind.make(path)
    lock.acquire()
    with pytest.raises(portalocker.AlreadyActive):
        lock.acquire()
    assert not can_enter(path)
    lock.release()
    assert can_enter(path)


@law(semaphores=ONE_PLACE)
def test_outermost_block_lets_go(kind, path, can_enter) -> None:
    lock = kind.make(path)
    with lock:
        with lock:
            with lock:
                assert not can_enter(path)
            assert not can_enter(path)
        assert not can_enter(path)
    assert can_enter(path)


@law(semaphores=ONE_PLACE)
def test_inner_block_that_fails_does_not_let_go(kind, path, can_enter) -> None:
    lock = kind.make(path)
    with lock:
        with pytest.raises(ZeroDivisionError), lock:
            raise ZeroDivisionError
        assert not can_enter(path)
    assert can_enter(path)


@law()
def test_block_that_fails_lets_go(kind, path, can_enter) -> None:
    lock = kind.make(path)
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert handle(lock) is None
    assert can_enter(path)


@law(counting=COUNTS)
def test_release_of_what_is_not_held_does_nothing(
    kind, path, can_enter
) -> None:
    lock = kind.make(path)
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    assert can_enter(path)


@law(counting=COUNTS)
def test_release_by_a_bystander_disturbs_nobody(kind, path, can_enter) -> None:
    holder, bystander = kind.rival(path), kind.make(path)
    holder.acquire()
    bystander.release()
    assert not can_enter(path, 'make')
    assert kind.locked_path(path).exists()
    holder.release()


@law(counting=COUNTS, semaphores=ONE_PLACE, file_locks='it counts')
def test_one_release_lets_go_however_often_it_was_acquired(
    kind, path, can_enter
) -> None:
    lock = kind.make(path)
    lock.acquire()
    lock.acquire()
    lock.release()
    assert can_enter(path)


@law(
    lock=PLAIN_COUNT, truncating=PLAIN_COUNT, blocking=PLAIN_COUNT,
    task_locks=PLAIN_COUNT,
    shared=PLAIN_COUNT, removed=PLAIN_COUNT, semaphores=PLAIN_COUNT,
    sides=PLAIN_COUNT,
    ofd=PLAIN_COUNT, lockf=PLAIN_COUNT, file_locks=NOTHING_TO_RELEASE,
)  # fmt: skip
def test_as_many_releases_let_go_as_it_was_acquired(
    kind, path, can_enter
) -> None:
    lock = kind.make(path)
    lock.acquire()
    assert lock.try_acquire()
    with lock:
        pass
    lock.release()
    assert not can_enter(path)
    lock.release()
    assert can_enter(path)
    with pytest.raises(portalocker.LockException):
        lock.release()


@law(
    lock=PLAIN_COUNT, truncating=PLAIN_COUNT, blocking=PLAIN_COUNT,
    task_locks=PLAIN_COUNT,
    shared=PLAIN_COUNT, removed=PLAIN_COUNT, semaphores=PLAIN_COUNT,
    sides=PLAIN_COUNT,
    ofd=PLAIN_COUNT, lockf=PLAIN_COUNT, file_locks=NOTHING_TO_RELEASE,
)  # fmt: skip
def test_counts_of_threads_are_apart(kind, path, stage, can_enter) -> None:
    lock = kind.make(path)

    def body(line) -> None:
        with pytest.raises(portalocker.LockException):
            lock.release()
        assert not lock.try_acquire()

    with lock, lock:
        stage.thread(body).finish()
        assert not can_enter(path)
    assert can_enter(path)


@law()
def test_object_can_be_used_again(kind, path, can_enter) -> None:
    lock = kind.make(path)
    for _ in range(2):
        with lock:
            assert not can_enter(path)
        assert can_enter(path)
