"""Every hold has a larger token than all before it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors import Line, Stage
from scenes import (
    close_everything,
    granted,
    wait_until,
    wait_until_in_line,
)
from servers.postgresql import PostgreSQL

from portalocker import exceptions, fencing
from portalocker.constants import LockFlags

psycopg = pytest.importorskip('psycopg')
pytest.importorskip('portalocker.postgres')

Make = Callable[..., Any]
SEQUENCE = 'public.portalocker_tokens'


def test_tokens_grow_over_locks_and_threads(make: Make, stage: Stage) -> None:
    tokens = []

    def draw(line: Line) -> None:
        for _ in range(20):
            with make() as lock:
                tokens.append(lock.token)

    threads = [stage.thread(draw) for _ in range(3)]
    for thread in threads:
        thread.finish()
    assert len(tokens) == 60
    assert tokens == sorted(set(tokens))
    with make('other') as other, make(flags=LockFlags.SHARED) as reader:
        assert tokens[-1] < other.token < reader.token


def test_token_is_drawn_after_the_grant(
    make: Make, stage: Stage, admin: Any
) -> None:
    def wait(line: Line) -> None:
        with make() as lock:
            line.say(lock.token)

    with make():
        waiter = stage.thread(wait)
        wait_until_in_line(admin)
        with make('other') as other:
            later = other.token
    assert waiter.listen() > later


def test_token_is_a_time_that_fits_a_double(make: Make) -> None:
    with make() as lock:
        assert abs(lock.token / 1e6 - time.time()) < 3600
        assert lock.token < 2**53


def test_token_is_gone_with_the_hold(make: Make) -> None:
    lock = make()
    assert lock.token is None
    with lock:
        assert isinstance(lock.token, int)
    assert lock.token is None


def test_no_token_where_none_is_wanted(make: Make, admin: Any) -> None:
    with make(fence=False) as lock:
        assert lock.token is None
        assert lock.locked
        assert granted(admin) == 1


def test_sequence_of_ones_own(make: Make, admin: Any) -> None:
    admin.execute('CREATE SCHEMA locks')
    try:
        with make(token_sequence='locks.tokens') as lock:
            first = lock.token
        with make(token_sequence='locks.tokens') as lock:
            assert lock.token == first + 1
    finally:
        admin.execute('DROP SCHEMA locks CASCADE')


@pytest.mark.parametrize('name', ['Tokens', 'a.b.c', "x'; --", '', '1a'])
def test_names_that_need_quotes_are_refused(make: Make, name: str) -> None:
    with pytest.raises(ValueError, match='cannot draw tokens'):
        make(token_sequence=name)


def test_sequence_that_is_dropped_is_an_error_and_nothing_is_held(
    make: Make, admin: Any
) -> None:
    lock = make(token_sequence='public.short_lived')
    with lock:
        pass
    admin.execute('DROP SEQUENCE public.short_lived')
    with make('other') as other:
        with pytest.raises(exceptions.LockException, match='cannot lock'):
            lock.acquire()
        assert not lock.locked
        assert granted(admin) == 1
        other.verify()
    close_everything()
    with lock:
        assert lock.token
    admin.execute('DROP SEQUENCE public.short_lived')


@pytest.fixture
def crashing_server(server: PostgreSQL) -> Iterator[PostgreSQL]:
    with PostgreSQL(fsync='on', synchronous_commit='off') as own:
        yield own
        close_everything()


def test_crash_of_the_server_forgets_no_token(
    make: Make, crashing_server: PostgreSQL
) -> None:
    lock = make(connection=crashing_server.url)
    last = 0
    for _ in range(3):
        for _ in range(40):  # more than the server sets aside at once
            lock.acquire()
            assert lock.token > last
            last = lock.token
            lock.release()
        crashing_server.halt(signal.SIGQUIT)
        crashing_server.start()


def test_sequence_that_fell_behind_is_raised_to_the_clock(
    make: Make, admin: Any
) -> None:
    """As after a backup, or a failover, that lost the last tokens."""
    with make() as lock:
        last = lock.token
    close_everything()
    admin.execute(f"SELECT setval('{SEQUENCE}', 1000)")
    with make() as lock:
        assert lock.token > last


def test_role_that_may_not_create_is_told_what_to_say(
    make: Make, admin: Any, server: PostgreSQL
) -> None:
    admin.execute('CREATE ROLE poor LOGIN')
    admin.execute('CREATE SCHEMA locks')
    url = server.url.replace('postgres@', 'poor@')
    options = {'connection': url, 'token_sequence': 'locks.tokens'}
    try:
        with pytest.raises(
            exceptions.LockException,
            match=r'permission denied.*CREATE SEQUENCE.*locks\.tokens.*GRANT',
        ):
            make(**options).acquire()
        with make(**options, fence=False) as lock:
            lock.verify()
        admin.execute('GRANT USAGE ON SCHEMA locks TO poor')
        admin.execute('CREATE SEQUENCE locks.tokens START 77')
        with pytest.raises(exceptions.LockException, match='permission'):
            make(**options).acquire()
        admin.execute('GRANT USAGE ON SEQUENCE locks.tokens TO poor')
        with make(**options) as lock:
            assert lock.token == 77  # it may draw, and may not set
        close_everything()
        admin.execute('GRANT ALL ON SEQUENCE locks.tokens TO poor')
        with make(**options) as lock:
            assert lock.token > 10**15
    finally:
        close_everything()
        admin.execute('DROP SCHEMA locks CASCADE')
        admin.execute('DROP ROLE poor')


class TestGuardOfARow:
    """`fencing.fenced_sql` by psycopg, whose placeholder is %s."""

    @pytest.fixture
    def row(self, server: PostgreSQL) -> Iterator[str]:
        assignment, condition = fencing.fenced_sql(
            'public.report', placeholder='%s'
        )
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute('CREATE TABLE report (n int, fence bigint)')
            connection.execute('INSERT INTO report VALUES (0, NULL)')
            yield (
                f'UPDATE public.report SET n = %s, {assignment} '
                f'WHERE {condition}'
            )
            connection.execute('DROP TABLE report')

    def test_larger_and_equal_tokens_write(
        self, server: PostgreSQL, row: str
    ) -> None:
        with psycopg.connect(server.url) as connection:
            counts = [
                connection.execute(row, (n, token, token)).rowcount
                for n, token in ((1, 2**53), (2, 2**53), (3, 5), (4, 2**62))
            ]
            found = connection.execute('SELECT * FROM report').fetchall()
        assert counts == [1, 1, 0, 1]
        assert found == [(4, 2**62)]

    def test_older_holder_that_waits_for_the_newer_is_refused(
        self, server: PostgreSQL, row: str, stage: Any, admin: Any
    ) -> None:
        """It began to write first, and reads the row again."""

        def write_late(line: Any) -> None:
            with psycopg.connect(server.url) as connection:
                line.say(str(connection.execute(row, (1, 7, 7)).rowcount))

        with psycopg.connect(server.url) as newer:
            assert newer.execute(row, (2, 9, 9)).rowcount == 1
            late = stage.thread(write_late)
            wait_until(
                lambda: admin.execute(
                    'SELECT 1 FROM pg_locks WHERE NOT granted'
                ).fetchone()
            )
            newer.commit()
            late.expect('0')
            late.finish()
            assert newer.execute('SELECT n FROM report').fetchone() == (2,)

    def test_missing_table_is_an_error_of_the_database(
        self, server: PostgreSQL
    ) -> None:
        assignment, condition = fencing.fenced_sql('nowhere', placeholder='%s')
        with (
            psycopg.connect(server.url) as connection,
            pytest.raises(psycopg.errors.UndefinedTable),
        ):
            connection.execute(
                f'UPDATE nowhere SET {assignment} WHERE {condition}', (1, 1)
            )
