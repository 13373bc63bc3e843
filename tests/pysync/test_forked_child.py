"""A forked child: no waiters, and nothing that waits for them."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from typing import Any

import pytest
from children import in_child
from crew import SHORT, Crew, until, until_parked
from states import LONG

pytestmark = pytest.mark.skipif(
    not hasattr(os, 'fork'), reason='this system does not fork'
)


def test_waiters_of_the_parent_are_forgotten(sync: Any) -> None:
    key, event = object(), sync.Event()
    word = sync.AtomicInt()

    def child() -> None:
        for waited in (key, event, word):
            assert sync.parked_count(waited) == 0
        assert sync.unpark(key, lambda arg, more: None) is False
        assert sync.unpark_all(key) == 0
        assert sync.park(key, lambda: True, SHORT) is sync.ParkStatus.TIMEOUT
        assert word.fetch_add(1) == 0
        event.set()
        assert event.wait()
        assert sync._waits() == []

    with Crew() as crew:
        for wait in (
            lambda: sync.park(key, lambda: True),
            lambda: sync.park_if(word, 0),
            event.wait,
        ):
            crew.start(wait)
        until(lambda: len(sync._waits()) == 3)
        in_child(child)
        assert len(sync._waits()) == 3
        assert sync.unpark(key) and sync.unpark(word)
        event.set()


@pytest.mark.parametrize('name', ['Mutex', 'RawMutex', 'RecursiveMutex'])
def test_the_thread_that_forked_still_holds(sync: Any, name: str) -> None:
    """And gives the lock to nobody who is not there."""
    lock = getattr(sync, name)()

    def child() -> None:
        assert lock.locked()
        lock.release()
        assert not lock.locked()
        lock.acquire()
        lock.release()

    def wait() -> None:
        with lock:
            pass

    with Crew() as crew, lock:
        for _ in range(3):
            crew.start(wait)
        if sync.IMPLEMENTATION == 'native':
            until_parked(sync, lock, 3)
        threading.Event().wait(SHORT)  # they lose patience
        in_child(child)
        assert lock.locked()


def test_rw_mutex_with_a_line(sync: Any) -> None:
    for held in ('reader', 'writer'):
        rw = sync.RWMutex()

        def child(rw: Any = rw, held: str = held) -> None:
            side = getattr(rw, held)
            assert side.locked()
            assert sync.parked_count(rw) == 0
            if held == 'reader':
                # nobody is in line any more
                assert rw.acquire_read(timeout=LONG / 2)
                rw.release_read()
            side.release()
            for _ in range(2):
                with rw.reader:
                    assert not rw.acquire_write(timeout=SHORT)
                with rw.writer:
                    assert not rw.acquire_read(blocking=False)

        def visit(side: Any) -> None:
            with side:
                pass

        with Crew() as crew, getattr(rw, held):
            crew.start(visit, rw.writer)
            until_parked(sync, rw, 1)
            crew.start(visit, rw.reader)
            until_parked(sync, rw, 2)
            threading.Event().wait(SHORT)
            in_child(child)


def test_a_run_that_the_child_will_never_see_end(sync: Any) -> None:
    flag, cell = sync.OnceFlag(), sync.OnceCell()
    may_end = threading.Event()
    started = threading.Barrier(3)

    def child() -> None:
        assert 'not run' in repr(flag)
        assert flag.do(int) is True
        assert flag.do(int) is False
        assert cell.get(lambda: 'ours') == 'ours'
        with Crew() as crew:
            crew.start(flag.do, int)

    def run() -> None:
        started.wait()
        may_end.wait()

    with Crew() as crew:
        crew.start(flag.do, run)
        crew.start(cell.get, run)
        started.wait()
        in_child(child)
        assert not flag.done()
        may_end.set()
    assert flag.done()


def test_a_run_that_goes_on_in_the_child(sync: Any) -> None:
    flag = sync.OnceFlag()

    def child() -> None:
        with pytest.raises(RuntimeError):
            flag.do(int)
        waited = []
        with Crew() as crew:
            crew.start(lambda: waited.append(flag.do(int)))
            until_parked(sync, flag)
            # what `do` does when fn has ended
            assert 'running' in repr(flag)
            flag._at_fork_reinit()
            sync.unpark_all(flag)
        assert waited == [True]

    assert flag.do(in_child, child) is True


def test_seq_lock_whose_writer_is_not_there(sync: Any) -> None:
    lock = sync.SeqLock()
    token = lock.begin_read()
    may_end = threading.Event()
    started = threading.Event()

    def write() -> None:
        with lock.write():
            started.set()
            may_end.wait()

    def child() -> None:
        assert lock.after_fork() is True
        assert not lock.end_read(token)
        assert lock.begin_read() > token + 1
        with lock.write():
            pass
        assert lock.read(lambda: 'seen') == 'seen'
        assert lock.after_fork() is False

    with Crew() as crew:
        crew.start(write)
        started.wait()
        in_child(child)
        may_end.set()
    assert lock.begin_read() == token + 2


def test_sections_go_on_in_the_child(sync: Any) -> None:
    a, b = sync.Mutex(), sync.Mutex()

    def child() -> None:
        assert sync.CSThread.current().top() is outer
        assert a.is_locked()
        with sync.CriticalSection(b):
            pass
        outer.end()
        assert not a.is_locked()

    with sync.CriticalSection(a) as outer:
        in_child(child)
        assert a.is_locked()


def test_fork_inside_a_callback(sync: Any) -> None:
    key = object()

    def use() -> None:
        assert sync.park(key, lambda: True, SHORT) is sync.ParkStatus.TIMEOUT
        assert sync.unpark(key) is False

    def check() -> bool:
        in_child(lambda: None)
        return False

    assert sync.park(key, check) is sync.ParkStatus.AGAIN
    use()

    parent = os.getpid()

    def fork_here() -> bool:
        children.append(os.fork())
        return False

    children: list[int] = []
    status = 1
    try:
        sync.park(key, fork_here)
        if os.getpid() != parent:
            signal.alarm(LONG)
            use()
            status = 0
    finally:
        if os.getpid() != parent:
            traceback.print_exc()
            os._exit(status)
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_fork_while_another_thread_is_inside(sync: Any) -> None:
    """What keeps the lot closed in the parent is not there in the child."""
    key = object()
    inside, may_end = threading.Event(), threading.Event()

    def check() -> bool:
        inside.set()
        may_end.wait()
        return False

    def child() -> None:
        assert sync.unpark(key) is False
        assert sync.park(key, lambda: True, SHORT) is sync.ParkStatus.TIMEOUT
        assert sync.park(key, lambda: False) is sync.ParkStatus.AGAIN

    with Crew() as crew:
        crew.start(sync.park, key, check)
        inside.wait()
        in_child(child)
        may_end.set()


def churn(sync: Any, stop: Any, key: Any, rw: Any, word: Any) -> None:
    """Use them all until told to stop.

    Not their names in another function: without the GIL, Python 3.13 locks
    what it keeps such names in, and a forked child may find it locked.
    """
    while not stop.is_set():
        sync.park(key, bool, 0)
        sync.park(key, object, 0)
        sync.unpark(key)
        with rw.reader:
            word.fetch_add(1)
        with sync.RWMutex().writer:
            sync.Event().set()


def test_fork_while_the_lot_is_busy(sync: Any) -> None:
    """Whatever the other threads were doing, the child can work."""
    keys = [object() for _ in range(4)]
    word = sync.AtomicInt()
    stop = threading.Event()

    def child() -> None:
        for key in keys:
            sync.park(key, lambda: True, 0)
            assert sync.unpark_all(key) == 0
        word.fetch_add(1)
        fresh = sync.RWMutex()
        with fresh.writer:
            assert not fresh.acquire_read(timeout=SHORT / 10)
        assert sync.OnceFlag().do(int)
        sync.Event().set()

    with Crew() as crew:
        rw = sync.RWMutex()
        for key in keys:
            crew.start(churn, sync, stop, key, rw, word)
        try:
            for _ in range(15):
                in_child(child)
        finally:
            stop.set()


def test_after_fork_by_hand(sync: Any) -> None:
    """Where nobody waits, it changes nothing."""
    assert sync.after_fork() is None
    key = object()
    with Crew() as crew:
        crew.start(sync.park, key, lambda: True)
        until_parked(sync, key)
        assert sync.unpark(key)
