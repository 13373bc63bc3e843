"""The locks on a Redis server report their waits and holds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from servers import redis_server
from test_redis_lock import LONG, eventually, in_thread, kill_session

from portalocker import exceptions, wait_counters
from portalocker.aio import AsyncRedisLock
from portalocker.redis import RedisLock, RedisSemaphore

redis = pytest.importorskip('redis')


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    wait_counters.enable()
    yield
    wait_counters.disable()


def counted(lock: Any, phase: str) -> dict[str, int]:
    """What is counted of this lock, which has a name of its own."""
    found = wait_counters.snapshot().get(f'{lock.counter_name}.{phase}')
    return {} if found is None else found.as_dict()


def lock_on(client: Any, channel: str, **options: Any) -> RedisLock:
    lock = RedisLock(channel, client, **options)
    lock.counter_name = channel  # type: ignore[attr-defined]
    return lock


def test_wait_and_hold_are_counted(client: Any, channel: str) -> None:
    first = lock_on(client, channel).acquire()
    assert counted(first, 'enter')['contended'] == 0
    assert counted(first, 'region')['active'] == 1
    second = lock_on(client, channel, timeout=LONG)
    with in_thread(second.acquire):
        eventually(lambda: counted(first, 'enter')['active'] == 1)
        first.release()
    assert counted(first, 'enter')['contended'] == 1
    assert counted(first, 'enter')['active'] == 0
    assert counted(first, 'region')['active'] == 1
    second.release()
    assert counted(first, 'region')['active'] == 0
    assert counted(first, 'exit')['started'] == 2


def test_refusal_is_counted(client: Any, channel: str) -> None:
    with lock_on(client, channel) as lock:
        for options in ({'fail_when_locked': True}, {'timeout': 0.01}):
            with pytest.raises(exceptions.AlreadyLocked):
                lock_on(client, channel, **options).acquire()
        assert counted(lock, 'enter')['started'] == 3
        assert counted(lock, 'enter')['active'] == 0
        assert counted(lock, 'region')['started'] == 1


def test_reentrant_hold_is_one_region(client: Any, channel: str) -> None:
    lock = lock_on(client, channel, reentrant=True)
    with lock, lock:
        assert counted(lock, 'region')['started'] == 1
    assert counted(lock, 'region')['active'] == 0


def test_lost_and_forgotten_holds_end(client: Any, channel: str) -> None:
    lock = lock_on(client, channel).acquire()
    kill_session(client, lock)
    eventually(partial(getattr, lock, 'lost'))
    with lock:
        assert counted(lock, 'region')['active'] == 1
    counter_name = lock.counter_name  # type: ignore[attr-defined]
    lock.acquire()
    del lock
    gc.collect()
    found = wait_counters.snapshot()[f'{counter_name}.region']
    assert found.active == 0


def test_kinds_have_names(client: Any, channel: str) -> None:
    with RedisSemaphore(2, channel, client):
        found = wait_counters.snapshot()['portalocker.RedisSemaphore.region']
        assert found.active == 1


def test_tasks_are_counted(
    server: redis_server.RedisServer, channel: str
) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(port=server.port) as client:
            locks = [
                AsyncRedisLock(channel, client, timeout=LONG) for _ in range(2)
            ]
            for lock in locks:
                lock.counter_name = channel  # type: ignore[attr-defined]
            first, second = locks
            await first.acquire()
            waiting = asyncio.ensure_future(second.acquire())
            while not counted(first, 'enter')['active']:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await first.release()
            await waiting
            assert counted(first, 'region')['active'] == 1
            await second.release()
            assert counted(first, 'enter')['contended'] == 1
            assert counted(first, 'region')['active'] == 0

    asyncio.run(main())
