"""What happens when holders, waiters, the server and the network fail.

The numbers are those of the table in docs/explanation/redis_faults.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import children
import pytest
from servers import redis_server
from servers.proxy import BOTH, CLIENT, SERVER, Proxy
from test_redis_lock import (
    HOLD,
    LONG,
    eventually,
    holding_process,
    in_thread,
    kill_session,
)

from portalocker import _redis_claims, _redis_plan, exceptions
from portalocker.redis import RedisLock, close_sessions

redis = pytest.importorskip('redis')

#: seconds: long enough to be renewed on a loaded machine
LEASE = 1.0


@pytest.fixture
def proxy(server: redis_server.RedisServer) -> Iterator[Proxy]:
    with Proxy(('127.0.0.1', server.port)) as proxy:
        try:
            yield proxy
        finally:
            proxy.heal()
            close_sessions()


@pytest.fixture
def far(proxy: Proxy) -> Iterator[Any]:
    """A client behind the proxy; it gives up soon, and does not repeat."""
    with redis.Redis(
        host=proxy.host,
        port=proxy.port,
        socket_timeout=LEASE / 2,
        retry=None,
    ) as client:
        yield client


def told_by(lock_options: dict[str, Any]) -> threading.Event:
    told = threading.Event()
    lock_options['on_lost'] = lambda _: told.set()
    return told


class TestHolder:
    def test_f1_killed_holder_is_followed(
        self, server: redis_server.RedisServer, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client)
        with holding_process(server, channel) as process:
            with in_thread(lambda: lock.acquire(timeout=LONG)) as results:
                eventually(lock.waiters)
                process.kill()
                eventually(lambda: results)
            assert lock.locked
            lock.release()

    def test_f1_killed_holder_with_safe_takeover_keeps_its_lease(
        self, server: redis_server.RedisServer, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client)
        with holding_process(
            server, channel, takeover='safe', lease=LEASE
        ) as process:
            process.kill()
            process.wait()
            sessions = f'portalocker:s:{lock.holders()[0].sid}'
            eventually(lambda: not client.pubsub_numsub(sessions)[0][1])
            began = time.monotonic()
            assert not lock.try_acquire() or time.monotonic() - began > 0.2
            if not lock.locked:
                lock.acquire(timeout=LONG)
            lock.release()

    def test_f2_stopped_holder_knows_it_at_once(
        self, server: redis_server.RedisServer, client: Any, channel: str
    ) -> None:
        program = HOLD.replace(
            'sys.stdin.read()',
            'sys.stdin.readline()\n'
            'try: lock.ensure_held(); print("held")\n'
            'except portalocker.LockLostError: print("lost")\n'
            'sys.stdout.flush(); sys.stdin.read()',
        )
        process = subprocess.Popen(
            [
                *(sys.executable, '-c', program, str(server.port), channel),
                repr({'lease': LEASE}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        lock = RedisLock(channel, client)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            token = int(process.stdout.readline())
            children.stop(process)
            lock.acquire(timeout=LONG)
            assert lock.token > token, 'the resource can tell them apart'
            process.stdin.write('\n')
            process.stdin.flush()
            process.send_signal(signal.SIGCONT)
            assert process.stdout.readline() == 'lost\n'
            lock.verify()
            lock.release()
        finally:
            process.kill()
            process.communicate()

    def test_f3_busy_interpreter_loses_nothing(
        self, client: Any, channel: str
    ) -> None:
        """The lease of ten seconds, and five in which no thread runs."""
        options: dict[str, Any] = {}
        told = told_by(options)
        with RedisLock(channel, client, **options) as lock:
            claim = lock._current()
            assert claim is not None
            contact = claim.hold.contact
            eventually(lambda: claim.hold.contact > contact)
            contact = claim.hold.contact
            time.sleep(0.9 * claim.hold.beat_every)  # the worst moment
            # a call in C that keeps the interpreter to itself
            ctypes.PyDLL(None).usleep(5_000_000)
            lock.ensure_held()
            eventually(lambda: claim.hold.contact > contact)
            lock.verify()
        assert not told.is_set()

    def test_f20_children_leave_the_lock_alone(
        self, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client).acquire()

        def end() -> None: ...

        def collect() -> None:
            nonlocal lock
            del lock
            gc.collect()

        for deed in (end, lock.release, lock.__del__, close_sessions, collect):
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    deed()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            lock.verify()
        lock.release()

    def test_f25_interpreter_that_ends_says_nothing(
        self, server: redis_server.RedisServer, client: Any, channel: str
    ) -> None:
        program = HOLD.replace('sys.stdin.read()', '')
        client.script_flush()  # it releases for the first time
        done = subprocess.run(
            [
                *(sys.executable, '-c', program, str(server.port), channel),
                repr({'takeover': 'safe'}),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ''
        with RedisLock(channel, client, timeout=0):
            pass


class TestNetwork:
    def test_f4_killed_connection_is_told(
        self, client: Any, channel: str
    ) -> None:
        options: dict[str, Any] = {}
        told = told_by(options)
        lock = RedisLock(channel, client, **options).acquire()
        kill_session(client, lock)
        assert told.wait(LONG)
        with RedisLock(channel, client, timeout=LONG):
            pass
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    def test_f4_killed_connection_with_safe_takeover_excludes(
        self, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client, takeover='safe').acquire()
        kill_session(client, lock)
        eventually(lambda: lock.lost)
        assert not RedisLock(channel, client).try_acquire()
        with pytest.raises(exceptions.LockLostError):
            lock.release()
        with RedisLock(channel, client, timeout=0):
            pass

    def test_f4_loss_between_the_end_of_the_session_and_the_release_is_told(
        self, client: Any, channel: str
    ) -> None:
        options: dict[str, Any] = {}
        told = told_by(options)
        lock = RedisLock(channel, client, **options).acquire()
        claim = lock._end_one()
        assert claim is not None
        plan = _redis_plan.releasing(claim)
        next(plan)  # the session carries it no longer ...
        client.flushall()
        close_sessions()  # ... and ends, before the answer comes
        with pytest.raises(StopIteration) as answered:
            plan.send(0)
        with pytest.raises(exceptions.LockLostError):
            lock._tell_if_lost(claim, was_held=answered.value.value)
        assert told.is_set()

    @pytest.mark.parametrize('toward', [BOTH, CLIENT, SERVER])
    def test_f5_f6_silence_ends_belief_before_others_come(
        self, client: Any, far: Any, proxy: Proxy, channel: str, toward: Any
    ) -> None:
        options: dict[str, Any] = {'lease': LEASE, 'takeover': 'safe'}
        told = told_by(options)
        lock = RedisLock(channel, far, **options).acquire()
        proxy.lose(toward)
        other = RedisLock(channel, client)
        other.acquire(timeout=LONG)
        assert not lock.locked
        assert told.wait(LONG)
        assert other.locked
        other.release()
        proxy.heal()
        proxy.reset()
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    def test_f7_lost_reply_of_a_grant_is_asked_for_again(
        self, client: Any, far: Any, proxy: Proxy, channel: str
    ) -> None:
        with RedisLock(channel + ' before', far):
            pass
        lock = RedisLock(channel, far)
        struck = proxy.when(
            f'{channel}}}:holders'.encode(),
            *(SERVER, lambda link: link.lose(CLIENT)),
        )
        with lock:
            assert struck.is_set()
            (holder,) = lock.holders()
            assert holder.token == lock.token
            lock.verify()
        assert RedisLock(channel, client).holders() == ()

    def test_f8_lost_reply_of_a_release_is_no_error(
        self, client: Any, far: Any, proxy: Proxy, channel: str
    ) -> None:
        lock = RedisLock(channel, far).acquire()
        struck = proxy.when(b'EVALSHA', SERVER, lambda link: link.lose(CLIENT))
        lock.release()
        assert struck.is_set()
        with RedisLock(channel, client, timeout=LONG):
            pass

    def test_release_repeated_by_the_client_library_is_no_loss(
        self, client: Any, proxy: Proxy, channel: str
    ) -> None:
        with redis.Redis(
            host=proxy.host, port=proxy.port, socket_timeout=LEASE / 2
        ) as persistent:
            lock = RedisLock(channel, persistent).acquire()
            proxy.when(b'EVALSHA', SERVER, lambda link: link.lose(CLIENT))
            lock.release()

    def test_server_that_cannot_be_reached_is_said_at_once(
        self, far: Any, proxy: Proxy, channel: str
    ) -> None:
        proxy.refuse()
        with pytest.raises(redis.exceptions.ConnectionError):
            RedisLock(channel, far, timeout=10 * LONG).acquire()
        proxy.listen()
        with RedisLock(channel, far):
            pass

    def test_answers_that_come_in_crumbs(
        self, far: Any, proxy: Proxy, channel: str
    ) -> None:
        proxy.fragment(1)
        with RedisLock(channel, far) as lock:
            with pytest.raises(exceptions.AlreadyLocked):
                RedisLock(channel, far).acquire(timeout=0.1)
            lock.verify()


class TestWaiter:
    @pytest.mark.parametrize(
        'rounds',
        [
            300,
            pytest.param(
                100_000,
                marks=[pytest.mark.stress, pytest.mark.timeout(1800)],
            ),
        ],
    )
    def test_f9_giving_up_at_the_moment_of_the_grant(
        self, client: Any, channel: str, rounds: int
    ) -> None:
        """Whoever wins, nobody is stuck and nothing is left."""
        seed = random.SystemRandom().randrange(1 << 32)
        print('seed', seed)
        choices = random.Random(seed)
        patience = 0.001
        holder, waiter = (RedisLock(channel, client) for _ in range(2))
        held = 0
        for _ in range(rounds):
            # whoever gave up stands in no line, and has no grant
            holder.acquire(fail_when_locked=True)
            started = threading.Event()

            def wait(started: threading.Event = started) -> bool:
                started.set()
                try:
                    waiter.acquire(timeout=patience)
                except exceptions.AlreadyLocked:
                    return False
                waiter.verify()
                waiter.release()
                return True

            with in_thread(wait) as results:
                started.wait(LONG)
                time.sleep(choices.uniform(0, 2 * patience))
                holder.release()
            assert results in ([True], [False])
            held += results == [True]
        assert 0 < held < rounds, f'{held} of {rounds}: never at that moment'
        assert holder.holders() == holder.waiters() == ()

    def test_f9_giving_up_in_a_crowd(self, client: Any, channel: str) -> None:
        rounds, results = 60, {'held': 0, 'refused': 0}

        def contend(n: int) -> None:
            lock = RedisLock(channel, client)
            for i in range(rounds):
                try:
                    lock.acquire(timeout=0.0005 * ((i * 7 + n) % 10))
                except exceptions.AlreadyLocked:
                    results['refused'] += 1
                else:
                    results['held'] += 1
                    lock.release()

        with contextlib.ExitStack() as stack:
            outcomes = [
                stack.enter_context(in_thread(lambda n=n: contend(n)))
                for n in range(4)
            ]
        assert outcomes == [[None]] * 4
        assert results['held'] > 0
        with RedisLock(channel, client, timeout=0) as lock:
            assert lock.waiters() == ()

    def test_f10_killed_waiter_is_passed(
        self, server: redis_server.RedisServer, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client).acquire()
        process = start_waiter(server, channel)
        try:
            eventually(lock.waiters)
            behind = RedisLock(channel, client)
            with in_thread(lambda: behind.acquire(timeout=LONG)):
                eventually(lambda: len(lock.waiters()) == 2)
                process.kill()
                process.wait()
                lock.release()
            assert behind.locked
            behind.release()
        finally:
            process.kill()
            process.communicate()

    def test_f11_stopped_waiter_loses_its_grant(
        self, server: redis_server.RedisServer, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client).acquire()
        process = start_waiter(server, channel, lease=LEASE)
        try:
            eventually(lock.waiters)
            children.stop(process)
            lock.release()
            assert lock.holders()[0].pid == process.pid, 'it has the grant'
            lock.acquire(timeout=LONG)
            process.send_signal(signal.SIGCONT)
            eventually(lock.waiters)
            lock.verify()
            lock.release()
            assert process.stdout is not None
            assert int(process.stdout.readline())
        finally:
            process.kill()
            process.communicate()

    def test_interrupted_waiter_leaves_the_line(
        self, client: Any, channel: str
    ) -> None:
        with RedisLock(channel, client) as lock:

            def interrupt() -> None:
                eventually(lock.waiters)
                signal.raise_signal(signal.SIGINT)

            with in_thread(interrupt), pytest.raises(KeyboardInterrupt):
                RedisLock(channel, client).acquire(timeout=10 * LONG)
            eventually(lambda: not lock.waiters())

    def test_session_that_ends_while_waiting_is_replaced(
        self, client: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, client)
        process_lock = RedisLock(channel, client, lease=LONG)
        process_lock.acquire()
        waiting = RedisLock(channel, client, check_interval=0.05)
        with in_thread(lambda: waiting.acquire(timeout=LONG)) as results:
            eventually(lock.waiters)
            kill_session(client, process_lock)
            eventually(lambda: results)
        assert waiting.locked
        waiting.release()
        with pytest.raises(exceptions.LockLostError):
            process_lock.release()


def start_waiter(
    server: redis_server.RedisServer, channel: str, **options: Any
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, '-c', HOLD, str(server.port), channel),
            repr({'timeout': 10 * LONG, **options}),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


class TestServer:
    @pytest.fixture
    def own(self, own_server: redis_server.RedisServer) -> Iterator[Any]:
        with redis.Redis(port=own_server.port, retry=None) as client:
            yield client
            close_sessions()

    def test_f12_restart_without_data(
        self, own_server: redis_server.RedisServer, own: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, own).acquire()
        token = lock.token
        waiting = RedisLock(channel, own, check_interval=0.02)
        with in_thread(lambda: waiting.acquire(timeout=LONG)) as results:
            eventually(lock.waiters)
            own_server.kill()
            eventually(lambda: lock.lost)
            own_server.start()
            eventually(lambda: results)
        assert results == [waiting], 'who waits, waits on'
        assert waiting.token > token
        waiting.release()
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    def test_f13_flushed_data_are_noticed(
        self, own: Any, channel: str
    ) -> None:
        options: dict[str, Any] = {'lease': LEASE}
        told = told_by(options)
        lock = RedisLock(channel, own, **options).acquire()
        token = lock.token
        own.flushall()
        with RedisLock(channel, own, timeout=0) as other:
            assert other.token > token
            assert told.wait(LONG)
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    def test_f13_flushed_data_are_noticed_at_the_end(
        self, own: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, own).acquire()
        own.flushall()
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    def test_f14_forgotten_scripts_are_sent_again(
        self, own: Any, channel: str
    ) -> None:
        with RedisLock(channel, own, lease=LEASE) as lock:
            own.script_flush()
            lock.verify()
            own.script_flush()
            contact = lock._current().hold.contact  # type: ignore[union-attr]
            eventually(lambda: lock._current().hold.contact > contact)  # type: ignore[union-attr]
            own.script_flush()
        own.script_flush()
        with lock:
            pass

    def test_f15_paused_server_ends_belief(
        self, own_server: redis_server.RedisServer, own: Any, channel: str
    ) -> None:
        options: dict[str, Any] = {'lease': LEASE}
        told = told_by(options)
        lock = RedisLock(channel, own, **options).acquire()
        own_server.stop()
        assert told.wait(LONG)
        assert not lock.locked
        own_server.go_on()
        with pytest.raises(exceptions.LockLostError):
            lock.release()
        with RedisLock(channel, own, timeout=LONG):
            pass

    def test_f18_replica_never_grants(
        self, own_server: redis_server.RedisServer, own: Any, channel: str
    ) -> None:
        own.execute_command('REPLICAOF', '127.0.0.1', own_server.port + 1)
        try:
            with pytest.raises(redis.exceptions.ReadOnlyError):
                RedisLock(channel, own).acquire()
        finally:
            own.execute_command('REPLICAOF', 'NO', 'ONE')

    def test_demoted_server_ends_its_holds(
        self, own_server: redis_server.RedisServer, own: Any, channel: str
    ) -> None:
        lock = RedisLock(channel, own, lease=LEASE).acquire()
        own.execute_command('REPLICAOF', '127.0.0.1', own_server.port + 1)
        eventually(lambda: lock.lost)
        own.execute_command('REPLICAOF', 'NO', 'ONE')
        with pytest.raises(exceptions.LockLostError, match='READONLY'):
            lock.release()

    def test_f19_refusal_is_said_at_once(
        self, own_server: redis_server.RedisServer, own: Any, channel: str
    ) -> None:
        own.config_set('requirepass', 'secret')
        for password in (None, 'wrong'):
            with (
                redis.Redis(port=own_server.port, password=password) as bad,
                pytest.raises(redis.exceptions.AuthenticationError),
            ):
                RedisLock(channel, bad, timeout=10 * LONG).acquire()
        with (
            redis.Redis(port=own_server.port, password='secret') as good,
            RedisLock(channel, good),
        ):
            pass

    def test_f19_too_many_clients(
        self, own_server: redis_server.RedisServer, own: Any, channel: str
    ) -> None:
        own.ping()
        own.config_set('maxclients', 1)
        with pytest.raises(redis.exceptions.ConnectionError):
            RedisLock(channel, own, timeout=10 * LONG).acquire()
        own.config_set('maxclients', 100)

    def test_f22_clock_set_back_keeps_tokens_growing(
        self, own: Any, channel: str
    ) -> None:
        """The server's clock is ahead of what it was at the last grant."""
        with RedisLock(channel, own) as lock:
            token = lock.token
        ahead = token + 3600 * 10**6
        own.set(f'portalocker:lock:{{{channel}}}:fence', ahead)
        with lock:
            assert lock.token == ahead + 1

    def test_f22_clock_set_forward_ends_holds(
        self, own: Any, channel: str
    ) -> None:
        """As the server sees it: a last proof of an hour ago."""
        options: dict[str, Any] = {'lease': LEASE}
        told = told_by(options)
        lock = RedisLock(channel, own, **options).acquire()
        token = lock.token
        key = f'portalocker:lock:{{{channel}}}:holders'
        ((hid, record),) = own.hgetall(key).items()
        words = record.split(b' ')
        words[2] = b'%d' % (int(words[2]) - 3600 * 10**6)
        own.hset(key, hid, b' '.join(words))
        assert told.wait(LONG)
        with RedisLock(channel, own, timeout=0) as other:
            assert other.token > token
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    @pytest.mark.parametrize('hours', [-1, 1])
    def test_f22_clock_of_the_client_does_not_matter(
        self,
        own: Any,
        channel: str,
        monkeypatch: pytest.MonkeyPatch,
        hours: int,
    ) -> None:
        with RedisLock(channel, own, lease=LEASE) as lock:
            real = time.time
            monkeypatch.setattr(time, 'time', lambda: real() + hours * 3600)
            claim = lock._current()
            assert claim is not None
            contact = claim.hold.contact
            eventually(lambda: claim.hold.contact > contact)
            lock.verify()


@pytest.mark.parametrize(
    ('one', 'another'),
    [
        ('\u00e4\u4e2d\U0001f512', '\u00e4'),
        ('{a}', 'a'),
        ('a', 'a-lock-b'),
        ('a:holders', 'a'),
        ('x' * 10_000, 'x' * 9_999),
        ('}{', '{}'),
        ('a b\n', 'a b'),
        ('%7B', '{'),
    ],
)
def test_f26_names_are_kept_apart(
    client: Any, channel: str, one: str, another: str
) -> None:
    first = RedisLock(one + channel, client).acquire()
    with RedisLock(another + channel, client, timeout=0):
        assert not RedisLock(one + channel, client).try_acquire()
    first.release()


def test_lock_is_lost_when_the_lease_is_over_and_nobody_renews(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_claims.ClaimCarrier, 'attend', lambda _: None)
    options: dict[str, Any] = {'lease': 0.3}
    told = told_by(options)
    lock = RedisLock(channel, client, **options).acquire()
    lock.pubsub._beat = lambda *_: None
    assert told.wait(LONG)
    with pytest.raises(exceptions.LockLostError):
        lock.release()
