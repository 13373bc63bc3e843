"""A waiter reads its grant itself; everything else is left to the thread."""

from __future__ import annotations

import contextlib
import os
import pathlib
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers.proxy import Proxy

from portalocker import (
    _redis_claims,
    _redis_commands,
    _redis_listening,
    _redis_wire,
    exceptions,
)
from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')

LONG = 15.0

pytestmark = pytest.mark.skipif(
    not hasattr(select, 'epoll'), reason='a waiter looks only where epoll is'
)


def eventually(what: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + LONG
    while not what():
        assert time.monotonic() < end
        time.sleep(0.001)


class Rival:
    """Another process, as the server sees it, which we tell what to do."""

    def __init__(self, client: Any, channel: str) -> None:
        import subprocess
        import sys

        port = client.connection_pool.connection_kwargs['port']
        code = (
            'import sys, redis, portalocker.redis as r\n'
            f'lock = r.RedisLock({channel!r}, redis.Redis(port={port}), 60)\n'
            'for line in sys.stdin:\n'
            '    getattr(lock, line.strip())()\n'
            '    print("done", flush=True)\n'
        )
        self._process = subprocess.Popen(
            [sys.executable, '-c', code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def does(self, what: str) -> None:
        """Do it, and wait until it is done."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(what + '\n')
        self._process.stdin.flush()
        assert self._process.stdout.readline() == 'done\n'

    def stop(self) -> None:
        """Let go of everything."""
        self._process.communicate('')


@pytest.fixture
def rival(client: Any, channel: str) -> Iterator[Rival]:
    one = Rival(client, channel)
    yield one
    one.stop()


@pytest.fixture
def soon() -> Iterator[Callable[[Callable[[], object]], None]]:
    """Run something in another thread."""
    threads: list[threading.Thread] = []

    def run(what: Callable[[], object]) -> None:
        threads.append(threading.Thread(target=what))
        threads[-1].start()

    yield run
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def is_watched(lock: Any) -> bool:
    """Whether a caller looks at the socket of the lock's session."""
    session = lock._session
    return bool(session is not None and session._watch._users)


def is_left_to(lock: Any) -> bool:
    """Whether the caller alone is told what arrives at the socket."""
    watch = lock._session._watch
    place = f'/proc/self/fdinfo/{watch.arrivals.fileno()}'
    return is_watched(lock) and 'tfd' not in pathlib.Path(place).read_text()


def patient(channel: str, client: Any) -> RedisLock:
    """A lock that asks again, and looks again, every half second."""
    return RedisLock(channel, client, LONG, check_interval=LONG, lease=1.5)


def test_grant_is_read_by_the_waiter(
    client: Any,
    channel: str,
    rival: Rival,
    soon: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the thread looks too when its time has come, which is not soon
    monkeypatch.setattr(_redis_claims, 'LONGEST_TICK', 10 * LONG)
    monkeypatch.setattr(_redis_listening, 'LINGER_SECONDS', 10 * LONG)
    lock = RedisLock(channel, client, LONG, check_interval=LONG, lease=0)
    with lock:
        session: Any = lock.pubsub
    rival.does('acquire')
    readers = []

    def release() -> None:
        eventually(lambda: lock.waiters() and is_left_to(lock))
        real = session.take_own
        monkeypatch.setattr(
            session,
            'take_own',
            lambda words: (
                readers.append(threading.current_thread()),
                real(words),
            ),
        )
        rival.does('release')

    soon(release)
    lock.acquire()
    assert readers == [threading.current_thread()]
    assert not is_watched(lock)
    lock.release()


def test_loss_of_another_lock_is_told_while_a_caller_reads(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    told = threading.Event()
    other = RedisLock(channel + ' other', client, on_lost=lambda _: told.set())
    other.acquire()
    rival.does('acquire')
    lock = patient(channel, client)

    def evict() -> None:
        eventually(lambda: is_watched(other))
        session = other._session
        name = session.dialect.channel(session.sid, '')
        client.publish(name, f'lost {other._current().hid}')
        assert told.wait(LONG)
        eventually(lock.waiters)
        rival.does('release')

    soon(evict)
    lock.acquire()
    assert other.lost
    lock.release()
    with pytest.raises(exceptions.LockLostError):
        other.release()


def test_other_locks_are_renewed_while_a_caller_reads(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    other = RedisLock(channel + ' other', client, lease=0.5).acquire()
    rival.does('acquire')
    lock = patient(channel, client)

    def release() -> None:
        eventually(lambda: is_watched(lock))
        contacts = set()
        claim = other._current()

        def is_renewed() -> bool:
            contacts.add(claim.hold.contact)
            return len(contacts) > 20

        eventually(is_renewed)
        rival.does('release')

    soon(release)
    lock.acquire()
    other.ensure_held()
    other.release()
    lock.release()


@pytest.mark.parametrize('is_stuck', [False, True])
def test_signal_handler_uses_locks_while_its_thread_reads(
    client: Any, channel: str, rival: Rival, soon: Any, is_stuck: bool
) -> None:
    held = RedisLock(channel + ' held', client, lease=0.5).acquire()
    rival.does('acquire')
    lock = patient(channel, client)
    seen: list[object] = []

    def handler(*_: object) -> None:
        if is_stuck:  # for more than a lease; the thread reads what comes
            contacts = set()
            claim = held._current()
            while len(contacts) < 30 and claim.is_held:
                contacts.add(claim.hold.contact)
                time.sleep(0.001)
            seen.append(len(contacts))
        with RedisLock(channel + ' handler', client) as inner:
            seen.append(inner.token)
        held.ensure_held()
        held.release()
        soon(lambda: rival.does('release'))

    before = signal.signal(signal.SIGUSR1, handler)
    try:

        def interrupt() -> None:
            eventually(lambda: is_watched(lock))
            os.kill(os.getpid(), signal.SIGUSR1)

        soon(interrupt)
        lock.acquire()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen
    assert seen[0] == 30 or not is_stuck
    lock.release()


def test_handler_in_the_reader_may_wait_for_another_lock(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    held = RedisLock(channel + ' held', client, lease=0.5).acquire()
    second = Rival(client, channel + ' second')
    rival.does('acquire')
    second.does('acquire')
    lock = patient(channel, client)
    renewed: list[int] = []

    def handler(*_: object) -> None:
        waited_for = patient(channel + ' second', client)
        soon(lambda: let_go(waited_for))
        with waited_for:
            held.ensure_held()

    def let_go(waited_for: RedisLock) -> None:
        """While the handler waits for more than a lease."""
        eventually(waited_for.waiters)
        claim, contacts = next(iter(held._claims.values())), set()
        while len(contacts) < 30 and claim.is_held:
            contacts.add(claim.hold.contact)
            time.sleep(0.001)
        renewed.append(len(contacts))
        second.does('release')

    def interrupt() -> None:
        eventually(lambda: lock.waiters() and is_watched(lock))
        os.kill(os.getpid(), signal.SIGUSR1)
        eventually(lambda: renewed)
        rival.does('release')

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        soon(interrupt)
        lock.acquire()
    finally:
        signal.signal(signal.SIGUSR1, before)
        second.stop()
    assert renewed == [30]
    assert not is_watched(lock)
    lock.release()
    held.release()


def test_handler_while_a_grant_is_taken_keeps_nobody_from_being_renewed(
    client: Any,
    channel: str,
    rival: Rival,
    soon: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rival.does('acquire')
    lock = patient(channel, client)
    asked: list[float] = []

    def interrupt() -> None:
        eventually(lambda: lock.waiters() and is_watched(lock))
        session = lock._session
        real, look = session.is_own_grant, session.look_at_clock

        def stuck(*words: Any) -> Any:
            """As if a handler came in, while what was read is taken."""
            count = len(asked)
            eventually(lambda: len(asked) > count + 3)
            return real(*words)

        monkeypatch.setattr(session, 'is_own_grant', stuck)
        monkeypatch.setattr(
            *(session, 'look_at_clock'),
            lambda: asked.append(time.monotonic()) or look(),
        )
        rival.does('release')

    soon(interrupt)
    lock.acquire()
    lock.verify()
    lock.release()


def test_interrupted_reader_leaves_reading_to_the_thread(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    rival.does('acquire')
    lock = patient(channel, client)
    for _ in range(5):

        def interrupt() -> None:
            eventually(lambda: lock.waiters() and is_watched(lock))
            os.kill(os.getpid(), signal.SIGINT)

        soon(interrupt)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        assert not is_watched(lock)
        eventually(lambda: not lock.waiters())
    told = threading.Event()
    other = RedisLock(channel + ' other', client, on_lost=lambda _: told.set())
    other.acquire()
    name = other._session.dialect.channel(other._session.sid, '')
    client.publish(name, f'lost {other._current().hid}')
    assert told.wait(LONG)


def test_session_that_ends_wakes_the_reader(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    rival.does('acquire')
    lock = patient(channel, client)

    def end() -> None:
        eventually(lambda: lock.waiters() and is_watched(lock))
        first = lock._session
        first.close()
        eventually(lambda: lock._session is not first and lock.waiters())
        rival.does('release')

    soon(end)
    lock.acquire()
    lock.ensure_held()
    lock.release()


def test_forked_child_leaves_the_reader_alone(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    rival.does('acquire')
    lock = patient(channel, client)

    def fork() -> None:
        eventually(lambda: lock.waiters() and is_watched(lock))
        port = client.connection_pool.connection_kwargs['port']
        child = os.fork()
        if not child:
            try:
                own = redis.Redis(port=port)
                with RedisLock(channel + ' child', own):
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        rival.does('release')

    soon(fork)
    lock.acquire()
    lock.verify()
    lock.release()


def test_reset_of_the_connection_is_no_failure_of_the_reader(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    rival.does('acquire')
    port = client.connection_pool.connection_kwargs['port']
    with Proxy(('127.0.0.1', port)) as proxy:
        far = redis.Redis(port=proxy.port)
        lock = patient(channel, far)
        failures: list[object] = []

        def reset() -> None:
            for _ in range(10):
                eventually(lambda: lock.waiters() and is_watched(lock))
                first = lock._session
                far.connection_pool.disconnect()
                proxy.reset()
                eventually(lambda first=first: lock._session is not first)  # type: ignore[misc]
            rival.does('release')

        def attempt() -> None:
            try:
                reset()
            except BaseException as error:
                failures.append(error)
                rival.does('release')

        soon(attempt)
        lock.acquire(timeout=3 * LONG)
        assert not failures
        lock.verify()
        lock.release()


@pytest.mark.parametrize('step', ['take', '_poll'])
def test_session_that_ends_at_a_step_of_the_reader(
    client: Any,
    channel: str,
    rival: Rival,
    soon: Any,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    lock = patient(channel, client)
    with lock:
        pass
    first = lock._session
    watch = first._watch
    rival.does('acquire')

    def end() -> None:
        first.close()
        first.thread.join(LONG)
        assert not first.thread.is_alive()

    class Ending:
        """Does the same, and the session is over after it."""

        def __init__(self, real: Any) -> None:
            self.real = real

        def poll(self, *words: Any) -> Any:
            name = first.dialect.channel(first.sid, '')
            client.publish(name, 'lost nobody')
            found = self.real.poll(*words)
            end()
            watch._wake_end.settimeout(0)
            with contextlib.suppress(OSError):  # as if it were not told yet
                watch._wake_end.recv(100)
            return found

        def __call__(self, me: object) -> bool:
            is_ours = bool(self.real(me))
            if is_ours and me is not watch:
                end()
            return is_ours

    monkeypatch.setattr(watch, step, Ending(getattr(watch, step)))

    def release() -> None:
        eventually(lambda: lock._session is not first and lock.waiters())
        rival.does('release')

    soon(release)
    lock.acquire()
    lock.verify()
    lock.release()


def test_exception_at_the_change_of_roles_is_made_good(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    lock = patient(channel, client)
    with lock:
        pass
    watch = lock._session._watch
    watch.arrivals.unregister(watch._socket)
    rival.does('acquire')

    def release() -> None:
        eventually(lambda: lock.waiters() and is_watched(lock))
        rival.does('release')

    soon(release)
    lock.acquire()
    lock.release()
    with pytest.raises(FileExistsError):
        watch.arrivals.register(watch._socket)


def test_child_forked_by_the_reader_waits_for_itself(
    client: Any, channel: str, rival: Rival, soon: Any
) -> None:
    rival.does('acquire')
    lock = patient(channel, client)
    parent = os.getpid()
    children: list[int] = []

    def release() -> None:
        eventually(lambda: lock.waiters() and is_watched(lock))
        os.kill(parent, signal.SIGUSR1)
        eventually(lambda: len(lock.waiters()) == 2)
        rival.does('release')

    before = signal.signal(
        signal.SIGUSR1, lambda *_: children.append(os.fork())
    )
    try:
        soon(release)
        lock.acquire()
        if os.getpid() != parent:
            os._exit(0 if len(lock.holders()) == 1 else 2)
    except BaseException:
        if os.getpid() != parent:
            os._exit(1)
        raise
    finally:
        signal.signal(signal.SIGUSR1, before)
    lock.verify()
    assert len(lock.waiters()) == 1
    lock.release()
    assert os.waitpid(children[0], 0)[1] == 0


@pytest.fixture
def line(client: Any, channel: str) -> Any:
    """The connection for scripts of a session that has waited often."""
    lock = RedisLock(channel + ' first', client)
    with lock:
        pass
    lock._session.line.waits = _redis_commands.FEW_WAITS + 1
    return lock._session.line


def test_scripts_need_no_connection_of_the_pool(
    client: Any, line: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError

    with RedisLock(channel, client) as lock:
        lock.verify()  # the server knows the script from now on
        monkeypatch.setattr(client.connection_pool, 'get_connection', never)
        lock.verify()
        monkeypatch.undo()
    assert line._socket is not None


def test_broken_connection_for_scripts_is_replaced(
    client: Any, line: Any, channel: str
) -> None:
    for _ in range(3):
        with RedisLock(channel, client):
            own = line._connection.repr_pieces and line._socket.getsockname()
            client.client_kill_filter(addr='{}:{}'.format(*own))
    with RedisLock(channel, client) as lock:
        lock.verify()
        assert line._socket is not None


def test_refused_connection_for_scripts_is_done_without(
    own_server: Any, channel: str
) -> None:
    with redis.Redis(port=own_server.port) as client:
        with RedisLock(channel, client) as lock:
            lock._session.line.waits = _redis_commands.FEW_WAITS + 1
            count = client.info('clients')['connected_clients']
            client.config_set('maxclients', count)
            lock.verify()
            assert lock._session.line._socket is None
            assert lock._session.line._is_refused
        with lock:
            pass


def test_interrupted_script_is_never_taken_for_another(
    client: Any, line: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisLock(channel, client) as lock:
        lock.verify()
        real = _redis_wire.ReplyParser.feed

        def interrupted(self: Any, chunk: bytes) -> Any:
            if self is not line._parser:
                return real(self, chunk)
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(_redis_wire.ReplyParser, 'feed', interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.verify()
        assert line._socket is None
        assert not line._users
        assert len(lock.holders()) == 1
        lock.verify()


def test_forgotten_scripts_are_sent_again_by_the_client(
    client: Any, line: Any, channel: str
) -> None:
    with RedisLock(channel, client) as lock:
        client.script_flush()
        lock.verify()
        assert line._socket is not None


def test_threads_share_the_connection_for_scripts(
    client: Any, line: Any, channel: str, soon: Any
) -> None:
    tokens = []

    def work() -> None:
        lock = RedisLock(channel, client, timeout=LONG)
        for _ in range(25):
            with lock:
                tokens.append(lock.token)

    for _ in range(6):
        soon(work)
    eventually(lambda: len(tokens) == 150)
    assert tokens == sorted(tokens)
    eventually(lambda: not line._users)  # the last one still releases
