"""What stands in the way: poolers and standbys are refused, and said so."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

import engines
import pytest
from actors import Line, Stage
from scenes import close_everything, granted, wait_until, wait_until_in_line
from servers.pgbouncer import PgBouncer
from servers.postgresql import CannotStart, PostgreSQL

from portalocker import exceptions

pytest.importorskip('portalocker.postgres')
Make = Callable[..., Any]


@pytest.fixture
def pooler(
    request: pytest.FixtureRequest, server: PostgreSQL
) -> Iterator[PgBouncer]:
    """A pooler in the mode that the test gives as a parameter."""
    try:
        pooler = PgBouncer(server, request.param)
    except CannotStart as error:
        engines.is_missing(request, 'pgbouncer', str(error))
    engines.has_run(request, f'pgbouncer {pooler.version}')
    with pooler:
        yield pooler
        close_everything()


@pytest.mark.parametrize('pooler', ['transaction', 'session'], indirect=True)
def test_pooler_is_refused(make: Make, pooler: PgBouncer, admin: Any) -> None:
    with pytest.raises(exceptions.LockException, match='pooler'):
        make(connection=pooler.url).acquire()
    assert not granted(admin)


@pytest.mark.parametrize('pooler', ['session'], indirect=True)
def test_session_pooler_is_taken_at_its_word(
    make: Make, pooler: PgBouncer, stage: Stage, admin: Any
) -> None:
    options = {'connection': pooler.url, 'session_pooler': True}

    def wait(line: Line) -> None:
        with make(**options) as lock:
            lock.verify()
            line.say('held')

    with make(**options) as lock:
        lock.verify()
        waiter = stage.thread(wait)
        wait_until_in_line(admin)
    waiter.expect('held')


@pytest.mark.parametrize('pooler', ['session'], indirect=True)
def test_end_of_a_session_pooler_is_a_loss(
    make: Make, pooler: PgBouncer
) -> None:
    lock = make(connection=pooler.url, session_pooler=True).acquire()
    pooler.end(signal.SIGKILL)
    wait_until(lambda: lock.lost)
    with pytest.raises(exceptions.LockLostError):
        lock.release()


@pytest.mark.parametrize('pooler', ['transaction'], indirect=True)
def test_transaction_lock_holds_behind_a_transaction_pooler(
    make: Make, pooler: PgBouncer, admin: Any
) -> None:
    import psycopg

    from portalocker.postgres import transaction_lock

    with psycopg.connect(pooler.url) as first:
        transaction_lock(first, 'jobs')
        with (
            psycopg.connect(pooler.url) as second,
            pytest.raises(exceptions.AlreadyLocked),
        ):
            transaction_lock(second, 'jobs', timeout=0)
        assert not make(timeout=0).try_acquire()
        first.commit()
        assert not granted(admin)
        transaction_lock(first, 'jobs')


@pytest.fixture
def standby(server: PostgreSQL) -> Iterator[PostgreSQL]:
    with contextlib.closing(_Standby(server)) as standby:
        yield standby
        close_everything()


class _Standby(PostgreSQL):
    """A copy that follows another server."""

    def __init__(self, primary: PostgreSQL) -> None:
        self._primary = primary
        super().__init__(hot_standby='on')

    def create(self) -> None:
        self.run(
            self.programs / 'pg_basebackup', '-D', self.data, '-R', '-X',
            'stream', '-c', 'fast', '-h', '127.0.0.1', '-p',
            self._primary.port, '-U', 'postgres',
        )  # fmt: skip

    def close(self) -> None:
        self.stop()


def test_standby_is_refused(make: Make, standby: PostgreSQL) -> None:
    with pytest.raises(exceptions.LockException, match='primary'):
        make(connection=standby.url).acquire()
