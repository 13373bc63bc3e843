"""The locks in loops of every kind: eager, watched, closed, interrupted."""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from aio_kinds import (
    KINDS,
    LONG,
    SHORT,
    WOKEN,
    blocking,
    every_kind,
    in_line,
    is_free,
    pass_through,
    until,
    waiters,
)

import portalocker
from portalocker import aio
from portalocker.exceptions import AlreadyLocked

# -- kinds of loops


async def tour(path: pathlib.Path) -> None:
    """Something of everything."""
    inside: list[str] = []
    entered: list[str] = []

    async def one(kind: str) -> None:
        async with KINDS[kind](path):
            assert not inside
            inside.append(kind)
            await anyio.lowlevel.checkpoint()
            inside.clear()
            entered.append(kind)

    locks = ('lock', 'rlock', 'file_lock', 'write')
    async with anyio.create_task_group() as group:
        for kind in 5 * locks:
            group.start_soon(one, kind)
    assert sorted(entered) == sorted(5 * locks)
    for kind in ('lock', 'file_lock', 'semaphore'):
        entered.clear()
        holder = blocking(kind, path)
        holder.acquire()
        with pytest.raises(AlreadyLocked):
            await KINDS[kind](path).acquire(timeout=SHORT)
        with pytest.raises(TimeoutError):
            with anyio.fail_after(SHORT):
                await KINDS[kind](path).acquire()
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(one, kind)
                await in_line(path, number + 1)
            # Another thread may be what wakes a loop
            await anyio.to_thread.run_sync(holder.release)
        assert len(entered) == 3
        assert is_free(path)


def _eager() -> dict[str, Any]:
    if sys.version_info < (3, 12):
        pytest.skip('tasks are eager since Python 3.12')

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    return {'loop_factory': new_loop}


def _uvloop() -> dict[str, Any]:
    return {'loop_factory': pytest.importorskip('uvloop').new_event_loop}


LOOPS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    'asyncio': ('asyncio', dict),
    'debug': ('asyncio', lambda: {'debug': True}),
    'eager': ('asyncio', _eager),
    'uvloop': ('asyncio', _uvloop),
    'trio': ('trio', dict),
    'strict': ('trio', lambda: {'strict_exception_groups': True}),
}


@pytest.mark.parametrize('loop', LOOPS)
def test_every_loop_will_do(loop: str, path: pathlib.Path) -> None:
    backend, options = LOOPS[loop]

    async def main() -> None:
        with anyio.fail_after(LONG):
            await tour(path)

    anyio.run(main, backend=backend, backend_options=options())


@pytest.mark.parametrize('loop', LOOPS)
def test_loops_in_threads_exclude_each_other(
    loop: str, path: pathlib.Path
) -> None:
    backend, options = LOOPS[loop]
    inside: list[int] = []
    entered: list[int] = []
    failures: list[BaseException] = []

    async def one(number: int, kind: str) -> None:
        async with KINDS[kind](path):
            assert not inside
            inside.append(number)
            await anyio.lowlevel.checkpoint()
            entered.append(inside.pop())

    async def main(number: int) -> None:
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as group:
                for kind in 4 * ['lock', 'file_lock', 'rlock']:
                    group.start_soon(one, number, kind)

    def body(number: int, used: dict[str, Any]) -> None:
        try:
            anyio.run(main, number, backend=backend, backend_options=used)
        except BaseException as failure:
            failures.append(failure)

    threads = [
        threading.Thread(target=body, args=(number, options()))
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(entered) == sorted(12 * [0, 1, 2])
    assert is_free(path)


# -- loops that end


def test_loop_that_ended_is_collected(path: pathlib.Path) -> None:
    async def main() -> weakref.ref[asyncio.AbstractEventLoop]:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(pass_through, aio.Lock(path, **WOKEN))
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None


def test_loop_closed_while_a_task_waits_harms_nobody(
    path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The place of that task stays in line, and is passed."""
    holder = portalocker.Lock(path)
    holder.acquire()
    loop = asyncio.new_event_loop()
    tasks = [
        loop.create_task(aio.Lock(path, **WOKEN).acquire()) for _ in range(2)
    ]
    loop.run_until_complete(until(lambda: waiters(path) == 1))
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
    # In this thread and in others, now and later: nobody's error is theirs
    done = threading.Event()

    def wait() -> None:
        with portalocker.Lock(path, timeout=LONG):
            done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while waiters(path) < 2:
        pass
    holder.release()
    assert done.wait(LONG)
    thread.join()

    async def main() -> None:
        await pass_through(aio.Lock(path, timeout=LONG))

    asyncio.run(main())
    with portalocker.Lock(path, timeout=LONG):
        pass
    for task in tasks:  # it is the closer's to say so
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize('backend', ['asyncio', 'trio'])
@every_kind
def test_interrupted_while_it_waits_it_leaves_nothing(
    kind: str, backend: str, path: pathlib.Path
) -> None:
    holder = blocking(kind, path)
    holder.acquire()
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(2):
                group.start_soon(pass_through, KINDS[kind](path))
                await in_line(path, number + 1)
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep(LONG)

    try:
        with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as caught:
            anyio.run(main, backend=backend)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert caught.type is KeyboardInterrupt or caught.group_contains(
        KeyboardInterrupt, depth=None
    )
    assert waiters(path) == 0
    holder.release()
    assert is_free(path)


# -- fork


@every_kind
def test_child_of_a_running_loop_has_locks_of_its_own(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        held, other = KINDS[kind](path), KINDS[kind](path)
        entered: list[int] = []

        async def waits() -> None:
            async with KINDS[kind](path):
                entered.append(1)

        if kind == 'read':
            held = aio.ReadWriteLock(path, **WOKEN).write()
        async with anyio.create_task_group() as group, held:
            group.start_soon(waits)
            await in_line(path, 1)
            pid = os.fork()
            if pid == 0:
                os._exit(child(held, other))
            _, status = await anyio.to_thread.run_sync(os.waitpid, pid, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert not is_free(path)
            assert not entered
        assert entered == [1]
        assert is_free(path)

    def child(held: Any, other: Any) -> int:
        try:
            assert not other.try_acquire(), 'the parent holds it'
            assert getattr(held, 'fh', None) is None
            assert not getattr(held, 'is_locked', False)
            assert not getattr(held, 'lock', None)

            failures: list[str] = []

            async def inner() -> None:
                try:
                    await KINDS[kind](path).acquire(timeout=SHORT)
                except AlreadyLocked:
                    return
                failures.append('it got in')

            # This thread is still in its parent's run
            thread = threading.Thread(target=asyncio.run, args=(inner(),))
            thread.start()
            thread.join()
            assert not failures
        except BaseException as failure:
            sys.stderr.write(repr(failure))
            return 1
        return 0

    run(main)


# -- sync and async contenders in one line

PROCESS = """
import sys, portalocker
lock = portalocker.Lock({path!r}, timeout=150, check_interval=30)
lock.acquire()
print('in', flush=True)
sys.stdin.readline()
lock.release()
"""


def start(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, '-c', program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize('kind', ['lock', 'file_lock', 'write'])
def test_tasks_threads_and_processes_come_in_as_they_came(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    entered: list[str] = []

    async def task(name: str) -> None:
        async with KINDS[kind](path):
            entered.append(name)
            await anyio.sleep(0.002)

    def thread() -> None:
        with portalocker.Lock(path, **WOKEN):
            entered.append('thread')

    async def main() -> None:
        holder = portalocker.Lock(path)
        holder.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(task, 'first task')
            await until(lambda: waiters(path) == 1)
            started = threading.Thread(target=thread)
            started.start()
            await until(lambda: waiters(path) == 2)
            process = start(PROCESS.format(path=str(path)))
            await until(lambda: waiters(path) == 3)
            group.start_soon(task, 'second task')
            await in_line(path, 2)
            holder.release()
            assert process.stdout is not None
            await anyio.to_thread.run_sync(process.stdout.readline)
            assert entered == ['first task', 'thread']
            entered.append('process')
            process.communicate(b'\n')
        await anyio.to_thread.run_sync(started.join)
        assert process.returncode == 0

    run(main)
    assert entered == ['first task', 'thread', 'process', 'second task']
    assert is_free(path)
