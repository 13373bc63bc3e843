"""The sessions of this process with one database: lent, idle, closed."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time

import psycopg
import psycopg.conninfo

from . import (
    _after_fork,
    _holdings,
    _postgres_session,
    _postgres_sql,
    _postgres_watch,
    _postgres_wire,
    _this_process,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: a conninfo string or URL, its parts, or who makes connections
    Source = (
        str | dict[str, Any] | Callable[[], psycopg.Connection[Any]] | None
    )

_WHO_WE_ARE = re.compile(r'(?:(?P<label>.*) )?(?P<pid>\d+)@(?P<host>\S+)')
# What PostgreSQL keeps of an application's name
_NAME_BYTES = 63


def application_name(label: str) -> str:
    """What a connection calls itself, so that `holders()` can tell."""
    ours = f'{os.getpid()}@{socket.gethostname()}'
    if not label:
        label = 'portalocker'
    return f'{label[: max(0, _NAME_BYTES - len(ours) - 1)]} {ours}'


def read_application_name(name: str) -> tuple[int, str | None, str | None]:
    """The pid, host and label in a name; what is unknown is 0 or None."""
    found = _WHO_WE_ARE.fullmatch(name)
    if found is None:
        return 0, None, name or None
    label = found['label']
    if label == 'portalocker':
        label = None
    return int(found['pid']), found['host'], label


class Endpoint:
    """One database, and what this process has open there.

    A thread that holds several locks holds them in one session: only so can
    the server see that it waits in a circle.
    """

    def __init__(
        self,
        source: Source,
        *,
        has_session_pooler: bool,
    ) -> None:
        self._source = source
        self._has_session_pooler = has_session_pooler
        # guards the rest, and `users` of each session; never held while
        # anything is said to the server. A collection may come in between:
        # so the same thread may take it again
        self._mutex = threading.RLock()
        self._idle: list[_postgres_session.Session] = []
        self._lent: dict[_holdings.Claimant, _postgres_session.Session] = {}
        self.watch = _endpoints.watch

    def enter(self, user: object) -> _postgres_session.Session:
        """The session of the calling thread; `leave()` gives it back."""
        claimant = _holdings.current_claimant()
        with self._mutex:
            session = self._lent.get(claimant)
            if session is not None:
                session.users.add(user)
                return session
        return self._lend(self._idle_or_new(), user, claimant)

    def borrow(self, user: object) -> _postgres_session.Session:
        """A session that holds nothing; `leave()` gives it back."""
        return self._lend(self._idle_or_new(), user, None)

    def _lend(
        self,
        session: _postgres_session.Session,
        user: object,
        claimant: _holdings.Claimant | None,
    ) -> _postgres_session.Session:
        with self._mutex:
            session.users.add(user)
            session.claimant = claimant
            if claimant is not None:
                self._lent[claimant] = session
        return session

    def _idle_or_new(self) -> _postgres_session.Session:
        while True:
            try:
                session = self._idle.pop()  # the one used last
            except IndexError:
                return self._open()
            if session.is_alive():
                return session

    def leave(self, session: _postgres_session.Session, user: object) -> None:
        """One user of the session is done with it."""
        with self._mutex:
            if user not in session.users:
                return
            session.users.discard(user)
            if session.users:
                return
            self._end_loan(session)
            if session.loss is None and not session.is_tainted:
                session.idle_since = time.monotonic()
                self._idle.append(session)
                return
        session.close()

    def _end_loan(self, session: _postgres_session.Session) -> None:
        claimant, session.claimant = session.claimant, None
        if claimant is not None and self._lent.get(claimant) is session:
            del self._lent[claimant]

    def drop(self, session: _postgres_session.Session) -> None:
        """Never lend this session again."""
        with self._mutex:
            self._end_loan(session)
            with contextlib.suppress(ValueError):
                self._idle.remove(session)

    def close_idle(self, seconds: float = 0.0) -> None:
        """Close what was idle for this long."""
        with self._mutex:
            limit = time.monotonic() - seconds
            over = [s for s in self._idle if s.idle_since <= limit]
        for session in over:
            session.close()

    def close_all(self) -> None:
        """At the exit of the process: the server is told."""
        with self._mutex:
            sessions = [*self._idle, *self._lent.values()]
        for session in sessions:
            session.holds.clear()  # nobody is left to be told
            session.close()

    def leave_to_parent(self) -> None:
        """In a forked child: the connections are the parent's."""
        for session in [*self._idle, *self._lent.values()]:
            with contextlib.suppress(psycopg.OperationalError):
                _after_fork.part_with(session.wire.connection.pgconn.socket)
            # neither may be collected: it would speak to the server, or warn
            _left.append(session.wire.connection.pgconn)
            del session.wire.connection.pgconn

    def _open(self) -> _postgres_session.Session:
        try:
            connection = self._connect()
        except psycopg.Error as error:
            raise exceptions.LockException(
                f'cannot connect to PostgreSQL: {str(error).strip()}'
            ) from error
        wire = _postgres_wire.Wire(connection)
        try:
            self._prepare(wire)
        except (_postgres_wire.Refused, _postgres_wire.WireLost) as error:
            wire.close()
            raise exceptions.LockException(
                f'cannot use PostgreSQL for locks: {error}'
            ) from error
        except BaseException:
            wire.close()
            raise
        session = _postgres_session.Session(self, wire)
        self.watch.add(session)
        return session

    def _connect(self) -> psycopg.Connection[Any]:
        if callable(self._source):
            connection = self._source()
            connection.autocommit = True
            return connection
        if isinstance(self._source, dict):
            given = psycopg.conninfo.conninfo_to_dict(**self._source)
        else:
            given = psycopg.conninfo.conninfo_to_dict(self._source or '')
        label = str(
            given.pop('application_name', None)
            or os.environ.get('PGAPPNAME', '')
        )
        settings: dict[str, Any] = {**_postgres_sql.CLIENT_SETTINGS, **given}
        return psycopg.connect(
            **settings,
            application_name=application_name(label),
            autocommit=True,
        )

    def _prepare(self, wire: _postgres_wire.Wire) -> None:
        ((pid, is_standby),) = wire.execute(_postgres_sql.PROBE)
        if int(pid or 0) != wire.backend_pid and not self._has_session_pooler:
            raise exceptions.LockException(
                'cannot lock through a connection pooler: what answers is not '
                'the server that was connected to, and in transaction pooling '
                'a lock would stay with a connection that others use. Connect '
                'to the server itself; or use transaction_lock(); or, where '
                'the pooler gives each client a connection of its own, say '
                'session_pooler=True'
            )
        if is_standby == b't':
            raise exceptions.LockException(
                'cannot lock on a standby: its locks exclude nobody on the '
                'primary; connect to the primary, for example with '
                'target_session_attrs=read-write'
            )
        wire.execute(_postgres_sql.settings(wire.server_version))
        if wire.server_version >= _postgres_sql.CHECKS_CLIENT_SINCE:
            with contextlib.suppress(_postgres_wire.Refused):
                wire.execute(_postgres_sql.CHECK_CLIENT)


def prepare_sequence(
    session: _postgres_session.Session, sequence: str
) -> None:
    """Have the sequence there, and not behind the clock."""
    find = _postgres_sql.find_sequence(sequence)
    try:
        ((exists, may_raise),) = session.run(find)
        if exists != b't':
            session.run(_postgres_sql.create_sequence(sequence))
        if may_raise == b't':
            session.run(_postgres_sql.raise_sequence(sequence))
    except _postgres_wire.Refused as refusal:
        raise exceptions.LockException(
            f'cannot draw fencing tokens from the sequence {sequence}: '
            f'{refusal}. Have its owner say "CREATE SEQUENCE IF NOT EXISTS '
            f'{sequence}" and "GRANT ALL ON SEQUENCE {sequence} TO" your '
            'role; or give another token_sequence; or say fence=False'
        ) from refusal
    session.sequences.add(sequence)


# What a forked child keeps of its parent's connections
_left: list[Any] = []


class _Endpoints:
    """Every endpoint of this process."""

    def __init__(self) -> None:
        self._known: dict[Any, Endpoint] = {}
        self._mutex = threading.Lock()
        self._watch: _postgres_watch.Watch | None = None
        _after_fork.forget_in_child(self)

    @property
    def watch(self) -> _postgres_watch.Watch:
        """The watch of this process; made when it is needed first."""
        if self._watch is None:
            _this_process.call_at_exit(self.close_all)
            self._watch = _postgres_watch.Watch(self._on_tick)
        return self._watch

    def find(self, source: Source, *, has_session_pooler: bool) -> Endpoint:
        """The endpoint of a source; equal ones share their sessions."""
        hashable: Any = source
        if isinstance(source, dict):
            hashable = tuple(sorted(source.items()))
        key = (hashable, has_session_pooler)
        with self._mutex:
            endpoint = self._known.get(key)
            if endpoint is None:
                endpoint = self._known[key] = Endpoint(
                    source, has_session_pooler=has_session_pooler
                )
        return endpoint

    def close_idle(self, seconds: float = 0.0) -> None:
        """Close the connections that were idle for this long."""
        for endpoint in list(self._known.values()):
            endpoint.close_idle(seconds)

    def close_all(self) -> None:
        """At the exit: close every connection, end the watch."""
        for endpoint in list(self._known.values()):
            endpoint.close_all()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.join()
            watch.close()

    def join(self) -> None:
        """Wait for the watch to end, where nothing is left to watch."""
        if self._watch is not None:
            self._watch.join()

    def _on_tick(self) -> None:
        self.close_idle(_postgres_watch.IDLE_SECONDS)

    def _forget_parent(self) -> None:
        known, self._known = self._known, {}
        self._mutex = threading.Lock()
        for endpoint in known.values():
            endpoint.leave_to_parent()
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.close()


_endpoints = _Endpoints()
find_endpoint = _endpoints.find


def close_idle() -> None:
    """Close the connections that hold nothing; they are opened again.

    Returns when they are closed. An idle connection is closed after half a
    minute anyway.
    """
    _endpoints.close_idle()
    _endpoints.join()
