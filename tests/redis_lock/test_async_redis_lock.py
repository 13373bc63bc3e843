"""AsyncRedisLock: the same promises to tasks, and to tasks that are ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from servers import redis_server

import portalocker.aio
from portalocker import exceptions
from portalocker.aio.redis import AsyncRedisLock
from portalocker.redis import RedisLock, close_sessions

redis = pytest.importorskip('redis')
redis_asyncio = pytest.importorskip('redis.asyncio')

LONG = 15.0


@contextlib.asynccontextmanager
async def client_of(server: redis_server.RedisServer) -> AsyncIterator[Any]:
    async with redis_asyncio.Redis(port=server.port) as client:
        yield client


async def eventually(
    claim: Callable[[], Coroutine[Any, Any, object]],
) -> None:
    async with asyncio.timeout(LONG):
        while not await claim():  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.002)


def test_name_of_the_room() -> None:
    assert portalocker.aio.AsyncRedisLock is AsyncRedisLock


def test_excludes_tasks_and_threads(
    server: redis_server.RedisServer, client: Any, channel: str
) -> None:
    async def main() -> None:
        async with client_of(server) as own:
            lock = AsyncRedisLock(channel, own)
            async with lock:
                assert lock.locked
                assert lock.token
                await lock.verify()
                (holder,) = await lock.holders()
                assert holder.token == lock.token
                assert not await AsyncRedisLock(channel, own).try_acquire()
                assert not RedisLock(channel, client).try_acquire()
                with pytest.raises(exceptions.AlreadyActive):
                    await lock.acquire()
            assert not lock.locked
            with RedisLock(channel, client) as other:
                assert other.thread.is_alive()
                with pytest.raises(exceptions.AlreadyLocked):
                    await lock.acquire(timeout=0.02)

    asyncio.run(main())


def test_tasks_take_turns_while_the_loop_runs(
    server: redis_server.RedisServer, channel: str
) -> None:
    order: list[int] = []

    async def main() -> None:
        async with client_of(server) as own:
            first = await AsyncRedisLock(channel, own).acquire()

            async def work(n: int) -> None:
                lock = AsyncRedisLock(
                    channel, own, timeout=10 * LONG, check_interval=LONG
                )
                async with lock:
                    order.append(n)

            tasks = []
            for n in range(5):
                tasks.append(asyncio.create_task(work(n)))
                await eventually(lambda n=n: _has_waiters(first, n + 1))
            await first.release()
            await asyncio.gather(*tasks)

    asyncio.run(main())
    assert order == list(range(5))


async def _has_waiters(lock: AsyncRedisLock, count: int) -> bool:
    return len(await lock.waiters()) == count


def test_f24_cancelled_at_every_await(
    server: redis_server.RedisServer, client: Any, channel: str
) -> None:
    """Cancel after n steps of the loop, for every n: nothing is left."""

    async def use(own: Any) -> None:
        async with AsyncRedisLock(channel, own, timeout=LONG):
            await asyncio.sleep(0)

    async def main() -> None:
        async with client_of(server) as own:
            cancelled = 0
            for steps in range(40):
                task = asyncio.create_task(use(own))
                for _ in range(steps):
                    await asyncio.sleep(0)
                    if steps > 20:  # let answers of the server arrive
                        await asyncio.sleep(0.0003)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                cancelled += task.cancelled()
                other = AsyncRedisLock(channel, own, timeout=LONG)
                async with other:
                    assert await other.waiters() == ()
            assert cancelled

    asyncio.run(main())
    lock = RedisLock(channel, client)
    assert lock.holders() == lock.waiters() == ()


def test_cancelled_waiter_leaves_the_line(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> None:
        async with (
            client_of(server) as own,
            AsyncRedisLock(channel, own) as lock,
        ):
            waiting = AsyncRedisLock(channel, own, timeout=10 * LONG)
            task = asyncio.create_task(waiting.acquire())
            await eventually(lambda: _has_waiters(lock, 1))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await eventually(lambda: _has_waiters(lock, 0))

    asyncio.run(main())


def test_loss_is_told_in_the_loop(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> None:
        told = asyncio.Event()  # belongs to the loop
        async with client_of(server) as own:
            lock = AsyncRedisLock(channel, own, on_lost=lambda _: told.set())
            await lock.acquire()
            lock.pubsub.close()
            async with asyncio.timeout(LONG):
                await told.wait()
            assert lock.lost
            with pytest.raises(exceptions.LockLostError):
                await lock.release()
            with pytest.raises(exceptions.LockLostError):
                async with lock:
                    await own.flushall()

    asyncio.run(main())


def test_reentrant_per_task(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> None:
        async with client_of(server) as own:
            lock = AsyncRedisLock(channel, own, reentrant=True)
            async with lock, lock:
                assert lock.locked
                task = asyncio.create_task(lock.try_acquire())
                assert await task is False
            assert not lock.locked

    asyncio.run(main())


def test_own_connection(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> None:
        lock = AsyncRedisLock(channel, redis_kwargs={'port': server.port})
        async with lock:
            assert lock.connection is not None
        assert lock.connection is None

    asyncio.run(main())


def test_forgotten_lock_is_released(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> None:
        async with client_of(server) as own:
            lock = await AsyncRedisLock(channel, own).acquire()
            del lock
            gc.collect()
            async with AsyncRedisLock(channel, own, timeout=LONG):
                pass

    asyncio.run(main())


def test_session_outlives_loops(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> Any:
        async with (
            client_of(server) as own,
            AsyncRedisLock(channel, own) as lock,
        ):
            return lock.pubsub

    assert asyncio.run(main()) is asyncio.run(main())
    close_sessions()
