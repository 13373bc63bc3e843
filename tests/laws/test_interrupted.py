"""A signal handler raises, at each step of ours where Python may run it."""

from __future__ import annotations

import gc
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from interruption import Interruption
from locks import (
    INOTIFY,
    KINDS,
    announce_wait,
    handle,
    law,
    open_descriptors,
    try_to_hold,
)

import portalocker
from portalocker import (
    _after_fork,
    _filelock_soft,
    _hold,
    _owner,
    _removal,
    _wakeup_inotify,
    _wakeup_queue,
    wait_counters,
)

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 12),
    reason='does not trace every step of a function: its first call has none',
)

LOOP = 'handlers of an event loop run between its steps'
OF_PROCESS = 'two objects of one process do not exclude each other'
ONCE = 'it is not taken twice'

# What is done, in pieces: what is interrupted stands in `with interruption`
Act = Callable[[Any, Any, Interruption], Iterator[Any]]


def takes(kind: Any, path: Any, interruption: Interruption) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    with interruption:
        lock.acquire()
    holds_nothing_if(lock, interruption)


def tries(kind: Any, path: Any, interruption: Interruption) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    with interruption:
        assert try_to_hold(lock)
    holds_nothing_if(lock, interruption)


def enters_a_block(
    kind: Any, path: Any, interruption: Interruption
) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    with interruption:
        lock.__enter__()
    holds_nothing_if(lock, interruption)


def holds_nothing_if(lock: Any, interruption: Interruption) -> None:
    """Whoever is told that it failed will not release it."""
    if interruption.came_out:
        assert handle(lock) is None, interruption.place


def lets_go(kind: Any, path: Any, interruption: Interruption) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    lock.acquire()
    with interruption:
        lock.release()


def runs_a_block(
    kind: Any, path: Any, interruption: Interruption
) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    with interruption, lock:
        pass


def enters_a_block_in_a_block(
    kind: Any, path: Any, interruption: Interruption
) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    lock.__enter__()
    enters_an_inner_block(lock, kind.rival(path), interruption)


def enters_a_block_while_it_holds(
    kind: Any, path: Any, interruption: Interruption
) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    lock.acquire()
    enters_an_inner_block(lock, kind.rival(path), interruption)


def enters_an_inner_block(
    lock: Any, rival: Any, interruption: Interruption
) -> None:
    held = handle(lock)
    with interruption:
        lock.__enter__()
    assert handle(lock) is held, interruption.place
    assert not held.closed, interruption.place
    assert not try_to_hold(rival), interruption.place


def is_refused(
    kind: Any, path: Any, interruption: Interruption
) -> Iterator[Any]:
    # A semaphore waits its time in any case
    options = {'timeout': 0} if kind.name == 'semaphore' else {}
    lock = kind.make(path, fail_when_locked=True, **options)
    yield lock
    rival = kind.rival(path)
    rival.acquire()
    with interruption, pytest.raises(portalocker.AlreadyLocked):
        lock.acquire()
    rival.release()


def waits(kind: Any, path: Any, interruption: Interruption) -> Iterator[Any]:
    lock = kind.make(path)
    yield lock
    rival = kind.rival(path)
    rival.acquire()
    announce_wait(lock, lambda: interruption.spare(rival.release))
    with interruption:
        lock.acquire()
    holds_nothing_if(lock, interruption)
    if not interruption.came_out:
        with interruption:
            lock.release()
    if handle(rival) is not None:
        rival.release()


SHORT_ACTS = (takes, tries, enters_a_block, lets_go, runs_a_block)
INNER_ACTS = (enters_a_block_in_a_block, enters_a_block_while_it_holds)
# Hundreds of steps, which other kinds share with a few
LONG_ACTS = (is_refused, waits)
SAME = 'takes the same steps as others'
STRIDE = 1 if os.environ.get('PORTALOCKER_STRESS') == '1' else 3


# What nobody was told of is closed with its last reference
@pytest.mark.filterwarnings('ignore::ResourceWarning')
@law(tasks=LOOP, of_process=OF_PROCESS)
@pytest.mark.parametrize('act', SHORT_ACTS, ids=lambda act: act.__name__)
def test_an_interrupt_at_any_step_leaves_a_lock_that_works(
    kind, path, act
) -> None:
    interrupt_at_each_step(kind, path, act)


@pytest.mark.filterwarnings('ignore::ResourceWarning')
@law(tasks=LOOP, of_process=OF_PROCESS)
@pytest.mark.parametrize('act', SHORT_ACTS, ids=lambda act: act.__name__)
def test_an_interrupt_at_any_step_ends_what_is_counted(
    kind, path, act, counting
) -> None:
    interrupt_at_each_step(kind, path, act)


@pytest.mark.filterwarnings('ignore::ResourceWarning')
@law(tasks=LOOP, of_process=OF_PROCESS, semaphores=ONCE)
@pytest.mark.parametrize('act', INNER_ACTS, ids=lambda act: act.__name__)
def test_an_interrupt_on_the_way_in_leaves_the_outer_block_its_lock(
    kind, path, act
) -> None:
    interrupt_at_each_step(kind, path, act)


@pytest.mark.filterwarnings('ignore::ResourceWarning')
@law(
    tasks=LOOP,
    of_process=OF_PROCESS,
    readers=SAME,
    truncating=SAME,
    blocking=SAME,
    named_semaphore=SAME,
    semaphore_of_two=SAME,
    write=SAME,
    ofd=SAME,
)
@pytest.mark.parametrize('act', LONG_ACTS, ids=lambda act: act.__name__)
def test_an_interrupt_at_any_step_of_a_wait_leaves_a_lock_that_works(
    kind, path, act, monkeypatch
) -> None:
    # It grows with what all others lock, and each line is a step
    read = _owner._read_proc
    monkeypatch.setattr(
        _owner,
        '_read_proc',
        lambda path: b'' if path == '/proc/locks' else read(path),
    )
    # Each kind takes a third of the steps, together all that they share
    first = KINDS.index(kind) % STRIDE
    interrupt_at_each_step(kind, path, act, first, STRIDE)


def interrupt_at_each_step(
    kind: Any, path: pathlib.Path, act: Act, first: int = 0, stride: int = 1
) -> None:
    # What is made once is no leak
    with kind.make(path):
        pass
    gc.collect()  # what others left
    waiting, beside = known_to_wait(), files_beside(path)
    active = counted_as_active()
    for step in itertools.count(first, stride):
        before = belongings_besides(None)
        interruption = Interruption(step)
        lock = None
        try:
            for lock in act(kind, path, interruption):
                assert handle(lock) is None
        except pytest.fail.Exception:
            assert interruption.was_raised
        where = f'step {step}, {interruption.place}'
        assert interruption.came_out == interruption.was_raised, where
        interruption.forget()
        give_back(lock)
        assert try_to_hold(lock), where
        give_back(lock)
        lock = None
        assert belongings_besides(before) == before, where
        assert can_be_taken(kind.rival(path)), where
        assert not has_tickets(kind.locked_path(path)), where
        assert known_to_wait() == waiting, where
        assert files_beside(path) == beside, where
        assert counted_as_active() == active, where
        if not interruption.was_raised:
            assert step > 5
            return


def belongings_besides(expected: Any) -> Any:
    """What this process has; collected first, where that is unexpected."""
    for collect in (lambda: 0, gc.collect):
        collect()
        names = open_descriptors().values()
        files = sorted(name for name in names if name != INOTIFY)
        held = len(_hold.held), len(_filelock_soft._markers)
        found = files, held, len(_removal._remains)
        if found == expected:
            break
    return found


def files_beside(path: pathlib.Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def has_tickets(path: pathlib.Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return _wakeup_queue.somebody_waits(fd)
    finally:
        os.close(fd)


def give_back(lock: Any) -> None:
    """Release, as often as it takes: it was taken twice at most."""
    for _ in range(2):
        if handle(lock) is not None:
            lock.release()
    assert handle(lock) is None


def can_be_taken(lock: Any) -> bool:
    if not try_to_hold(lock):
        return False
    lock.release()
    return True


@pytest.fixture
def counting() -> Iterator[None]:
    wait_counters.enable()
    yield
    wait_counters.disable()


def counted_as_active() -> dict[str, int]:
    """What goes on, as far as counters know."""
    return {
        name: waits.active
        for name, waits in wait_counters.snapshot().items()
        if waits.active
    }


def known_to_wait() -> tuple[int, int, int]:
    """How many wait, as far as this process knows."""
    instance = _wakeup_inotify._instances.get(None)
    if instance is None:
        return len(_after_fork.waiting), 0, 0
    interests = sum(map(len, instance._interests.values()))
    return len(_after_fork.waiting), interests, len(instance._parked)
