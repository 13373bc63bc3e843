"""The locks for an event loop: tasks, lines, and threads beside them.

What is true of every lock is a law, and runs against these as well.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aio_kinds import (
    KINDS,
    LONG,
    SHORT,
    WOKEN,
    blocking,
    descriptors,
    every_kind,
    in_line,
    is_free,
    pass_through,
    sleepers,
    until,
    waiters,
)

import portalocker
from portalocker import (
    _wakeup_inotify,
    aio,
)
from portalocker.exceptions import (
    AlreadyActive,
    AlreadyLocked,
    LockException,
)

# -- tasks exclude tasks


@every_kind
@pytest.mark.parametrize('objects', ['own', 'shared'])
def test_one_task_at_a_time(
    kind: str, objects: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    if kind == 'read':
        pytest.skip('readers are inside together')
    if objects == 'shared' and 'semaphore' in kind:
        pytest.skip('one object holds one place')
    inside: list[int] = []
    shared = KINDS[kind](path)

    async def one(number: int) -> None:
        lock = shared if objects == 'shared' else KINDS[kind](path)
        for _ in range(5):
            async with lock:
                assert not inside
                inside.append(number)
                await anyio.sleep(random.choice([0, 0.0005]))
                assert inside == [number]
                inside.clear()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)

    run(main)
    assert is_free(path)


@every_kind
def test_tasks_come_in_as_they_came(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    entered: list[int] = []

    async def one(number: int) -> None:
        async with KINDS[kind](path):
            entered.append(number)
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        holder = blocking(kind, path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, number)
                await in_line(path, number + 1)
            holder.release()

    run(main)
    assert entered == list(range(10))


@every_kind
def test_hundreds_that_wait_need_few_descriptors_and_no_thread(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    count = 300
    entered: list[int] = []

    async def one(number: int) -> None:
        async with KINDS[kind](path):
            entered.append(number)

    async def main() -> None:
        holder = blocking(kind, path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(one, 0)
            await in_line(path, 1)
            await until(lambda: waiters(path) == 1)
            open_before, threads = descriptors(), threading.active_count()
            for number in range(1, count):
                group.start_soon(one, number)
            await in_line(path, count)
            assert descriptors() == open_before
            assert threading.active_count() == threads
            assert waiters(path) == 1
            holder.release()

    run(main)
    assert sorted(entered) == list(range(count))


@every_kind
def test_loop_goes_on_while_a_task_waits(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> int:
        holder = blocking(kind, path)
        holder.acquire()
        ticks = 0
        async with anyio.create_task_group() as group:
            group.start_soon(pass_through, KINDS[kind](path))
            await in_line(path, 1)
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
                ticks += 1
            holder.release()
        return ticks

    assert run(main) == 100


@every_kind
def test_task_of_another_loop_waits_its_turn(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    if kind == 'read':
        pytest.skip('readers come in together')
    entered: list[str] = []
    failures: list[BaseException] = []

    def in_thread() -> None:
        async def there() -> None:
            async with KINDS[kind](path):
                entered.append('there')

        try:
            run(there)
        except BaseException as failure:
            failures.append(failure)

    async def here(name: str) -> None:
        async with KINDS[kind](path):
            entered.append(name)
            await anyio.sleep(0.002)

    async def main() -> None:
        holder = blocking(kind, path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(here, 'first')
            await until(lambda: waiters(path) == 1)
            thread = threading.Thread(target=in_thread)
            thread.start()
            await until(lambda: waiters(path) == 2)
            group.start_soon(here, 'last')
            await in_line(path, 2)
            holder.release()
            await until(lambda: len(entered) == 3)
        await until(lambda: not thread.is_alive())
        thread.join()

    run(main)
    assert not failures
    assert entered == ['first', 'there', 'last']


# -- whose hold it is


def test_hold_is_of_the_task_not_of_its_thread(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.Lock(path, **WOKEN)
        seen: list[bool] = []

        async def other() -> None:
            seen.append(lock.try_acquire())
            lock.release()  # it tried itself: releases its own, it has none

        async with lock as fh:
            assert await lock.acquire() is fh
            async with anyio.create_task_group() as group:
                group.start_soon(other)
            assert seen == [False]
            assert not is_free(path)
        assert is_free(path)

    run(main)


def test_bystander_may_release_for_the_holder(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.Lock(path)
        await lock.acquire()
        async with anyio.create_task_group() as group:

            async def other() -> None:
                lock.release()

            group.start_soon(other)
        assert is_free(path)

    run(main)


def test_reentrant_lock_counts_for_its_task_alone(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.RLock(path)

        async def other() -> None:
            with pytest.raises(LockException, match='does not hold'):
                lock.release()
            assert not lock.try_acquire()
            with pytest.raises(AlreadyLocked):
                await lock.acquire(timeout=SHORT)

        async with lock, lock:
            async with anyio.create_task_group() as group:
                group.start_soon(other)
            assert lock.try_acquire()
            lock.release()
        assert lock.fh is None
        assert is_free(path)

    run(main)


def test_writer_downgrades_and_other_tasks_read(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.ReadWriteLock(path, **WOKEN)
        read: list[int] = []

        async def reader(number: int) -> None:
            async with lock.read():
                read.append(number)

        async with lock.write() as fh:
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(reader, number)
                await in_line(path, 3)
                assert not read
                lock.downgrade()
            assert sorted(read) == [0, 1, 2]
            assert lock.read().fh is fh
            with pytest.raises(AlreadyActive, match='reads it'):
                await lock.write().acquire()
        assert is_free(path)

    run(main)


# -- time


@every_kind
@pytest.mark.parametrize('place', ['head', 'behind'])
def test_task_gives_up_and_says_how_long_it_waited(
    kind: str, place: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        holder = blocking(kind, path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            if place == 'behind':
                group.start_soon(pass_through, KINDS[kind](path))
                await in_line(path, 1)
            with pytest.raises(AlreadyLocked) as caught:
                await KINDS[kind](path).acquire(timeout=SHORT)
            assert caught.value.waited is not None
            assert caught.value.waited >= SHORT
            assert caught.value.filename is not None
            assert [one.pid for one in caught.value.holders] == [os.getpid()]
            with pytest.raises(AlreadyLocked):
                await KINDS[kind](path).acquire(timeout=0)
            holder.release()

    run(main)


def test_semaphore_that_does_not_fail_gives_none(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        first, second = KINDS['semaphore'](path), KINDS['semaphore'](path)
        async with first as place:
            assert first.lock is place
            assert await second.acquire(SHORT, fail_when_locked=False) is None
            with pytest.raises(AlreadyActive):
                await first.acquire()
        assert second.try_acquire()
        second.release()

    run(main)


def test_lock_that_waits_for_ever_waits_in_line_as_well(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    entered: list[int] = []

    async def one(number: int) -> None:
        lock = aio.Lock(path, flags=portalocker.LockFlags.EXCLUSIVE)
        async with lock:
            entered.append(number)
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        holder = portalocker.Lock(path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(one, number)
                await in_line(path, number + 1)
            holder.release()

    run(main)
    assert entered == [0, 1, 2]


@pytest.mark.parametrize('timeout', [math.inf, 1e9])
def test_no_wait_is_too_long(
    timeout: float, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        holder = portalocker.Lock(path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(pass_through, aio.Lock(path), timeout)
                await in_line(path, number + 1)
            holder.release()

    run(main)


# -- one instance for the loops and threads of a process


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    return [tmp_path / f'{n}.lock' for n in range(4)]


@contextlib.contextmanager
def held(paths: list[pathlib.Path]) -> Iterator[list[portalocker.Lock]]:
    locks = [portalocker.Lock(path) for path in paths]
    for lock in locks:
        lock.acquire()
    yield locks
    for lock in locks:
        lock.release()


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_tasks_that_watch_files_are_woken_each_for_its_own(
    order: tuple[int, ...],
    paths: list[pathlib.Path],
    run: Callable[..., Any],
) -> None:
    entered: list[int] = []

    async def one(number: int) -> None:
        async with aio.Lock(paths[number], **WOKEN):
            entered.append(number)

    async def main() -> None:
        with held(paths) as locks:
            async with anyio.create_task_group() as group:
                for number in range(4):
                    group.start_soon(one, number)
                    await until(
                        lambda: len(sleepers()) == number + 1  # noqa: B023
                    )
                for n, number in enumerate(order, 1):
                    locks[number].release()
                    await until(lambda: len(entered) == n)  # noqa: B023

    run(main)
    assert entered == list(order)


def test_reader_that_leaves_hands_over(
    paths: list[pathlib.Path], run: Callable[..., Any]
) -> None:
    async def main() -> None:
        scopes = [anyio.CancelScope() for _ in range(2)]

        async def one(number: int) -> None:
            with scopes[number] if number < 2 else anyio.CancelScope():
                await pass_through(aio.Lock(paths[number], **WOKEN))
                assert number == 3

        with held(paths) as locks:
            async with anyio.create_task_group() as group:
                for number in (0, 1, 3):
                    group.start_soon(one, number)
                    await until(lambda: waiters(paths[number]))  # noqa: B023
                await until(lambda: len(sleepers()) == 3)
                for scope in scopes:
                    scope.cancel()
                locks[3].release()

    run(main)


@pytest.mark.parametrize('first', ['thread', 'task'])
@pytest.mark.parametrize('woken', ['thread', 'task'])
def test_threads_and_tasks_wake_each_other(
    first: str,
    woken: str,
    paths: list[pathlib.Path],
    run: Callable[..., Any],
) -> None:
    """Either may read what the other waits for."""
    done: list[str] = []

    def in_thread() -> None:
        with portalocker.Lock(paths[0], **WOKEN):
            done.append('thread')

    async def in_task() -> None:
        async with aio.Lock(paths[1], **WOKEN):
            done.append('task')

    async def main() -> None:
        thread = threading.Thread(target=in_thread)
        instance = _wakeup_inotify.process_instance()
        assert instance is not None
        with held(paths[:2]) as locks:
            async with anyio.create_task_group() as group:
                for name in sorted(
                    ['thread', 'task'], key=lambda name: name != first
                ):
                    if name == 'thread':
                        thread.start()
                        await until(lambda: instance._parked)
                    else:
                        group.start_soon(in_task)
                        await until(sleepers)
                for name in sorted(
                    ['thread', 'task'], key=lambda name: name != woken
                ):
                    count = len(done) + 1
                    locks[name == 'task'].release()
                    await until(lambda: len(done) == count)  # noqa: B023
                    assert done[-1] == name
        await until(lambda: not thread.is_alive())
        thread.join()

    for _ in range(5):
        run(main)


def test_task_is_woken_that_no_file_can_be_watched_for(
    path: pathlib.Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_wakeup_inotify, 'process_instance', lambda: None)

    async def main() -> None:
        holder = portalocker.Lock(path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(pass_through, aio.Lock(path, timeout=LONG))
            await in_line(path, 1)
            holder.release()

    run(main)


# -- what never waits


def test_free_lock_is_a_checkpoint_before_it_is_taken(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await aio.Lock(path).acquire()
        assert scope.cancelled_caught

    run(main)
    assert not path.exists()


def test_release_after_the_loop_ended(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    lock = aio.Lock(path)

    async def main() -> None:
        await lock.acquire()

    run(main)
    assert not is_free(path)
    lock.release()
    assert is_free(path)
    run(main)
    assert not is_free(path)
    lock.release()
