"""`legacy_compat`: the releases 3.x and 4.x on the same channel.

They are installed as they were published and only run, in processes of their
own. PORTALOCKER_OLDER_RELEASES=1 asks for it, since it needs the package
index.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import engines
import pytest
from servers import redis_server

from portalocker import LockFlags, exceptions
from portalocker.redis import RedisLock

RELEASES = ('3.2.0', '4.4.2')
LONG = 30.0

OLDER = """
import sys
import portalocker, portalocker.redis
from portalocker.__about__ import __version__
port, channel, version = sys.argv[1:]
assert __version__ == version, __version__
lock = portalocker.redis.RedisLock(
    channel, redis_kwargs={'port': int(port)}, check_interval=0.02
)
print('ready', flush=True)
for line in sys.stdin:
    try:
        if line.strip() == 'release':
            lock.release()
        else:
            lock.acquire(timeout=float(line))
    except portalocker.exceptions.LockException:
        print('refused', flush=True)
    else:
        print('done', flush=True)
"""


@pytest.fixture(scope='session')
def installed(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, pathlib.Path]:
    """Directories with older releases, by version."""
    return {version: tmp_path_factory.mktemp('older') for version in RELEASES}


@pytest.fixture(params=RELEASES)
def older(
    request: pytest.FixtureRequest, installed: dict[str, pathlib.Path]
) -> tuple[str, pathlib.Path]:
    version: str = request.param
    if not os.environ.get('PORTALOCKER_OLDER_RELEASES'):
        engines.is_missing(
            request,
            f'portalocker-{version}',
            'set PORTALOCKER_OLDER_RELEASES=1 to install it',
        )
    place = installed[version]
    if not any(place.iterdir()):
        subprocess.run(
            [
                *(sys.executable, '-m', 'pip', 'install', '--quiet'),
                *('--no-deps', '--target', str(place)),
                f'portalocker=={version}',
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    engines.has_run(request, f'portalocker-{version}')
    return version, place


@pytest.fixture
def channel(channel: str) -> str:
    """Older releases take no names with spaces."""
    return channel.replace(' ', '-')


class Older:
    """A process that uses an older release."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f'{what}\n')
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def does(self, what: str) -> str:
        self.ask(what)
        return self.answer()


@contextlib.contextmanager
def process_of(
    older: tuple[str, pathlib.Path], port: int, channel: str
) -> Iterator[Older]:
    version, place = older
    with subprocess.Popen(
        [sys.executable, '-c', OLDER, str(port), channel, version],
        cwd=place,  # where `-c` looks first
        env={**os.environ, 'PYTHONPATH': str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            one = Older(process)
            assert one.answer() == 'ready'
            yield one
        finally:
            process.kill()


def test_f23_each_keeps_the_other_out(
    server: redis_server.RedisServer,
    client: Any,
    channel: str,
    older: tuple[str, pathlib.Path],
) -> None:
    lock = RedisLock(channel, client, timeout=LONG, legacy_compat=True)
    with process_of(older, server.port, channel) as other:
        with lock:
            assert other.does('0.5') == 'refused'
            lock.verify()
        assert other.does(str(LONG)) == 'done'
        with pytest.raises(exceptions.AlreadyLocked):
            lock.acquire(timeout=0.3)
        assert not lock.try_acquire()
        assert not lock.holders(), 'whoever was kept out holds nothing'
        assert other.does('release') == 'done'
        with lock:
            lock.ensure_held()


def test_f23_waiter_comes_in_when_an_older_holder_leaves(
    server: redis_server.RedisServer,
    client: Any,
    channel: str,
    older: tuple[str, pathlib.Path],
) -> None:
    tokens: list[Any] = []

    def hold() -> None:
        options: dict[str, Any] = {'timeout': LONG, 'legacy_compat': True}
        with RedisLock(channel, client, **options) as lock:
            tokens.append(lock.token)

    with process_of(older, server.port, channel) as other:
        assert other.does(str(LONG)) == 'done'
        threads = [threading.Thread(target=hold) for _ in range(2)]
        for thread in threads:
            thread.start()
        asking = RedisLock(channel, client)
        while not (asking.holders() and asking.waiters()):
            pass
        assert not tokens
        assert other.does('release') == 'done'
        for thread in threads:
            thread.join(LONG)
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 2


def test_f23_waiting_older_release_comes_in_when_we_leave(
    server: redis_server.RedisServer,
    client: Any,
    channel: str,
    older: tuple[str, pathlib.Path],
) -> None:
    with process_of(older, server.port, channel) as other:
        lock = RedisLock(channel, client, legacy_compat=True).acquire()
        other.ask(str(LONG))
        # longer than an older release waits for the answer of a holder
        for _ in range(4):
            threading.Event().wait(0.5)
            lock.verify()
            assert dict(client.pubsub_numsub(channel))[channel.encode()] >= 1
        lock.release()
        assert other.answer() == 'done'


@pytest.mark.stress
def test_f23_nobody_is_inside_with_another(
    server: redis_server.RedisServer,
    client: Any,
    channel: str,
    older: tuple[str, pathlib.Path],
) -> None:
    inside, rounds = f'inside {channel}', 15

    def take_turns(enter: Any, leave: Any) -> None:
        for _ in range(rounds):
            enter()
            crowd.append(client.incr(inside))
            client.decr(inside)
            leave()

    crowd: list[Any] = []
    locks = [
        RedisLock(channel, client, timeout=LONG, legacy_compat=True)
        for _ in range(2)
    ]
    with process_of(older, server.port, channel) as other:
        threads = [
            threading.Thread(
                target=take_turns,
                args=(
                    lambda: other.does(str(LONG)),
                    lambda: other.does('release'),
                ),
            ),
            *(
                threading.Thread(
                    target=take_turns, args=(lock.acquire, lock.release)
                )
                for lock in locks
            ),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(4 * LONG)
        assert crowd == [1] * (3 * rounds)


def test_lock_that_is_shared_cannot_keep_them_out() -> None:
    wrong: list[dict[str, Any]] = [{'flags': LockFlags.SHARED}, {'limit': 2}]
    for options in wrong:
        with pytest.raises(ValueError, match='older releases'):
            RedisLock('x', legacy_compat=True, **options)
