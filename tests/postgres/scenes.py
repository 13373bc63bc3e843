"""What the tests of PostgresLock do again and again."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

from states import wait_until

LONG = 15.0  # seconds: only ever reached by a failure
SHORT = 0.05  # seconds: a wait that is meant to end without the lock


def in_line(admin: Any) -> list[int]:
    """Return the server processes that wait for an advisory lock."""
    rows = admin.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' "
        'AND NOT granted ORDER BY waitstart'
    )
    return [pid for (pid,) in rows]


def wait_until_in_line(admin: Any, count: int = 1) -> list[int]:
    """Wait until so many wait in the server."""
    wait_until(lambda: len(in_line(admin)) == count)
    return in_line(admin)


def sessions_of(lock: Any) -> Iterator[int]:
    """Return the server processes of those who hold this lock."""
    for hold in list(lock._holdings.values()):
        yield hold.session.wire.backend_pid


def terminate(admin: Any, lock: Any) -> None:
    """Have the server end the connection that holds this lock."""
    for pid in sessions_of(lock):
        admin.execute('SELECT pg_terminate_backend(%s)', (pid,))


def granted(admin: Any) -> int:
    """Return how many advisory locks are held."""
    (count,) = admin.execute(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    ).fetchone()
    return int(count)


def connections(admin: Any) -> int:
    """Return how many connections this package has open."""
    (count,) = admin.execute(
        'SELECT count(*) FROM pg_stat_activity WHERE application_name '
        "LIKE 'portalocker %%@%%'"
    ).fetchone()
    return int(count)


def close_everything() -> None:
    """Close all connections; a lock that nobody refers to lets go first."""
    from portalocker import postgres

    def is_closed() -> bool:
        gc.collect()
        postgres.close_idle()
        names = [thread.name for thread in threading.enumerate()]
        return 'portalocker.postgres' not in names

    wait_until(is_closed)
