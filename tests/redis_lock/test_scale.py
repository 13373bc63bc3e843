"""Many who wait, many locks, many processes: what one more costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from servers import redis_server
from test_redis_lock import LONG, eventually

from portalocker.aio.redis import AsyncRedisLock
from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')
redis_asyncio = pytest.importorskip('redis.asyncio')

#: commands a second that one who waits may cost
MOST_COMMANDS = 2


def calls(client: Any, command: str) -> int:
    """Return how often the server ran a command, also within scripts."""
    counts = client.info('commandstats').get(f'cmdstat_{command}', {})
    return int(counts.get('calls', 0))


async def _wait_and_leave(lock: AsyncRedisLock, served: list[str]) -> None:
    async with lock:
        served.append(str(lock._order._label))


async def _crowd(
    server: redis_server.RedisServer, first: RedisLock, count: int
) -> tuple[list[str], list[str]]:
    """Line up so many tasks; the labels as they stood, and as served."""
    served: list[str] = []
    pool = redis_asyncio.BlockingConnectionPool(
        port=server.port, max_connections=16, timeout=None
    )
    async with redis_asyncio.Redis.from_pool(pool) as client:
        locks = [
            AsyncRedisLock(
                *(first.channel, client),
                timeout=20 * LONG,
                label=f'number {n}',
            )
            for n in range(count)
        ]
        tasks = [
            asyncio.create_task(_wait_and_leave(lock, served))
            for lock in locks
        ]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            None, eventually, lambda: len(first.waiters()) == count
        )
        line = [str(waiter.label) for waiter in first.waiters()]
        await _count_commands(first, count)
        pushed = calls(first.connection, 'publish')
        first.release()
        await asyncio.gather(*tasks)
        pushed = calls(first.connection, 'publish') - pushed
        assert pushed == count, 'each hand-off is one message'
    return line, served


async def _count_commands(first: RedisLock, count: int) -> None:
    """Whoever waits costs few commands."""
    before, began = calls(first.connection, 'evalsha'), time.monotonic()
    await asyncio.sleep(1)
    done = calls(first.connection, 'evalsha') - before
    seconds = time.monotonic() - began
    assert 0 < done < MOST_COMMANDS * count * seconds


@pytest.mark.parametrize(
    'count', [100, pytest.param(1000, marks=pytest.mark.stress)]
)
def test_f21_crowd_is_served_in_the_order_of_its_arrival(
    own_server: redis_server.RedisServer, channel: str, count: int
) -> None:
    with redis.Redis(port=own_server.port) as client:
        first = RedisLock(channel, client).acquire()
        line, served = asyncio.run(_crowd(own_server, first, count))
        assert sorted(line) == sorted(f'number {n}' for n in range(count))
        assert served == line
        assert first.holders() == first.waiters() == ()


@pytest.mark.parametrize(
    'count', [300, pytest.param(10_000, marks=pytest.mark.stress)]
)
def test_many_locks_of_one_process_need_one_session(
    own_server: redis_server.RedisServer, channel: str, count: int
) -> None:
    with redis.Redis(port=own_server.port) as client:
        locks = [RedisLock(f'{channel} {n}', client) for n in range(count)]
        for lock in locks:
            lock.acquire(timeout=0)
        assert len({id(lock.pubsub) for lock in locks}) == 1
        assert client.info('clients')['connected_clients'] == 2
        claims = locks[0].pubsub.living_claims()
        contacts = [claim.hold.contact for claim in claims]
        before = calls(client, 'evalsha')
        eventually(
            lambda: all(
                claim.hold.contact > contact
                for claim, contact in zip(claims, contacts, strict=True)
            )
        )
        # a hundred are renewed at once
        assert calls(client, 'evalsha') - before <= 3 * (count // 100 + 1)
        for lock in locks:
            lock.release()
