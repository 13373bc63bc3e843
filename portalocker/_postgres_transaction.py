"""A lock in the transaction of the caller's own connection."""

from __future__ import annotations

import contextlib
import time

import psycopg
import psycopg.rows

from . import (
    _listening,
    _lock_request,
    _postgres_sql,
    _postgres_wire,
    constants,
    exceptions,
    utils,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Any

    #: a statement and its parameters
    Words = tuple[bytes, tuple[Any, ...]]
    Plan = Generator[Words, Any, None]


def transaction_lock(
    connection: psycopg.Connection[Any],
    name: _postgres_sql.Name,
    timeout: float | None = None,
    fail_when_locked: bool = False,
    *,
    flags: constants.LockFlags = constants.LockFlags.EXCLUSIVE,
) -> None:
    """Take a lock in the transaction of the caller's own connection.

    The server lets it go at the end of the transaction: there is nothing to
    release, and nothing that could be lost before. It excludes, and is
    excluded by, a `PostgresLock` of the same name, and works behind a
    transaction pooler too.

    Waits for `timeout` seconds at most (None: `utils.DEFAULT_TIMEOUT`), then
    raises `AlreadyLocked`, or at once where `fail_when_locked`. Raises
    `DeadlockError` where the server found that we wait for ourselves, and
    `LockException` where the connection has no transaction to hold it. In
    each case the transaction can go on. Wait counters know it as
    portalocker.transaction_lock.enter.

    >>> with psycopg.connect() as connection:  # doctest: +SKIP
    ...     transaction_lock(connection, 'nightly')
    ...     connection.execute('UPDATE reports SET done = true')
    """
    if not isinstance(connection, psycopg.Connection):
        raise TypeError(
            f'cannot lock in {connection!r}: it is no psycopg.Connection'
        )
    seconds = utils.coalesce(timeout, utils.DEFAULT_TIMEOUT)
    wish = connection, name, 0.0 if fail_when_locked else seconds, flags
    phases_of = _listening.listener
    if phases_of is None:
        _lock_in(connection, plan_of(*wish, None))
        return
    counted = phases_of(InTransaction)
    with _listening.Acquiring(counted) as acquiring:
        _lock_in(connection, plan_of(*wish, counted))
        acquiring.holds(None)  # the server knows when it ends


class InTransaction:
    """What is counted as `transaction_lock()`, of either colour."""

    counter_name = 'portalocker.transaction_lock'


def _lock_in(connection: psycopg.Connection[Any], plan: Plan) -> None:
    with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        try:
            words = next(plan)
            while True:
                try:
                    cursor.execute(*words, prepare=False)
                    row = cursor.fetchone() if cursor.description else None
                except BaseException as error:  # noqa: BLE001 - the plan's
                    words = plan.throw(error)
                else:
                    words = plan.send(row)
        except StopIteration:
            return


def _check_transaction(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    name: object,
) -> None:
    states = psycopg.pq.TransactionStatus
    status = connection.info.transaction_status
    cause = None
    if connection.closed:
        cause = 'the connection is closed'
    elif status == states.INERROR:
        cause = 'the transaction has failed: roll it back first'
    elif status == states.IDLE and connection.autocommit:
        cause = (
            'without a transaction it would be let go at once; use '
            '`with connection.transaction():`'
        )
    if cause is not None:
        raise exceptions.LockException(f'cannot lock {name!r}: {cause}')


def plan_of(
    connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any],
    name: _postgres_sql.Name,
    timeout: float,
    flags: constants.LockFlags,
    counted: Any,
) -> Plan:
    """What to ask the server, one statement after the other.

    It is sent the first row of each answer, or thrown what it raised.
    """
    _lock_request.check_flags(int(flags))
    key = _postgres_sql.key_of(name)
    _check_transaction(connection, name)
    is_shared = bool(int(flags) & constants.LOCK_SH)
    return _steps(key, name, timeout, counted, is_shared=is_shared)


def _steps(
    key: _postgres_sql.Key,
    name: object,
    timeout: float,
    counted: Any,
    *,
    is_shared: bool,
) -> Plan:
    suffix = '_shared' if is_shared else ''
    end = f'xact_lock{suffix}({", ".join(["%s"] * len(key.numbers))})'
    query = f'SELECT pg_catalog.pg_try_advisory_{end}'
    row = yield query.encode(), key.numbers
    if row[0]:
        return
    started = time.perf_counter()
    waited = None
    if timeout > 0:
        query = f'SELECT pg_catalog.pg_advisory_{end}'
        if counted is not None:
            counted.waits()
        try:
            if (yield from _wait(query.encode(), key, name, timeout)):
                return
        finally:
            if counted is not None:
                counted.waits_no_more()
        waited = time.perf_counter() - started
    raise exceptions.AlreadyLocked(filename=str(name), waited=waited)


def _wait(
    query: bytes, key: _postgres_sql.Key, name: object, seconds: float
) -> Generator[Words, Any, bool]:
    """Wait in a savepoint, so that a failure leaves the transaction whole."""
    yield b'SAVEPOINT portalocker', ()
    try:
        (before,) = yield _LOCK_TIMEOUT, ()
        limit = str(_postgres_wire.milliseconds(seconds))
        yield _SET_LOCK_TIMEOUT, (limit,)
        yield query, key.numbers
        yield _SET_LOCK_TIMEOUT, (before,)
    except psycopg.errors.LockNotAvailable:
        yield from _ROLL_BACK
        return False
    except psycopg.errors.DeadlockDetected as error:
        yield from _ROLL_BACK
        raise exceptions.DeadlockError(
            f'cannot lock {name!r}: {error}', filename=str(name)
        ) from error
    except BaseException:  # Ctrl-C, or a task that is cancelled
        with contextlib.suppress(psycopg.Error):
            yield from _ROLL_BACK
        raise
    yield b'RELEASE SAVEPOINT portalocker', ()
    return True


_LOCK_TIMEOUT = b"SELECT pg_catalog.current_setting('lock_timeout')"
_SET_LOCK_TIMEOUT = b"SELECT pg_catalog.set_config('lock_timeout', %s, true)"
_ROLL_BACK: tuple[tuple[bytes, tuple[()]], ...] = (
    (b'ROLLBACK TO SAVEPOINT portalocker', ()),
    (b'RELEASE SAVEPOINT portalocker', ()),
)
