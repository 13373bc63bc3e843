"""However a client reaches its server, a session does as well."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import engines
import pytest
from servers import ports, redis_server
from test_redis_lock import LONG, eventually, in_thread

from portalocker import exceptions
from portalocker.aio.redis import AsyncRedisLock
from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')
redis_asyncio = pytest.importorskip('redis.asyncio')

USER: dict[str, Any] = {'username': 'worker', 'password': 'p@ss word'}
#: what a user of locks needs, and no more
RULES = (
    *('+evalsha', '+eval', '+script|load', '+subscribe', '+unsubscribe'),
    *('+publish', '+pubsub', '+hello', '+auth', '+client|setname'),
    *('+select', '+time', '+set', '+get', '+exists', '+@hash', '+@list'),
    *('~portalocker:*', 'resetchannels', '&portalocker:*', '&channel*'),
)


def certificate(directory: pathlib.Path) -> dict[str, str]:
    """One that signed itself."""
    key, cert = directory / 'key.pem', directory / 'cert.pem'
    subprocess.run(
        [
            *('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes'),
            *('-keyout', str(key), '-out', str(cert), '-days', '2'),
            *('-subj', '/CN=localhost'),
            *('-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'),
        ],
        check=True,
        capture_output=True,
    )
    return {'key': str(key), 'cert': str(cert)}


@contextlib.contextmanager
def over_tls(
    program: str, directory: pathlib.Path
) -> Iterator[dict[str, Any]]:
    files = certificate(directory)
    port = ports.free_port()
    options = {
        'tls-port': str(port),
        'tls-cert-file': files['cert'],
        'tls-key-file': files['key'],
        'tls-ca-cert-file': files['cert'],
        'tls-auth-clients': 'no',
    }
    words = [word for name in options for word in ('--' + name, options[name])]
    with redis_server.RedisServer(program, *words):
        yield {'port': port, 'ssl': True, 'ssl_ca_certs': files['cert']}


@contextlib.contextmanager
def over_unix_socket(
    program: str, directory: pathlib.Path
) -> Iterator[dict[str, Any]]:
    path = str(directory / 'socket')
    with redis_server.RedisServer(program, '--unixsocket', path):
        yield {'unix_socket_path': path}


@contextlib.contextmanager
def with_password(
    program: str, directory: pathlib.Path
) -> Iterator[dict[str, Any]]:
    words = '--requirepass', 'secret'
    with redis_server.RedisServer(program, *words) as server:
        yield {'port': server.port, 'password': 'secret'}


@contextlib.contextmanager
def as_user(program: str, directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    with redis_server.RedisServer(program) as server:
        with redis.Redis(port=server.port) as admin:
            admin.execute_command(
                *('ACL', 'SETUSER', USER['username'], 'on'),
                *('>' + USER['password'], *RULES),
            )
        yield {'port': server.port, **USER}


@contextlib.contextmanager
def in_another_database(
    program: str, directory: pathlib.Path
) -> Iterator[dict[str, Any]]:
    with redis_server.RedisServer(program) as server:
        yield {'port': server.port, 'db': 5}


WAYS: dict[str, Callable[..., Any]] = {
    'TLS': over_tls,
    'Unix socket': over_unix_socket,
    'password': with_password,
    'user': as_user,
    'database': in_another_database,
}


@pytest.fixture(
    params=[
        (engine, way)
        for way in WAYS
        for engine in redis_server.ENGINES
        # the Valkey of the wheel is built without TLS
        if (engine, way) != ('valkey', 'TLS')
    ],
    ids=' '.join,
)
def options(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> Iterator[dict[str, Any]]:
    """What a client needs to reach the server."""
    engine, way = request.param
    program = redis_server.engine_path(engine)
    if program is None:
        engines.is_missing(request, engine, 'no such program')
    if way == 'TLS' and shutil.which('openssl') is None:
        engines.is_missing(request, 'openssl', 'no such program')
    engines.has_run(request, redis_server.version_of(program))
    with WAYS[way](program, tmp_path) as found:
        yield found


def test_session_goes_the_way_of_the_client(
    options: dict[str, Any], channel: str
) -> None:
    channel = channel.replace(' ', '-')
    with redis.Redis(**options) as client:
        first, second = (RedisLock(channel, client) for _ in range(2))
        with first:
            first.verify()
            # what TLS carries cannot be looked at
            assert 'ssl' not in options or first.pubsub._watch is None
            with pytest.raises(exceptions.AlreadyLocked):
                second.acquire(timeout=0)
            assert second.holders()[0].token == first.token
            with in_thread(lambda: second.acquire(timeout=LONG)) as results:
                eventually(first.waiters)
                first.release()
            assert results == [second]
            assert second.token > (first.token or 0)
        second.release()
        assert not first.holders()


def test_session_of_tasks_goes_the_way_of_the_client(
    options: dict[str, Any], channel: str
) -> None:
    channel = channel.replace(' ', '-')

    async def tasks() -> None:
        async with redis_asyncio.Redis(**options) as client:
            first, second = (AsyncRedisLock(channel, client) for _ in '12')
            await first.acquire()
            waiting = asyncio.create_task(second.acquire(timeout=LONG))
            while not await first.waiters():  # noqa: ASYNC110
                await asyncio.sleep(0)
            await first.release()
            await waiting
            await second.verify()
            await second.release()
            assert not await first.holders()

    asyncio.run(tasks())


def test_many_renewals_come_that_way(
    options: dict[str, Any], channel: str
) -> None:
    channel = channel.replace(' ', '-')
    with redis.Redis(**options) as client:
        locks = [
            RedisLock(f'{channel}-{n}', client, lease=2.0).acquire()
            for n in range(250)
        ]
        claims = [lock._claims[None] for lock in locks]
        before = [claim.hold.contact for claim in claims]
        eventually(
            lambda: all(
                claim.hold.contact > contact
                for claim, contact in zip(claims, before, strict=True)
            )
        )
        for lock in locks:
            lock.release()


def test_end_of_the_way_is_told(options: dict[str, Any], channel: str) -> None:
    channel = channel.replace(' ', '-')
    with redis.Redis(**options) as client:
        lost: list[object] = []
        lock = RedisLock(channel, client, on_lost=lost.append).acquire()
        lock.pubsub.connection._sock.shutdown(2)
        eventually(lambda: lost)
        with pytest.raises(exceptions.LockLostError):
            lock.release()
        with RedisLock(channel, client, timeout=LONG) as again:
            again.verify()
