"""RecursiveMutex: whose it is, and how often."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from crew import in_thread


def test_locked_as_often_as_unlocked(sync: Any) -> None:
    mutex = sync.RecursiveMutex()
    for depth in range(1, 4):
        mutex.lock()
        assert mutex._recursion_count() == depth
    for _ in range(3):
        assert mutex.is_locked_by()
        assert not in_thread(mutex.acquire, False)
        mutex.unlock()
    assert not mutex.is_locked()
    with pytest.raises(RuntimeError):
        mutex.unlock()


def test_foreign_release_changes_nothing(sync: Any) -> None:
    mutex = sync.RecursiveMutex()
    with mutex:
        with pytest.raises(RuntimeError, match='un-acquired'):
            in_thread(mutex.release)
        assert mutex.is_locked_by()
        assert mutex._recursion_count() == 1
    assert not mutex.locked()


def test_owner_is_told(sync: Any) -> None:
    mutex = sync.RecursiveMutex()
    me = threading.get_ident()
    assert not mutex.is_locked_by()
    assert not mutex.is_locked_by(0)
    with mutex:
        assert mutex.is_locked_by(me)
        assert not mutex.is_locked_by(0)
        assert not mutex.is_locked_by(me + 1)
        assert not mutex.is_locked_by(-1)
        assert not mutex.is_locked_by(1 << 80)
        assert in_thread(mutex.is_locked_by, me)
        assert not in_thread(mutex.is_locked_by)
        assert in_thread(mutex.is_locked)
        assert in_thread(mutex._recursion_count) == 0
        assert f'owner={me} count=1 at' in repr(mutex)
    assert 'owner=0 count=0' in repr(mutex)


def test_condition_gives_all_levels_back_and_takes_them_again(
    sync: Any,
) -> None:
    mutex = sync.RecursiveMutex()
    with mutex, mutex:
        saved = mutex._release_save()
        assert not mutex.is_locked()
        assert in_thread(mutex.acquire, False)
        # that thread has ended with the lock
        mutex._at_fork_reinit()
        mutex._acquire_restore(saved)
        assert mutex._recursion_count() == 2
    with pytest.raises(RuntimeError):
        mutex._release_save()


def test_condition_waits_under_two_levels(sync: Any) -> None:
    condition = threading.Condition(sync.RecursiveMutex())
    with condition, condition:
        assert not condition.wait(timeout=0.001)
        condition.notify()
    with pytest.raises(RuntimeError):
        condition.notify()
