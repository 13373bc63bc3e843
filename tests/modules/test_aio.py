"""The locks for an event loop, on both loops: tasks, cancellation, loops.

What is true of every lock is a law, and runs against these as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import math
import os
import pathlib
import random
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aio_steps import Steps

import portalocker
from portalocker import (
    _owner,
    _wakeup_inotify,
    aio,
    filelock,
    wait_counters,
)
from portalocker.aio import _loop
from portalocker.exceptions import (
    AlreadyActive,
    AlreadyLocked,
    LockException,
)

if sys.platform != 'linux':
    pytest.skip('the wake-ups of Linux', allow_module_level=True)

LONG = 15.0
SHORT = 0.05
#: nobody looks by itself before the test fails
WOKEN: dict[str, Any] = {'timeout': 10 * LONG, 'check_interval': 2 * LONG}


@pytest.fixture(params=['asyncio', 'trio'])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a function in an event loop, LONG seconds at most."""

    def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        async def limited() -> Any:
            with anyio.fail_after(LONG):
                return await function(*args)

        return anyio.run(limited, backend=request.param)

    return run


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file.lock'


def file_of(path: pathlib.Path) -> pathlib.Path:
    """The file that the lock at `path` locks."""
    semaphore = path.with_name(path.name + '.00.lock')
    return semaphore if semaphore.exists() else path


def is_free(path: pathlib.Path) -> bool:
    with open(file_of(path), 'a', encoding='ascii') as fh:
        try:
            fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def waiters(path: pathlib.Path) -> int:
    return len(_owner.waiters_of(str(file_of(path))))


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():  # noqa: ASYNC110 - of another thread or process
        await anyio.sleep(0.001)


async def pass_through(lock: Any, *options: Any) -> None:
    """Take the lock and let it go."""
    await lock.acquire(*options)
    lock.release()


KINDS: dict[str, Callable[[pathlib.Path], Any]] = {
    'lock': lambda path: aio.Lock(path, **WOKEN),
    'rlock': lambda path: aio.RLock(path, **WOKEN),
    'file_lock': lambda path: aio.FileLock(
        path, timeout=10 * LONG, poll_interval=2 * LONG
    ),
    'read': lambda path: aio.ReadWriteLock(path, **WOKEN).read(),
    'write': lambda path: aio.ReadWriteLock(path, **WOKEN).write(),
    'semaphore': lambda path: aio.BoundedSemaphore(
        1, path.name, directory=path.parent, **WOKEN
    ),
    'named_semaphore': lambda path: aio.NamedBoundedSemaphore(
        1, path.name, directory=path.parent, **WOKEN
    ),
}
BLOCKING: dict[str, Callable[[pathlib.Path], Any]] = {
    'semaphore': lambda path: portalocker.BoundedSemaphore(
        1, path.name, directory=path.parent, **WOKEN
    ),
}


def blocking(kind: str, path: pathlib.Path) -> Any:
    """A lock of threads that excludes one of this kind."""
    make = BLOCKING.get(kind.removeprefix('named_'))
    return make(path) if make else portalocker.Lock(path, **WOKEN)


every_kind = pytest.mark.parametrize('kind', KINDS)


# -- cancelled, wherever it waits

MOST_WAITS = 40


class Cancelled(Exception):
    """The scope ended before the lock was acquired."""


async def cancelled_at(
    number: int, lock: Any, at: Callable[[int], object], *, natively: bool
) -> bool:
    """Acquire, cancelled at that wait; whether it came so far."""
    outcome: list[bool] = []

    async def body() -> None:
        task = asyncio.current_task() if natively else None
        with anyio.CancelScope() as scope:

            def at_wait(n: int) -> None:
                at(n)
                if n == number:
                    if task is not None:
                        task.cancel()
                    else:
                        scope.cancel()

            steps = Steps(lock.acquire(), at_wait)
            try:
                await steps
                lock.release()
                if steps.waits > number:
                    # It had the lock before it heard of it: not held now
                    await anyio.lowlevel.checkpoint()
            except asyncio.CancelledError:
                outcome.append(True)
                if natively:
                    return
                raise
            finally:
                if not outcome:
                    outcome.append(steps.waits > number)

    async with anyio.create_task_group() as group:
        if natively:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.create_task(body())
        else:
            group.start_soon(body)
    return outcome[0]


SITUATIONS = ('free', 'held', 'in line', 'behind a task')


class Situation:
    """What a task meets that acquires a lock, and how it goes on."""

    def __init__(self, name: str, kind: str, path: pathlib.Path) -> None:
        self._name = name
        self._kind = kind
        self._path = path
        self._threads: list[threading.Thread] = []
        self._held: list[Any] = []

    def _hold(self) -> None:
        lock = blocking(self._kind, self._path)
        lock.acquire()
        self._held.append(lock)

    def _pass_through(self) -> None:
        lock = blocking(self._kind, self._path)
        lock.acquire()
        lock.release()

    async def begin(self, group: Any) -> None:
        if self._name == 'free':
            return
        self._hold()
        if self._name == 'in line':
            thread = threading.Thread(target=self._pass_through)
            self._threads.append(thread)
            thread.start()
            await until(lambda: waiters(self._path) == 1)
        elif self._name == 'behind a task':
            group.start_soon(self._task)
            await until(lambda: waiters(self._path) == 1)

    async def _task(self) -> None:
        await pass_through(KINDS[self._kind](self._path))

    def go_on(self) -> None:
        while self._held:
            self._held.pop().release()

    async def go_on_later(self) -> None:
        """It may wait less often than thought."""
        await anyio.sleep(0.003)
        self.go_on()

    async def end(self) -> None:
        self.go_on()
        await until(
            lambda: not any(thread.is_alive() for thread in self._threads)
        )
        for thread in self._threads:
            thread.join()


@every_kind
@pytest.mark.parametrize('name', SITUATIONS)
@pytest.mark.parametrize('style', ['asyncio', 'natively', 'trio'])
def test_cancelled_at_any_wait_it_leaves_nothing(
    kind: str, name: str, style: str, path: pathlib.Path
) -> None:
    if name == 'behind a task' and kind == 'read':
        pytest.skip('readers come in together')
    held_up = []

    async def once(number: int, release_at: int) -> bool:
        situation = Situation(name, kind, path)
        lock = KINDS[kind](path)
        async with anyio.create_task_group() as group:
            await situation.begin(group)
            group.start_soon(situation.go_on_later)

            def at(n: int) -> None:
                if n == release_at:
                    situation.go_on()

            came_so_far = await cancelled_at(
                number, lock, at, natively=style == 'natively'
            )
            await situation.end()
        assert waiters(path) == 0
        assert is_free(path)
        assert not _loop.here().lines
        assert not _loop.here()._watch._sleepers
        assert lock.try_acquire()
        lock.release()
        return came_so_far

    async def main() -> None:
        with anyio.fail_after(4 * LONG):
            # What is opened once for all is open by now
            _wakeup_inotify.process_instance()
            await once(MOST_WAITS, 0)
            before = descriptors()
            # The holder goes on at the same wait, or at an earlier one
            for release_at in range(4):
                for number in range(MOST_WAITS):
                    if not await once(number, min(release_at, number)):
                        held_up.append(number)
                        break
            assert descriptors() == before

    anyio.run(main, backend='trio' if style == 'trio' else 'asyncio')
    # It came to an end by itself, after at least one wait
    assert held_up
    assert min(held_up) >= 1


@every_kind
def test_cancelled_while_it_waits_it_lets_the_next_in(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> list[int]:
        holder = blocking(kind, path)
        holder.acquire()
        entered: list[int] = []
        scopes: dict[int, anyio.CancelScope] = {}

        async def one(number: int) -> None:
            with anyio.CancelScope() as scopes[number]:
                async with KINDS[kind](path):
                    entered.append(number)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(one, number)
                await until(lambda: len(scopes) > number)  # noqa: B023
                await in_line(path, number + 1)
            for number in (3, 0, 1):
                scopes[number].cancel()
            holder.release()
        return entered

    assert run(main) == [2, 4]
    assert is_free(path)


async def in_line(path: pathlib.Path, length: int) -> None:
    """Wait until so many tasks of this loop wait."""
    lines = _loop.here().lines

    def found() -> int:
        return sum(len(line._waiting) for line in lines.values())

    await until(lambda: found() == length)


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


# -- FileLock


def test_file_lock_counts_for_its_task_alone(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.FileLock(path, timeout=SHORT)

        async def other() -> None:
            assert not lock.is_locked
            assert lock.lock_counter == 0
            lock.release()
            assert not lock.try_acquire()
            with pytest.raises(filelock.Timeout):
                await lock.acquire()

        async with lock as same:
            assert same is lock
            async with await lock.acquire() as again:
                assert again is lock
                assert lock.lock_counter == 2
                async with anyio.create_task_group() as group:
                    group.start_soon(other)
            assert lock.lock_counter == 1
            assert not is_free(path)
        assert is_free(path)
        await lock.acquire()
        await lock.acquire()
        lock.release(force=True)
        assert is_free(path)

    run(main)


def test_file_lock_of_threads_and_of_tasks_exclude_each_other(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.FileLock(path, timeout=SHORT)
        with filelock.FileLock(path), pytest.raises(filelock.Timeout):
            await lock.acquire()
        async with lock:
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(path).acquire(timeout=0)

    run(main)


@pytest.mark.parametrize('others', [0, 1])
def test_task_that_would_wait_for_itself_is_told(
    others: int, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        async with (
            anyio.create_task_group() as group,
            aio.FileLock(path),
        ):
            for _ in range(others):
                group.start_soon(pass_through, aio.FileLock(path))
            await in_line(path, others)
            with pytest.raises(filelock.Deadlock, match='different'):
                await aio.FileLock(path).acquire()
            with pytest.raises(filelock.Timeout):
                await aio.FileLock(path).acquire(timeout=SHORT)

    run(main)


def test_tasks_that_wait_in_a_circle_are_told(
    tmp_path: pathlib.Path, run: Callable[..., Any]
) -> None:
    told: list[filelock.Deadlock] = []

    async def main() -> None:
        held = [anyio.Event(), anyio.Event()]

        async def one(mine: int) -> None:
            async with aio.FileLock(tmp_path / f'{mine}.lock'):
                held[mine].set()
                await held[1 - mine].wait()
                try:
                    async with aio.FileLock(tmp_path / f'{1 - mine}.lock'):
                        pass
                except filelock.Deadlock as failure:
                    told.append(failure)

        async with anyio.create_task_group() as group:
            group.start_soon(one, 0)
            group.start_soon(one, 1)

    run(main)
    (failure,) = told
    assert len(failure.circle) == 2


def test_one_file_lock_for_each_path_counts_through_every_object(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        async with (
            aio.FileLock(path, is_singleton=True),
            aio.FileLock(path, is_singleton=True) as again,
        ):
            assert again.lock_counter == 2

    run(main)


def test_settings_are_those_of_the_blocking_lock(path: pathlib.Path) -> None:
    lock = aio.FileLock(str(path), 3, poll_interval=0.5)
    assert (lock.timeout, lock.poll_interval, lock.blocking) == (3, 0.5, True)
    lock.timeout, lock.poll_interval, lock.blocking = 4, 0.25, False
    assert (lock.timeout, lock.poll_interval, lock.blocking) == (
        4,
        0.25,
        False,
    )
    assert lock.lock_file == str(path)
    with pytest.raises(ValueError, match='poll_interval'):
        lock.poll_interval = -1
    with pytest.raises(TypeError, match='timeout'):
        aio.FileLock(path, timeout='soon')  # type: ignore[arg-type]


def test_relative_path_leads_to_the_same_file(
    path: pathlib.Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(path.parent)
    entered: list[int] = []

    async def one(number: int) -> None:
        name = path.name if number % 2 else str(path)
        async with aio.FileLock(name):
            entered.append(number)

    async def main() -> None:
        with filelock.FileLock(path):
            group = anyio.create_task_group()
            await group.__aenter__()
            for number in range(4):
                group.start_soon(one, number)
                await in_line(path, number + 1)
            assert len(_loop.here().lines) == 1
        await group.__aexit__(None, None, None)

    run(main)
    assert entered == [0, 1, 2, 3]


def test_coroutine_function_holds_the_lock_while_its_body_runs(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    lock = aio.FileLock(path)

    @lock
    async def body(answer: int) -> int:
        await anyio.lowlevel.checkpoint()
        assert not is_free(path)
        return answer

    @lock
    async def items() -> Any:
        for number in range(3):
            assert not is_free(path)
            yield number

    async def main() -> None:
        assert await body(42) == 42
        assert is_free(path)
        assert [item async for item in items()] == [0, 1, 2]
        assert is_free(path)

    run(main)
    with pytest.raises(TypeError, match='cannot wait in an event loop'):
        lock(print)


def test_waits_and_holds_are_counted(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    name = f'counted.{path.parent.name}'

    def make() -> aio.FileLock:
        lock = aio.FileLock(path)
        lock.counter_name = name
        return lock

    async def gives_up() -> None:
        with anyio.move_on_after(SHORT):
            await make().acquire()

    async def main() -> None:
        async with (
            anyio.create_task_group() as group,
            make() as lock,
            lock,
        ):
            group.start_soon(pass_through, make())
            await in_line(path, 1)
            assert wait_counters.snapshot()[f'{name}.enter'].active == 1
            with pytest.raises(filelock.Timeout):
                await make().acquire(timeout=SHORT)
            async with anyio.create_task_group() as others:
                others.start_soon(gives_up)

    wait_counters.enable()
    try:
        run(main)
    finally:
        wait_counters.disable()
    found = wait_counters.snapshot()
    enter, region = found[f'{name}.enter'], found[f'{name}.region']
    assert (enter.started, enter.active) == (5, 0)
    assert (enter.timeouts, enter.cancelled, enter.errors) == (1, 1, 0)
    assert enter.contended == 3
    assert (region.started, region.active) == (2, 0)


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


def sleepers() -> Any:
    return _loop.here()._watch._sleepers


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
