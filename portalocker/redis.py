"""The lock that lives in a subscription: between hosts, through Redis.

The server decides, atomically, who holds and who is next; a process listens
on one connection of its own, and when that connection goes, so do its locks.
Needs the `redis` extra: `pip install "portalocker[redis]"`.
"""

from __future__ import annotations

import _thread
import time
import weakref

from redis import client as redis_client

from . import (
    _holdings,
    _listening,
    _redis_claims,
    _redis_commands,
    _redis_core,
    _redis_endpoint,
    _redis_holder,
    _redis_listening,
    _redis_lock,
    _redis_plan,
    _redis_roll_call,
    _redis_session,
    constants,
    exceptions,
    utils,
)
from ._redis_holder import RedisHolder
from ._redis_session import close_sessions

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types as python_types
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, Self

#: seconds between two looks of `PubSubWorkerThread` at its connection
DEFAULT_THREAD_SLEEP_TIME = 0.1
#: seconds that a holder has to answer `check_or_kill_lock`
DEFAULT_UNAVAILABLE_TIMEOUT = 1
#: seconds for which the server keeps a lock for a holder it hears nothing of
DEFAULT_LEASE = 10.0

__all__ = [
    'PubSubWorkerThread',
    'RedisHolder',
    'RedisLock',
    'RedisMultiLock',
    'RedisSemaphore',
    'close_sessions',
]


class PubSubWorkerThread(redis_client.PubSubWorkerThread):
    """Listens to a subscription; its death interrupts the main thread.

    For subscriptions of your own. The locks of this module listen with a
    thread that tells losses instead, see `RedisLock`.
    """

    def run(self) -> None:
        """Listen until stopped; whatever fails ends in `KeyboardInterrupt`.

        The interrupt is raised in the main thread, the failure in this one.
        """
        try:
            super().run()
        except BaseException:
            _thread.interrupt_main()
            raise


class RedisLock(_redis_lock.RedisLockState, utils.LockBase):
    """A lock on a name, between all that use one Redis (or Valkey) server.

    Who waits stands in line at the server and is woken by a message; who
    dies, or loses the connection, lets go; every grant has a number
    (`token`) that is larger than all before it.

    `channel`
        the name of the lock. While it is held its channel has a subscriber.
    `connection`
        a client of redis-py (also of Sentinel or a cluster) for the
        commands. It is used and never closed or changed; locks that wait
        often open a connection like it. Without one a client is made of
        `redis_kwargs`. What is no such client is a `TypeError`.
    `timeout`, `check_interval`, `fail_when_locked`
        see `LockBase`. Grants are messages; `check_interval` is how often
        the first in line looks whether the holder died.
    `unavailable_timeout`
        seconds that a holder has to answer `check_or_kill_lock`.
    `flags`
        `EXCLUSIVE`, or `SHARED`: any number of shared holders at a time.
    `limit`
        how many hold it at a time; see `RedisSemaphore`.
    `fair`
        first come, first served. Otherwise a newcomer may be faster.
    `lease`
        seconds after which the server gives the lock to others if it hears
        nothing of us. It is renewed 16 times in that time; after six tenths
        without an answer we stop believing that we hold. A process that
        stands still for half a lease loses nothing. 0: only the
        connection counts.
    `takeover`
        `'immediate'`: a holder whose connection is gone holds no more.
        `'safe'`: it holds until its lease is over, for it may not know yet.
    `on_lost`
        called with the `LockLostError`, once, on the thread of the session
        (or, where that has ended, by `release()`), where a lock is lost
        while it is held. It must be quick: it keeps
        other locks of this process from being renewed.
    `interrupt_on_lost`
        raise `KeyboardInterrupt` in the main thread as well.
    `reentrant`
        the thread that holds it may take it again; the last of as many
        `release()` lets it go.
    `label`
        text for `holders()` and `python -m portalocker who`.
    `fence`
        whether grants have a token. The server keeps the last one of each
        name for ever, see "What stays on the server" in the documentation;
        without tokens it keeps nothing.
    `legacy_compat`
        exclude holders of the releases 3.x and 4.x on this channel, too.
        Everybody who uses this release on the channel has to say so. It
        costs two questions more for each hold, and the turn: older releases
        know no line.

    A lock that was lost raises `LockLostError` in `ensure_held()`, at
    `release()`, and at the end of a `with` block that did not fail itself.
    A check and a write are two steps: what a paused holder still writes is
    kept out by comparing tokens, and by nothing else.

    In a forked child the object starts released.
    """

    def __init__(
        self,
        channel: str,
        connection: redis_client.Redis | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = False,
        thread_sleep_time: float = DEFAULT_THREAD_SLEEP_TIME,
        unavailable_timeout: float = DEFAULT_UNAVAILABLE_TIMEOUT,
        redis_kwargs: dict[str, Any] | None = None,
        *,
        flags: constants.LockFlags = constants.LockFlags.EXCLUSIVE,
        limit: int = 1,
        fair: bool = True,
        lease: float = DEFAULT_LEASE,
        takeover: Literal['immediate', 'safe'] = 'immediate',
        on_lost: Callable[[exceptions.LockLostError], object] | None = None,
        interrupt_on_lost: bool = False,
        reentrant: bool = False,
        label: str | None = None,
        fence: bool = True,
        legacy_compat: bool = False,
    ) -> None:
        super().__init__(timeout, check_interval, fail_when_locked)
        self.channel = channel
        self.thread_sleep_time = thread_sleep_time
        self.unavailable_timeout = unavailable_timeout
        self._client: Any = None
        self._set_up(
            *(connection, redis_kwargs, on_lost),
            interrupt_on_lost=interrupt_on_lost,
            reentrant=reentrant,
        )
        self._order_as(
            *(flags, limit, lease, takeover),
            fair=fair,
            fence=fence,
            label=label,
            legacy_compat=legacy_compat,
        )

    def get_connection(self) -> Any:
        """Return the client for commands; makes one where none was given.

        Locks of one process whose `redis_kwargs` are equal share it.
        """
        if self.connection is None:
            if self._client is None:
                self._client = _shared_client(self.redis_kwargs)
            self.connection = self._client
        return self.connection

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Self:
        """Take the lock and return this object.

        Waits for `timeout` seconds at most, and not at all with
        `fail_when_locked`. Raises `AlreadyLocked`, which names the holders;
        `AlreadyActive` where this object holds already and is not
        re-entrant; and at once what the client raises where the server
        cannot be reached or refuses. Who waits already waits on while the
        server restarts.
        """
        phases_of = _listening.listener
        wish = timeout, check_interval, fail_when_locked
        if phases_of is None:
            self._take(*wish, None)
            return self
        counted = phases_of(self)
        with _listening.Acquiring(counted) as acquiring:
            acquiring.holds(self._take(*wish, counted))
        return self

    def _take(
        self,
        timeout: float | None,
        check_interval: float | None,
        fail_when_locked: bool | None,
        counted: Any,
    ) -> _redis_claims.Claim | None:
        """Take the lock; the new hold, None where it was ours before."""
        again, place = self._begin()
        if again is not None:
            return None
        try:
            claim: _redis_claims.Claim = self._drive(
                self._acquisition(
                    timeout, check_interval, fail_when_locked, counted
                )
            )
            self._publish(claim)
            return claim
        finally:
            self._abort(place)
            if not self._claims:
                self._close_own_connection()

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether we hold it.

        It never waits for other holders. Raises as `acquire()` does, except
        `AlreadyLocked`.
        """
        try:
            self.acquire(fail_when_locked=True)
        except exceptions.AlreadyLocked:
            return False
        return True

    def release(self) -> None:
        """Let the lock go; does nothing where it is not held.

        Waits for one answer of the server. A server that cannot be reached
        is no error: the lock ends with our session there. Raises
        `LockLostError` where the lock was lost while we held it.
        """
        claim = self._current()
        try:
            if claim is None or self._end_one() is None:
                return
            if claim.counted is None:
                self._give_back(claim)
                return
            with _listening.Releasing(claim):
                self._give_back(claim)
        finally:
            self._let_go(claim)

    def _give_back(self, claim: _redis_claims.Claim) -> None:
        try:
            was_held = self._drive(_redis_plan.releasing(claim))
        finally:
            self._close_own_connection()
        self._tell_if_lost(claim, was_held=was_held)

    def verify(self) -> None:
        """Ask the server whether we hold; raises `LockLostError` if not.

        One round trip. What is true at the answer may be over after it: see
        `token`.
        """
        claim, sent = self._claim_to_verify(), _redis_core.now()
        answer = _redis_commands.run_script(
            self.get_connection(), _redis_plan.question_beat(claim)
        )
        self._verified(claim, answer, sent)

    def holders(self) -> tuple[RedisHolder, ...]:
        """Who holds the lock, as the server knows them; one round trip."""
        return self._asked_who('holder')

    def waiters(self) -> tuple[RedisHolder, ...]:
        """Who waits for the lock, first come first; one round trip."""
        return self._asked_who('waiter')

    def _asked_who(self, role: str) -> tuple[RedisHolder, ...]:
        question, client = self._who(), self.get_connection()
        return _redis_holder.those_who(
            role, _redis_commands.run_script(client, question)
        )

    def channel_handler(self, message: dict[str, Any]) -> None:
        """Answer a ping of an older release; ignores anything else.

        The message is what redis-py gives to handlers; its data is a JSON
        object with the `response_channel` for the answer.
        """
        if message.get('type') != 'message':
            return
        asked_by = _redis_listening.response_channel(message.get('data'))
        if asked_by is not None:
            self.get_connection().publish(asked_by, str(time.time()))

    def check_or_kill_lock(
        self, connection: Any, timeout: float | None = None
    ) -> bool | None:
        """Ask the holders whether they live; take the lock from the dead.

        True where one answers within `timeout` seconds (None:
        `unavailable_timeout`). Each that does not loses the lock, and is
        told so if it ever looks; then, or without a holder, None.

        `acquire()` never does this: the lease does it without mistaking a
        busy holder for a dead one.
        """
        if timeout is None:
            timeout = self.unavailable_timeout
        found = self.holders()
        if not found:
            return None
        session = self._session_of(self.get_connection())
        evicting = _redis_roll_call.eviction(
            session, self._order.bases[0], found, timeout
        )
        return self._drive(evicting, connection)  # type: ignore[no-any-return]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> None:
        try:
            self.release()
        except exceptions.LockLostError:
            if exc_type is None:  # else the body says more
                raise

    def __del__(self) -> None:
        """A lock that nobody refers to is released, without waiting."""
        self._give_back_claims()

    def _claimant(self) -> object:
        return _holdings.current_claimant() if self.reentrant else None

    def _close_own_connection(self) -> None:
        if self.close_connection and not self._claims:
            self.connection: Any = None

    def _session_of(self, client: Any) -> Any:
        """The session in which to hold; opened where there is none."""
        return self._live_session() or self._session_at(
            _redis_endpoint.endpoint_of(client, *self._order.bases)
        )

    def _new_claim(self) -> _redis_claims.Claim:
        client = self.get_connection()
        while True:
            claim = self._claim_in(self._session_of(client))
            if claim is not None:
                return claim

    def _drive(self, plan: _redis_plan.Plan, client: Any = None) -> Any:
        """Do what a plan needs, waiting in this thread."""
        try:
            step = next(plan)
            while True:
                try:
                    if isinstance(step, _redis_plan.RunScript):
                        result = _redis_commands.run_script(
                            client or self.get_connection(), step
                        )
                    elif isinstance(step, _redis_plan.Rest):
                        result = None
                        _rest(step)
                    else:
                        result = self._new_claim()
                except BaseException as error:  # noqa: BLE001 - theirs
                    step = plan.throw(error)
                else:
                    step = plan.send(result)
        except StopIteration as done:
            return done.value


class RedisSemaphore(_redis_lock.RedisPermits, RedisLock):
    """At most `maximum` holders at a time.

    `maximum`
        how many; all that share a semaphore should agree. Each asks whether
        fewer than its own maximum hold it.

    The other parameters are those of `RedisLock`.
    """

    def __init__(
        self,
        maximum: int,
        channel: str,
        connection: redis_client.Redis | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = False,
        **options: Any,
    ) -> None:
        self.maximum = maximum
        super().__init__(
            *(channel, connection, timeout, check_interval, fail_when_locked),
            limit=maximum,
            **options,
        )


class RedisMultiLock(_redis_lock.RedisChannels, RedisLock):
    """Several locks, all or nothing: no order, and no deadlock.

    The server grants all at once, or puts the caller into all the lines.
    `token` is a tuple, one for each channel.

    `channels`
        the names. In a cluster they must share one hash tag:
        `'{app}:a', '{app}:b'`.

    The other parameters are those of `RedisLock`.
    """

    def __init__(
        self,
        channels: Iterable[str],
        connection: redis_client.Redis | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = False,
        **options: Any,
    ) -> None:
        super().__init__(
            self._name(channels),
            *(connection, timeout, check_interval, fail_when_locked),
            **options,
        )


# Equal options -> one client of this process, while somebody uses it
_clients: weakref.WeakValueDictionary[object, Any] = (
    weakref.WeakValueDictionary()
)


def _shared_client(options: dict[str, Any]) -> Any:
    key = tuple(
        (name, value if isinstance(value, str | int | float) else id(value))
        for name, value in sorted(options.items())
    )
    client = _clients.get(key)
    if client is None:
        client = _clients[key] = redis_client.Redis(**options)
    return client


def _rest(step: _redis_plan.Rest) -> None:
    """Sleep until something happens, or the time is over."""
    claim = step.claim
    if isinstance(claim, _redis_claims.Claim):
        claim.session.rest(claim, step.seconds)
    else:
        _redis_session.park(claim, step.seconds)
