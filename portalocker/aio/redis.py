"""The lock that lives in a subscription, for tasks of asyncio.

Commands go through a client of `redis.asyncio`. The session is the one that
threads use: it has a thread, so a loop that is busy loses no lock.
"""

from __future__ import annotations

import asyncio

from redis import asyncio as redis_asyncio
from redis import exceptions as redis_errors

from .. import (
    _listening,
    _redis_claims,
    _redis_core,
    _redis_endpoint,
    _redis_holder,
    _redis_lock,
    _redis_plan,
    _redis_roll_call,
    constants,
    exceptions,
    utils,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types as python_types
    from collections.abc import Callable, Iterable
    from typing import Any, Literal, Self

__all__ = ['AsyncRedisLock', 'AsyncRedisMultiLock', 'AsyncRedisSemaphore']


class AsyncRedisLock(_redis_lock.RedisLockState):
    """`RedisLock` for tasks: whoever waits leaves the loop to others.

    `connection`
        a client of `redis.asyncio` (also of Sentinel or a cluster). It is
        used and never closed or changed. Without one a client is made of
        `redis_kwargs`, and closed at the release. Other clients are a
        `TypeError`.
    `on_lost`
        called in the event loop that acquired the lock.
    `reentrant`
        the task that holds it may take it again.

    The other parameters are those of `RedisLock`, and so are the promises. A
    task that is cancelled, at any moment, leaves neither a hold nor a place
    in line behind.
    """

    _is_async = True

    def __init__(
        self,
        channel: str,
        connection: Any = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = False,
        unavailable_timeout: float = 1,
        redis_kwargs: dict[str, Any] | None = None,
        *,
        flags: constants.LockFlags = constants.LockFlags.EXCLUSIVE,
        limit: int = 1,
        fair: bool = True,
        lease: float = 10.0,
        takeover: Literal['immediate', 'safe'] = 'immediate',
        on_lost: Callable[[exceptions.LockLostError], object] | None = None,
        interrupt_on_lost: bool = False,
        reentrant: bool = False,
        label: str | None = None,
        fence: bool = True,
        legacy_compat: bool = False,
    ) -> None:
        self._set_up(
            *(connection, redis_kwargs, on_lost),
            interrupt_on_lost=interrupt_on_lost,
            reentrant=reentrant,
        )
        utils.LockBase.__init__(
            self,  # type: ignore[arg-type] # it coalesces and checks the three
            *(timeout, check_interval, fail_when_locked),
        )
        self.channel = channel
        self.unavailable_timeout = unavailable_timeout
        self._order_as(
            *(flags, limit, lease, takeover),
            fair=fair,
            fence=fence,
            label=label,
            legacy_compat=legacy_compat,
        )

    def get_connection(self) -> Any:
        """Return the client for commands; makes one where none was given."""
        if self.connection is None:
            self.connection = redis_asyncio.Redis(**self.redis_kwargs)
        return self.connection

    async def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Self:
        """Take the lock and return this object; see `RedisLock.acquire`."""
        phases_of = _listening.listener
        wish = timeout, check_interval, fail_when_locked
        if phases_of is None:
            await self._take(*wish, None)
            return self
        counted = phases_of(self)
        with _listening.Acquiring(counted) as acquiring:
            acquiring.holds(await self._take(*wish, counted))
        return self

    async def _take(
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
            claim: _redis_claims.Claim = await self._drive(
                self._acquisition(
                    timeout, check_interval, fail_when_locked, counted
                )
            )
            self._publish(claim)
            return claim
        except BaseException:
            self._abort(place)
            await self._close_own_connection()
            raise

    async def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether we hold it."""
        try:
            await self.acquire(fail_when_locked=True)
        except exceptions.AlreadyLocked:
            return False
        return True

    async def release(self) -> None:
        """Let the lock go; see `RedisLock.release`."""
        claim = self._current()
        try:
            if claim is None or self._end_one() is None:
                return
            if claim.counted is None:
                await self._give_back(claim)
                return
            with _listening.Releasing(claim):
                await self._give_back(claim)
        finally:
            self._let_go(claim)

    async def _give_back(self, claim: _redis_claims.Claim) -> None:
        try:
            was_held = await self._drive(_redis_plan.releasing(claim))
        finally:
            await self._close_own_connection()
        self._tell_if_lost(claim, was_held=was_held)

    async def verify(self) -> None:
        """Ask the server whether we hold; raises `LockLostError` if not."""
        claim, sent = self._claim_to_verify(), _redis_core.now()
        answer = await _run_script(
            self.get_connection(), _redis_plan.question_beat(claim)
        )
        self._verified(claim, answer, sent)

    async def holders(self) -> tuple[_redis_holder.RedisHolder, ...]:
        """Who holds the lock, as the server knows them; one round trip."""
        return await self._asked_who('holder')

    async def waiters(self) -> tuple[_redis_holder.RedisHolder, ...]:
        """Who waits for the lock, first come first; one round trip."""
        return await self._asked_who('waiter')

    async def _asked_who(
        self, role: str
    ) -> tuple[_redis_holder.RedisHolder, ...]:
        question, client = self._who(), self.get_connection()
        try:
            answer = await _run_script(client, question)
        finally:
            await self._close_own_connection()
        return _redis_holder.those_who(role, answer)

    async def check_or_kill_lock(
        self, connection: Any, timeout: float | None = None
    ) -> bool | None:
        """Ask the holders whether they live; take the lock from the dead.

        See `RedisLock.check_or_kill_lock`.
        """
        if timeout is None:
            timeout = self.unavailable_timeout
        found = await self.holders()
        if not found:
            return None
        session = await _session_of(self, self.get_connection())
        try:
            evicting = _redis_roll_call.eviction(
                session, self._order.bases[0], found, timeout
            )
            answered: bool | None = await self._drive(evicting, connection)
        finally:
            await self._close_own_connection()
        return answered

    async def __aenter__(self) -> Self:
        return await self.acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> None:
        try:
            await self.release()
        except exceptions.LockLostError:
            if exc_type is None:  # else the body says more
                raise

    def __del__(self) -> None:
        """A lock that nobody refers to is released, without waiting."""
        self._give_back_claims()

    def _claimant(self) -> object:
        return asyncio.current_task() if self.reentrant else None

    def _loss_handler(self) -> Callable[[Any], object] | None:
        if self.on_lost is None:
            return None
        on_lost: Callable[[Any], object] = self.on_lost
        loop = asyncio.get_running_loop()
        return lambda loss: loop.call_soon_threadsafe(on_lost, loss)

    async def _close_own_connection(self) -> None:
        if self.close_connection and not self._claims and self.connection:
            client = self.connection
            self.connection: Any = None
            await client.aclose()

    async def _new_claim(self) -> _redis_claims.Claim:
        client = self.get_connection()
        while True:
            claim = self._claim_in(await _session_of(self, client))
            if claim is not None:
                return claim

    async def _drive(self, plan: _redis_plan.Plan, client: Any = None) -> Any:
        """Do what a plan needs, while other tasks run."""
        try:
            step = next(plan)
            while True:
                try:
                    if isinstance(step, _redis_plan.RunScript):
                        result = await _run_script(
                            client or self.get_connection(), step
                        )
                    elif isinstance(step, _redis_plan.Rest):
                        result = None
                        await _rest(step.claim, step.seconds)
                    else:
                        result = await self._new_claim()
                except BaseException as error:  # noqa: BLE001 - theirs
                    step = plan.throw(error)
                else:
                    step = plan.send(result)
        except StopIteration as done:
            return done.value


class AsyncRedisSemaphore(_redis_lock.RedisPermits, AsyncRedisLock):
    """`RedisSemaphore` for tasks: at most `maximum` holders at a time."""

    def __init__(
        self,
        maximum: int,
        channel: str,
        connection: Any = None,
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


class AsyncRedisMultiLock(_redis_lock.RedisChannels, AsyncRedisLock):
    """`RedisMultiLock` for tasks: several locks, all or nothing."""

    def __init__(
        self,
        channels: Iterable[str],
        connection: Any = None,
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


async def _session_of(lock: AsyncRedisLock, client: Any) -> Any:
    """The session in which to hold; opened where there is none."""
    session = lock._live_session()
    if session is None:
        endpoint = await _redis_endpoint.async_endpoint_of(
            client, *lock._order.bases
        )
        session = await asyncio.to_thread(lock._session_at, endpoint)
    return session


async def _run_script(client: Any, step: _redis_plan.RunScript) -> Any:
    """The answer of the server; the script's text is sent if it has none."""
    script, keys, words, _ = step
    try:
        return await client.execute_command(
            'EVALSHA', script.sha, len(keys), *keys, *words
        )
    except redis_errors.NoScriptError:
        return await client.execute_command(
            'EVAL', script.text, len(keys), *keys, *words
        )


async def _rest(claim: Any, seconds: float) -> None:
    """Wait until something happens to the claim, or the time is over."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    if claim is None or claim.prepare_pause(wake):
        try:
            async with asyncio.timeout(min(seconds, 3600.0)):
                await event.wait()
        except TimeoutError:
            pass
