"""The lock on the PostgreSQL that you have already, for an event loop.

It is the lock of `portalocker.postgres`, held by the task that took it. Needs
both extras: `pip install "portalocker[aio,postgres]"`.

>>> from portalocker.aio import postgres
>>> lock = postgres.AsyncPostgresLock('nightly', 'postgresql://db/app')
>>> async def main():
...     async with lock:
...         print('one task at a time comes here; token', lock.token)
"""

from __future__ import annotations

import copy
import math
import socket
import sys
import threading
import weakref

import anyio
import anyio.to_thread
import psycopg
import psycopg.rows

from .. import (
    _holdings,
    _listening,
    _postgres_sql,
    _postgres_transaction,
    _task_claimant,
    constants,
    exceptions,
    postgres,
    utils,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types as python_types
    from collections.abc import Callable
    from typing import Any, Self

    from .. import _postgres_pool, _postgres_session, holder
    from ..semantics import Semantics

__all__ = ['AsyncPostgresLock', 'transaction_lock']


class _OfTasks(postgres.PostgresLock):
    """The blocking half: worker threads use it in the name of tasks."""

    def acquire_for(
        self,
        waker: socket.socket,
        on_lost: Any,
        timeout: float | None,
        fail_when_locked: bool | None,
        counted: Any,
    ) -> _postgres_session.Hold:
        """Acquire; something to read from the waker ends the wait."""
        _call.waker, _call.on_lost = waker, on_lost
        try:
            here = None if counted is None else counted.here()
            return self._acquire(timeout, fail_when_locked, here)
        finally:
            del _call.waker, _call.on_lost

    def holds_unlost(self) -> bool:
        """Whether the running task holds, as far as we were told."""
        hold: Any = self._holdings.own()
        return hold is not None and hold.loss is None

    def _new_hold(self) -> _postgres_session.Hold:
        hold = super()._new_hold()
        hold.waker, hold.on_lost = _call.waker, _call.on_lost
        return hold


class AsyncPostgresLock:
    """`PostgresLock` for tasks of asyncio and trio: see there for parameters.

    Whoever waits leaves the loop to others: a thread of the package sleeps
    instead, one for each connection that waits. The lock is held by the task
    that took it; the locks of one task share a connection, so the server
    sees when tasks wait for each other in a circle (`DeadlockError`).

    `on_lost`
        called in the event loop that acquired the lock.

    A task that is cancelled, at any moment, leaves neither a hold nor a place
    in line behind; where the connection is just being opened, the task ends
    when that is done (`connect_timeout`, ten seconds usually).
    """

    #: what this kind of lock promises
    semantics: Semantics = postgres.PostgresLock.semantics

    def __init__(
        self,
        name: _postgres_sql.Name,
        connection: _postgres_pool.Source = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = False,
        *,
        flags: constants.LockFlags = constants.LockFlags.EXCLUSIVE,
        fence: bool = True,
        token_sequence: str = _postgres_sql.SEQUENCE,
        on_lost: Callable[[exceptions.LockLostError], object] | None = None,
        session_pooler: bool = False,
    ) -> None:
        self._on_lost = on_lost
        self._lock = _OfTasks(
            *(name, connection, timeout, check_interval, fail_when_locked),
            flags=flags,
            fence=fence,
            token_sequence=token_sequence,
            session_pooler=session_pooler,
        )

    @property
    def name(self) -> _postgres_sql.Name:
        """What is locked."""
        return self._lock.name

    @property
    def key(self) -> tuple[int, ...]:
        """The numbers that `pg_advisory_lock` is given."""
        return self._lock.key

    @property
    def token(self) -> int | None:
        """The fencing token of the hold, None where there is none."""
        with _as_task():
            return self._lock.token

    @property
    def locked(self) -> bool:
        """Whether this object holds the lock, as far as our end knows."""
        with _as_task():
            return self._lock.locked

    @property
    def lost(self) -> bool:
        """Whether the last hold was lost; asks our end of the connection."""
        with _as_task():
            return self._lock.lost

    def ensure_held(self) -> None:
        """Raise `LockLostError` unless the lock is still held; no wait."""
        with _as_task():
            self._lock.ensure_held()

    async def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Self:
        """Take the lock and return this object; see `PostgresLock.acquire`.

        Cancelled, it holds nothing and stands in no line.
        """
        phases_of = _listening.listener
        if phases_of is None:
            await self._acquire(timeout, fail_when_locked, None)
            return self
        counted = phases_of(self)
        with _listening.Acquiring(counted) as acquiring:
            hold = await self._acquire(timeout, fail_when_locked, counted)
            hold.is_counted_by(acquiring)
        return self

    async def _acquire(
        self,
        timeout: float | None,
        fail_when_locked: bool | None,
        counted: Any,
    ) -> _postgres_session.Hold:
        on_lost = self._handler_in_loop()
        waker, waiter = socket.socketpair()
        hold: _postgres_session.Hold
        with waker, waiter:
            hold = await _in_thread(
                lambda: self._lock.acquire_for(
                    waiter, on_lost, timeout, fail_when_locked, counted
                ),
                abandon=lambda: waker.send(b'!'),
                undo=self._lock.release,
            )
        return hold

    async def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether this task holds it."""
        with _as_task():
            if self._lock.holds_unlost():
                return True
        try:
            await self.acquire(fail_when_locked=True)
        except exceptions.AlreadyLocked:
            return False
        return True

    async def release(self) -> None:
        """Let the lock go; see `PostgresLock.release`. It ends in any case."""
        await _in_thread(self._lock.release)

    async def verify(self) -> None:
        """Ask the server whether we hold; raises `LockLostError` if not."""
        await _in_thread(self._lock.verify)

    async def holders(self) -> tuple[holder.RemoteHolder, ...]:
        """Who holds the lock; see `PostgresLock.holders`."""
        found: tuple[holder.RemoteHolder, ...]
        found = await _in_thread(self._lock.holders)
        return found

    async def waiters(self) -> tuple[holder.RemoteHolder, ...]:
        """Who waits for the lock; see `PostgresLock.waiters`."""
        found: tuple[holder.RemoteHolder, ...]
        found = await _in_thread(self._lock.waiters)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_lock': copy.copy(self._lock)}

    async def __aenter__(self) -> Self:
        return await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> None:
        """Release; a loss is raised, or noted on what the block raised."""
        await _in_thread(
            lambda: self._lock.__exit__(exc_type, exc_value, traceback)
        )

    def _handler_in_loop(self) -> Callable[[Any], object] | None:
        if self._on_lost is None:
            return None
        on_lost, call_soon = self._on_lost, _call_soon()

        def tell(loss: Any) -> None:
            try:
                call_soon(on_lost, loss)
            except RuntimeError:  # the loop is closed: nobody listens
                pass

        return tell


async def transaction_lock(
    connection: psycopg.AsyncConnection[Any],
    name: _postgres_sql.Name,
    timeout: float | None = None,
    fail_when_locked: bool = False,
    *,
    flags: constants.LockFlags = constants.LockFlags.EXCLUSIVE,
) -> None:
    """Take a lock in the transaction of the caller's own connection.

    As `portalocker.postgres.transaction_lock`, for an `AsyncConnection`; it
    runs where that does, in asyncio. A task that is cancelled while it waits
    can go on with its transaction.

    >>> async def main():
    ...     connect = psycopg.AsyncConnection.connect
    ...     async with await connect('dbname=app') as connection:
    ...         await transaction_lock(connection, 'nightly')
    ...         await connection.execute('UPDATE reports SET done = true')
    """
    if not isinstance(connection, psycopg.AsyncConnection):
        raise TypeError(
            f'cannot lock in {connection!r}: it is no AsyncConnection'
        )
    seconds = utils.coalesce(timeout, utils.DEFAULT_TIMEOUT)
    wish = connection, name, 0.0 if fail_when_locked else seconds, flags
    phases_of = _listening.listener
    if phases_of is None:
        await _lock_in(connection, _postgres_transaction.plan_of(*wish, None))
        return
    counted = phases_of(_postgres_transaction.InTransaction)
    with _listening.Acquiring(counted) as acquiring:
        plan = _postgres_transaction.plan_of(*wish, counted)
        await _lock_in(connection, plan)
        acquiring.holds(None)  # the server knows when it ends


async def _lock_in(
    connection: psycopg.AsyncConnection[Any], plan: _postgres_transaction.Plan
) -> None:
    rows = psycopg.rows.tuple_row
    async with connection.cursor(row_factory=rows) as cursor:
        try:
            words = next(plan)
            while True:
                try:
                    await cursor.execute(*words, prepare=False)
                    has_row = cursor.description is not None
                    row = await cursor.fetchone() if has_row else None
                except BaseException as error:  # noqa: BLE001 - the plan's
                    words = plan.throw(error)
                else:
                    words = plan.send(row)
        except StopIteration:
            return


# For whom a worker thread acquires
_call = threading.local()

# Task -> who holds its locks; compared by identity
_claimants: weakref.WeakKeyDictionary[Any, _holdings.Claimant] = (
    weakref.WeakKeyDictionary()
)


def _as_task() -> _holdings.ActingAs:
    """Stand for the running task; without one, for the thread."""
    task = _task_claimant.running_task()
    if task is None:
        return _holdings.ActingAs(_holdings.current_claimant())
    claimant = _claimants.get(task)
    if claimant is None:
        claimant = _claimants.setdefault(task, _holdings.Claimant())
    return _holdings.ActingAs(claimant)


async def _in_thread(
    job: Callable[[], Any],
    abandon: Callable[[], object] | None = None,
    undo: Callable[[], object] | None = None,
) -> Any:
    """Do it in a thread, in the name of the task; it always comes to an end.

    A task that is cancelled calls `abandon()`, and `undo()` after a success.
    """
    errand = _Errand(job)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(errand.run)
            try:
                await errand.is_done.wait()
            except BaseException:
                if abandon is not None:
                    abandon()
                raise
    except BaseException:
        if undo is not None and errand.has_succeeded:
            await _Errand(undo).run()
        raise
    return errand.take_result()


class _Errand:
    """A job for a thread, in the name of the running task."""

    def __init__(self, job: Callable[[], Any]) -> None:
        self._job = job
        self._acting = _as_task()
        self._result: Any = None
        self._failure: BaseException | None = None
        self.has_succeeded = False
        self.is_done = anyio.Event()

    async def run(self) -> None:
        with anyio.CancelScope(shield=True):
            # as many at a time as have connections to wait in
            limiter = anyio.CapacityLimiter(math.inf)
            await anyio.to_thread.run_sync(self._run, limiter=limiter)
        self.is_done.set()

    def _run(self) -> None:
        try:
            with self._acting:
                self._result = self._job()
            self.has_succeeded = True
        except BaseException as failure:  # noqa: BLE001 - the task raises it
            self._failure = failure

    def take_result(self) -> Any:
        failure, self._failure = self._failure, None
        if failure is None:
            return self._result
        try:
            raise failure
        finally:
            del failure  # its traceback leads here


def _call_soon() -> Callable[..., object]:
    """What has the running loop call something, from any thread."""
    asyncio, trio = sys.modules.get('asyncio'), sys.modules.get('trio')
    if asyncio is not None and asyncio._get_running_loop() is not None:
        found: Any = asyncio.get_running_loop().call_soon_threadsafe
    else:
        assert trio is not None
        found = trio.lowlevel.current_trio_token().run_sync_soon
    call: Callable[..., object] = found
    return call
