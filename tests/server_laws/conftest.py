"""The servers that the laws run against, and who looks on."""

from __future__ import annotations

import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import engines
import pytest
from witness import Witness

TESTS = pathlib.Path(__file__).parents[1]
# actors: processes and threads that say what they did; scenes: PostgreSQL's
sys.path[:0] = [str(TESTS / 'laws'), str(TESTS / 'postgres')]

collect_ignore_glob = [] if sys.platform == 'linux' else ['*.py']

_numbers = itertools.count()


class _OnRedis:
    """A Valkey, as the laws ask it."""

    def __init__(self, server: Any, version: str) -> None:
        self._server = server
        self.version = version
        self.port = server.port
        self._clients: dict[int, Any] = {}

    def client(self) -> Any:
        """The client of this process."""
        import redis

        if os.getpid() not in self._clients:
            # kept: a copy in a forked child must not be collected there
            self._clients[os.getpid()] = redis.Redis(port=self.port)
        return self._clients[os.getpid()]

    def end_connection_of(self, lock: Any) -> None:
        """Have the server end the connection that holds this lock."""
        lock = getattr(lock, 'lock', lock)
        name = f'portalocker:s:{lock._current().session.sid}'
        assert self.client().publish(name, 'lost nobody') == 1
        ends = [
            found['id']
            for found in self.client().client_list(_type='pubsub')
            if found['addr'] == _address_of(lock._current().session)
        ]
        assert len(ends) == 1
        self.client().client_kill_filter(_id=ends[0])

    def rest(self) -> None:
        """Close what the process has open."""
        from portalocker import redis

        redis.close_sessions()

    def stop(self) -> None:
        for client in self._clients.values():
            client.close()
        self._server.kill()


def _address_of(session: Any) -> str:
    host, port = session._socket.getsockname()[:2]
    return f'{host}:{port}' if ':' not in host else f'[{host}]:{port}'


class _OnPostgreSQL:
    """A PostgreSQL, as the laws ask it."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.version = f'postgresql {server.version}'
        self.url = server.url

    def end_connection_of(self, lock: Any) -> None:
        """Have the server end the connection that holds this lock."""
        import scenes

        lock = getattr(lock, 'lock', lock)
        with self._server.connect() as admin:
            scenes.terminate(admin, getattr(lock, '_lock', lock))

    def rest(self) -> None:
        """Close what the process has open."""
        import scenes

        scenes.close_everything()

    def stop(self) -> None:
        self._server.stop()


def _start_valkey() -> Any:
    from servers import redis_server

    program = redis_server.engine_path('valkey')
    if program is None:
        return 'no such program'
    server = redis_server.RedisServer(program)
    server.start()
    return _OnRedis(server, redis_server.version_of(program))


def _start_postgresql() -> Any:
    from servers import postgresql

    try:
        import psycopg  # noqa: F401

        return _OnPostgreSQL(postgresql.PostgreSQL())
    except (ImportError, postgresql.CannotStart) as error:
        return str(error)


@pytest.fixture(scope='session')
def _servers() -> Iterator[dict[str, Any]]:
    import asyncio

    import loops

    # the loop of this thread keeps the thread that opens sessions
    loops.runner('asyncio').run(lambda: asyncio.to_thread(int))
    servers = {
        'valkey': _start_valkey(),
        'postgresql': _start_postgresql(),
    }
    yield servers
    for server in servers.values():
        if not isinstance(server, str):
            server.stop()


@pytest.fixture
def server(
    _nothing_left_running: None,
    _servers: dict[str, Any],
    request: pytest.FixtureRequest,
    kind: Any,
) -> Iterator[Any]:
    """The server of this kind of lock."""
    found = _servers[kind.engine]
    if isinstance(found, str):
        engines.is_missing(request, kind.engine, found)
    engines.has_run(request, found.version)
    yield found
    found.rest()


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f'law {os.getpid()} {next(_numbers)}'


@pytest.fixture
def make(server: Any, kind: Any, name: str) -> Callable[..., Any]:
    """Make a lock of the kind, on the name of this test."""

    def make(its_name: str = name, **options: Any) -> Any:
        return kind.made(server, its_name, **options)

    return make


@pytest.fixture
def rival(server: Any, kind: Any, name: str) -> Callable[..., Any]:
    """Make a lock that the kind excludes, and that excludes it."""

    def rival(**options: Any) -> Any:
        return kind.rival_of(server, name, **options)

    return rival


@pytest.fixture
def stage(server: Any) -> Iterator[Any]:
    """Starts processes and threads, and ends them."""
    import actors

    stage = actors.Stage()
    yield stage
    stage.close()


@pytest.fixture
def witness(tmp_path: pathlib.Path) -> Witness:
    return Witness(tmp_path)
