"""`RLock`: the holder may take it again."""

from __future__ import annotations

import pathlib
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from states import is_locked

import portalocker
from portalocker.exceptions import AlreadyLocked, LockException

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)


LONG = 30.0  # seconds, reached by a failure only


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file.lock'


def in_another_thread(task: Callable[[], Any]) -> Any:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(task())
        except BaseException as failure:
            results.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(LONG)
    if isinstance(results[0], BaseException):
        raise results[0]
    return results[0]


def test_every_acquire_gives_the_same_handle_and_the_last_release_lets_go(
    path: pathlib.Path,
) -> None:
    lock = portalocker.RLock(path)
    fh = lock.acquire()
    assert lock.acquire() is fh
    assert lock.try_acquire()
    assert lock._acquire_count == 3
    for left in (2, 1):
        lock.release()
        assert lock._acquire_count == left
        assert not fh.closed
        assert is_locked(path)
    lock.release()
    assert lock._acquire_count == 0
    assert fh.closed
    assert lock.fh is None
    assert not is_locked(path)


def test_releasing_what_is_not_held_is_an_error(path: pathlib.Path) -> None:
    lock = portalocker.RLock(path)
    with pytest.raises(LockException):
        lock.release()
    with lock:
        pass
    with pytest.raises(LockException, match='does not hold'):
        lock.release()


def test_blocks_nest_with_acquisitions(path: pathlib.Path) -> None:
    lock = portalocker.RLock(path)
    with lock as outer, lock as inner:
        assert inner is outer
        assert lock.acquire() is outer
        assert lock._acquire_count == 3
        lock.release()
    assert not is_locked(path)


def test_a_second_object_contends(path: pathlib.Path) -> None:
    with portalocker.RLock(path):
        other = portalocker.RLock(path, timeout=0)
        with pytest.raises(AlreadyLocked):
            other.acquire()
        assert not other.try_acquire()
        assert other._acquire_count == 0


def test_the_count_belongs_to_the_thread(path: pathlib.Path) -> None:
    lock = portalocker.RLock(path, timeout=0)
    with lock, lock:
        assert in_another_thread(lambda: lock._acquire_count) == 0
        assert not in_another_thread(lock.try_acquire)
        with pytest.raises(AlreadyLocked):
            in_another_thread(lock.acquire)
        with pytest.raises(LockException, match='this thread'):
            in_another_thread(lock.release)
        assert is_locked(path)
        assert lock._acquire_count == 2
    assert not is_locked(path)


def test_a_failed_acquire_counts_nothing(path: pathlib.Path) -> None:
    lock = portalocker.RLock(path, timeout=0)
    with portalocker.Lock(path), pytest.raises(AlreadyLocked):
        lock.acquire()
    with pytest.raises(LockException):
        lock.release()


def test_a_closed_handle_counts_as_let_go(path: pathlib.Path) -> None:
    lock = portalocker.RLock(path)
    lock.acquire()
    lock.acquire().close()
    assert lock._acquire_count == 0
    fh = lock.acquire()
    assert not fh.closed
    assert lock._acquire_count == 1
    lock.release()
    assert not is_locked(path)


def test_a_block_whose_handle_was_closed_ends_quietly(
    path: pathlib.Path,
) -> None:
    lock = portalocker.RLock(path)
    with lock as fh:
        fh.close()
    assert not is_locked(path)


def test_mode_w_truncates_at_the_first_acquire_only(
    path: pathlib.Path,
) -> None:
    path.write_text('old')
    lock = portalocker.RLock(path, 'w')
    with lock as fh:
        fh.write('new')
        fh.flush()
        with lock:
            pass
        assert path.read_text() == 'new'


def test_open_arguments_are_not_taken(path: pathlib.Path) -> None:
    with pytest.raises(TypeError):
        portalocker.RLock(path, encoding='utf-8')  # type: ignore[call-arg]
