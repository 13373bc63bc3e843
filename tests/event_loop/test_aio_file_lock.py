"""aio.FileLock: counted, of its task, told of circles."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from aio_kinds import SHORT, in_line, is_free, pass_through

from portalocker import aio, filelock, wait_counters
from portalocker.aio import _loop


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


def test_another_loop_does_not_get_what_this_one_waited_for(
    path: pathlib.Path,
    run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lock = aio.FileLock(path)
    tried: list[bool] = []

    async def one_try() -> bool:
        return lock.try_acquire()

    def try_in_another_loop() -> None:
        monkeypatch.undo()
        tried.append(run(one_try))

    def take(*args: Any) -> None:
        if len(args) > 2:  # what was waited for
            thread = threading.Thread(target=try_in_another_loop)
            thread.start()
            thread.join()
        lock._half.__class__._take(lock._half, *args)

    async def main() -> None:
        holder = filelock.FileLock(path)
        holder.acquire()
        monkeypatch.setattr(lock._half, '_take', take)
        async with anyio.create_task_group() as group:
            group.start_soon(lock.acquire)
            await in_line(path, 1)
            holder.release()
        assert tried == [False]
        assert not is_free(path)

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
