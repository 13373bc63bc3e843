"""A lock that lives as long as a transaction of the caller."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors import Line, Stage
from scenes import SHORT, granted, wait_until_in_line
from servers.postgresql import PostgreSQL

from portalocker import exceptions
from portalocker.constants import LockFlags

psycopg = pytest.importorskip('psycopg')
transaction_lock = pytest.importorskip('portalocker.postgres').transaction_lock

Make = Callable[..., Any]


@pytest.fixture
def mine(server: PostgreSQL) -> Iterator[Any]:
    with psycopg.connect(server.url) as connection:
        yield connection
        if not connection.closed:
            connection.rollback()


@pytest.mark.parametrize('end', ['commit', 'rollback', 'close'])
def test_is_let_go_with_the_transaction(
    make: Make, mine: Any, end: str
) -> None:
    transaction_lock(mine, 'jobs')
    assert not make().try_acquire()
    getattr(mine, end)()
    with make():
        pass


def test_is_let_go_with_a_block_on_a_connection_that_commits_itself(
    make: Make, mine: Any
) -> None:
    mine.autocommit = True
    with mine.transaction():
        transaction_lock(mine, 'jobs')
        assert not make().try_acquire()
    lock = make()
    assert lock.try_acquire()
    lock.release()


def test_is_refused_without_a_transaction(mine: Any, admin: Any) -> None:
    mine.autocommit = True
    with pytest.raises(exceptions.LockException, match='let go at once'):
        transaction_lock(mine, 'jobs')
    mine.autocommit = False
    with pytest.raises(psycopg.Error):
        mine.execute('SELECT 1/0')
    with pytest.raises(exceptions.LockException, match='roll it back'):
        transaction_lock(mine, 'jobs')
    mine.close()
    with pytest.raises(exceptions.LockException, match='closed'):
        transaction_lock(mine, 'jobs')
    with pytest.raises(TypeError, match='no psycopg'):
        transaction_lock('dbname=app', 'jobs')
    assert not granted(admin)


def test_readers_share(mine: Any, make: Make) -> None:
    transaction_lock(mine, 'jobs', flags=LockFlags.SHARED)
    lock = make(flags=LockFlags.SHARED)
    assert lock.try_acquire()
    lock.release()
    assert not make().try_acquire()


@pytest.mark.parametrize('name', [7, (1, -2)])
def test_numbers_are_names_too(mine: Any, make: Make, name: Any) -> None:
    transaction_lock(mine, name)
    assert not make(name).try_acquire()


@pytest.mark.parametrize(
    'options',
    [{'timeout': 0}, {'timeout': SHORT}, {'fail_when_locked': True}],
)
def test_contention_leaves_the_transaction_whole(
    mine: Any, make: Make, options: dict[str, Any]
) -> None:
    mine.execute('CREATE TEMPORARY TABLE work (n int)')
    mine.execute("SET LOCAL lock_timeout = '7s'")
    with make():
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            transaction_lock(mine, 'jobs', **options)
        assert caught.value.filename == 'jobs'
        assert (caught.value.waited is not None) == (
            options == {'timeout': SHORT}
        )
    mine.execute('INSERT INTO work VALUES (1)')
    assert mine.execute('SHOW lock_timeout').fetchone() == ('7s',)
    transaction_lock(mine, 'jobs', **options)


def test_waiter_is_woken_and_keeps_its_lock_timeout(
    mine: Any, make: Make, stage: Stage, admin: Any
) -> None:
    def wait(line: Line) -> None:
        mine.execute("SET LOCAL lock_timeout = '7s'")
        transaction_lock(mine, 'jobs', timeout=60)
        line.say(mine.execute('SHOW lock_timeout').fetchone())

    with make():
        waiter = stage.thread(wait)
        wait_until_in_line(admin)
    assert waiter.listen() == ('7s',)
    assert not make().try_acquire()


def test_rows_of_the_connection_may_be_dictionaries(
    server: PostgreSQL, make: Make, stage: Stage, admin: Any
) -> None:
    def wait(line: Line) -> None:
        with psycopg.connect(
            server.url, row_factory=psycopg.rows.dict_row
        ) as connection:
            transaction_lock(connection, 'jobs', timeout=60)
            line.say('held')

    with make():
        waiter = stage.thread(wait)
        wait_until_in_line(admin)
    waiter.expect('held')


def test_deadlock_with_the_callers_own_rows_is_found(
    mine: Any, make: Make, stage: Stage, server: PostgreSQL, admin: Any
) -> None:
    admin.execute('CREATE TABLE accounts (id int)')
    admin.execute('INSERT INTO accounts VALUES (1)')

    def other(line: Line) -> None:
        with psycopg.connect(server.url) as connection:
            connection.execute('SELECT * FROM accounts FOR UPDATE')
            line.say('row')
            line.hear()
            try:
                transaction_lock(connection, 'jobs', timeout=60)
            except exceptions.DeadlockError:
                connection.execute('SELECT 1')  # it can go on
                line.say('deadlock')
            else:
                line.say('both')

    try:
        transaction_lock(mine, 'jobs')
        thread = stage.thread(other)
        thread.expect('row')
        thread.tell()
        wait_until_in_line(admin)
        try:
            mine.execute('SELECT * FROM accounts FOR UPDATE')
            outcome = 'both'
        except psycopg.errors.DeadlockDetected:
            outcome = 'deadlock'
        mine.rollback()
        assert {outcome, thread.listen()} == {'both', 'deadlock'}
        thread.finish()
    finally:
        admin.execute('DROP TABLE accounts')


def test_ctrl_c_ends_the_wait(
    make: Make, stage: Stage, server: PostgreSQL, admin: Any
) -> None:
    def wait(line: Line) -> None:
        with psycopg.connect(server.url) as connection:
            with pytest.raises(KeyboardInterrupt):
                transaction_lock(connection, 'jobs', timeout=60)
            connection.rollback()
            transaction_lock(connection, 'other')
            line.say('interrupted')

    with make():
        waiter = stage.process(wait)
        wait_until_in_line(admin)
        waiter.signal(signal.SIGINT)
        waiter.expect('interrupted')
    waiter.finish()
