"""How a script is run: over a connection of the session, or by the client."""

from __future__ import annotations

import redis
from redis import client as redis_client
from redis import exceptions as redis_errors

from . import _redis_endpoint, _redis_turns, _redis_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import _redis_plan

_CHUNK = 65536

# What a pool wants to be told before it gives a connection
_WHAT_FOR = ('EVALSHA',) if redis.__version__.startswith('5.') else ()
#: who waits no more often leaves scripts to the client
FEW_WAITS = 8
#: whatever the client library raises
FAILURES: type[Exception] = redis_errors.RedisError
_execute_command = redis_client.Redis.execute_command


class ScriptLine(_redis_turns.UsedByOne):
    """A connection on which one thread at a time runs scripts.

    Only who waits often has one. It is opened again after it broke; where
    the server does not let us in it is not tried again.
    """

    def __init__(self, endpoint: _redis_endpoint.Endpoint, name: str) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._name = name
        self._connection: Any = None
        self._socket: Any = None
        #: how often a lock of the session was granted to one who waited
        self.waits = 0
        self._is_refused = False

    def ask(self, words: tuple[Any, ...], seconds: float | None) -> Any:
        """The answer to a command; None where this is not the way.

        Raises `ConnectionError` of the client where none came.
        """
        if self._is_refused or self.waits <= FEW_WAITS:
            return None
        me, is_whole = object(), False
        try:
            if not self.take(me):
                return None
            if self._socket is None and not self._open():
                return None
            answer = self._answer(_redis_wire.packed(*words), seconds)
            is_whole = True
        except (OSError, ValueError) as error:
            raise redis_errors.ConnectionError(str(error)) from error
        finally:
            if self.is_taken_by(me):
                if not is_whole:
                    # What still comes is not the answer to the next one
                    self._close()
                self.give_back(me)
        return answer

    def _open(self) -> bool:
        try:
            self._connection = self._endpoint.connection(self._name)
            self._socket = _redis_endpoint.open_socket(self._connection)
        except (redis_errors.RedisError, OSError, TypeError):
            self._is_refused = True
            return False
        self._parser = _redis_wire.ReplyParser()
        return True

    def _answer(self, data: bytes, seconds: float | None) -> Any:
        if self._socket.gettimeout() != seconds:
            self._socket.settimeout(seconds)
        self._socket.sendall(data)
        while True:
            chunk = self._socket.recv(_CHUNK)
            if not chunk:
                raise ConnectionError('the server closed it')
            for answer in self._parser.feed(chunk):
                if not isinstance(answer, _redis_wire.PushMessage):
                    return answer

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._socket = None
        if connection is not None:
            connection.disconnect()

    def forget_parent(self) -> None:
        """A forked child closes its copy; the parent goes on."""
        if self._socket is not None:
            _redis_endpoint.close_copy(self._socket)


def run_script(client: Any, step: _redis_plan.RunScript) -> Any:
    """The answer of the server; the script's text is sent if it has none.

    The first try takes the session's connection, or one of the client's
    pool. What fails there is done once more by the client, which has its own
    ideas of retrying: scripts may be repeated.
    """
    script, keys, words, session = step
    rest = (len(keys), *keys, *words)
    command = ('EVALSHA', script.sha, *rest)
    try:
        if _is_plain(client):
            try:
                return _first_answer(client, session, command)
            except (redis_errors.ConnectionError, redis_errors.TimeoutError):
                pass
        return client.execute_command(*command)
    except redis_errors.NoScriptError:
        return client.execute_command('EVAL', script.text, *rest)


def _first_answer(client: Any, session: Any, command: tuple[Any, ...]) -> Any:
    pool = client.connection_pool
    line = getattr(session, 'line', None)
    if line is not None:
        seconds = pool.connection_kwargs.get('socket_timeout')
        answer = line.ask(command, seconds)
        if not isinstance(answer, _redis_wire.ServerError | None):
            return answer
    # who answers with an error says it again, in the words of the client
    connection = pool.get_connection(*_WHAT_FOR)
    try:
        return _answer_over(connection, command)
    finally:
        pool.release(connection)


def _answer_over(connection: Any, command: tuple[Any, ...]) -> Any:
    try:
        connection.send_packed_command([_redis_wire.packed(*command)])
        return connection.read_response(disable_decoding=True)
    except redis_errors.ResponseError:
        raise
    except BaseException:
        # Whatever still comes is not the answer to the next command
        connection.disconnect()
        raise


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
