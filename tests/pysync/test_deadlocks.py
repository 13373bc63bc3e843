"""deadlocks(): the lot knows who waits for what."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from crew import SHORT, Crew, until, until_parked


def kinds(sync: Any) -> list[Any]:
    """Return makers of locks whose holders are known."""
    makers: list[Any] = [lambda: sync.RWMutex().writer]
    if sync.IMPLEMENTATION == 'native':
        makers += [sync.Mutex, sync.RecursiveMutex]
    return makers


def hold_then_want(first: Any, want: Any, stop: Any, all_hold: Any) -> None:
    with first:
        all_hold.wait()
        while not stop.is_set():
            if want.acquire(timeout=SHORT * 20):
                want.release()
                return


def test_nobody_waits(sync: Any) -> None:
    assert sync.deadlocks() == []


@pytest.mark.parametrize('size', [1, 2, 3])
def test_a_circle_is_told(sync: Any, size: int) -> None:
    for make in kinds(sync):
        locks = [make() for _ in range(size)]
        if size == 1 and hasattr(locks[0], 'is_locked_by'):
            continue  # it does not wait for itself
        stop, all_hold = threading.Event(), threading.Barrier(size)
        with Crew() as crew:
            threads = [
                crew.start(
                    hold_then_want,
                    locks[n],
                    locks[(n + 1) % size],
                    stop,
                    all_hold,
                )
                for n in range(size)
            ]
            try:
                found = until(sync.deadlocks)
            finally:
                stop.set()
        (circle,) = found
        assert {wait.thread for wait in circle} == {
            thread.ident for thread in threads
        }
        for n, wait in enumerate(circle):
            assert wait.holder == circle[(n + 1) % size].thread
            assert wait._fields == ('thread', 'key', 'holder')
    assert sync.deadlocks() == []


def test_a_chain_is_no_circle(sync: Any) -> None:
    first, second = sync.RWMutex(), sync.RWMutex()
    first.lock()
    stop = threading.Event()
    with Crew() as crew:
        crew.start(
            hold_then_want,
            second.writer,
            first.writer,
            stop,
            threading.Barrier(1),
        )
        until_parked(sync, first)
        crew.start(second.acquire_read, True, 20)
        until_parked(sync, second)
        assert sync.deadlocks() == []
        first.unlock()


def test_readers_and_plain_keys_have_no_holder(sync: Any) -> None:
    rw = sync.RWMutex()
    key = object()
    with Crew() as crew:
        with rw.reader:
            crew.start(rw.acquire_write)
            crew.start(sync.park, key, lambda: True)
            until_parked(sync, rw)
            until_parked(sync, key)
            assert sync.deadlocks() == []
        sync.unpark(key)


def test_two_flags_that_need_each_other(sync: Any) -> None:
    one, other = sync.OnceFlag(), sync.OnceFlag()
    both = threading.Barrier(2)
    may_end = threading.Event()

    def run(mine: Any, theirs: Any) -> None:
        def fn() -> None:
            both.wait()
            if mine is one:
                # we break the circle; it runs again when we are done
                may_end.wait()
            else:
                theirs.do(int)

        mine.do(fn)

    with Crew() as crew:
        crew.start(run, one, other)
        crew.start(run, other, one)
        until_parked(sync, one)
        assert sync.deadlocks() == []
        (wait,) = sync._waits()
        assert wait[2] is one
        may_end.set()
    assert one.done() and other.done()
