"""What the laws of all locks do not say of waits on PostgreSQL."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenes import (
    SHORT,
    granted,
    in_line,
    sessions_of,
    wait_until,
    wait_until_in_line,
)
from servers.postgresql import PostgreSQL

from portalocker import exceptions, wait_counters

psycopg = pytest.importorskip('psycopg')
postgres = pytest.importorskip('portalocker.postgres')

Make = Callable[..., Any]
IN_TRANSACTION = 'portalocker.transaction_lock'


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    wait_counters.enable()
    yield
    wait_counters.disable()


def counts(name: str) -> dict[str, int]:
    """What is counted, without seconds."""
    found = wait_counters.WaitCounter(name).snapshot().as_dict()
    words = (
        *('active', 'started', 'timeouts'),
        *('cancelled', 'errors', 'contended'),
    )
    return {word: found[word] for word in words}


class Since:
    """What was counted since a moment, where nothing else is not zero."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._before = counts(name)

    def __call__(self) -> dict[str, int]:
        now = counts(self._name)
        differences = {w: now[w] - self._before[w] for w in now}
        return {word: n for word, n in differences.items() if n}


def in_background(stage: Any, acquire: Callable[[], Any]) -> Any:
    def body(line: Any) -> None:
        try:
            acquire()
        except exceptions.LockException as failure:
            line.say(repr(failure))
        else:
            line.say('held')
        line.hear()

    return stage.thread(body)


def test_kinds_have_names(make: Make) -> None:
    entered = Since('portalocker.PostgresLock.enter')
    region = Since('portalocker.PostgresLock.region')
    with make():
        assert entered() == {'started': 1}
        assert region() == {'started': 1, 'active': 1}
    assert region() == {'started': 1}


def test_deadlock_is_an_error(make: Make) -> None:
    entered = Since('portalocker.PostgresLock.enter')
    with make(), pytest.raises(exceptions.DeadlockError):
        make().acquire()
    assert entered() == {'started': 2, 'errors': 1}


def test_server_that_cannot_be_reached_is_an_error(make: Make) -> None:
    entered = Since('portalocker.PostgresLock.enter')
    lock = make(connection='host=127.0.0.1 port=1 user=nobody')
    with pytest.raises(exceptions.LockException):
        lock.acquire()
    assert entered() == {'started': 1, 'errors': 1}


def test_wait_in_a_second_session_is_the_same_wait(
    make: Make, admin: Any, stage: Any
) -> None:
    """The first one ended meanwhile."""
    entered = Since('portalocker.PostgresLock.enter')
    holder = make().acquire()
    waiting = make()

    def acquire() -> None:
        make('another').acquire().release()  # the session has served
        waiting.acquire()

    thread = in_background(stage, acquire)
    (first,) = wait_until_in_line(admin)
    assert entered() == {'started': 3, 'active': 1, 'contended': 1}
    admin.execute('SELECT pg_terminate_backend(%s)', (first,))
    wait_until(lambda: in_line(admin) not in ([], [first]))
    assert entered() == {'started': 3, 'active': 1, 'contended': 1}
    holder.release()
    thread.expect('held')
    assert entered() == {'started': 3, 'contended': 1}
    waiting.release()
    thread.tell()
    thread.finish()


def test_interjection_is_no_wait_of_its_own(
    make: Make, admin: Any, stage: Any
) -> None:
    """Who waits steps aside while a hold of the session is verified."""
    entered = Since('portalocker.PostgresLock.enter')
    holder, beside, waiting = make().acquire(), make('beside'), make()

    def acquire() -> None:
        beside.acquire()
        waiting.acquire()

    thread = in_background(stage, acquire)
    wait_until_in_line(admin)
    for _ in range(10):
        beside.verify()
    assert entered() == {'started': 3, 'active': 1, 'contended': 1}
    holder.release()
    thread.expect('held')
    waiting.release()
    beside.release()
    thread.tell()
    thread.finish()


def test_release_by_another_thread_before_acquire_is_told_ends_the_region(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = Since('portalocker.PostgresLock.enter')
    region = Since('portalocker.PostgresLock.region')
    lock = make()
    acquire = lock._acquire

    def released_meanwhile(*wish: Any) -> Any:
        hold = acquire(*wish)
        lock.release()
        return hold

    monkeypatch.setattr(lock, '_acquire', released_meanwhile)
    lock.acquire()
    assert entered() == region() == {'started': 1}


class TestInTransaction:
    """The server ends such a hold: only the way in is counted."""

    @pytest.fixture
    def mine(self, server: PostgreSQL) -> Iterator[Any]:
        with psycopg.connect(server.url) as connection:
            yield connection
            connection.rollback()

    def test_free(self, mine: Any) -> None:
        entered = Since(IN_TRANSACTION + '.enter')
        region = Since(IN_TRANSACTION + '.region')
        postgres.transaction_lock(mine, 'jobs')
        assert entered() == {'started': 1}
        assert region() == {}

    def test_contended(
        self, mine: Any, make: Make, admin: Any, stage: Any
    ) -> None:
        entered = Since(IN_TRANSACTION + '.enter')
        lock = make().acquire()
        thread = in_background(
            stage, lambda: postgres.transaction_lock(mine, 'jobs', 60)
        )
        wait_until_in_line(admin)
        assert entered() == {'started': 1, 'active': 1, 'contended': 1}
        lock.release()
        thread.expect('held')
        assert entered() == {'started': 1, 'contended': 1}
        thread.tell()
        thread.finish()

    def test_out_of_time(self, mine: Any, make: Make) -> None:
        entered = Since(IN_TRANSACTION + '.enter')
        with make():
            for wish in ({'timeout': SHORT}, {'fail_when_locked': True}):
                with pytest.raises(exceptions.AlreadyLocked):
                    postgres.transaction_lock(mine, 'jobs', **wish)
        assert entered() == {'started': 2, 'timeouts': 2, 'contended': 2}

    def test_error(self, mine: Any) -> None:
        entered = Since(IN_TRANSACTION + '.enter')
        mine.autocommit = True
        with pytest.raises(exceptions.LockException):
            postgres.transaction_lock(mine, 'jobs')
        assert entered() == {'started': 1, 'errors': 1}


class TestTasks:
    @pytest.fixture(params=['asyncio', 'trio'])
    def run(self, request: pytest.FixtureRequest) -> Callable[..., Any]:
        anyio = pytest.importorskip('anyio')
        if request.param == 'trio':
            pytest.importorskip('trio')
        return functools.partial(anyio.run, backend=request.param)

    @pytest.fixture
    def of(self, server: PostgreSQL) -> Callable[..., Any]:
        from portalocker.aio.postgres import AsyncPostgresLock

        return lambda name='jobs': AsyncPostgresLock(name, server.url, 60)

    def test_cancelled_wait(
        self, run: Any, of: Any, make: Make, admin: Any
    ) -> None:
        import anyio

        entered = Since('portalocker.AsyncPostgresLock.enter')
        region = Since('portalocker.AsyncPostgresLock.region')

        async def main() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(of().acquire)
                await anyio.to_thread.run_sync(wait_until_in_line, admin)
                seen = {'started': 1, 'active': 1, 'contended': 1}
                assert entered() == seen
                group.cancel_scope.cancel()

        with make():
            run(main)
        assert entered() == {'started': 1, 'cancelled': 1, 'contended': 1}
        assert region() == {}
        assert not granted(admin)

    def test_cancelled_after_the_grant_is_no_hold(
        self, run: Any, of: Any, admin: Any
    ) -> None:
        """It is given back before anybody has it."""
        import anyio

        entered = Since('portalocker.AsyncPostgresLock.enter')
        region = Since('portalocker.AsyncPostgresLock.region')

        async def main() -> None:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await of().acquire()

        run(main)
        assert entered() == {'started': 1, 'cancelled': 1}
        assert region() == {}
        assert not granted(admin)

    def test_hold_that_is_there_is_no_error_of_a_try(
        self, run: Any, of: Any
    ) -> None:
        entered = Since('portalocker.AsyncPostgresLock.enter')

        async def main() -> None:
            async with of() as lock:
                assert await lock.try_acquire()

        run(main)
        assert entered() == {'started': 1}

    def test_in_transaction(
        self, server: PostgreSQL, make: Make, admin: Any
    ) -> None:
        import asyncio

        from portalocker.aio.postgres import transaction_lock

        entered = Since(IN_TRANSACTION + '.enter')
        region = Since(IN_TRANSACTION + '.region')

        async def main() -> None:
            connect = psycopg.AsyncConnection.connect
            async with await connect(server.url) as mine:
                await transaction_lock(mine, 'free')
                assert entered() == {'started': 1}
                waiting = asyncio.ensure_future(
                    transaction_lock(mine, 'jobs', 60)
                )
                await asyncio.to_thread(wait_until_in_line, admin)
                assert entered()['active'] == 1
                waiting.cancel()
                await asyncio.wait([waiting])
                with pytest.raises(exceptions.AlreadyLocked):
                    await transaction_lock(mine, 'jobs', SHORT)

        with make() as holder:
            assert list(sessions_of(holder))
            asyncio.run(main())
        assert entered() == {
            'started': 3,
            'contended': 2,
            'cancelled': 1,
            'timeouts': 1,
        }
        assert region() == {}
