"""AsyncPostgresLock: the same promises to tasks of asyncio and trio."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from scenes import (
    LONG,
    SHORT,
    granted,
    in_line,
    terminate,
    wait_until,
    wait_until_in_line,
)

import portalocker.aio
from portalocker import exceptions
from portalocker.aio.postgres import AsyncPostgresLock, transaction_lock

pytest.importorskip('psycopg')
anyio = pytest.importorskip('anyio')
pytest.importorskip('trio')

BACKENDS = ('asyncio', 'trio')


@pytest.fixture(params=BACKENDS)
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a coroutine function in a new event loop."""
    return functools.partial(anyio.run, backend=request.param)


@pytest.fixture
def of(server: Any) -> Callable[..., AsyncPostgresLock]:
    """Make a lock on the server that waits, unless options differ."""

    def make(name: Any = 'jobs', **options: Any) -> AsyncPostgresLock:
        options = {'timeout': 60, 'connection': server.url, **options}
        return AsyncPostgresLock(name, **options)

    return make


async def until(is_so: Callable[[], object]) -> None:
    """Wait for a state while the loop runs."""
    await anyio.to_thread.run_sync(wait_until, is_so)


def test_name_of_the_room() -> None:
    assert portalocker.aio.AsyncPostgresLock is AsyncPostgresLock


def test_tasks_and_threads_exclude_each_other(
    run: Any, of: Any, make: Any
) -> None:
    async def main() -> None:
        lock = of()
        async with lock:
            assert lock.locked
            assert lock.token
            lock.ensure_held()
            await lock.verify()
            (holder,) = await lock.holders()
            assert holder.pid == os.getpid()
            assert await lock.waiters() == ()
            assert not make().try_acquire()
            with pytest.raises(exceptions.AlreadyActive):
                await lock.acquire()
            assert await lock.try_acquire()
        assert not lock.locked
        with make() as other:
            assert other.token
            with pytest.raises(exceptions.AlreadyLocked):
                await lock.acquire(timeout=SHORT)
            with pytest.raises(exceptions.AlreadyLocked):
                await lock.acquire(fail_when_locked=True)
            assert not await lock.try_acquire()

    run(main)


def test_tasks_of_one_object_exclude_each_other(
    run: Any, of: Any, admin: Any
) -> None:
    inside, seen = [], []
    lock = of()

    async def work(n: int) -> None:
        async with lock:
            inside.append(n)
            await anyio.sleep(0.001)
            seen.append(list(inside))
            inside.clear()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(work, n)

    run(main)
    assert sorted(seen) == [[n] for n in range(5)]


def test_loop_runs_while_a_task_waits_and_first_come_is_first(
    run: Any, of: Any, make: Any, admin: Any
) -> None:
    order: list[int] = []
    first = make().acquire()

    async def work(n: int) -> None:
        async with of():
            order.append(n)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for n in range(4):
                group.start_soon(work, n)
                await until(lambda n=n: len(in_line(admin)) == n + 1)
            assert order == []
            first.release()

    run(main)
    assert order == list(range(4))


def test_shared_holds_come_in_together(run: Any, of: Any) -> None:
    shared = portalocker.LockFlags.SHARED

    async def main() -> None:
        async def write() -> None:
            assert not await of().try_acquire()

        async with (
            of(flags=shared),
            of(flags=shared),
            anyio.create_task_group() as group,
        ):
            group.start_soon(write)

    run(main)


class TestCancellation:
    def test_of_a_waiter_leaves_the_line(
        self, run: Any, of: Any, make: Any, admin: Any
    ) -> None:
        async def main() -> None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:

                    async def wait() -> None:
                        await of().acquire()

                    group.start_soon(wait)
                    await until(lambda: in_line(admin))
                    scope.cancel()
            assert scope.cancelled_caught
            assert not in_line(admin)

        with make():
            run(main)
        assert granted(admin) == 0

    def test_by_the_tasks_own_verb(
        self, of: Any, make: Any, admin: Any
    ) -> None:
        async def main() -> None:
            task = asyncio.create_task(of().acquire())
            await until(lambda: in_line(admin))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not in_line(admin)

        with make():
            asyncio.run(main())
        assert granted(admin) == 0

    def test_at_any_moment_leaves_nothing(self, of: Any, admin: Any) -> None:
        """Cancel after n steps of the loop, for every n."""

        async def use() -> None:
            async with of():
                await asyncio.sleep(0)

        async def main() -> None:
            cancelled = 0
            for steps in range(30):
                task = asyncio.create_task(use())
                for _ in range(steps):
                    await asyncio.sleep(0.0002 if steps > 8 else 0)
                task.cancel()
                await asyncio.wait([task])
                cancelled += task.cancelled()
                async with of():  # nobody is in the way
                    pass
            assert cancelled > 0

        asyncio.run(main())
        assert granted(admin) == 0

    def test_by_a_timeout_of_the_loop(
        self, run: Any, of: Any, make: Any, admin: Any
    ) -> None:
        async def main() -> None:
            with anyio.move_on_after(SHORT) as scope:
                await of().acquire()
            assert scope.cancelled_caught

        with make():
            run(main)
        assert granted(admin) == 0


class TestLoss:
    def test_is_told_in_the_loop(self, run: Any, of: Any, admin: Any) -> None:
        async def main() -> None:
            told, where = anyio.Event(), []

            def on_lost(loss: Any) -> None:
                where.append(threading.get_ident())
                told.set()

            lock = of(on_lost=on_lost)
            await lock.acquire()
            terminate(admin, lock._lock)
            with anyio.fail_after(LONG):
                await told.wait()
            assert where == [threading.get_ident()]
            assert lock.lost
            with pytest.raises(exceptions.LockLostError):
                lock.ensure_held()
            with pytest.raises(exceptions.LockLostError):
                await lock.release()
            async with lock:
                assert not lock.lost

        run(main)

    def test_at_the_end_of_the_block_is_raised(
        self, run: Any, of: Any, admin: Any
    ) -> None:
        async def main() -> None:
            lock = of()
            with pytest.raises(exceptions.LockLostError):
                await hold_and_lose(lock)

        async def hold_and_lose(lock: Any) -> None:
            async with lock:
                terminate(admin, lock._lock)

        run(main)


def test_deadlock_of_tasks_is_found_by_the_server(
    run: Any, of: Any, admin: Any
) -> None:
    outcomes: list[str] = []

    async def hold_both(mine: str, other: str, meet: Any) -> None:
        async with of(mine):
            await meet()
            try:
                async with of(other):
                    outcomes.append('both')
            except exceptions.DeadlockError:
                outcomes.append('deadlock')

    async def main() -> None:
        here = 0
        both = anyio.Event()

        async def meet() -> None:
            nonlocal here
            here += 1
            if here == 2:
                both.set()
            await both.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(hold_both, 'a', 'b', meet)
            group.start_soon(hold_both, 'b', 'a', meet)

    run(main)
    assert sorted(outcomes) == ['both', 'deadlock']


def test_another_task_may_release(run: Any, of: Any, admin: Any) -> None:
    async def main() -> None:
        lock = of()
        await lock.acquire()
        async with anyio.create_task_group() as group:
            group.start_soon(lock.release)
        assert not lock.locked
        assert granted(admin) == 0

    run(main)


def test_lock_that_nobody_refers_to_is_let_go(
    run: Any, of: Any, admin: Any
) -> None:
    async def main() -> None:
        lock = of()
        await lock.acquire()
        del lock
        gc.collect()
        await until(lambda: granted(admin) == 0)

    run(main)


def test_ctrl_c_ends_a_wait(of: Any, make: Any, admin: Any) -> None:
    async def main() -> None:
        await of().acquire()

    def interrupt() -> None:
        wait_until_in_line(admin)
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        signal.pthread_kill(main_thread, signal.SIGINT)

    with make():
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(main())
        thread.join()
    assert granted(admin) == 0


def test_forked_child_starts_released(run: Any, of: Any, stage: Any) -> None:
    async def main() -> None:
        lock = of()
        await lock.acquire()

        def child(line: Any) -> None:
            assert not lock.locked

        stage.process(child).finish()
        await lock.verify()
        await lock.release()

    run(main)


def test_nonsense_is_refused(of: Any) -> None:
    with pytest.raises(ValueError, match='without a name'):
        of('')
    with pytest.raises(TypeError, match='cannot connect with'):
        of(connection=7)


def test_server_that_is_not_there_is_an_error(run: Any) -> None:
    lock = AsyncPostgresLock('jobs', 'postgresql://127.0.0.1:1/nothing')

    async def main() -> None:
        with pytest.raises(exceptions.LockException, match='cannot connect'):
            await lock.acquire()

    run(main)


class TestTransaction:
    def test_lets_go_at_its_end(
        self, server: Any, of: Any, admin: Any
    ) -> None:
        import psycopg

        async def main() -> None:
            connect = psycopg.AsyncConnection.connect
            async with await connect(server.url) as connection:
                await transaction_lock(connection, 'jobs')
                assert not await of().try_acquire()
                await connection.commit()
                async with of():
                    with pytest.raises(exceptions.AlreadyLocked):
                        await transaction_lock(connection, 'jobs', SHORT)
                    with pytest.raises(exceptions.AlreadyLocked):
                        await transaction_lock(
                            connection, 'jobs', fail_when_locked=True
                        )
                    # the transaction can go on
                    await connection.execute('SELECT 1')
            with pytest.raises(exceptions.LockException, match='closed'):
                await transaction_lock(connection, 'jobs')

        asyncio.run(main())
        assert granted(admin) == 0

    def test_goes_on_where_the_wait_was_cancelled(
        self, server: Any, make: Any, admin: Any
    ) -> None:
        import psycopg

        async def main() -> None:
            connect = psycopg.AsyncConnection.connect
            async with await connect(server.url) as connection:
                await connection.execute('CREATE TEMP TABLE seen (n int)')
                task = asyncio.create_task(
                    transaction_lock(connection, 'jobs', 60)
                )
                await until(lambda: in_line(admin))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                await connection.execute('INSERT INTO seen VALUES (1)')

        with make():
            asyncio.run(main())
            assert not in_line(admin)

    def test_of_another_colour_is_refused(self, admin: Any) -> None:
        with pytest.raises(TypeError, match='no AsyncConnection'):
            asyncio.run(transaction_lock(admin, 'jobs'))
