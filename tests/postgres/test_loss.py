"""A hold that is lost is known to be lost, and said to be, once."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors import Line, Stage
from scenes import (
    LONG,
    SHORT,
    close_everything,
    granted,
    sessions_of,
    terminate,
    wait_until,
)
from servers.postgresql import PostgreSQL
from servers.proxy import CLIENT, SERVER, Proxy

from portalocker import exceptions

session_module = pytest.importorskip('portalocker._postgres_session')
wire_module = pytest.importorskip('portalocker._postgres_wire')

Make = Callable[..., Any]
Losses = queue.SimpleQueue[exceptions.LockLostError]


@pytest.fixture
def losses() -> Losses:
    return queue.SimpleQueue()


@pytest.fixture
def own_server(server: PostgreSQL) -> Iterator[PostgreSQL]:
    """A server that may be stopped."""
    with PostgreSQL() as own:
        yield own
        close_everything()


def assert_lost(lock: Any, token: int) -> None:
    assert lock.lost and not lock.locked
    for check in (lock.ensure_held, lock.verify, lock.release):
        with pytest.raises(exceptions.LockLostError) as caught:
            check()
        assert caught.value.token == token
        assert caught.value.filename == 'jobs'
    assert lock.lost and not lock.locked
    lock.release()


class TestTerminatedByTheServer:
    def test_owner_is_told_once_in_a_thread_of_ours(
        self,
        make: Make,
        admin: Any,
        losses: Losses,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        threads = []

        def on_lost(loss: exceptions.LockLostError) -> None:
            threads.append(threading.current_thread())
            losses.put(loss)

        lock = make(on_lost=on_lost).acquire()
        token = lock.token
        with caplog.at_level(logging.WARNING, 'portalocker.postgres'):
            terminate(admin, lock)
            loss = losses.get(timeout=LONG)
        assert str(loss) == (
            "lost the lock 'jobs' while it was held: terminating connection "
            'due to administrator command'
        )
        assert loss.token == token
        assert threads[0] is not threading.main_thread()
        assert [record.getMessage() for record in caplog.records] == [
            str(loss)
        ]
        assert_lost(lock, token)
        with lock:  # a new hold is a new beginning
            assert not lock.lost and lock.token > token
        assert losses.empty()

    def test_every_hold_of_the_connection_is_lost(
        self, make: Make, admin: Any, losses: Losses
    ) -> None:
        locks = [make(str(n), on_lost=losses.put).acquire() for n in range(3)]
        terminate(admin, locks[1])
        lost = {losses.get(timeout=LONG).filename for _ in locks}
        assert lost == {'0', '1', '2'}
        for lock in locks:
            assert lock.lost
            with pytest.raises(exceptions.LockLostError):
                lock.release()

    def test_end_of_the_block_raises(self, make: Make, admin: Any) -> None:
        lock = make()

        def lose() -> None:
            terminate(admin, lock)
            wait_until(lambda: lock.lost)

        self.assert_block_raises(lock, lose)

    def test_end_of_the_block_raises_without_a_look_before(
        self, make: Make, admin: Any
    ) -> None:
        lock = make()

        def lose() -> None:
            terminate(admin, lock)
            wait_until(lambda: not granted(admin))

        self.assert_block_raises(lock, lose)

    @staticmethod
    def assert_block_raises(lock: Any, lose: Callable[[], None]) -> None:
        with pytest.raises(exceptions.LockLostError), lock:
            lose()

    def test_failure_of_the_block_is_not_masked(
        self, make: Make, admin: Any
    ) -> None:
        lock = make()

        def fail() -> None:
            terminate(admin, lock)
            wait_until(lambda: lock.lost)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError) as caught, lock:
            fail()
        assert 'lost the lock' in caught.value.__notes__[0]

    def test_others_get_the_lock(
        self, make: Make, admin: Any, stage: Stage
    ) -> None:
        lock = make().acquire()
        token = lock.token

        def wait(line: Line) -> None:
            with make() as other:
                line.say(other.token)

        waiter = stage.thread(wait)
        terminate(admin, lock)
        assert waiter.listen() > token
        wait_until(lambda: lock.lost)  # the news may be on its way
        assert_lost(lock, token)

    def test_owner_that_fails_is_logged(
        self, make: Make, admin: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def on_lost(loss: exceptions.LockLostError) -> None:
            raise ZeroDivisionError

        lock = make(on_lost=on_lost).acquire()
        terminate(admin, lock)
        wait_until(lambda: len(caplog.records) == 2)
        assert 'on_lost of' in caplog.text
        with pytest.raises(exceptions.LockLostError):
            lock.release()

    def test_owner_may_release_and_acquire(
        self, make: Make, admin: Any
    ) -> None:
        done = threading.Event()

        def on_lost(loss: exceptions.LockLostError) -> None:
            with pytest.raises(exceptions.LockLostError):
                lock.release()
            with make():
                done.set()

        lock = make(on_lost=on_lost).acquire()
        terminate(admin, lock)
        assert done.wait(LONG)

    def test_main_thread_is_interrupted_where_that_is_asked_for(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def hold(line: Line) -> None:
            lock = make(interrupt_on_lost=True)

            def pause() -> None:
                line.say('held')
                signal.pause()

            with pytest.raises(KeyboardInterrupt) as caught, lock:
                pause()
            assert 'lost the lock' in caught.value.__notes__[0]

        holder = stage.process(hold)
        holder.expect('held')
        admin.execute(
            'SELECT pg_terminate_backend(pid) FROM pg_locks '
            "WHERE locktype = 'advisory'"
        )
        holder.finish()


class TestTheServerGoes:
    @pytest.mark.parametrize(
        'number', [signal.SIGQUIT, signal.SIGINT], ids=['crash', 'shutdown']
    )
    def test_holds_are_lost_and_the_next_is_larger(
        self,
        make: Make,
        own_server: PostgreSQL,
        losses: Losses,
        number: int,
    ) -> None:
        lock = make(connection=own_server.url, on_lost=losses.put)
        lock.acquire()
        token = lock.token
        own_server.halt(number)
        own_server.start()
        losses.get(timeout=LONG)
        assert_lost(lock, token)
        with lock:
            assert lock.token > token

    def test_idle_connection_is_replaced(self, make: Make, admin: Any) -> None:
        with make() as lock:
            (pid,) = sessions_of(lock)
        admin.execute('SELECT pg_terminate_backend(%s)', (pid,))
        with lock:
            lock.verify()
            assert [*sessions_of(lock)] != [pid]

    def test_connection_that_breaks_at_its_next_use_is_replaced(
        self, make: Make, proxy: Proxy
    ) -> None:
        url = PostgreSQL.url_at(proxy.host, proxy.port)
        lock = make(connection=url)
        with lock:
            pass
        proxy.when(b'portalocker_lock', SERVER, lambda link: link.reset())
        with lock:
            lock.verify()
        assert proxy.accepted == 2

    def test_server_that_is_gone_is_an_error(
        self, make: Make, proxy: Proxy
    ) -> None:
        url = PostgreSQL.url_at(proxy.host, proxy.port)
        lock = make(connection=url)
        with lock:
            pass
        proxy.refuse()
        proxy.close_links()
        with pytest.raises(exceptions.LockException, match='refused'):
            lock.acquire()


class TestTheNetworkBreaks:
    @pytest.fixture
    def lock(self, make: Make, proxy: Proxy, losses: Losses) -> Any:
        url = PostgreSQL.url_at(proxy.host, proxy.port)
        return make(connection=url, on_lost=losses.put)

    def test_reset_is_a_loss(
        self, lock: Any, proxy: Proxy, losses: Losses, admin: Any
    ) -> None:
        lock.acquire()
        token = lock.token
        proxy.reset()
        losses.get(timeout=LONG)
        assert_lost(lock, token)
        wait_until(lambda: not granted(admin))

    def test_end_is_a_loss(
        self, lock: Any, proxy: Proxy, losses: Losses
    ) -> None:
        lock.acquire()
        token = lock.token
        proxy.cut(CLIENT)
        losses.get(timeout=LONG)
        assert_lost(lock, token)

    def test_silence_is_a_loss_once_somebody_asks(
        self,
        lock: Any,
        proxy: Proxy,
        losses: Losses,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        lock.acquire()
        token = lock.token
        proxy.hold()
        monkeypatch.setattr(wire_module, 'ANSWER_SECONDS', SHORT)
        lock.ensure_held()  # nobody could know
        with pytest.raises(exceptions.LockLostError, match='not answer'):
            lock.verify()
        assert losses.get(timeout=LONG).token == token
        assert_lost(lock, token)

    def test_release_that_gets_no_answer_ends_the_connection(
        self,
        lock: Any,
        proxy: Proxy,
        admin: Any,
        losses: Losses,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        lock.acquire()
        proxy.hold(CLIENT)
        monkeypatch.setattr(wire_module, 'ANSWER_SECONDS', SHORT)
        with pytest.raises(exceptions.LockLostError, match='not answer'):
            lock.release()
        wait_until(lambda: not granted(admin))

    def test_grant_whose_news_is_lost_is_given_back(
        self,
        lock: Any,
        proxy: Proxy,
        admin: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(session_module, 'GRACE_SECONDS', SHORT)
        with lock:  # so that all is prepared
            pass
        struck = proxy.when(
            b'portalocker_lock', SERVER, lambda link: link.hold(CLIENT)
        )
        with pytest.raises(exceptions.LockException, match='not answer'):
            lock.acquire(timeout=SHORT)
        assert struck.wait(LONG)
        assert not lock.locked and not lock.lost
        wait_until(lambda: not granted(admin))

    def test_slow_network_is_no_loss(self, lock: Any, proxy: Proxy) -> None:
        proxy.delay(0.01)
        proxy.fragment(3)
        with lock:
            lock.verify()
            assert len(lock.holders()) == 1


def test_our_end_gives_up_before_the_server_does(make: Make) -> None:
    """Whoever lost its lock in a partition knows before others have it."""
    with make() as lock:
        (hold,) = lock._holdings.values()
        copy = socket.socket(fileno=os.dup(hold.session.wire.fd))
        with copy:
            ours = [
                copy.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            ]
        names = ('idle', 'interval', 'count')
        columns = ', '.join(
            f"current_setting('tcp_keepalives_{name}')" for name in names
        )
        ((*theirs, limit),) = hold.session.run(
            f"SELECT {columns}, current_setting('tcp_user_timeout')"
        )
    idle, interval, count, user_timeout = ours
    assert (idle, interval, count, user_timeout) == (2, 1, 3, 5000)
    assert [int(value) for value in theirs] == [5, 2, 3]
    assert int(limit) == 11000
    # what the server heard last is `idle` older than the silence, at most
    assert idle + interval * count < (5 + 2 * 3) - idle


class TestTheProcessEnds:
    @pytest.mark.parametrize('how', ['return', 'raise', 'exit', 'kill'])
    def test_lock_is_let_go_without_a_word(
        self, how: str, server: PostgreSQL, admin: Any
    ) -> None:
        import subprocess

        ends = {
            'return': '',
            'raise': 'raise SystemExit(0)',
            'exit': 'os._exit(0)',
            'kill': 'os.kill(os.getpid(), 9)',
        }
        program = (
            'import os\n'
            'from portalocker.postgres import PostgresLock\n'
            f'lock = PostgresLock("jobs", {server.url!r}).acquire()\n'
            f'other = PostgresLock("idle", {server.url!r})\n'
            f'with other: pass\n{ends[how]}'
        )
        done = subprocess.run(
            [sys.executable, '-X', 'dev', '-W', 'error', '-c', program],
            capture_output=True,
            timeout=60,
            check=False,
            env=dict(os.environ),
        )
        assert done.returncode == (-9 if how == 'kill' else 0), done.stderr
        assert done.stderr == b''
        wait_until(lambda: not granted(admin))
