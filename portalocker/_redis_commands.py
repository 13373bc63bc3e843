"""How a script is run through the caller's client, by its shortest way."""

from __future__ import annotations

import redis
from redis import client as redis_client
from redis import exceptions as redis_errors

from . import _redis_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import _redis_plan

# What a pool wants to be told before it gives a connection
_WHAT_FOR = ('EVALSHA',) if redis.__version__.startswith('5.') else ()
#: whatever the client library raises
FAILURES: type[Exception] = redis_errors.RedisError
_execute_command = redis_client.Redis.execute_command


def run_script(client: Any, step: _redis_plan.RunScript) -> Any:
    """The answer of the server; the script's text is sent if it has none.

    The first try takes one connection of the client's pool. What fails there
    is done once more by the client, which has its own ideas of retrying:
    scripts may be repeated.
    """
    script, keys, words = step
    rest = (len(keys), *keys, *words)
    try:
        if not _is_plain(client):
            return client.execute_command('EVALSHA', script.sha, *rest)
        pool = client.connection_pool
        connection = pool.get_connection(*_WHAT_FOR)
        try:
            return _answer_over(connection, 'EVALSHA', script.sha, *rest)
        except (redis_errors.ConnectionError, redis_errors.TimeoutError):
            pass
        finally:
            pool.release(connection)
        return client.execute_command('EVALSHA', script.sha, *rest)
    except redis_errors.NoScriptError:
        return client.execute_command('EVAL', script.text, *rest)


def _is_plain(client: Any) -> bool:
    """Whether its pool may be used: nobody wants to see every command."""
    return (
        getattr(type(client), 'execute_command', None) is _execute_command
        and redis_client.Redis.execute_command is _execute_command
        and not hasattr(_execute_command, '__wrapped__')
        and 'execute_command' not in client.__dict__
        and client.connection is None
        and getattr(client.connection_pool, 'cache', None) is None
    )


def _answer_over(connection: Any, *words: str | bytes | int) -> Any:
    try:
        connection.send_packed_command([_redis_wire.packed(*words)])
        return connection.read_response(disable_decoding=True)
    except redis_errors.ResponseError:
        raise
    except BaseException:
        # Whatever still comes is not the answer to the next command
        connection.disconnect()
        raise
