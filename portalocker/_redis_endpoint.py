"""Where a redis client of the caller leads to, and a connection of our own.

The caller's client is only asked: nothing of it is closed or changed.
"""

from __future__ import annotations

import inspect
import os
import socket

from redis import backoff as redis_backoff
from redis import connection as redis_connection
from redis import retry as redis_retry

from . import _redis_scripts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

#: seconds that opening a session may take, unless the client says otherwise
CONNECT_SECONDS = 5.0

# Options of a connection that a session has its own of, or none
_NOT_FOR_SESSIONS = (
    *('retry', 'retry_on_error', 'retry_on_timeout', 'socket_timeout'),
    *('health_check_interval', 'client_name', 'decode_responses'),
    *('protocol', 'encoding', 'encoding_errors', 'parser_class'),
    *('socket_read_size', 'redis_connect_func', 'event_dispatcher'),
    *('maint_notifications_config', 'maint_notifications_pool_handler'),
    *('oss_cluster_maint_notifications_handler', 'orig_host_address'),
    *('orig_socket_timeout', 'orig_socket_connect_timeout'),
    *('himport_registry', 'legacy_responses', 'command_packer'),
    *('lib_name', 'lib_version', 'driver_info', 'cache', 'cache_config'),
    *('socket_keepalive_options',),
)


# What looks like a client: an attribute that it has, and what to pass instead
_NO_CLIENTS = (
    ('master_for', 'a Sentinel is no client: pass its master_for(NAME)'),
    (
        'immediate_execute_command',
        'a pipeline answers later: pass the {} it is of',
    ),
    ('make_connection', 'a pool is no client: pass {}(connection_pool=...)'),
)


def is_cluster(client: Any) -> bool:
    """Whether the client spreads keys over the nodes of a cluster."""
    return hasattr(client, 'get_node_from_key')


def dialect_of(client: Any) -> _redis_scripts.Dialect:
    """The scripts for what the client leads to."""
    if is_cluster(client):
        return _redis_scripts.SHARDED
    return _redis_scripts.PLAIN


def check_client(channel: str, client: Any, *, is_async: bool) -> None:
    """Raise `TypeError` where a client cannot be what a lock asks."""
    way_out = client is not None and _way_out(client, is_async=is_async)
    if way_out:
        kind = f'{type(client).__module__}.{type(client).__qualname__}'
        raise TypeError(
            f'cannot lock {channel!r} with a connection of type '
            f'{kind.removeprefix("builtins.")}: {way_out}'
        )


def _way_out(client: Any, *, is_async: bool) -> str:
    """What to pass instead; nothing where the client will do."""
    clients = 'redis.asyncio.Redis' if is_async else 'redis.Redis'
    if isinstance(client, str | bytes):
        return f'an address is no client: pass {clients}.from_url(...)'
    for mark, way_out in _NO_CLIENTS:
        if hasattr(client, mark):
            return way_out.format(clients)
    ask = getattr(client, 'execute_command', None)
    # valkey-py looks the same, but raises errors of its own
    is_valkey = type(client).__module__.startswith('valkey.')
    if not callable(ask) or is_valkey:
        return f'it is no client of redis-py: pass {clients}(...)'
    if inspect.iscoroutinefunction(ask) == is_async:
        return ''
    if is_async:
        return f'it would block the loop: pass {clients}(...), or RedisLock'
    return f'it needs an event loop: pass {clients}(...), or AsyncRedisLock'


class Endpoint:
    """One server, seen through a client; equal for equal servers and users."""

    def __init__(
        self,
        dialect: _redis_scripts.Dialect,
        connection_class: Any,
        options: dict[str, Any],
    ) -> None:
        self.dialect = dialect
        self._connection_class = connection_class
        self._options = {
            name: value
            for name, value in options.items()
            if name not in _NOT_FOR_SESSIONS
        }
        self.key: Hashable = (
            self._connection_class,
            self.dialect.is_sharded,
            *sorted(map(_as_item, self._options.items())),
        )

    def connection(self, name: str) -> Any:
        """A connection of our own that tries once; not connected yet."""
        options = {
            'socket_connect_timeout': CONNECT_SECONDS,
            'socket_keepalive': True,
            **self._options,
        }
        if 'path' in options:  # a Unix socket has none
            del options['socket_keepalive'], options['socket_connect_timeout']
        if options.get('socket_connect_timeout', 0) is None:
            options['socket_connect_timeout'] = CONNECT_SECONDS
        return self._connection_class(
            **options,
            protocol=3,
            client_name=name,
            health_check_interval=0,
            socket_timeout=options.get(
                'socket_connect_timeout', CONNECT_SECONDS
            ),
            retry=once(),
        )


def endpoint_of(client: Any, *bases: str) -> Endpoint:
    """Where the locks with these keys are; a cluster is asked."""
    dialect = dialect_of(client)
    if is_cluster(client):
        key = _key_of(bases)
        client.exists(key)  # the client learns where it is by now
        node = client.get_node_from_key(key)
        client = client.get_redis_connection(node)
    pool = _pool_of(client)
    if _is_async(pool.connection_class):
        raise TypeError(
            f'cannot lock with {client!r} without a loop: see AsyncRedisLock'
        )
    return Endpoint(dialect, pool.connection_class, pool.connection_kwargs)


async def async_endpoint_of(client: Any, *bases: str) -> Endpoint:
    """The same for a client of `redis.asyncio`; a thread connects to it."""
    dialect = dialect_of(client)
    if is_cluster(client):
        key = _key_of(bases)
        await client.exists(key)
        found = client.get_node_from_key(key)
    else:
        found = _pool_of(client)
    options = dict(found.connection_kwargs)
    if hasattr(found, 'get_master_address'):
        options['host'], options['port'] = await found.get_master_address()
        options.pop('connection_pool', None)
    blocking_class = _blocking_class(found.connection_class)
    return Endpoint(dialect, blocking_class, options)


def _pool_of(client: Any) -> Any:
    pool = getattr(client, 'connection_pool', None)
    if pool is None:
        raise TypeError(
            f'cannot lock with {client!r}: it is no client of redis-py'
        )
    return pool


def _key_of(bases: tuple[str, ...]) -> str:
    """A key that lies where all of these locks do."""
    _check_tag(bases)
    return _redis_scripts.keys_of(bases[0])[0].decode()


def _check_tag(bases: tuple[str, ...]) -> None:
    if len({_redis_scripts.tag_of(base) for base in bases}) > 1:
        raise ValueError(
            'cannot lock several channels at once in a cluster unless they '
            "share one hash tag: '{app}:a', '{app}:b'"
        )


def _is_async(connection_class: Any) -> bool:
    return bool(connection_class.__module__.startswith('redis.asyncio'))


def _blocking_class(connection_class: Any) -> Any:
    """The class whose connections a thread reads; sessions have a thread."""
    if not _is_async(connection_class):
        return connection_class
    name = connection_class.__name__.removeprefix('SentinelManaged')
    if not hasattr(redis_connection, name):
        raise TypeError(
            f'cannot open a session like {connection_class!r}: pass a client '
            'of the server itself'
        )
    return getattr(redis_connection, name)


def _as_item(item: tuple[str, Any]) -> tuple[str, str]:
    """An option as part of a key; objects count as themselves."""
    name, value = item
    if value is None or isinstance(value, str | bytes | int | float | bool):
        return name, repr(value)
    return name, f'{type(value).__name__} {id(value)}'


def once() -> Any:
    """How a connection retries: not at all."""
    return redis_retry.Retry(redis_backoff.NoBackoff(), 0)


def close_copy(sock: socket.socket) -> None:
    """Close what a forked child has of a socket; the parent goes on."""
    try:
        os.close(sock.detach())
    except OSError:
        pass


def open_socket(connection: Any) -> socket.socket:
    """Connect, log in, and take the socket over.

    Raises what the client raises, and `TypeError` where there is no socket.
    """
    connection.connect()
    taken = getattr(connection, '_sock', None)
    if not isinstance(taken, socket.socket):
        connection.disconnect()
        raise TypeError(
            f'cannot listen on {connection!r}: it has no socket of its own'
        )
    return taken
