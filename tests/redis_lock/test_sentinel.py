"""The lock through Sentinel, and what a failover does to it."""

from __future__ import annotations

import asyncio
import pathlib
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from servers import ports, redis_server
from test_redis_lock import LONG, eventually

from portalocker import exceptions
from portalocker.aio import AsyncRedisLock
from portalocker.redis import RedisLock, close_sessions

redis = pytest.importorskip('redis')

#: seconds: long enough to be renewed on a loaded machine
LEASE = 1.0


@pytest.fixture
def replica(
    own_server: redis_server.RedisServer,
) -> Iterator[redis_server.RedisServer]:
    """A server that copies what `own_server` has."""
    with redis.Redis(port=own_server.port) as client:
        client.config_set('repl-diskless-sync-delay', 0)
    with redis_server.RedisServer(
        own_server.program,
        *('--replicaof', f'127.0.0.1 {own_server.port}'),
    ) as server:
        with redis.Redis(port=server.port) as client:
            eventually(
                lambda: (
                    client.info('replication')['master_link_status'] == 'up'
                )
            )
        yield server


@pytest.fixture
def master(
    own_server: redis_server.RedisServer,
    replica: redis_server.RedisServer,
    tmp_path: pathlib.Path,
) -> Iterator[Any]:
    """A client that Sentinel leads to the master, whoever that is."""
    from redis.sentinel import Sentinel

    port = ports.free_port()
    config = tmp_path / 'sentinel.conf'
    config.write_text(
        f'port {port}\nbind 127.0.0.1\ndir "{tmp_path}"\n'
        f'sentinel monitor main 127.0.0.1 {own_server.port} 1\n',
        encoding='utf-8',
    )
    process = subprocess.Popen(
        [own_server.program, str(config), '--sentinel'],
        stdout=subprocess.DEVNULL,
    )
    guard = Sentinel([('127.0.0.1', port)])
    client = guard.master_for('main')
    try:
        asked = redis_server.RedisServer(own_server.program, port=port)
        eventually(asked.answers)
        eventually(lambda: guard.sentinels[0].sentinel_slaves('main'))
        client.guard = guard.sentinels[0]
        yield client
    finally:
        close_sessions()
        client.close()
        for found in guard.sentinels:
            found.close()
        process.send_signal(signal.SIGTERM)
        process.wait()


def test_sentinel_leads_to_the_master(master: Any, channel: str) -> None:
    with RedisLock(channel, master) as lock:
        lock.verify()
        assert not RedisLock(channel, master).try_acquire()


def test_task_is_led_to_the_master(master: Any, channel: str) -> None:
    from redis.asyncio.sentinel import Sentinel

    async def main() -> None:
        place = master.guard.connection_pool.connection_kwargs
        guard = Sentinel([('127.0.0.1', place['port'])])
        client = guard.master_for('main')
        async with AsyncRedisLock(channel, client) as lock:
            await lock.verify()
            assert not RedisLock(channel, master).try_acquire()
            assert lock.pubsub is not None
        await client.aclose()
        for found in guard.sentinels:
            await found.aclose()

    asyncio.run(main())


def begins_failover(guard: Any) -> bool:
    """Whether Sentinel agrees; it has to know the replica well enough."""
    try:
        return bool(guard.sentinel_failover('main'))
    except redis.exceptions.ResponseError as error:
        if 'NOGOODSLAVE' not in str(error):
            raise
        return False


@pytest.mark.stress  # Sentinel takes eleven seconds
def test_f16_failover_by_sentinel(
    own_server: redis_server.RedisServer,
    replica: redis_server.RedisServer,
    master: Any,
    channel: str,
) -> None:
    """The old holder is told; tokens grow from one server to the other."""
    first = RedisLock(channel, master, lease=LEASE).acquire()
    token = first.token
    with redis.Redis(port=replica.port) as new:
        eventually(lambda: begins_failover(master.guard))
        eventually(lambda: new.role()[0] == b'master')
        with RedisLock(channel, new, timeout=LONG) as second:
            # until the old master knows: the window that is documented
            assert second.token > token
            eventually(lambda: first.lost)
            second.verify()
    with pytest.raises(exceptions.LockLostError):
        first.release()


@pytest.mark.parametrize('takeover', ['immediate', 'safe'])
def test_f16_failover(
    own_server: redis_server.RedisServer,
    replica: redis_server.RedisServer,
    channel: str,
    takeover: Any,
) -> None:
    with (
        redis.Redis(port=own_server.port) as old,
        redis.Redis(port=replica.port) as new,
    ):
        first = RedisLock(channel, old, lease=LEASE, takeover=takeover)
        token = first.acquire().token
        key = f'portalocker:lock:{{{channel}}}:fence'
        eventually(lambda: new.get(key) == str(token).encode())
        new.replicaof('NO', 'ONE')
        old.replicaof('127.0.0.1', replica.port)
        with RedisLock(channel, new, timeout=LONG) as second:
            assert second.token > token
            eventually(lambda: first.lost)
            second.verify()
        with pytest.raises(exceptions.LockLostError):
            first.release()


def test_f16_hold_that_ends_with_the_master_is_told_at_release(
    own_server: redis_server.RedisServer,
    replica: redis_server.RedisServer,
    channel: str,
) -> None:
    with redis.Redis(port=own_server.port) as old:
        lock = RedisLock(channel, old).acquire()
        old.replicaof('127.0.0.1', replica.port)
        with pytest.raises(exceptions.LockLostError):
            lock.release()


def test_f16_failover_with_safe_takeover_excludes_as_far_as_was_copied(
    own_server: redis_server.RedisServer,
    replica: redis_server.RedisServer,
    channel: str,
) -> None:
    with (
        redis.Redis(port=own_server.port) as old,
        redis.Redis(port=replica.port) as new,
    ):
        first = RedisLock(channel, old, lease=LONG, takeover='safe').acquire()
        key = f'portalocker:lock:{{{channel}}}:holders'
        eventually(lambda: new.exists(key))
        new.replicaof('NO', 'ONE')
        old.replicaof('127.0.0.1', replica.port)
        assert not RedisLock(channel, new).try_acquire()
        eventually(lambda: first.lost)
        with pytest.raises(exceptions.LockLostError):
            first.release()
