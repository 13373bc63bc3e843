"""A question whose answer nobody waits for may be answered all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from servers.proxy import SERVER, Link, Proxy
from test_redis_lock import LONG, eventually
from test_scale import calls

from portalocker import _redis_scripts
from portalocker.aio.redis import AsyncRedisLock
from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')
redis_asyncio = pytest.importorskip('redis.asyncio')

#: seconds: nothing ends by itself while a test runs
LEASE = 20 * LONG


@pytest.fixture
def proxy(server: Any) -> Iterator[Proxy]:
    with Proxy(('127.0.0.1', server.port)) as proxy:
        yield proxy


def stop_question(proxy: Proxy, channel: str, then: Any) -> threading.Event:
    """Keep the next question for a lock from the server."""

    def strike(link: Link) -> None:
        link.hold(SERVER)
        then()

    return proxy.when(f'{channel}}}:holders'.encode(), SERVER, strike)


def check_nothing_stays(
    client: Any, proxy: Proxy, channel: str, session: Any
) -> None:
    """The question arrives after what took it back."""
    fence = _redis_scripts.keys_of(_redis_scripts.base_of(channel))[3]
    answered = threading.Event()
    session.post('PING', answered=lambda _: answered.set())
    assert answered.wait(LONG)
    assert not client.exists(fence)
    proxy.heal()
    eventually(lambda: client.exists(fence))  # granted, to nobody
    with RedisLock(channel, client, timeout=LONG):
        pass


def test_interrupted_question_leaves_no_hold(
    client: Any, proxy: Proxy, channel: str
) -> None:
    with redis.Redis(port=proxy.port) as far:
        with RedisLock(channel + ' before', far) as before:
            session = before.pubsub
        stopped = stop_question(
            *(proxy, channel, lambda: os.kill(os.getpid(), signal.SIGINT))
        )
        lock = RedisLock(channel, far, lease=LEASE)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        assert stopped.is_set()
        assert not lock.locked
        check_nothing_stays(client, proxy, channel, session)
        with lock:
            lock.verify()


def test_cancelled_question_leaves_no_hold(
    client: Any, proxy: Proxy, channel: str
) -> None:
    async def attempt() -> None:
        loop = asyncio.get_running_loop()
        async with redis_asyncio.Redis(port=proxy.port) as far:
            async with AsyncRedisLock(channel + ' before', far) as before:
                session = before.pubsub
            lock = AsyncRedisLock(channel, far, lease=LEASE)
            task = loop.create_task(lock.acquire())
            stopped = asyncio.Event()
            stop_question(
                *(proxy, channel),
                lambda: loop.call_soon_threadsafe(stopped.set),
            )
            await stopped.wait()
            while not task.done():  # asyncio.wait_for may swallow the first
                task.cancel()
                await asyncio.sleep(0.01)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not lock.locked
            await asyncio.to_thread(
                check_nothing_stays, client, proxy, channel, session
            )
            async with lock:
                await lock.verify()

    asyncio.run(attempt())


def test_question_of_a_waiter_that_arrives_late_leaves_no_place_in_line(
    client: Any, proxy: Proxy, channel: str
) -> None:
    held = RedisLock(channel, client).acquire()
    with redis.Redis(port=proxy.port) as far:
        with RedisLock(channel + ' before', far):
            pass
        stop_question(
            *(proxy, channel, lambda: os.kill(os.getpid(), signal.SIGINT))
        )
        lock = RedisLock(channel, far, LONG, lease=LEASE)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        seen = calls(client, 'rpush')
        proxy.heal()
        eventually(lambda: calls(client, 'rpush') > seen)  # it is in line
        eventually(lambda: not held.waiters())
    held.release()
    with RedisLock(channel, client, timeout=LONG):
        pass
