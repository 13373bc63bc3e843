"""A task that is cancelled, anywhere, leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import pathlib
import threading
from collections.abc import Callable, Coroutine
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
    until,
    waiters,
)
from aio_steps import Steps

from portalocker import _wakeup_inotify, aio
from portalocker.aio import _loop
from portalocker.exceptions import AlreadyLocked

MOST_WAITS = 40


class Cancelled(Exception):
    """The scope ended before the lock was acquired."""


async def hold(lock: Any, writer: Any) -> None:
    """Hold it for a while, as everything that may be awaited is."""
    async with lock:
        await anyio.lowlevel.checkpoint()
        if writer is not None:
            writer.downgrade()
            await anyio.lowlevel.checkpoint()


async def cancelled_at(
    number: int,
    holding: Coroutine[Any, Any, None],
    at: Callable[[int], object],
    *,
    natively: bool,
) -> bool:
    """Cancel a coroutine at that wait; whether it came so far."""
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

            steps = Steps(holding, at_wait)
            try:
                await steps
                if steps.waits > number:
                    # It was done before it heard of it
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
        lock, writer = KINDS[kind](path), None
        if kind == 'write':
            writer = aio.ReadWriteLock(path, **WOKEN)
            lock = writer.write()
        async with anyio.create_task_group() as group:
            await situation.begin(group)
            group.start_soon(situation.go_on_later)

            def at(n: int) -> None:
                if n == release_at:
                    situation.go_on()

            came_so_far = await cancelled_at(
                number, hold(lock, writer), at, natively=style == 'natively'
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
    # It came to an end by itself, after the wait to get in and the one inside
    assert held_up
    assert min(held_up) >= 2


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


# -- limits of others

LIMITS: dict[str, Callable[[Any], Any]] = {
    'fail_after': lambda lock: _in_block(anyio.fail_after(SHORT), lock),
    'timeout': lambda lock: _in_block(asyncio.timeout(SHORT), lock),
    'wait_for': lambda lock: asyncio.wait_for(lock.acquire(), SHORT),
}


async def _in_block(limit: Any, lock: Any) -> None:
    if hasattr(limit, '__aenter__'):
        async with limit:
            await lock.acquire()
    else:
        with limit:
            await lock.acquire()


@every_kind
@pytest.mark.parametrize('limit', LIMITS)
@pytest.mark.parametrize('place', ['head', 'behind'])
def test_wait_that_somebody_limits_leaves_nothing(
    kind: str, limit: str, place: str, path: pathlib.Path
) -> None:
    entered: list[str] = []

    async def next_one() -> None:
        async with KINDS[kind](path):
            entered.append('next')

    async def main() -> None:
        holder = blocking(kind, path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            if place == 'behind':
                group.start_soon(pass_through, KINDS[kind](path))
                await in_line(path, 1)
            group.start_soon(next_one)
            await in_line(path, 1 + (place == 'behind'))
            with pytest.raises(TimeoutError):
                await LIMITS[limit](KINDS[kind](path))
            await in_line(path, 1 + (place == 'behind'))
            holder.release()
        assert entered == ['next']
        assert is_free(path)
        assert not _loop.here().lines

    asyncio.run(main())


async def fail_beside(kind: str, path: pathlib.Path) -> None:
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(pass_through, KINDS[kind](path))
            await in_line(path, number + 1)
        raise ZeroDivisionError


@every_kind
def test_error_of_another_task_ends_the_wait(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        holder = blocking(kind, path)
        holder.acquire()
        before = descriptors()
        with pytest.raises(BaseExceptionGroup) as caught:
            await fail_beside(kind, path)
        assert caught.group_contains(ZeroDivisionError)
        assert waiters(path) == 0
        assert not _loop.here().lines
        assert descriptors() == before
        holder.release()
        assert is_free(path)

    async def twice() -> None:
        await main()  # what is opened once for all is open by now
        await main()

    run(twice)


def test_cancelled_and_woken_at_once_it_is_cancelled(
    path: pathlib.Path,
) -> None:
    async def main(woken_first: bool) -> None:
        holder = blocking('lock', path)
        holder.acquire()
        task = asyncio.create_task(KINDS['lock'](path).acquire())
        watch = _loop.here()._watch
        await until(lambda: watch._reader is not None)
        (reference,) = watch._sleepers
        sleeper = reference()
        assert sleeper is not None
        # As a thread that reads the instance does it
        acts = [sleeper.wake_here, task.cancel]
        for act in acts if woken_first else reversed(acts):
            act()
        await asyncio.wait([task])
        assert task.cancelled()
        assert waiters(path) == 0
        holder.release()
        assert is_free(path)

    asyncio.run(main(True))
    asyncio.run(main(False))


def test_acquire_that_nobody_awaits_does_nothing(path: pathlib.Path) -> None:
    waiting = aio.Lock(path).acquire()
    with pytest.warns(RuntimeWarning, match='never awaited'):
        del waiting
    assert not path.exists()


# -- many give up at once


def test_those_who_give_up_at_once_let_others_run(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    count = 50
    given_up: list[int] = []
    seen: list[int] = []

    async def one() -> None:
        with pytest.raises(AlreadyLocked):
            await KINDS['lock'](path).acquire(timeout=4 * SHORT)
        given_up.append(1)

    async def look() -> None:
        while len(given_up) < count:
            seen.append(len(given_up))
            await anyio.lowlevel.checkpoint()
        seen.append(count)

    async def main() -> None:
        holder = blocking('lock', path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)
            group.start_soon(look)
        holder.release()

    run(main)
    steps = {after - before for before, after in itertools.pairwise(seen)}
    assert max(steps) <= 2
