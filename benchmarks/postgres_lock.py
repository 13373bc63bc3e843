"""What PostgresLock costs, beside the same statements by hand.

It starts a PostgreSQL of its own, with `fsync` on, on a loopback port, and
asks each kind in turns, so that a noisy moment hits all of them.
"""

from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING, Any, ClassVar

import question
import redis_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CYCLES = 150
HAND_OFFS = 80
KEY = 12345
FREE = 'a free lock'
HAND_OFF = 'hand-off between processes'


class PostgresLocks(question.Survey):
    """What a lock on a database costs beside its statement."""

    title = 'locks on one PostgreSQL server, fsync on'
    base = 'by hand'
    goals: ClassVar[question.Goals] = {
        (FREE, 'ms'): question.Goal(0.3),
        (HAND_OFF, 'ms'): question.Goal(2.0),
    }

    def answers(
        self, quick: bool, disk: str, memory: str
    ) -> Iterator[tuple[str, str, question.Answer]]:
        """Start a server, and ask each in turn."""
        redis_locks.use_this_tree()
        from servers import postgresql

        from portalocker import postgres

        cycles: dict[str, list[float]] = {name: [] for name in KINDS}
        try:
            started = postgresql.PostgreSQL(
                fsync='on', full_page_writes='on', deadlock_timeout='1s'
            )
        except postgresql.CannotStart as error:
            raise RuntimeError(f'there is no PostgreSQL: {error}') from error
        with started as server:
            self._server = f'PostgreSQL {server.version}'
            locks = {name: make(server.url) for name, make in KINDS.items()}
            for _ in range(3 if quick else 10):
                for name, lock in locks.items():
                    cycles[name] += milliseconds_of_cycles(lock)
            for name, numbers in cycles.items():
                # the first round makes the connections
                yield FREE, name, {'ms': numbers[CYCLES:]}
            with server.connect() as admin:
                for name in KINDS:
                    numbers = milliseconds_of_hand_offs(
                        name, server.url, admin
                    )
                    yield HAND_OFF, name, {'ms': numbers}
            postgres.close_idle()

    def versions(self) -> str:
        """The client and the server."""
        import psycopg

        return f'{self._server}, psycopg {psycopg.__version__}'


class ByHand:
    """`pg_advisory_lock` with psycopg: no timeout, no token, no loss."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._connection = psycopg.connect(url, autocommit=True)

    def acquire(self) -> None:
        self._connection.execute('SELECT pg_advisory_lock(%s)', (KEY,))

    def release(self) -> None:
        self._connection.execute('SELECT pg_advisory_unlock(%s)', (KEY,))


class Polling(ByHand):
    """The same with `pg_try_advisory_lock` every 100 ms, as is usual."""

    def acquire(self) -> None:
        query = 'SELECT pg_try_advisory_lock(%s)'
        while self._connection.execute(query, (KEY,)).fetchone() != (True,):
            time.sleep(0.1)


def ours(url: str) -> Any:
    from portalocker import postgres

    return postgres.PostgresLock(KEY, url, timeout=60)


def ours_without_token(url: str) -> Any:
    from portalocker import postgres

    return postgres.PostgresLock(KEY, url, timeout=60, fence=False)


KINDS: dict[str, Callable[[str], Any]] = {
    'ours': ours,
    'ours, fence=False': ours_without_token,
    'by hand': ByHand,
    'by hand, polling': Polling,
}


def milliseconds_of_cycles(lock: Any) -> list[float]:
    """Return how long each acquire and release took."""
    found = []
    for _ in range(CYCLES):
        started = time.monotonic()
        lock.acquire()
        lock.release()
        found.append(1000 * (time.monotonic() - started))
    return found


def _wait_and_hand_back(name: str, url: str, talk: Any) -> None:
    lock = KINDS[name](url)
    while talk.recv():
        talk.send('waits')
        lock.acquire()
        talk.send(time.monotonic())
        lock.release()


def milliseconds_of_hand_offs(name: str, url: str, admin: Any) -> list[float]:
    """Return the time from each release to the waiter's grant."""
    spawn = multiprocessing.get_context('spawn')
    talk, theirs = spawn.Pipe()
    waiter = spawn.Process(
        target=_wait_and_hand_back, args=(name, url, theirs)
    )
    waiter.start()
    lock = KINDS[name](url)
    found = []
    for _ in range(HAND_OFFS if name != 'by hand, polling' else 20):
        lock.acquire()
        talk.send(True)
        talk.recv()
        _wait_until_asleep(admin, name)
        released = time.monotonic()
        lock.release()
        found.append(1000 * (talk.recv() - released))
    talk.send(False)
    waiter.join()
    return found


def _wait_until_asleep(admin: Any, name: str) -> None:
    if name == 'by hand, polling':
        time.sleep(0.03)
        return
    query = "SELECT 1 FROM pg_locks WHERE locktype='advisory' AND NOT granted"
    while admin.execute(query).fetchone() is None:
        time.sleep(0.001)
    time.sleep(0.002)
