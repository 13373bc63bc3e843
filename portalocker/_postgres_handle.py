"""What a holder of a PostgresLock may ask: token, loss, who else."""

from __future__ import annotations

from . import (
    _holdings,
    _postgres_pool,
    _postgres_sql,
    _postgres_wire,
    exceptions,
    holder,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Handle:
    """A lock object that holds, or does not, and tells about it."""

    name: _postgres_sql.Name
    _key: _postgres_sql.Key
    _holdings: _holdings.Holdings
    _source: _postgres_pool.Source
    _session_pooler: bool
    # Of the last hold, once that was let go
    _was_lost = False

    @property
    def key(self) -> tuple[int, ...]:
        """The numbers that `pg_advisory_lock` is given."""
        return self._key.numbers

    @property
    def token(self) -> int | None:
        """The fencing token of the hold, None where there is none.

        Every hold has a larger one than all before it, of any lock that
        draws from the same sequence.
        """
        hold = self._hold()
        return None if hold is None else hold.token

    @property
    def lost(self) -> bool:
        """Whether the last hold was lost; asks our end of the connection.

        It stays true until the lock is acquired again.
        """
        hold = self._hold()
        return self._was_lost if hold is None else not hold.is_held()

    @property
    def locked(self) -> bool:
        """Whether this object holds the lock, as far as our end knows."""
        hold = self._hold()
        return hold is not None and hold.is_held()

    def ensure_held(self) -> None:
        """Raise `LockLostError` unless the lock is still held.

        It asks our end of the connection, and never waits: what the network
        has not told us yet it cannot know. Raises `LockException` where the
        lock was not acquired.
        """
        hold = self._hold()
        if hold is None:
            raise exceptions.LockException(
                f'the lock {self.name!r} is not held'
            )
        if not hold.is_held():
            raise hold.error()

    def verify(self) -> None:
        """The same as `ensure_held()`, but it asks the server.

        Takes one round trip; a server that does not answer for ten seconds
        counts as lost.
        """
        self.ensure_held()
        hold = self._hold()
        session = hold.session
        values = [part.encode() for part in self._key.row]
        try:
            rows = session.ask(hold.verbs.check, values)
        except _postgres_wire.WireLost:
            raise hold.error() from None
        if not rows:
            hold.note_loss('the server does not know of it')
            raise hold.error()

    def holders(self) -> tuple[holder.RemoteHolder, ...]:
        """Who holds the lock, as the server tells. Takes a round trip.

        `since` is when the server last heard of the holder's connection:
        that is the moment of the grant, unless it locked more, or verified.
        The server shows host and time to roles that may see them
        (`pg_read_all_stats`).
        """
        return self._who(b't')

    def waiters(self) -> tuple[holder.RemoteHolder, ...]:
        """Who waits for the lock, longest wait first; see `holders()`."""
        return self._who(b'f')

    def _endpoint(self) -> _postgres_pool.Endpoint:
        return _postgres_pool.find_endpoint(
            self._source, has_session_pooler=self._session_pooler
        )

    def _hold(self) -> Any:
        """The hold of this thread, else of another one."""
        holdings = self._holdings
        own = holdings.own()
        if own is not None:
            return own
        return next(iter(list(holdings.values())), None)

    def _who(self, granted: bytes) -> tuple[holder.RemoteHolder, ...]:
        endpoint = self._endpoint()
        user = object()
        session = endpoint.borrow(user)
        statement = _postgres_sql.who_of(session.wire.server_version)
        values = [part.encode() for part in self._key.row]
        try:
            rows = session.ask(statement, values)
        except (
            _postgres_wire.WireLost,
            _postgres_wire.Refused,
        ) as error:
            raise exceptions.LockException(
                f'cannot tell who holds {self.name!r}: {error}'
            ) from error
        finally:
            endpoint.leave(session, user)
        return tuple(_as_holder(row) for row in rows if row[0] == granted)

    def _holders_if_known(self) -> tuple[holder.RemoteHolder, ...]:
        try:
            return self.holders()
        except exceptions.LockException:
            return ()


def _as_holder(row: tuple[bytes | None, ...]) -> holder.RemoteHolder:
    _, is_shared, name, host, since = row
    pid, named_host, label = _postgres_pool.read_application_name(
        (name or b'').decode('utf-8', 'replace')
    )
    return holder.RemoteHolder(
        pid,
        host=named_host or (host.decode() if host else None),
        label=label,
        shared=is_shared == b't',
        since=None if since is None else float(since),
    )
