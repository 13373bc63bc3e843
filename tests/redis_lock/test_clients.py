"""Which clients a lock on a server takes, and what it says of others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portalocker import exceptions
from portalocker.aio import redis as aio_redis
from portalocker.redis import RedisLock, RedisMultiLock, RedisSemaphore

redis = pytest.importorskip('redis')
redis_asyncio = pytest.importorskip('redis.asyncio')

_SYNC = {
    'address': (lambda: 'redis://:secret@localhost/0', 'from_url'),
    'bytes': (lambda: b'redis://localhost', 'from_url'),
    'sentinel': (lambda: redis.Sentinel([('localhost', 1)]), 'master_for'),
    'pipeline': (lambda: redis.Redis().pipeline(), 'pipeline answers later'),
    'pool': (redis.ConnectionPool, 'connection_pool='),
    'number': (lambda: 6379, 'no client of redis-py'),
    'valkey-py': (
        type('Valkey', (redis.Redis,), {'__module__': 'valkey.client'}),
        'no client of redis-py',
    ),
}
_ASYNC = {
    'asyncio': (redis_asyncio.Redis, 'AsyncRedisLock'),
    'asyncio sentinel': (
        lambda: redis_asyncio.Sentinel([('localhost', 1)]),
        'master_for',
    ),
    'asyncio pool': (redis_asyncio.ConnectionPool, 'pool is no'),
}


@pytest.mark.parametrize('kind', [RedisLock, RedisSemaphore, RedisMultiLock])
@pytest.mark.parametrize('wrong', [*_SYNC, *_ASYNC])
def test_what_is_no_client_for_threads_is_refused(
    kind: Any, wrong: str
) -> None:
    make, way_out = (_SYNC | _ASYNC)[wrong]
    words: dict[Any, Any] = {
        RedisLock: ('jobs',),
        RedisSemaphore: (2, 'jobs'),
        RedisMultiLock: (('jobs', 'more'),),
    }
    with pytest.raises(TypeError, match=way_out) as caught:
        kind(*words[kind], make())
    assert str(caught.value).startswith("cannot lock 'jobs' with a ")
    assert 'secret' not in str(caught.value)


@pytest.mark.parametrize('wrong', [*_SYNC, 'blocking'])
def test_what_is_no_client_for_tasks_is_refused(wrong: str) -> None:
    blocking = {'blocking': (redis.Redis, 'or RedisLock')}
    make, way_out = (_SYNC | blocking)[wrong]
    with pytest.raises(TypeError, match=way_out) as caught:
        aio_redis.AsyncRedisLock('jobs', make())
    assert str(caught.value).startswith("cannot lock 'jobs' with a ")


def test_closed_client_connects_again(server: Any, channel: str) -> None:
    client = redis.Redis(port=server.port)
    client.close()
    with RedisLock(channel, client) as lock:
        client.close()
        lock.verify()
        with pytest.raises(exceptions.AlreadyLocked):
            RedisLock(channel, client).acquire(timeout=0)
        client.connection_pool.disconnect()
    assert not lock.holders()
    client.close()

    async def tasks() -> None:
        client = redis_asyncio.Redis(port=server.port)
        await client.aclose()
        async with aio_redis.AsyncRedisLock(channel, client) as lock:
            await client.aclose()
            await lock.verify()
        await client.aclose()

    asyncio.run(tasks())
