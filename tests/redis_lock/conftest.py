"""Servers, clients and names for the tests of the lock on a server."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from typing import Any

import engines
import pytest
from servers import redis_server

redis = pytest.importorskip('redis')

from portalocker import redis as portalocker_redis  # noqa: E402

_numbers = itertools.count()


@pytest.fixture(scope='session')
def running() -> Iterator[dict[str, redis_server.RedisServer]]:
    """Every engine that is installed, running."""
    servers = {}
    try:
        for engine in redis_server.ENGINES:
            program = redis_server.engine_path(engine)
            if program is not None:
                servers[engine] = redis_server.RedisServer(program)
                servers[engine].start()
        yield servers
    finally:
        for server in servers.values():
            server.kill()


def _server(
    engine: str,
    running: dict[str, redis_server.RedisServer],
    request: pytest.FixtureRequest,
) -> redis_server.RedisServer:
    if engine not in running:
        engines.is_missing(request, engine, 'no such program')
    engines.has_run(request, _version(running[engine].program))
    return running[engine]


_version = functools.cache(redis_server.version_of)


@pytest.fixture
def server(
    running: dict[str, redis_server.RedisServer],
    request: pytest.FixtureRequest,
) -> redis_server.RedisServer:
    """Valkey, which everybody has."""
    return _server('valkey', running, request)


@pytest.fixture(params=redis_server.ENGINES)
def each_server(
    running: dict[str, redis_server.RedisServer],
    request: pytest.FixtureRequest,
) -> redis_server.RedisServer:
    """Each engine that is installed."""
    return _server(request.param, running, request)


@pytest.fixture
def own_server(
    request: pytest.FixtureRequest,
    running: dict[str, redis_server.RedisServer],
) -> Iterator[redis_server.RedisServer]:
    """A Valkey of this test alone, which it may stop and kill."""
    shared = _server('valkey', running, request)
    with redis_server.RedisServer(shared.program) as server:
        yield server


@pytest.fixture
def client(server: redis_server.RedisServer) -> Iterator[Any]:
    """A client of the shared server."""
    with redis.Redis(port=server.port) as client:
        yield client


@pytest.fixture
def channel() -> str:
    """A name that no other test has."""
    return f'channel {os.getpid()} {next(_numbers)}'


@pytest.fixture(autouse=True)
def _sessions_end(_nothing_left_running: None) -> Iterator[None]:
    yield
    portalocker_redis.close_sessions()
