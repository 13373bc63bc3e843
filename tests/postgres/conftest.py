"""The server that the tests of PostgresLock run against."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import engines
import pytest
from servers import postgresql
from servers.proxy import Proxy

# actors: processes and threads that say what they did
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / 'laws'))

from actors import Stage
from scenes import close_everything


@pytest.fixture(scope='session')
def _postgresql() -> Iterator[postgresql.PostgreSQL | str]:
    try:
        import psycopg  # noqa: F401

        server = postgresql.PostgreSQL()
    except (ImportError, postgresql.CannotStart) as error:
        yield str(error)
        return
    yield server
    server.stop()


@pytest.fixture
def server(
    request: pytest.FixtureRequest,
    _postgresql: postgresql.PostgreSQL | str,
) -> Iterator[postgresql.PostgreSQL]:
    if isinstance(_postgresql, str):
        engines.is_missing(request, 'postgresql', _postgresql)
    engines.has_run(request, f'postgresql {_postgresql.version}')
    yield _postgresql
    close_everything()


@pytest.fixture
def admin(server: postgresql.PostgreSQL) -> Iterator[Any]:
    """A connection to look on with."""
    with server.connect() as connection:
        yield connection


@pytest.fixture
def stage(server: postgresql.PostgreSQL) -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def make(server: postgresql.PostgreSQL) -> Callable[..., Any]:
    """Make a lock on the server that waits, unless options differ."""
    from portalocker import postgres

    def make(name: Any = 'jobs', **options: Any) -> Any:
        options = {'timeout': 60, 'connection': server.url, **options}
        return postgres.PostgresLock(name, **options)

    return make


@pytest.fixture
def proxy(server: postgresql.PostgreSQL) -> Iterator[Proxy]:
    with Proxy(('127.0.0.1', server.port)) as proxy:
        yield proxy
