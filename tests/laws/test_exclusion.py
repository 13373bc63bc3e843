"""Whoever holds a lock holds it alone."""

from __future__ import annotations

import fcntl
import os
import queue

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


@law()
def test_second_process_enters_only_after_first_left(
    kind, path, stage, witness
) -> None:
    def first(line) -> None:
        lock = kind.rival(path)
        lock.acquire()
        witness.enter('first')
        line.say('in')
        line.hear()
        witness.leave('first')
        lock.release()

    def second(line) -> None:
        lock = announce_wait(kind.make(path), lambda: line.say('waits'))
        lock.acquire()
        witness.enter('second')
        witness.leave('second')
        lock.release()

    holder = stage.process(first)
    holder.expect('in')
    waiter = stage.process(second)
    waiter.expect('waits')
    holder.tell()
    waiter.finish()
    holder.finish()
    assert witness.journal() == [
        'first in', 'first out', 'second in', 'second out',
    ]  # fmt: skip


@law()
def test_rival_enters_only_after_holder_left(
    kind, path, stage, witness
) -> None:
    def second(line) -> None:
        lock = announce_wait(kind.rival(path), lambda: line.say('waits'))
        lock.acquire()
        witness.enter('rival')
        witness.leave('rival')
        lock.release()

    lock = kind.make(path)
    lock.acquire()
    witness.enter('holder')
    waiter = stage.process(second)
    waiter.expect('waits')
    witness.leave('holder')
    lock.release()
    waiter.finish()
    assert witness.journal() == [
        'holder in', 'holder out', 'rival in', 'rival out',
    ]  # fmt: skip


@law(readers='readers are inside together')
def test_one_process_at_a_time(kind, path, stage, witness) -> None:
    def body(line) -> None:
        line.hear()
        lock = kind.make(path)
        for _ in range(ROUNDS):
            lock.acquire()
            witness.enter()
            witness.leave()
            lock.release()

    processes = [stage.process(body) for _ in range(3)]
    for process in processes:
        process.tell()
    for process in processes:
        process.finish()
    assert len(witness.journal()) == 2 * len(processes) * ROUNDS


@law(readers='readers are inside together', of_process=SAME_PROCESS)
def test_one_thread_at_a_time_with_an_object_each(
    kind, path, stage, witness
) -> None:
    def body(line) -> None:
        line.hear()
        lock = kind.make(path)
        for _ in range(ROUNDS):
            lock.acquire()
            witness.enter()
            witness.leave()
            lock.release()

    threads = [stage.thread(body) for _ in range(3)]
    for thread in threads:
        thread.tell()
    for thread in threads:
        thread.finish()
    assert len(witness.journal()) == 2 * len(threads) * ROUNDS


@law(
    readers='readers are inside together',
    semaphores=OBJECT_HAS_ONE_PLACE,
    lockf=SAME_PROCESS,
)
def test_one_thread_at_a_time_with_one_object(
    kind, path, stage, witness
) -> None:
    lock = kind.make(path)

    def body(line) -> None:
        line.hear()
        for _ in range(ROUNDS):
            lock.acquire()
            witness.enter()
            witness.leave()
            lock.release()

    threads = [stage.thread(body) for _ in range(3)]
    for thread in threads:
        thread.tell()
    for thread in threads:
        thread.finish()
    assert len(witness.journal()) == 2 * len(threads) * ROUNDS
    assert handle(lock) is None


@law(
    readers='readers are inside together',
    semaphores=OBJECT_HAS_ONE_PLACE,
    lockf=SAME_PROCESS,
)
def test_second_thread_enters_one_object_only_after_first_left(
    kind, path, stage, witness
) -> None:
    lock = kind.make(path)

    def second(line) -> None:
        with lock:
            witness.enter('second')
            witness.leave('second')

    parked: queue.SimpleQueue[bool] = queue.SimpleQueue()
    with lock:
        witness.enter('first')
        announce_wait(lock, lambda: parked.put(True))
        thread = stage.thread(second)
        parked.get(timeout=LONG)
        witness.leave('first')
    thread.finish()
    assert witness.journal() == [
        'first in', 'first out', 'second in', 'second out',
    ]  # fmt: skip


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
