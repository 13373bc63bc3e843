"""A lock in the transaction of the caller's own connection."""

from __future__ import annotations

import time

import psycopg
import psycopg.rows

from . import (
    _lock_request,
    _postgres_sql,
    _postgres_wire,
    constants,
    exceptions,
    utils,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


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
    each case the transaction can go on.

    >>> with psycopg.connect() as connection:  # doctest: +SKIP
    ...     transaction_lock(connection, 'nightly')
    ...     connection.execute('UPDATE reports SET done = true')
    """
    _lock_request.check_flags(int(flags))
    key = _postgres_sql.key_of(name)
    if not isinstance(connection, psycopg.Connection):
        raise TypeError(
            f'cannot lock in {connection!r}: it is no psycopg.Connection'
        )
    _check_transaction(connection, name)
    suffix = '_shared' if int(flags) & constants.LOCK_SH else ''
    end = f'xact_lock{suffix}({", ".join(["%s"] * len(key.numbers))})'
    if _ask(connection, f'SELECT pg_catalog.pg_try_advisory_{end}', key):
        return
    seconds = utils.coalesce(timeout, utils.DEFAULT_TIMEOUT)
    started = time.perf_counter()
    waited = None
    if seconds > 0 and not fail_when_locked:
        query = f'SELECT pg_catalog.pg_advisory_{end}'
        if _wait(connection, query, key, name, seconds):
            return
        waited = time.perf_counter() - started
    raise exceptions.AlreadyLocked(filename=str(name), waited=waited)


def _check_transaction(
    connection: psycopg.Connection[Any], name: object
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


def _ask(
    connection: psycopg.Connection[Any], query: str, key: _postgres_sql.Key
) -> bool:
    """Run a query on the key; whether its answer is not false."""
    with _plain_cursor(connection) as cursor:
        cursor.execute(query.encode(), key.numbers, prepare=False)
        row = cursor.fetchone()
    return row is not None and row[0] is not False


def _plain_cursor(connection: psycopg.Connection[Any]) -> psycopg.Cursor[Any]:
    """A cursor whose rows are tuples, whatever the caller's are."""
    return connection.cursor(row_factory=psycopg.rows.tuple_row)


def _wait(
    connection: psycopg.Connection[Any],
    query: str,
    key: _postgres_sql.Key,
    name: object,
    seconds: float,
) -> bool:
    """Wait in a savepoint, so that a failure leaves the transaction whole."""
    limit = _postgres_wire.milliseconds(seconds)
    try:
        with connection.transaction(), _plain_cursor(connection) as cursor:
            cursor.execute("SELECT pg_catalog.current_setting('lock_timeout')")
            (before,) = cursor.fetchone() or ('0',)
            _set_lock_timeout(cursor, str(limit))
            _ask(connection, query, key)
            _set_lock_timeout(cursor, before)
    except psycopg.errors.LockNotAvailable:
        return False
    except psycopg.errors.DeadlockDetected as error:
        raise exceptions.DeadlockError(
            f'cannot lock {name!r}: {error}', filename=str(name)
        ) from error
    return True


def _set_lock_timeout(cursor: psycopg.Cursor[Any], value: str) -> None:
    cursor.execute(
        "SELECT pg_catalog.set_config('lock_timeout', %s, true)",
        (value,),
        prepare=False,
    )
