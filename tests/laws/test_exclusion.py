"""Whoever holds a lock holds it alone."""

from __future__ import annotations

import fcntl
import os
import queue
from collections.abc import Callable
from typing import Any

import pytest
from locks import (
    LONG,
    MARKER,
    announce_wait,
    handle,
    hold,
    is_semaphore,
    law,
    try_to_hold,
)

import portalocker

ROUNDS = 12
OBJECT_HAS_ONE_PLACE = 'one object holds one place: AlreadyActive'
SAME_PROCESS = 'these locks belong to the process'


def latecomer(make: Callable[[], Any], witness: Any) -> Callable[[Any], None]:
    """Who comes while the first one is in, says that it waits, and enters."""

    def body(line: Any) -> None:
        lock = announce_wait(make(), lambda: line.say('waits'))
        lock.acquire()
        witness.enter('second')
        witness.leave('second')
        lock.release()

    return body


def leaves_before(waiter: Any, lock: Any, witness: Any) -> None:
    """The first one, who holds `lock`, leaves; then `waiter` is through."""
    waiter.expect('waits')
    witness.leave('first')
    lock.release()
    waiter.finish()
    assert witness.journal() == [
        'first in', 'first out', 'second in', 'second out',
    ]  # fmt: skip


@law()
@pytest.mark.parametrize(
    ('first', 'second'), [('rival', 'make'), ('make', 'rival')]
)
def test_second_process_enters_only_after_first_left(
    kind, path, stage, witness, first, second
) -> None:
    lock = getattr(kind, first)(path)
    lock.acquire()
    witness.enter('first')
    waiter = stage.process(
        latecomer(lambda: getattr(kind, second)(path), witness)
    )
    leaves_before(waiter, lock, witness)


@law(
    readers='readers are inside together',
    semaphores=OBJECT_HAS_ONE_PLACE,
    lockf=SAME_PROCESS,
)
def test_second_thread_enters_one_object_only_after_first_left(
    kind, path, stage, witness
) -> None:
    lock = kind.make(path)
    lock.acquire()
    witness.enter('first')
    waiter = stage.thread(latecomer(lambda: lock, witness))
    leaves_before(waiter, lock, witness)


def contend(
    start: Callable[..., Any], make: Callable[[], Any], witness: Any
) -> None:
    """Three begin at once and come again and again; each is in alone."""

    def body(line: Any) -> None:
        line.hear()
        lock = make()
        for _ in range(ROUNDS):
            lock.acquire()
            witness.enter()
            witness.leave()
            lock.release()

    actors = [start(body) for _ in range(3)]
    for actor in actors:
        actor.tell()
    for actor in actors:
        actor.finish()
    assert len(witness.journal()) == 2 * len(actors) * ROUNDS


@law(readers='readers are inside together')
def test_one_process_at_a_time(kind, path, stage, witness) -> None:
    contend(stage.process, lambda: kind.make(path), witness)


@law(readers='readers are inside together', of_process=SAME_PROCESS)
def test_one_thread_at_a_time_with_an_object_each(
    kind, path, stage, witness
) -> None:
    contend(stage.thread, lambda: kind.make(path), witness)


@law(
    readers='readers are inside together',
    semaphores=OBJECT_HAS_ONE_PLACE,
    lockf=SAME_PROCESS,
)
def test_one_thread_at_a_time_with_one_object(
    kind, path, stage, witness
) -> None:
    lock = kind.make(path)
    contend(stage.thread, lambda: lock, witness)
    assert handle(lock) is None


@law(
    plain='its threads wait for one another',
    removed='its threads wait for one another',
    of_process=SAME_PROCESS,
    file_locks='its threads wait for one another',
)
def test_object_that_threads_wait_with_gets_one_place(
    kind, path, stage
) -> None:
    holder = kind.make(path)
    holder.acquire()
    shared = kind.make(path)

    def body(line) -> None:
        line.hear()
        try:
            shared.acquire()
        except portalocker.AlreadyActive:
            line.say('refused')
        else:
            line.say('in')

    parked: queue.SimpleQueue[bool] = queue.SimpleQueue()
    announce_wait(shared, lambda: parked.put(True))
    threads = [stage.thread(body) for _ in range(2)]
    for thread in threads:
        thread.tell()
    for _ in threads:
        parked.get(timeout=LONG)
    holder.release()
    outcomes = sorted(thread.listen() for thread in threads)
    for thread in threads:
        thread.finish()
    shared.release()
    assert outcomes == ['in', 'refused']


@law(record_locks='flock does not see record locks', soft=MARKER)
def test_program_that_knows_only_flock_is_kept_out(kind, path) -> None:
    lock = kind.make(path)
    lock.acquire()
    fd = os.open(kind.locked_path(path), os.O_RDWR)
    try:
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(fd)
    lock.release()


@law(
    plain='locks have one place',
    removed='locks have one place',
    semaphore='has one place',
    named_semaphore='has one place',
    lockf_semaphore='has one place',
    file_locks='locks have one place',
)
def test_semaphore_has_as_many_places_as_it_says(
    kind, path, can_enter
) -> None:
    # The fixture took all but one
    lock = kind.make(path)
    assert is_semaphore(lock)
    assert try_to_hold(lock)
    assert not can_enter(path)
    lock.release()
    assert can_enter(path)


@law()
def test_lock_is_free_again_after_release(kind, path, can_enter) -> None:
    lock = kind.make(path)
    for _ in range(3):
        assert not hold(lock).closed
        assert not can_enter(path)
        lock.release()
        assert handle(lock) is None
        assert can_enter(path)
