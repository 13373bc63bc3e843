"""What PostgresLock costs, beside the same statements by hand.

    python benchmarks/postgres_lock.py [--output FILE]

It starts a PostgreSQL of its own, with `fsync` on, on a loopback port, and
asks each kind in turns, so that a noisy moment hits all of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import psycopg  # noqa: E402
from servers.postgresql import PostgreSQL  # noqa: E402

from portalocker import postgres  # noqa: E402

ROUNDS = 10
CYCLES = 150
HAND_OFFS = 80
#: the yardstick: milliseconds at most
ACQUIRE_AND_RELEASE_MS = 0.3
HAND_OFF_MS = 2.0
KEY = 12345


class ByHand:
    """`pg_advisory_lock` with psycopg: no timeout, no token, no loss."""

    def __init__(self, url: str) -> None:
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
    return postgres.PostgresLock(KEY, url, timeout=60)


def ours_without_token(url: str) -> Any:
    return postgres.PostgresLock(KEY, url, timeout=60, fence=False)


KINDS: dict[str, Callable[[str], Any]] = {
    'PostgresLock': ours,
    'PostgresLock, fence=False': ours_without_token,
    'psycopg by hand': ByHand,
    'psycopg, polling': Polling,
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
    talk, theirs = multiprocessing.Pipe()
    waiter = multiprocessing.Process(
        target=_wait_and_hand_back, args=(name, url, theirs)
    )
    waiter.start()
    lock = KINDS[name](url)
    found = []
    for _ in range(HAND_OFFS if name != 'psycopg, polling' else 20):
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
    if name == 'psycopg, polling':
        time.sleep(0.03)
        return
    query = "SELECT 1 FROM pg_locks WHERE locktype='advisory' AND NOT granted"
    while admin.execute(query).fetchone() is None:
        time.sleep(0.001)
    time.sleep(0.002)


def _cells(found: list[float]) -> list[str]:
    ordered = sorted(found)
    return [
        f'{statistics.median(ordered):.3f}',
        f'{ordered[int(0.95 * len(ordered))]:.3f}',
    ]


def measured() -> list[list[str]]:
    """Return the rows of the table."""
    multiprocessing.set_start_method('spawn')
    cycles: dict[str, list[float]] = {name: [] for name in KINDS}
    rows = []
    with PostgreSQL(
        fsync='on', full_page_writes='on', deadlock_timeout='1s'
    ) as server:
        locks = {name: make(server.url) for name, make in KINDS.items()}
        for lock in locks.values():
            milliseconds_of_cycles(lock)
        for _ in range(ROUNDS):
            for name, lock in locks.items():
                cycles[name] += milliseconds_of_cycles(lock)
        with server.connect() as admin:
            for name in KINDS:
                hand_offs = milliseconds_of_hand_offs(name, server.url, admin)
                rows.append([name, *_cells(cycles[name]), *_cells(hand_offs)])
        postgres.close_idle()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--output', type=pathlib.Path)
    args = parser.parse_args()
    headings = [
        'milliseconds',
        'acquire+release',
        'p95',
        'hand-off',
        'p95',
    ]
    rows = measured()
    widths = [26, 16, 8, 9, 8]
    lines = [
        '  '.join(map(str.ljust, row, widths)).rstrip()
        for row in [headings, *rows]
    ]
    is_met = (
        float(rows[0][1]) <= ACQUIRE_AND_RELEASE_MS
        and float(rows[0][3]) <= HAND_OFF_MS
    )
    lines.append(
        f'goal: {ACQUIRE_AND_RELEASE_MS} and {HAND_OFF_MS} ms at most: '
        + ('met' if is_met else 'NOT MET')
    )
    text = '\n'.join([*lines, ''])
    print(text, end='')
    if args.output:
        args.output.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()
