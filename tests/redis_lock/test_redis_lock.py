"""RedisLock as users see it: one server, threads and processes."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import children
import pytest
from servers import redis_server
from states import wait_until as eventually

import portalocker
from portalocker import _redis_core, exceptions, utils
from portalocker import redis as portalocker_redis
from portalocker.redis import RedisLock, RedisMultiLock, RedisSemaphore

redis = pytest.importorskip('redis')

LONG = 15.0
SHARED = portalocker.LockFlags.SHARED


@contextlib.contextmanager
def in_thread(function: Callable[[], object]) -> Iterator[list[object]]:
    """Run a function beside us; its result, or what it raised, comes."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield results
    finally:
        thread.join(LONG)
        assert not thread.is_alive()


def test_face_offers_the_lock() -> None:
    assert portalocker.RedisLock is RedisLock


def test_second_holder_is_refused(
    each_server: redis_server.RedisServer, channel: str
) -> None:
    with redis.Redis(port=each_server.port) as client:
        first = RedisLock(channel, client)
        second = RedisLock(channel, client)
        assert first.acquire(fail_when_locked=True) is first
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            second.acquire(fail_when_locked=True)
        assert caught.value.holder is not None
        assert caught.value.holder.pid == os.getpid()
        assert f'pid {os.getpid()} on ' in str(caught.value)
        first.release()
        second.acquire(fail_when_locked=True)
        second.release()


@pytest.mark.parametrize('timeout', [None, 0, 0.001])
@pytest.mark.parametrize('check_interval', [None, 0, 0.0005])
def test_timeout(
    client: Any,
    channel: str,
    timeout: float | None,
    check_interval: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utils, 'DEFAULT_TIMEOUT', 0.01)
    first = RedisLock(channel, client)
    first.acquire(timeout=timeout, check_interval=check_interval)
    second = RedisLock(channel, client)
    with pytest.raises(exceptions.AlreadyLocked):
        second.acquire(timeout=timeout, check_interval=check_interval)
    first.release()


def test_context_manager(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client)
    with lock as entered:
        assert entered is lock
        assert lock.locked
        assert not RedisLock(channel, client).try_acquire()
    assert not lock.locked
    with lock:
        pass


def test_active_lock_cannot_be_acquired_again(
    client: Any, channel: str
) -> None:
    with RedisLock(channel, client) as lock:
        with pytest.raises(AssertionError, match='already active'):
            lock.acquire()
        assert lock.locked


def test_names_of_the_specification(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client, 1, 0.5, True, 0.2, 3, {'db': 0})
    assert lock.channel == channel
    assert lock.connection is client
    assert lock.get_connection() is client
    assert not lock.close_connection
    assert lock.client_name == f'{channel}-lock'
    assert (lock.timeout, lock.check_interval) == (1, 0.5)
    assert lock.fail_when_locked is True
    assert (lock.thread_sleep_time, lock.unavailable_timeout) == (0.2, 3)
    assert lock.pubsub is None
    assert lock.thread is None
    with lock:
        assert lock.pubsub.subscribed
        assert lock.thread.is_alive()
        names = {found['name'] for found in client.client_list()}
        assert lock.client_name.replace(' ', '_') in names
    assert lock.pubsub is None
    assert portalocker_redis.DEFAULT_THREAD_SLEEP_TIME == 0.1
    assert portalocker_redis.DEFAULT_UNAVAILABLE_TIMEOUT == 1


def test_one_session_and_one_thread_for_many_locks(
    client: Any, channel: str
) -> None:
    locks = [RedisLock(f'{channel} {n}', client) for n in range(10)]
    before = client.info('clients')['connected_clients']
    threads = threading.active_count()
    for lock in locks:
        lock.acquire()
    assert len({id(lock.pubsub) for lock in locks}) == 1
    assert threading.active_count() == threads + 1
    after = client.info('clients')['connected_clients']
    assert after == before + 1
    for lock in locks:
        lock.release()


def test_own_connection_is_made_and_dropped(
    server: redis_server.RedisServer, channel: str
) -> None:
    kwargs = {'port': server.port}
    lock = RedisLock(channel, redis_kwargs=kwargs)
    assert lock.connection is None
    assert lock.close_connection
    with lock:
        assert lock.connection is not None
        other = RedisLock(channel, redis_kwargs=kwargs)
        assert not other.try_acquire()
        assert other.connection is None
        assert other._client is lock.connection, 'they share one client'
    assert lock.connection is None
    assert kwargs == {'port': server.port}
    assert lock.redis_kwargs == {**RedisLock.DEFAULT_REDIS_KWARGS, **kwargs}
    assert RedisLock.DEFAULT_REDIS_KWARGS == {
        'health_check_interval': 10,
        'decode_responses': True,
    }


@pytest.mark.parametrize('decode', [False, True])
@pytest.mark.parametrize('protocol', [2, 3])
def test_any_client_will_do(
    server: redis_server.RedisServer, channel: str, decode: bool, protocol: int
) -> None:
    with redis.Redis(
        port=server.port, decode_responses=decode, protocol=protocol
    ) as client:
        options = dict(client.connection_pool.connection_kwargs)
        with RedisLock(channel, client, label='one') as lock:
            assert lock.holders()[0].label == 'one'
            assert isinstance(lock.token, int)
            with pytest.raises(exceptions.AlreadyLocked, match='one'):
                RedisLock(channel, client).acquire(timeout=0.01)
        assert client.connection_pool.connection_kwargs == options
        assert client.ping()


def test_tokens_grow(client: Any, channel: str) -> None:
    tokens = []
    lock = RedisLock(channel, client)
    for _ in range(5):
        with lock:
            tokens.append(lock.token)
            assert lock.fence_token == lock.token
    assert tokens == sorted(set(tokens))
    assert lock.token is None


def test_tokens_grow_across_the_loss_of_all_data(
    client: Any, channel: str
) -> None:
    with RedisLock(channel, client) as lock:
        before = lock.token
    client.flushall()
    with lock:
        assert lock.token > before


def test_tokens_grow_though_the_clock_is_set_back(
    client: Any, channel: str
) -> None:
    with RedisLock(channel, client) as lock:
        pass
    key = f'portalocker:lock:{{{channel}}}:fence'
    future = int(client.get(key)) * 2
    client.set(key, future)
    with lock:
        assert lock.token == future + 1


@pytest.mark.parametrize(
    'where', ['_new_claim', '_publish', '_give_back', '_end_one']
)
def test_exception_at_any_step_leaves_no_hold_behind(
    client: Any, channel: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, witness = RedisLock(channel, client), RedisLock(channel, client)
    real = getattr(lock, where)

    def interrupted(*args: Any) -> None:
        real(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(lock, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire().release()
    monkeypatch.undo()
    lock.release()
    with RedisLock(channel, client, timeout=LONG):
        pass
    with lock:
        assert len(witness.holders()) == 1
    assert not witness.holders()


def test_what_stays_is_the_last_token_and_may_be_deleted(
    client: Any, channel: str
) -> None:
    with RedisLock(channel, client, reentrant=True) as lock:
        first = lock.token
    key = f'portalocker:lock:{{{channel}}}:fence'
    assert client.keys(f'*{channel}*') == [key.encode()]
    assert client.ttl(key) == -1
    client.delete(key)
    with lock:
        assert lock.token > first
    client.delete(key)
    with RedisLock(channel, client, fence=False):
        pass
    assert not client.keys(f'*{channel}*')


def test_no_token_without_a_fence(client: Any, channel: str) -> None:
    with RedisLock(channel, client, fence=False) as lock:
        assert lock.token is None
    assert not list(client.scan_iter(f'portalocker:*{channel}*'))


def test_waiter_is_woken_by_the_release(client: Any, channel: str) -> None:
    first = RedisLock(channel, client).acquire()
    second = RedisLock(channel, client)
    # nothing but the message can wake it
    with in_thread(
        lambda: second.acquire(timeout=10 * LONG, check_interval=10 * LONG)
    ) as results:
        eventually(first.waiters)
        first.release()
        eventually(lambda: results)
    assert second.locked
    second.release()


def test_first_come_first_served(client: Any, channel: str) -> None:
    order: list[int] = []

    def wait(n: int) -> None:
        with RedisLock(channel, client, timeout=LONG):
            order.append(n)

    first = RedisLock(channel, client).acquire()
    with contextlib.ExitStack() as stack:
        for n in range(8):
            stack.enter_context(in_thread(lambda n=n: wait(n)))
            eventually(lambda n=n: len(first.waiters()) == n + 1)
        first.release()
    assert order == list(range(8))


def test_waiter_that_gave_up_leaves_the_line(
    client: Any, channel: str
) -> None:
    with RedisLock(channel, client) as first:
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            RedisLock(channel, client).acquire(timeout=0.05)
        assert caught.value.waited == 0.05
        assert first.waiters() == ()


def test_readers_share_and_writers_do_not(client: Any, channel: str) -> None:
    reader, other = (
        RedisLock(channel, client, flags=SHARED) for _ in range(2)
    )
    writer = RedisLock(channel, client)
    with reader, other:
        assert [found.shared for found in reader.holders()] == [True, True]
        assert not writer.try_acquire()
    with writer:
        assert not reader.try_acquire()


def test_readers_behind_a_writer_wait_for_it(
    client: Any, channel: str
) -> None:
    reader = RedisLock(channel, client, flags=SHARED).acquire()
    writer = RedisLock(channel, client, timeout=LONG)
    late = RedisLock(channel, client, flags=SHARED)
    with in_thread(writer.acquire):
        eventually(reader.waiters)
        assert not late.try_acquire()
        reader.release()
    writer.release()
    with late:
        pass


def test_unfair_newcomer_may_be_faster(client: Any, channel: str) -> None:
    reader = RedisLock(channel, client, flags=SHARED).acquire()
    writer = RedisLock(channel, client, timeout=LONG)
    hasty = RedisLock(channel, client, flags=SHARED, fair=False)
    with in_thread(writer.acquire):
        eventually(reader.waiters)
        with hasty:
            pass
        reader.release()
    writer.release()


def test_semaphore_has_so_many_places(client: Any, channel: str) -> None:
    places = [RedisSemaphore(2, channel, client) for _ in range(3)]
    assert [place.try_acquire() for place in places] == [True, True, False]
    places[0].release()
    assert places[2].try_acquire()
    assert places[2].holders()[0].mode == 'permit'
    places[1].release()
    places[2].release()
    with pytest.raises(ValueError, match='at least one'):
        RedisSemaphore(0, channel, client)
    with pytest.raises(ValueError, match='share'):
        RedisSemaphore(2, channel, client, flags=SHARED)


def test_multi_lock_takes_all_or_nothing(client: Any, channel: str) -> None:
    a, b, c = (f'{channel} {letter}' for letter in 'abc')
    both = RedisMultiLock([a, b, a], client, timeout=LONG)
    with RedisLock(b, client):
        assert not both.try_acquire()
        with RedisLock(a, client):
            pass
    with both:
        assert len(both.token) == 2
        assert not RedisLock(a, client).try_acquire()
        assert not RedisLock(b, client).try_acquire()
        assert not RedisMultiLock([c, b], client).try_acquire()
        with RedisLock(c, client):
            pass
    with RedisMultiLock([b, c, a], client):
        pass
    with pytest.raises(ValueError, match='without a name'):
        RedisMultiLock([], client)


def test_multi_lock_waits_for_all(client: Any, channel: str) -> None:
    a, b = f'{channel} a', f'{channel} b'
    of_a, of_b = RedisLock(a, client).acquire(), RedisLock(b, client).acquire()
    both = RedisMultiLock([a, b], client, timeout=LONG, check_interval=LONG)
    with in_thread(both.acquire) as results:
        eventually(of_a.waiters)
        assert of_b.waiters()
        of_a.release()
        assert not of_a.try_acquire(), 'who is first in line keeps its place'
        of_b.release()
        eventually(lambda: results)
    assert both.locked
    both.release()
    assert of_a.try_acquire()
    of_a.release()


def test_multi_locks_in_any_order_never_block_each_other(
    client: Any, channel: str
) -> None:
    names = [f'{channel} {letter}' for letter in 'abc']
    counts = []

    def work(n: int) -> None:
        wanted = [names[n % 3], names[(n + 1) % 3]]
        with RedisMultiLock(wanted, client, timeout=LONG):
            counts.append(n)

    with contextlib.ExitStack() as stack:
        for n in range(12):
            stack.enter_context(in_thread(lambda n=n: work(n)))
    assert sorted(counts) == list(range(12))


def test_reentrant_lock_counts(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client, reentrant=True)
    with lock, lock:
        lock.acquire()
        lock.release()
        assert lock.locked
        with in_thread(lambda: lock.acquire(timeout=0)) as results:
            eventually(lambda: results)
        assert isinstance(results[0], exceptions.AlreadyLocked)
    assert not lock.locked
    lock.release()


def test_release_of_what_is_not_held_does_nothing(
    client: Any, channel: str
) -> None:
    RedisLock(channel, client).release()


def test_another_thread_may_release(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client).acquire()
    with in_thread(lock.release):
        pass
    assert not lock.locked
    with RedisLock(channel, client):
        pass


def test_who_comes_as_another_thread_releases_takes_nothing_from_it(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is free for the next one before the server is asked."""
    lock = RedisLock(channel, client).acquire()
    give_back = lock._give_back

    def give_back_watched(claim: Any) -> None:
        monkeypatch.undo()
        with in_thread(lambda: lock.acquire(timeout=0)) as results:
            eventually(lambda: results)
        assert isinstance(results[0], exceptions.AlreadyLocked)
        with in_thread(lock.release) as results:
            eventually(lambda: results)
        assert results == [None]
        give_back(claim)

    monkeypatch.setattr(lock, '_give_back', give_back_watched)
    lock.release()
    with RedisLock(channel, client):
        pass


def test_lock_that_nobody_refers_to_is_released(
    client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client).acquire()
    other = RedisLock(channel, client)
    assert not other.try_acquire()
    del lock
    gc.collect()
    other.acquire(timeout=LONG)
    other.release()


def test_failed_init_leaves_a_silent_object() -> None:
    with pytest.raises(ValueError, match='without a name'):
        RedisLock('')
    RedisLock.__new__(RedisLock).__del__()


@pytest.mark.parametrize(
    ('options', 'text'),
    [
        ({'takeover': 'later'}, 'take over'),
        ({'takeover': 'safe', 'lease': 0}, 'safely'),
        ({'lease': -1}, 'lease'),
        ({'lease': float('nan')}, 'lease'),
        ({'limit': 0}, 'at least one'),
        ({'limit': 2, 'flags': SHARED}, 'limit shared'),
        ({'timeout': float('nan')}, 'not a number'),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RedisLock('channel', **options)


def test_killed_connection_is_told(client: Any, channel: str) -> None:
    told = threading.Event()
    losses: list[Any] = []

    def on_lost(loss: Any) -> None:
        losses.append((loss, threading.current_thread()))
        told.set()

    lock = RedisLock(channel, client, on_lost=on_lost).acquire()
    thread, token = lock.thread, lock.token
    kill_session(client, lock)
    assert told.wait(LONG)
    assert lock.lost
    assert not lock.locked
    with pytest.raises(exceptions.LockLostError, match='connection') as caught:
        lock.ensure_held()
    assert caught.value.token == token
    with pytest.raises(exceptions.LockLostError):
        lock.release()
    assert lock.lost, 'until the next acquire()'
    assert [(type(e), t) for e, t in losses] == [
        (exceptions.LockLostError, thread)
    ]
    with lock:
        assert not lock.lost
        lock.ensure_held()


def kill_session(client: Any, lock: RedisLock) -> None:
    address = '{}:{}'.format(*lock.pubsub._socket.getsockname())
    assert client.execute_command('CLIENT', 'KILL', address)


def test_lost_lock_is_told_at_the_end_of_the_block(
    client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client)

    def lose() -> None:
        kill_session(client, lock)
        eventually(lambda: lock.lost)

    def fail() -> None:
        lose()
        raise ZeroDivisionError

    with pytest.raises(exceptions.LockLostError), lock:
        lose()
    with pytest.raises(ZeroDivisionError), lock:
        fail()
    with lock:
        pass


def test_lost_lock_may_be_acquired_again(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client).acquire()
    kill_session(client, lock)
    eventually(lambda: lock.lost)
    lock.acquire()
    assert lock.locked
    lock.release()


def test_lost_reentrant_lock_is_not_entered_again(
    client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client, reentrant=True).acquire()
    kill_session(client, lock)
    eventually(lambda: lock.lost)
    with pytest.raises(exceptions.LockLostError):
        lock.acquire()
    with pytest.raises(exceptions.LockLostError):
        lock.release()


def test_loss_is_logged(
    client: Any, channel: str, caplog: pytest.LogCaptureFixture
) -> None:
    lock = RedisLock(channel, client, on_lost=lambda _: 1 / 0).acquire()
    thread = lock.thread
    kill_session(client, lock)
    thread.join(LONG)
    texts = [record.message for record in caplog.records]
    assert any('lost the lock' in text for text in texts)
    assert any('on_lost failed' in text for text in texts)
    caplog.clear()


def test_on_lost_that_ends_its_thread_keeps_nothing_from_others(
    client: Any, channel: str
) -> None:
    told = []
    locks = [
        RedisLock(f'{channel} {i}', client, on_lost=lose).acquire()
        for i, lose in enumerate([lambda _: sys.exit(3), told.append])
    ]
    session = locks[0]._session
    for lock in locks:
        name = session.dialect.channel(session.sid, '')
        client.publish(name, f'lost {lock._current().hid}')
    eventually(lambda: told)
    assert session.thread.is_alive()


def test_hold_that_is_lost_as_acquire_returns_is_told(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    lock = RedisLock(channel, client, on_lost=told.append)
    publish = lock._publish

    def lose_first(claim: Any) -> None:
        claim.session.close()
        claim.session.thread.join(LONG)
        publish(claim)

    monkeypatch.setattr(lock, '_publish', lose_first)
    lock.acquire()
    assert len(told) == 1
    with pytest.raises(exceptions.LockLostError):
        lock.release()
    assert len(told) == 1


def test_signal_handler_may_lock_while_a_claim_changes(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _redis_core.Hold.believes
    inner = RedisLock(channel + ' handler', client)

    def interrupted(self: Any, moment: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            monkeypatch.undo()
            with inner:
                pass
        return real(self, moment)

    monkeypatch.setattr(_redis_core.Hold, 'believes', interrupted)
    with RedisLock(channel, client) as lock:
        assert lock.locked


def test_loss_interrupts_the_main_thread_if_asked_to(
    client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client, interrupt_on_lost=True).acquire()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - comes any time
        kill_session(client, lock)
        time.sleep(LONG)


def test_never_held_is_no_loss(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client)
    assert not lock.lost
    with pytest.raises(exceptions.LockException, match='not held') as caught:
        lock.ensure_held()
    assert not isinstance(caught.value, exceptions.LockLostError)


def test_verify_asks_the_server(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client).acquire()
    lock.verify()
    client.delete(f'portalocker:lock:{{{channel}}}:holders')
    assert lock.locked, 'nobody told us yet'
    with pytest.raises(exceptions.LockLostError):
        lock.verify()
    with pytest.raises(exceptions.LockLostError):
        lock.release()


def test_short_lease_is_renewed(client: Any, channel: str) -> None:
    with RedisLock(channel, client, lease=0.2) as lock:
        key = f'portalocker:lock:{{{channel}}}:holders'
        seen: set[bytes] = set()
        eventually(
            lambda: seen.update(client.hvals(key)) or len(seen) > 8  # type: ignore[func-returns-value]
        )
        lock.ensure_held()


def test_who_holds_and_who_waits(client: Any, channel: str) -> None:
    with RedisLock(channel, client, label='a: b') as lock:
        waiter = RedisLock(channel, client, timeout=LONG, flags=SHARED)
        with in_thread(lambda: waiter.acquire(timeout=LONG)):
            eventually(lock.waiters)
            (holder,) = lock.holders()
            (waits,) = lock.waiters()
            assert (holder.pid, holder.label) == (os.getpid(), 'a: b')
            assert holder.thread == threading.get_native_id()
            assert abs(holder.since - time.time()) < LONG
            assert holder.token == lock.token
            assert (waits.mode, waits.token) == ('shared', None)
            lock.release()
        waiter.release()


def test_own_channel_is_subscribed_while_held(
    client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client).acquire()
    eventually(lambda: dict(client.pubsub_numsub(channel))[channel.encode()])
    lock.release()
    eventually(
        lambda: not dict(client.pubsub_numsub(channel))[channel.encode()]
    )


def test_old_style_ping_is_answered_by_the_holder(
    client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client).acquire()
    eventually(lambda: dict(client.pubsub_numsub(channel))[channel.encode()])
    with client.pubsub() as pubsub:
        pubsub.subscribe('answers here')
        assert pubsub.get_message(timeout=LONG)['type'] == 'subscribe'
        for nonsense in ('', 'x', '[]', '{}', '{"response_channel": 1}'):
            client.publish(channel, nonsense)
        ping = {'response_channel': 'answers here', 'message': 'ping'}
        client.publish(channel, json.dumps(ping))
        answer = pubsub.get_message(timeout=LONG)
        assert float(answer['data']) > 0
        lock.channel_handler({'type': 'message', 'data': json.dumps(ping)})
        assert float(pubsub.get_message(timeout=LONG)['data']) > 0
        for message in ({}, {'type': 'subscribe'}, {'type': 'message'}):
            lock.channel_handler(message)
        lock.channel_handler({'type': 'message', 'data': b'\xff'})
        assert pubsub.get_message(timeout=0.01) is None
    lock.release()


HOLD = """
import sys, portalocker.redis, redis
client = redis.Redis(port=int(sys.argv[1]))
lock = portalocker.redis.RedisLock(sys.argv[2], client, **eval(sys.argv[3]))
lock.acquire()
print(lock.token, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holding_process(
    server: redis_server.RedisServer, channel: str, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            *(sys.executable, '-c', HOLD, str(server.port), channel),
            repr(options),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


def test_killed_holder_lets_go(
    each_server: redis_server.RedisServer, channel: str
) -> None:
    with (
        redis.Redis(port=each_server.port) as client,
        holding_process(each_server, channel) as process,
    ):
        lock = RedisLock(channel, client)
        assert not lock.try_acquire()
        process.kill()
        lock.acquire(timeout=LONG)
        lock.release()


def test_process_that_ends_lets_go_without_a_word(
    server: redis_server.RedisServer, client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client)
    with holding_process(server, channel, takeover='safe') as process:
        assert process.stdin is not None
        process.stdin.close()
        lock.acquire(timeout=LONG)
        process.wait(LONG)
        assert process.returncode == 0
    lock.release()


def test_living_holder_answers_and_keeps_the_lock(
    server: redis_server.RedisServer, client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client)
    assert lock.check_or_kill_lock(client, 0.01) is None, 'nobody holds'
    with holding_process(server, channel):
        assert lock.check_or_kill_lock(client, LONG) is True
        assert not lock.try_acquire()


def test_stopped_holder_does_not_answer_and_loses_the_lock(
    server: redis_server.RedisServer, client: Any, channel: str
) -> None:
    lock = RedisLock(channel, client, unavailable_timeout=0.05)
    with holding_process(server, channel) as process:
        children.stop(process)
        assert lock.check_or_kill_lock(client) is None
        with lock:
            pass
        process.send_signal(signal.SIGCONT)


def test_forked_child_starts_released(client: Any, channel: str) -> None:
    lock = RedisLock(channel, client).acquire()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert not lock.locked
            assert lock.pubsub is None
            lock.release()
            del lock
            gc.collect()
            other = RedisLock(channel, client)
            assert not other.try_acquire()
            with RedisLock(channel + ' of the child', client):
                status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    lock.verify()
    lock.release()


class TestPubSubWorkerThread:
    def test_death_interrupts_the_main_thread(self) -> None:
        class Broken:
            subscribed = True

            def get_message(self, **options: Any) -> None:
                raise OSError('the connection is gone')

            def close(self) -> None: ...

        thread = portalocker_redis.PubSubWorkerThread(
            Broken(), sleep_time=0.01
        )
        seen: list[Any] = []
        hook, threading.excepthook = threading.excepthook, seen.append
        try:
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012
                thread.start()
                time.sleep(LONG)
        finally:
            thread.join(LONG)
            threading.excepthook = hook
        assert isinstance(seen[0].exc_value, OSError)


def test_closing_waits_for_a_session_that_ends_already(
    client: Any, channel: str
) -> None:
    is_told = threading.Event()

    def take_time(_: object) -> None:
        is_told.set()
        time.sleep(0.05)

    lock = RedisLock(channel, client, on_lost=take_time).acquire()
    thread = lock.thread
    kill_session(client, lock)
    assert is_told.wait(LONG)
    portalocker_redis.close_sessions()
    assert not thread.is_alive()
    with pytest.raises(exceptions.LockLostError):
        lock.release()


def test_two_sessions_that_end_may_close_each_other(
    client: Any, server: redis_server.RedisServer, channel: str
) -> None:
    """Who is told of a loss does not wait for others that are told."""
    both = threading.Barrier(2)

    def close(_: object) -> None:
        both.wait(LONG)
        portalocker_redis.close_sessions()

    with redis.Redis(port=server.port, db=1) as another:
        locks = [
            RedisLock(channel, one, on_lost=close).acquire()
            for one in (client, another)
        ]
        threads = [lock.thread for lock in locks]
        assert threads[0] is not threads[1]
        for lock in locks:
            kill_session(client, lock)
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()


def test_session_that_nobody_uses_ends(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from portalocker import _redis_claims

    with RedisLock(channel, client, lease=0.1) as lock:
        thread = lock.thread
    monkeypatch.setattr(_redis_claims, 'IDLE_SECONDS', 0)
    thread.join(LONG)
    assert not thread.is_alive()
    with lock:
        assert lock.thread is not thread
