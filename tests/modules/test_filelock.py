"""FileLock: what programs written for `filelock` rely on, and what is ours."""

from __future__ import annotations

import asyncio
import copy
import os
import pathlib
import pickle
import threading

import pytest

from portalocker import _hold, exceptions
from portalocker.filelock import (
    AcquireReturnProxy,
    BaseFileLock,
    Cancelled,
    Deadlock,
    FileLock,
    Timeout,
)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / 'the.lock')


@pytest.fixture(autouse=True)
def _nothing_stays_held():
    yield
    assert not _hold.held


def test_block_holds_and_lets_go(path) -> None:
    lock = FileLock(path)
    assert isinstance(lock, BaseFileLock)
    with lock as entered:
        assert entered is lock
        assert lock.is_locked
        assert not FileLock(path).try_acquire()
    assert not lock.is_locked
    assert os.path.exists(path)


def test_acquire_gives_a_proxy_that_releases_once(path) -> None:
    lock = FileLock(path)
    with lock.acquire() as entered:
        assert entered is lock
        assert lock.lock_counter == 1
        assert type(lock.acquire()) is AcquireReturnProxy
    assert lock.lock_counter == 1
    lock.release()
    assert lock.lock_counter == 0


def test_levels_are_counted_and_force_undoes_all(path) -> None:
    lock = FileLock(path)
    with lock, lock:
        assert lock.lock_counter == 2
        lock.release(force=True)
        assert not lock.is_locked
        assert FileLock(path).try_acquire()
    lock.release()


def test_timeout_says_what_it_was_about(path) -> None:
    with FileLock(path), pytest.raises(Timeout) as caught:
        FileLock(path).acquire(timeout=0.01)
    failure = caught.value
    assert isinstance(failure, TimeoutError)
    assert isinstance(failure, exceptions.AlreadyLocked)
    assert failure.lock_file == path
    assert failure.args == ()
    assert failure.errno is None
    assert repr(failure) == f'Timeout({path!r})'
    assert str(failure).startswith(
        f"The file lock '{path}' could not be acquired."
    )
    again = pickle.loads(pickle.dumps(failure))
    assert str(again) == str(failure)
    assert again.holder == failure.holder


def test_one_thread_that_waits_for_itself_is_told(path) -> None:
    with FileLock(path), pytest.raises(RuntimeError, match='Deadlock: lock'):
        FileLock(path).acquire()


def test_circle_of_threads_is_found_and_told(tmp_path) -> None:
    first, second = (str(tmp_path / name) for name in 'ab')
    holds = threading.Event()
    told: list[Deadlock] = []

    def enter(path: str) -> None:
        try:
            with FileLock(path):
                pass
        except Deadlock as failure:
            told.append(failure)

    def body() -> None:
        with FileLock(second):
            holds.set()
            enter(first)

    thread = threading.Thread(target=body, name='the other')
    with FileLock(first):
        thread.start()
        holds.wait()
        enter(second)
    thread.join()
    assert len(told) == 1
    assert len(told[0].circle) == 2
    assert "thread 'the other' waits for" in str(told[0])


def test_tasks_of_one_thread_exclude_each_other(path) -> None:
    lock = FileLock(path)

    async def other() -> None:
        assert not lock.is_locked
        lock.release()
        with pytest.raises(Timeout):
            lock.acquire(blocking=False)
        with pytest.raises(Deadlock):
            lock.acquire()

    async def main() -> None:
        with lock:
            await asyncio.create_task(other())
            assert lock.lock_counter == 1

    asyncio.run(main())


def test_cancel_check_ends_the_wait(path) -> None:
    with FileLock(path), pytest.raises(Cancelled):
        FileLock(path).acquire(cancel_check=lambda: True)
    FileLock(path).acquire(cancel_check=lambda: 1 / 0).lock.release()


@pytest.mark.parametrize(
    'copied',
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
)
def test_copy_is_a_lock_of_its_own(path, copied) -> None:
    lock = FileLock(path, timeout=3)
    with lock:
        other = copied(lock)
        assert not other.is_locked
        assert other.timeout == 3
        assert not other.try_acquire()
    with other:
        assert not lock.is_locked
