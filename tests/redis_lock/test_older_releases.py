"""Releases 3.x and 4.x on the same channel: they count its subscribers.

`OldStyle` does what those releases do, as far as others can see it: whoever
is the only subscriber of the channel holds; before, who holds is pinged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from servers.proxy import CLIENT, SERVER, Proxy
from test_redis_lock import LONG, eventually, in_thread

from portalocker import LockFlags, _redis_listening, _redis_session
from portalocker import redis as portalocker_redis
from portalocker.aio import redis as aio_redis
from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')
redis_asyncio = pytest.importorskip('redis.asyncio')


class OldStyle:
    """A holder, or contender, of an older release."""

    def __init__(self, client: Any, channel: str) -> None:
        self._client, self._channel = client, channel
        self._subscription: Any = None

    def _subscribers(self) -> int:
        ((_, count),) = self._client.pubsub_numsub(self._channel)
        return int(count)

    def _subscribe(self, channel: str) -> Any:
        subscription = self._client.pubsub()
        subscription.subscribe(channel)
        message = subscription.get_message(timeout=LONG)
        assert message['type'] == 'subscribe'
        return subscription

    def try_acquire(self) -> bool:
        """Whether it believes that it holds."""
        if self._subscribers():
            assert self.ping(), 'it would kill who does not answer'
            return False
        self._subscription = self._subscribe(self._channel)
        if self._subscribers() == 1:
            return True
        self.release()
        return False

    def ping(self) -> bool:
        """Whether somebody who holds answers."""
        response = f'response {uuid.uuid4()}'
        answers = self._subscribe(response)
        ping = {'response_channel': response, 'message': 'ping'}
        self._client.publish(self._channel, json.dumps(ping))
        answer = answers.get_message(timeout=LONG)
        answers.close()
        return answer is not None

    def release(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()


@pytest.fixture
def old(client: Any, channel: str) -> Iterator[OldStyle]:
    old = OldStyle(client, channel)
    yield old
    old.release()


def test_f23_older_release_stays_out_while_we_hold(
    client: Any, channel: str, old: OldStyle
) -> None:
    with RedisLock(channel, client):
        assert not old.try_acquire()


def test_f23_older_release_stays_out_of_a_hold_that_was_handed_over(
    client: Any, channel: str, old: OldStyle
) -> None:
    first, second = (RedisLock(channel, client) for _ in range(2))
    first.acquire()
    with in_thread(lambda: second.acquire(timeout=LONG)):
        first.release()
    assert not old.try_acquire()
    second.release()


ORDERS: dict[str, dict[str, Any]] = {
    'exclusive': {},
    'shared': {'flags': LockFlags.SHARED},
    'legacy_compat': {'legacy_compat': True},
    'semaphore': {'maximum': 2},
    'several': {'channels': 2},
}


def make(order: str, colour: str, channel: str, client: Any) -> Any:
    """A lock of some kind, blocking or for tasks."""
    module: Any = portalocker_redis if colour == 'blocking' else aio_redis
    prefix = '' if colour == 'blocking' else 'Async'
    options = dict(ORDERS[order])
    if 'maximum' in options:
        return getattr(module, prefix + 'RedisSemaphore')(2, channel, client)
    if 'channels' in options:
        names = channel + ' first', channel
        return getattr(module, prefix + 'RedisMultiLock')(names, client)
    return getattr(module, prefix + 'RedisLock')(channel, client, **options)


@contextlib.contextmanager
def slow_session(
    client: Any, channel: str
) -> Iterator[tuple[Proxy, threading.Event]]:
    """A way to the server on which SUBSCRIBE of the channel gets stuck."""
    port = client.connection_pool.connection_kwargs['port']
    with Proxy(('127.0.0.1', port)) as proxy:
        far = redis.Redis(port=proxy.port)
        with RedisLock(channel + ' before', far):  # there is a session
            pass
        name = channel.encode()
        words = b'\r\nSUBSCRIBE\r\n$%d\r\n%b\r\n' % (len(name), name)
        yield proxy, proxy.when(words, SERVER, lambda link: link.hold(SERVER))
        far.close()


@pytest.mark.parametrize('colour', ['blocking', 'tasks'])
@pytest.mark.parametrize('order', [*ORDERS])
def test_f23_nobody_holds_before_the_channel_has_a_subscriber(
    client: Any, channel: str, order: str, colour: str
) -> None:
    def subscribers() -> int:
        return int(client.pubsub_numsub(channel)[0][1])

    def hold(port: int) -> int:
        with redis.Redis(port=port) as far:
            lock = make(order, colour, channel, far)
            with lock:
                return subscribers()

    async def hold_in_task(port: int) -> int:
        far = redis_asyncio.Redis(port=port)
        async with far, make(order, colour, channel, far):
            return subscribers()

    def attempt(port: int) -> int:
        if colour == 'blocking':
            return hold(port)
        return asyncio.run(hold_in_task(port))

    def is_stuck() -> bool:
        """The server granted, and we wait."""
        return any(
            claim.is_held and claim._wake
            for session in list(_redis_session._sessions.values())
            for claim in session.living_claims()
        )

    with slow_session(client, channel) as (proxy, stopped):
        with in_thread(lambda: attempt(proxy.port)) as found:
            eventually(lambda: found or (stopped.is_set() and is_stuck()))
            assert not found
            assert len(RedisLock(channel, client).holders()) == 1
            proxy.heal()
        assert found == [1]


def test_f23_ping_is_answered_before_we_know_of_our_grant(
    client: Any, channel: str, old: OldStyle
) -> None:
    port = client.connection_pool.connection_kwargs['port']
    with (
        Proxy(('127.0.0.1', port)) as proxy,
        redis.Redis(port=proxy.port) as far,
    ):
        with RedisLock(channel, far):
            pass
        proxy.when(b'EVALSHA', SERVER, lambda link: link.hold(CLIENT))
        lock = RedisLock(channel, far)
        with in_thread(lock.acquire):
            eventually(RedisLock(channel, client).holders)
            assert not old.try_acquire()
            proxy.heal()
        lock.release()


def test_f23_channel_is_not_left_by_one_who_looks_away(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisLock(channel, client) as lock:
        session: Any = lock.pubsub
    threads: list[threading.Thread] = []
    answered = threading.Event()
    lock = RedisLock(channel, client)

    class Channels(dict[str, Any]):
        """Somebody comes while the thread looks which of them to leave."""

        def items(self) -> Any:
            found = list(super().items())
            if self and not threads:
                thread = threading.Thread(target=lock.acquire)
                thread.start()
                threads.append(thread)
                thread.join(0.2)  # unless it waits for us
            return found

    monkeypatch.setattr(_redis_listening, 'LINGER_SECONDS', 0.0)
    monkeypatch.setattr(session, 'channels', Channels(session.channels))
    eventually(lambda: threads)
    threads[0].join(LONG)
    lock.verify()
    session.post('PING', answered=lambda _: answered.set())
    assert answered.wait(LONG)
    assert client.pubsub_numsub(channel)[0][1] == 1
    lock.release()


def test_holder_that_may_not_subscribe_is_refused(
    own_server: Any, channel: str
) -> None:
    channel = channel.replace(' ', '-')
    with redis.Redis(port=own_server.port) as admin:
        rules = ['+@all', '~*', 'resetchannels', '&portalocker:*']
        admin.execute_command(
            *('ACL', 'SETUSER', 'narrow', 'on', '>secret', *rules)
        )
        login: dict[str, Any] = {'username': 'narrow', 'password': 'secret'}
        with redis.Redis(port=own_server.port, **login) as narrow:
            lock = RedisLock(channel, narrow)
            with pytest.raises(redis.exceptions.NoPermissionError) as caught:
                lock.acquire()
            assert 'cannot lock' in str(caught.value)
            eventually(lambda: not RedisLock(channel, admin).holders())
            admin.execute_command('ACL', 'SETUSER', 'narrow', f'&{channel}')
            with lock:
                lock.verify()
