"""A lock on the PostgreSQL that you have already.

It needs psycopg 3: `pip install "portalocker[postgres]"`.

>>> from portalocker import postgres
>>> lock = postgres.PostgresLock('nightly', 'postgresql://db.example/app')
>>> with lock:  # doctest: +SKIP
...     print('one process at a time comes here; token', lock.token)
"""

from __future__ import annotations

import time

from . import (
    _acquisition,
    _after_fork,
    _copies,
    _deadline,
    _holdings,
    _listening,
    _lock_request,
    _postgres_sql,
    constants,
    exceptions,
    semantics,
    utils,
)

try:
    import psycopg

    from . import (
        _postgres_handle,
        _postgres_pool,
        _postgres_session,
        _postgres_wire,
    )
    from ._postgres_transaction import transaction_lock
except ImportError as _error:
    raise ImportError(
        f'cannot import portalocker.postgres: {_error}; the client of '
        'PostgreSQL comes with pip install "portalocker[postgres]"'
    ) from _error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types as python_types
    from collections.abc import Callable
    from typing import Any, Self

    from ._postgres_sql import Name

__all__ = ['PostgresLock', 'close_idle', 'transaction_lock']

close_idle: Callable[[], None] = _postgres_pool.close_idle


class PostgresLock(
    _copies.StartsReleased, _postgres_handle.Handle, utils.LockBase
):
    """A lock on a PostgreSQL server: between threads, processes and hosts.

    It is an advisory lock in a connection of its own: when the process dies,
    or its connection ends, the server lets go. Who waits sleeps in the
    server's own queue: nobody polls, the first come is the first served.
    Locks of one name exclude each other within one database.

    `name`
        what is locked: a string, or the number, or the pair of numbers, that
        other programs give to `pg_advisory_lock`. The number of a string is
        the first eight bytes of its SHA-256, as a signed big-endian integer.
    `connection`
        where the server is: a conninfo string or URL, a dict of its parts, a
        function that returns a new `psycopg.Connection`, or None for what
        the environment says (PGHOST ...). Connections are opened when they
        are needed, shared by the locks of a thread, and closed when nothing
        was locked for half a minute.
    `timeout`, `fail_when_locked`
        see `LockBase`. `check_interval` has no effect.
    `flags`
        `EXCLUSIVE` or `SHARED`.
    `fence`, `token_sequence`
        whether each hold draws a fencing token, and the sequence it comes
        from; it is created, in UTC microseconds, where it is missing.
    `on_lost`
        called once with a `LockLostError` when a hold is lost, in a thread of
        the package.
    `interrupt_on_lost`
        raise `KeyboardInterrupt` in the main thread as well.
    `session_pooler`
        say True where a pooler between us and the server gives each client
        a connection of its own ("session pooling"). Any pooler is refused
        otherwise: a transaction pooler would lock for strangers.

    One object may be used by several threads; they exclude each other. In a
    forked child it starts released, and what the parent holds stays held.

    >>> PostgresLock('jobs', 'postgresql://db.example/app').key
    (6744729554477740858,)
    """

    #: what this kind of lock promises
    semantics: semantics.Semantics = semantics.POSTGRESQL

    _of_the_hold = frozenset({'_holdings', '_was_lost'})

    def __init__(
        self,
        name: Name,
        connection: _postgres_pool.Source = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = False,
        *,
        flags: constants.LockFlags = constants.LockFlags.EXCLUSIVE,
        fence: bool = True,
        token_sequence: str = _postgres_sql.SEQUENCE,
        on_lost: Callable[[exceptions.LockLostError], object] | None = None,
        interrupt_on_lost: bool = False,
        session_pooler: bool = False,
    ) -> None:
        self._start_released()  # first: __del__ must work at any moment
        super().__init__(timeout, check_interval, fail_when_locked)
        _lock_request.check_flags(int(flags))
        _check_source(connection)
        _postgres_sql.check_sequence_name(token_sequence)
        self.name = name
        self.flags = flags
        self._key = _postgres_sql.key_of(name)
        self._is_shared = bool(int(flags) & constants.LOCK_SH)
        self._sequence = token_sequence if fence else None
        self._verbs = _postgres_sql.Verbs(
            self._key, is_shared=self._is_shared, sequence=self._sequence
        )
        self._source = connection
        self._session_pooler = session_pooler
        self._on_lost = on_lost
        self._interrupt_on_lost = interrupt_on_lost

    def _start_released(self) -> None:
        self._forget_parent()
        _after_fork.forget_in_child(self)

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Self:
        """Take the lock; each argument that is given replaces the lock's.

        Waits for `timeout` seconds at most, in the server. Raises
        `AlreadyLocked` at the end, or at once where `fail_when_locked`;
        `DeadlockError` where we would wait for ourselves; `AlreadyActive`
        where this thread holds this object already; and another
        `LockException`, at once, where the server cannot be used.
        """
        phases_of = _listening.listener
        if phases_of is None:
            self._acquire(timeout, fail_when_locked, None)
            return self
        counted = phases_of(self)
        with _listening.Acquiring(counted) as acquiring:
            hold = self._acquire(timeout, fail_when_locked, counted)
            hold.is_counted_by(acquiring)
        return self

    def _acquire(
        self,
        timeout: float | None,
        fail_when_locked: bool | None,
        counted: Any,
    ) -> _postgres_session.Hold:
        started = time.perf_counter()
        may_wait = not utils.coalesce(fail_when_locked, self.fail_when_locked)
        deadline = _deadline.Deadline(utils.coalesce(timeout, self.timeout))
        may_wait = may_wait and deadline.remaining() > 0
        hold = self._take(deadline if may_wait else None, counted)
        if hold is not None:
            return hold
        raise exceptions.AlreadyLocked(
            filename=str(self.name),
            holders=self._holders_if_known(),
            waited=time.perf_counter() - started if may_wait else None,
        )

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether this thread holds it.

        Raises as `acquire()` does, except `AlreadyLocked`.
        """
        if self._own_hold() is not None:
            return True
        return _acquisition.try_counted(
            self, lambda: self._take(None) is not None, self._holdings.own
        )

    def release(self) -> None:
        """Let the lock go; does nothing where it is not held.

        A thread that never acquired this object may release it for another
        one. Raises `LockLostError` where the hold was lost before.
        """
        hold = self._holdings.to_release()
        if hold is None:
            return
        if hold.counted is None:
            self._end(hold)
            return
        with _listening.Releasing(hold):
            self._end(hold)

    def _end(self, hold: _postgres_session.Hold) -> None:
        self._give_back(hold)
        if hold.loss is not None:
            raise hold.error()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> None:
        """Release; a loss is raised, or noted on what the block raised."""
        try:
            self.release()
        except exceptions.LockLostError as loss:
            if exc_value is None:
                raise
            exc_value.add_note(str(loss))

    def __del__(self) -> None:
        """A lock object that nobody refers to holds nothing."""
        for hold in self.__dict__.get('_holdings', {}).values():
            hold.is_forgotten = True
            hold.session.endpoint.watch.post(
                lambda hold=hold: _give_back(hold)
            )

    def _own_hold(self) -> Any:
        """The hold of this thread; one that was lost is put away."""
        hold: Any = self._holdings.own()
        if hold is not None and hold.loss is not None:
            self._give_back(hold)
            return None
        return hold

    def _take(
        self, deadline: _deadline.Deadline | None, counted: Any = None
    ) -> _postgres_session.Hold | None:
        """The new hold; None where others hold until the deadline."""
        if self._own_hold() is not None:
            raise exceptions.AlreadyActive(
                f'this thread holds the lock {self.name!r} already'
            )
        self._holdings.note_user()
        self._was_lost = False
        hold = self._new_hold()
        hold.counted_wait = counted
        try:
            is_held = self._enter_and_take(hold, deadline)
            if is_held:
                self._holdings.put(hold)
        except BaseException:
            if hold.session is not None:
                _give_back(hold)
            raise
        finally:
            hold.waits_no_more()
        return hold if is_held else None

    def _new_hold(self) -> _postgres_session.Hold:
        return _postgres_session.Hold(
            str(self.name),
            self._key,
            self._verbs,
            is_shared=self._is_shared,
            on_lost=self._on_lost,
            interrupt_on_lost=self._interrupt_on_lost,
        )

    def _enter_and_take(
        self,
        hold: _postgres_session.Hold,
        deadline: _deadline.Deadline | None,
    ) -> bool:
        endpoint = self._endpoint()
        try:
            while True:
                session = endpoint.enter(hold)
                try:
                    return self._take_in(session, hold, deadline)
                except _postgres_wire.NoAnswer:
                    raise
                except _postgres_wire.WireLost:
                    # it broke while it was idle: the server may be back
                    if session.holds or not session.has_served:
                        raise
                finally:
                    if hold.session is None:
                        endpoint.leave(session, hold)
        except _postgres_wire.WireLost as error:
            raise exceptions.LockException(
                f'cannot lock {self.name!r}: {error}'
            ) from error
        except _postgres_wire.Refused as refusal:
            raise self._failure(refusal) from refusal

    def _take_in(
        self,
        session: _postgres_session.Session,
        hold: _postgres_session.Hold,
        deadline: _deadline.Deadline | None,
    ) -> bool:
        for held in session.holds:
            # what nobody refers to is about to be given back
            if (
                held.key == hold.key
                and not held.is_forgotten
                and not (held.is_shared and hold.is_shared)
            ):
                if deadline is None:
                    return False
                raise exceptions.DeadlockError(
                    f'cannot lock {self.name!r}: this thread holds it '
                    'already, through another object',
                    filename=str(self.name),
                )
        if self._sequence not in session.sequences:
            assert self._sequence is not None
            _postgres_pool.prepare_sequence(session, self._sequence)
        return session.take(hold, deadline)

    def _failure(
        self, refusal: _postgres_wire.Refused
    ) -> exceptions.LockException:
        kind = exceptions.LockException
        if refusal.sqlstate == _postgres_wire.DEADLOCK_DETECTED:
            kind = exceptions.DeadlockError
        return kind(
            f'cannot lock {self.name!r}: {refusal}', filename=str(self.name)
        )

    def _give_back(self, hold: _postgres_session.Hold) -> None:
        try:
            _give_back(hold)
        finally:
            self._was_lost = hold.loss is not None
            if hold.is_let_go:
                self._holdings.forget(hold)

    def _forget_parent(self) -> None:
        self._holdings = _holdings.Holdings()
        self._was_lost = False


def _check_source(connection: Any) -> None:
    if isinstance(connection, psycopg.Connection):
        raise TypeError(
            'cannot lock in a connection that is not ours alone: give what '
            'it was opened with, or use transaction_lock()'
        )
    if not (
        connection is None
        or isinstance(connection, str | dict)
        or callable(connection)
    ):
        raise TypeError(
            f'cannot connect with {connection!r}: give a conninfo string, a '
            'dict of its parts, or a function that returns a connection'
        )


def _give_back(hold: _postgres_session.Hold) -> None:
    session = hold.session
    if session is None or hold.is_let_go:
        return
    try:
        session.let_go(hold)
    finally:
        hold.stop_counting()
        session.endpoint.leave(session, hold)
