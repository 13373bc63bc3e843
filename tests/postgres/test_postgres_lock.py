"""PostgresLock: who holds, who waits, who is woken."""

from __future__ import annotations

import copy
import math
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from actors import Line, Stage
from scenes import (
    LONG,
    SHORT,
    connections,
    granted,
    wait_until,
    wait_until_in_line,
)
from servers.postgresql import PostgreSQL

from portalocker import exceptions, utils
from portalocker.constants import LockFlags

postgres = pytest.importorskip('portalocker.postgres')

Make = Callable[..., Any]
SHARED = LockFlags.SHARED


def held_elsewhere(stage: Stage, lock: Any) -> Any:
    """Have a thread hold the lock until it is told."""

    def hold(line: Line) -> None:
        with lock:
            line.say('held')
            line.hear()

    thread = stage.thread(hold)
    thread.expect('held')
    return thread


def waiting_elsewhere(stage: Stage, lock: Any) -> Any:
    """Have a thread wait for the lock, and say when it holds."""

    def wait(line: Line) -> None:
        with lock:
            line.say('held')
            line.hear()

    return stage.thread(wait)


class TestExclusion:
    def test_second_holder_enters_when_first_left(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        first = held_elsewhere(stage, make())
        second = waiting_elsewhere(stage, make())
        wait_until_in_line(admin)
        assert granted(admin) == 1
        first.tell()
        second.expect('held')
        second.tell()

    def test_threads_of_one_object_exclude_each_other(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        lock = make()
        first = held_elsewhere(stage, lock)
        second = waiting_elsewhere(stage, lock)
        wait_until_in_line(admin)
        first.tell()
        second.expect('held')
        second.tell()

    def test_processes_exclude_each_other(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def body(line: Line) -> None:
            with make() as lock:
                line.say(lock.token)
                line.hear()

        first = stage.process(body)
        token = first.listen()
        second = stage.process(body)
        wait_until_in_line(admin)
        first.tell()
        first.finish()
        assert second.listen() > token
        second.tell()
        second.finish()

    def test_readers_come_in_together_and_keep_writers_out(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        readers = [held_elsewhere(stage, make(flags=SHARED)) for _ in range(2)]
        writer = waiting_elsewhere(stage, make())
        wait_until_in_line(admin)
        for reader in readers:
            reader.tell()
        writer.expect('held')
        with pytest.raises(exceptions.AlreadyLocked):
            make(flags=SHARED, timeout=0).acquire()
        writer.tell()

    def test_reader_does_not_pass_a_writer_that_waits(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        reader = held_elsewhere(stage, make(flags=SHARED))
        writer = waiting_elsewhere(stage, make())
        wait_until_in_line(admin)
        assert not make(flags=SHARED).try_acquire()
        reader.tell()
        writer.expect('held')
        writer.tell()

    def test_waiters_are_served_in_turn(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        holder = held_elsewhere(stage, make())
        waiters = []
        for number in range(4):
            waiters.append(waiting_elsewhere(stage, make()))
            wait_until_in_line(admin, number + 1)
        holder.tell()
        for waiter in waiters:
            waiter.expect('held')
            waiter.tell()

    def test_names_do_not_touch_each_other(self, make: Make) -> None:
        names = ['a', 'b', 'a-lock-b', '\u00e4 {x} \x01', 'x' * 10_000]
        locks = [make(name) for name in (*names, 1, (0, 1), (1, 0))]
        for lock in locks:
            assert lock.try_acquire()
        for lock in locks:
            lock.release()

    @pytest.mark.parametrize(
        ('name', 'call'),
        [
            (-7, 'pg_try_advisory_lock(-7)'),
            ((3, -4), 'pg_try_advisory_lock(3, -4)'),
            (
                'jobs',
                """pg_try_advisory_lock(CAST(CAST(
                'x' || left(encode(sha256('jobs'::bytea), 'hex'), 16)
                AS bit(64)) AS bigint))""",
            ),
        ],
    )
    def test_other_programs_take_part(
        self, make: Make, admin: Any, name: Any, call: str
    ) -> None:
        with make(name) as lock:
            lock.verify()
            assert len(lock.holders()) == 1
            assert admin.execute(f'SELECT {call}').fetchone() == (False,)
        assert admin.execute(f'SELECT {call}').fetchone() == (True,)
        assert not make(name).try_acquire()


class TestTimeout:
    @pytest.mark.parametrize('timeout', [0, -1, SHORT])
    def test_ends_with_the_holder_named(
        self, make: Make, stage: Stage, timeout: float
    ) -> None:
        held_elsewhere(stage, make())
        lock = make(timeout=timeout)
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            lock.acquire()
        assert caught.value.filename == 'jobs'
        assert caught.value.holder.pid == os.getpid()
        assert caught.value.holder.host == socket.gethostname()
        assert (caught.value.waited is None) == (timeout <= 0)
        assert f'pid {os.getpid()} on' in str(caught.value)

    def test_of_the_call_replaces_that_of_the_lock(
        self, make: Make, stage: Stage
    ) -> None:
        held_elsewhere(stage, make())
        with pytest.raises(exceptions.AlreadyLocked):
            make().acquire(timeout=SHORT)
        with pytest.raises(exceptions.AlreadyLocked):
            make().acquire(fail_when_locked=True)
        with pytest.raises(exceptions.AlreadyLocked):
            make(fail_when_locked=True).acquire()

    def test_may_be_infinite(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        holder = held_elsewhere(stage, make())
        waiter = waiting_elsewhere(stage, make(timeout=math.inf))
        wait_until_in_line(admin)
        holder.tell()
        waiter.expect('held')
        waiter.tell()

    def test_leaves_the_lock_usable(self, make: Make, stage: Stage) -> None:
        holder = held_elsewhere(stage, make())
        lock = make(timeout=SHORT)
        for _ in range(3):
            with pytest.raises(exceptions.AlreadyLocked):
                lock.acquire()
        holder.tell()
        lock.acquire(timeout=LONG)
        lock.release()

    def test_defaults_are_those_of_the_package(self) -> None:
        lock = postgres.PostgresLock('jobs')
        assert lock.timeout == utils.DEFAULT_TIMEOUT
        assert lock.fail_when_locked is False

    def test_that_is_no_number_is_refused(self, make: Make) -> None:
        with pytest.raises(ValueError, match='not a number'):
            make(timeout=math.nan)

    def test_roles_with_limits_wait_longer(
        self, make: Make, stage: Stage, admin: Any, server: PostgreSQL
    ) -> None:
        limits = [
            'statement_timeout',
            'lock_timeout',
            'idle_session_timeout',
            'idle_in_transaction_session_timeout',
        ]
        admin.execute('CREATE ROLE hasty LOGIN SUPERUSER')
        for name in limits:
            admin.execute(f"ALTER ROLE hasty SET {name} = '10s'")
        admin.execute('ALTER ROLE hasty SET default_transaction_read_only = 1')
        try:
            url = server.url.replace('postgres@', 'hasty@')
            with make(connection=url) as lock:
                (hold,) = lock._holdings.values()
                for name in limits:
                    ((value,),) = hold.session.run(f'SHOW {name}')
                    # how long a wait may last is as we say for each
                    is_ours = name == 'lock_timeout' and value != b'10s'
                    assert is_ours or value == b'0', name
        finally:
            postgres.close_idle()
            admin.execute('DROP ROLE hasty')


class TestWaiting:
    def test_sleeps_in_the_server(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        """One statement, however long: nobody polls."""
        held_elsewhere(stage, make())
        waiting_elsewhere(stage, make())
        (pid,) = wait_until_in_line(admin)
        query = (
            'SELECT wait_event_type, state, query_start '
            f'FROM pg_stat_activity WHERE pid = {pid}'
        )
        before = admin.execute(query).fetchone()
        assert before[:2] == ('Lock', 'active')
        admin.execute('SELECT pg_sleep(0.6)')  # two check_intervals
        assert admin.execute(query).fetchone() == before

    def test_killed_holder_lets_the_waiter_in(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def hold(line: Line) -> None:
            with make():
                line.say('held')
                line.hear()

        holder = stage.process(hold)
        holder.expect('held')
        waiter = waiting_elsewhere(stage, make())
        wait_until_in_line(admin)
        holder.kill()
        waiter.expect('held')
        waiter.tell()

    def test_killed_waiter_is_passed_over(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            line.say('here')
            make().acquire()

        holder = held_elsewhere(stage, make())
        dead = stage.process(wait)
        dead.expect('here')
        wait_until_in_line(admin, 1)
        waiter = waiting_elsewhere(stage, make())
        wait_until_in_line(admin, 2)
        dead.kill()
        holder.tell()
        waiter.expect('held')
        waiter.tell()

    def test_lost_connection_of_a_waiter_is_an_error(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        held_elsewhere(stage, make())

        def wait(line: Line) -> None:
            with pytest.raises(exceptions.LockException) as caught:
                make().acquire()
            line.say(str(caught.value))

        waiter = stage.thread(wait)
        (pid,) = wait_until_in_line(admin)
        admin.execute('SELECT pg_terminate_backend(%s)', (pid,))
        assert waiter.listen() == (
            "cannot lock 'jobs': terminating connection due to administrator "
            'command'
        )

    def test_cancelled_by_an_administrator_is_an_error(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        held_elsewhere(stage, make())

        def wait(line: Line) -> None:
            lock = make()
            with pytest.raises(exceptions.LockException, match='canceling'):
                lock.acquire()
            assert not lock.locked
            line.say('refused')

        waiter = stage.thread(wait)
        (pid,) = wait_until_in_line(admin)
        admin.execute('SELECT pg_cancel_backend(%s)', (pid,))
        waiter.expect('refused')


class TestDeadlock:
    def test_server_finds_threads_that_wait_for_each_other(
        self, make: Make, stage: Stage
    ) -> None:
        self.embrace(make, stage.thread, stage.thread)

    def test_server_finds_processes_that_wait_for_each_other(
        self, make: Make, stage: Stage
    ) -> None:
        self.embrace(make, stage.process, stage.process)

    @staticmethod
    def embrace(make: Make, *starts: Any) -> None:
        def body(mine: str, other: str) -> Callable[[Line], None]:
            def embrace(line: Line) -> None:
                with make(mine) as held:
                    line.say('held')
                    line.hear()
                    outcome = 'both'
                    try:
                        make(other).acquire()
                    except exceptions.DeadlockError as failure:
                        outcome = f'{failure.filename == other} {failure}'
                    held.verify()  # nothing else was lost
                    line.say(outcome)

            return embrace

        actors = [
            start(body(*names))
            for start, names in zip(starts, ('ab', 'ba'), strict=True)
        ]
        for actor in actors:
            actor.expect('held')
        for actor in actors:
            actor.tell()
        loser, winner = sorted(actor.listen() for actor in actors)
        assert loser.startswith('True cannot lock'), loser
        assert 'deadlock detected: Process' in loser
        assert winner == 'both'
        for actor in actors:
            actor.finish()

    def test_second_object_of_a_thread_does_not_wait_for_the_first(
        self, make: Make
    ) -> None:
        with make():
            with pytest.raises(exceptions.DeadlockError, match='this thread'):
                make().acquire()
            with pytest.raises(exceptions.DeadlockError):
                make(flags=SHARED).acquire()
            with pytest.raises(exceptions.AlreadyLocked):
                make(timeout=0).acquire()
            assert not make().try_acquire()

    def test_readers_of_one_thread_come_in_together(
        self, make: Make, stage: Stage
    ) -> None:
        with make(flags=SHARED):
            second = make(flags=SHARED).acquire()
            second.release()
            assert not self.is_free(make, stage)
        assert self.is_free(make, stage)

    @staticmethod
    def is_free(make: Make, stage: Stage) -> bool:
        def look(line: Line) -> None:
            lock = make()
            line.say(lock.try_acquire())
            lock.release()

        thread = stage.thread(look)
        is_free: bool = thread.listen()
        thread.finish()
        return is_free


class TestHold:
    def test_again_in_the_same_thread_is_refused(self, make: Make) -> None:
        with make() as lock:
            with pytest.raises(exceptions.AlreadyActive):
                lock.acquire()
            assert lock.try_acquire()
            assert lock.locked

    def test_release_without_a_hold_does_nothing(self, make: Make) -> None:
        lock = make()
        lock.release()
        with lock:
            pass
        lock.release()
        assert not lock.locked and not lock.lost

    def test_another_thread_may_release(
        self, make: Make, stage: Stage
    ) -> None:
        lock = make()

        def acquire(line: Line) -> None:
            lock.acquire()
            line.say('held')

        stage.thread(acquire).expect('held')
        assert lock.locked and lock.token
        lock.ensure_held()
        lock.release()
        assert not lock.locked
        assert make().try_acquire()

    def test_another_thread_may_release_while_the_holder_waits(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        """Both locks are in one session, and that sleeps in the server."""
        first = make('first')

        def acquire_both(line: Line) -> None:
            first.acquire()
            line.say('first')
            with make('second'):
                line.say('second')

        second = held_elsewhere(stage, make('second'))
        holder = stage.thread(acquire_both)
        holder.expect('first')
        wait_until_in_line(admin)
        first.verify()
        wait_until_in_line(admin)
        first.release()
        wait_until_in_line(admin)
        with make('first'):
            second.tell()
            holder.expect('second')

    def test_others_come_in_between_at_whatever_moment_of_the_wait(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        """Also where the holder is just about to wait again."""
        first = make('first')

        def acquire_both(line: Line) -> None:
            first.acquire()
            with make('second'):
                line.say('second')

        second = held_elsewhere(stage, make('second'))
        holder = stage.thread(acquire_both)
        wait_until_in_line(admin)
        for _ in range(50):
            first.verify()
        first.release()
        with make('first'):
            second.tell()
            holder.expect('second')

    def test_thread_that_came_in_vain_releases_nobody(
        self, make: Make, stage: Stage
    ) -> None:
        lock = make()
        held_elsewhere(stage, lock)
        assert not lock.try_acquire()
        lock.release()
        assert lock.locked

    def test_lock_that_nobody_refers_to_is_let_go(
        self, make: Make, admin: Any
    ) -> None:
        make().acquire()
        wait_until(lambda: not granted(admin))
        with make('other'):
            make().acquire()
            wait_until(lambda: granted(admin) == 1)

    def test_ensure_held_without_a_hold_is_an_error(self, make: Make) -> None:
        for check in (make().ensure_held, make().verify):
            with pytest.raises(exceptions.LockException, match='not held'):
                check()


class TestWho:
    def test_holders_and_waiters_are_told(
        self, make: Make, stage: Stage, admin: Any
    ) -> None:
        def wait(line: Line) -> None:
            with make(flags=SHARED):
                line.say('held')

        lock = make()
        assert lock.holders() == lock.waiters() == ()
        before = self.now(admin)
        with lock:
            waiter = stage.process(wait)
            wait_until_in_line(admin)
            (holder,) = lock.holders()
            (waiting,) = lock.waiters()
        waiter.expect('held')
        assert (holder.pid, holder.shared) == (os.getpid(), False)
        assert (waiting.pid, waiting.shared) == (waiter.pid, True)
        assert holder.host == waiting.host == socket.gethostname()
        assert before <= holder.since <= waiting.since <= self.now(admin)

    def test_name_of_the_application_is_the_label(
        self, make: Make, server: PostgreSQL
    ) -> None:
        url = f'{server.url}?application_name=nightly'
        with make(connection=url) as lock:
            (holder,) = lock.holders()
        assert (holder.label, holder.pid) == ('nightly', os.getpid())

    def test_strangers_are_named_as_far_as_they_are_known(
        self, make: Make, server: PostgreSQL
    ) -> None:
        with server.connect(application_name='psql') as stranger:
            stranger.execute('SELECT pg_advisory_lock_shared(5)')
            (holder,) = make(5).holders()
        assert (holder.pid, holder.host) == (0, '127.0.0.1')
        assert (holder.label, holder.shared) == ('psql', True)

    @staticmethod
    def now(admin: Any) -> float:
        (now,) = admin.execute(
            "SELECT date_part('epoch', clock_timestamp())"
        ).fetchone()
        return float(now)


class TestConnections:
    def test_locks_of_a_thread_share_one(self, make: Make, admin: Any) -> None:
        locks = [make(str(number)) for number in range(10)]
        for lock in locks:
            lock.acquire()
        assert connections(admin) == 1
        assert granted(admin) == 10
        for lock in locks:
            lock.release()
        assert granted(admin) == 0

    def test_is_used_again(self, make: Make, admin: Any) -> None:
        with make() as lock:
            (first,) = {h.session for h in lock._holdings.values()}
        with make('other') as lock:
            assert {h.session for h in lock._holdings.values()} == {first}
        assert connections(admin) == 1

    def test_close_idle_closes_what_holds_nothing(
        self, make: Make, admin: Any
    ) -> None:
        with make() as lock:
            postgres.close_idle()
            lock.verify()
        postgres.close_idle()
        wait_until(lambda: connections(admin) == 0)
        with make():
            pass

    def test_is_closed_when_it_was_idle_for_long(
        self, make: Make, admin: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from portalocker import _postgres_watch

        monkeypatch.setattr(_postgres_watch, 'IDLE_SECONDS', SHORT)
        with make('held') as lock:
            with make():
                pass
            wait_until(lambda: connections(admin) == 1)
            lock.verify()
        wait_until(lambda: connections(admin) == 0)

    def test_may_be_given_as_parts_or_made_by_a_function(
        self, make: Make, server: PostgreSQL, stage: Stage
    ) -> None:
        parts = {
            'host': '127.0.0.1',
            'port': server.port,
            'user': 'postgres',
            'dbname': 'postgres',
        }
        for source in (parts, server.connect):
            with make(connection=source) as lock:
                lock.verify()

    def test_name_and_connection_are_checked(self, make: Make) -> None:
        for name, error in (
            ('', ValueError),
            (True, TypeError),
            (1.5, TypeError),
            (None, TypeError),
            ((1, 2, 3), TypeError),
            (1 << 63, ValueError),
            ((1 << 31, 0), ValueError),
        ):
            with pytest.raises(error, match='cannot lock'):
                make(name)
        with pytest.raises(TypeError, match='cannot connect'):
            make(connection=5)
        for flags in (LockFlags.NON_BLOCKING, 0):
            with pytest.raises(RuntimeError, match='cannot lock'):
                make(flags=flags)

    def test_connection_of_the_caller_is_refused(
        self, make: Make, admin: Any
    ) -> None:
        with pytest.raises(TypeError, match='transaction_lock'):
            make(connection=admin)

    def test_server_that_is_not_there_is_an_error_at_once(
        self, make: Make
    ) -> None:
        with socket.create_server(('127.0.0.1', 0)) as unused:
            port = unused.getsockname()[1]
        url = f'postgresql://me:secret@127.0.0.1:{port}/app'
        with pytest.raises(
            exceptions.LockException, match='refused'
        ) as caught:
            make(connection=url).acquire()
        assert 'secret' not in str(caught.value)

    def test_conninfo_that_makes_no_sense_is_an_error(
        self, make: Make
    ) -> None:
        with pytest.raises(exceptions.LockException, match='cannot connect'):
            make(connection='nonsense=1').acquire()

    def test_wrong_database_is_an_error(
        self, make: Make, server: PostgreSQL
    ) -> None:
        with pytest.raises(exceptions.LockException, match='does not exist'):
            make(connection=f'{server.url}_not').acquire()


def test_copies_hold_nothing(make: Make) -> None:
    with make() as lock:
        for copied in (copy.copy(lock), pickle.loads(pickle.dumps(lock))):
            assert not copied.locked and copied.token is None
            copied.release()
            assert not copied.try_acquire()
            assert copied.key == lock.key
        lock.verify()


def test_client_that_is_missing_is_named() -> None:
    program = (
        'import sys; sys.modules["psycopg"] = None; '
        'import portalocker.postgres'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 'pip install "portalocker[postgres]"' in done.stderr
