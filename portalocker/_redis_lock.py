"""What a Redis lock is, whether a thread or an event loop waits for it."""

from __future__ import annotations

import random
import time

from . import (
    _deadline,
    _pacing,
    _redis_claims,
    _redis_core,
    _redis_endpoint,
    _redis_holding,
    _redis_plan,
    _redis_session,
    constants,
    exceptions,
    semantics,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, ClassVar

    from .semantics import Semantics


class RedisLockState(_redis_holding.RedisHolding):
    """What a lock asks the server for, and in which session."""

    #: what locks on a Redis server promise
    semantics: Semantics = semantics.REDIS
    #: of a client that we make, unless `redis_kwargs` say otherwise
    DEFAULT_REDIS_KWARGS: ClassVar[dict[str, Any]] = {
        'health_check_interval': 10,
        'decode_responses': True,
    }
    _is_async = False
    channel: str
    timeout: float
    check_interval: float
    fail_when_locked: bool

    def _set_up(
        self,
        connection: Any,
        redis_kwargs: dict[str, Any] | None,
        on_lost: Callable[[exceptions.LockLostError], object] | None,
        *,
        interrupt_on_lost: bool,
        reentrant: bool,
    ) -> None:
        self.interrupt_on_lost = interrupt_on_lost
        self.reentrant = reentrant
        self.connection = connection
        self.close_connection: bool = connection is None
        self.redis_kwargs: dict[str, Any] = {
            **self.DEFAULT_REDIS_KWARGS,
            **(redis_kwargs or {}),
        }
        self.on_lost = on_lost
        self._start_released()

    def _order_as(
        self,
        flags: constants.LockFlags,
        limit: int,
        lease: float,
        takeover: str,
        **options: Any,
    ) -> None:
        mode = self._mode(flags, limit)
        self._order = _redis_plan.Order(
            self._channels(), mode, limit, lease, takeover
        )
        self._order.set_options(**options)
        _redis_endpoint.check_client(
            *(self._order.channels[0], self.connection),
            is_async=self._is_async,
        )

    def _channels(self) -> tuple[str, ...]:
        return (self.channel,)

    def _mode(self, flags: constants.LockFlags, limit: int) -> str:
        return mode_of(flags, limit)

    @property
    def client_name(self) -> str:
        """What the server calls our connection: `CHANNEL-lock`.

        A process has one connection for all of its locks, named after the
        lock that opened it (what is no printable ASCII becomes `_`). Nothing
        depends on the name.
        """
        return f'{self._order.channels[0]}-lock'

    def _timeout_generator(
        self,
        timeout: float | None,
        check_interval: float | None,
        pause: Callable[[float], object] | None = None,
    ) -> Iterator[int]:
        """Count the attempts; the pauses between them are random."""
        return jittered_ticks(
            self.timeout if timeout is None else timeout,
            self.check_interval if check_interval is None else check_interval,
            pause or time.sleep,
        )

    def _acquisition(
        self,
        timeout: float | None,
        check_interval: float | None,
        fail_when_locked: bool | None,
        counted: Any,
    ) -> _redis_plan.Plan:
        """The plan of an `acquire()` with these arguments."""
        if timeout is None:
            timeout = self.timeout
        if fail_when_locked is None:
            fail_when_locked = self.fail_when_locked
        if fail_when_locked:
            timeout = 0.0
        pauses: list[float] = []
        ticks = self._timeout_generator(timeout, check_interval, pauses.append)
        return _redis_plan.acquisition(
            self._order, timeout, ticks, pauses, counted
        )

    def _live_session(self) -> Any:
        """The session that the last hold was in, while it lives."""
        session = self._session
        return None if session is None or session.is_over else session

    def _session_at(self, endpoint: _redis_endpoint.Endpoint) -> Any:
        """The session there; opened, which waits, where there is none."""
        if self._order.is_legacy and endpoint.dialect.is_sharded:
            raise ValueError(
                'cannot exclude older releases in a cluster: there they do '
                'not even exclude each other'
            )
        self._session = _redis_session.session_for(
            endpoint, self._order.bases[0], self.client_name
        )
        return self._session

    def _claim_in(self, session: Any) -> _redis_claims.Claim | None:
        """A new claim; None where the session has ended meanwhile."""
        order = self._order
        claim = _redis_claims.Claim(
            session, order.channels, order.keys, order.lease
        )
        claim.is_legacy = order.is_legacy
        # now: it may be lost as soon as it is granted
        claim.on_lost = self._loss_handler()
        claim.wants_interrupt = self.interrupt_on_lost
        try:
            session.register(claim)
        except _redis_claims.SessionEnded:
            return None
        session.visit_channels(claim)
        return claim

    def _claim_to_verify(self) -> _redis_claims.Claim:
        self.ensure_held()
        claim = self._current()
        assert claim is not None
        return claim

    def _verified(
        self, claim: _redis_claims.Claim, answer: Any, sent: float
    ) -> None:
        """The server answered a beat that was sent at this moment."""
        claim.happened(
            *(claim.hold.answered_beat, all(answer), sent),
            _redis_core.now(),
        )
        self.ensure_held()

    def _who(self) -> _redis_plan.RunScript:
        """The question who holds, and who waits."""
        dialect = _redis_endpoint.dialect_of(self.get_connection())
        return _redis_plan.question_who(dialect, self._order.bases[0])

    def get_connection(self) -> Any:
        """Return the client for commands."""
        raise NotImplementedError


class RedisPermits(RedisLockState):
    """What a semaphore is, of either colour."""

    def _mode(self, flags: constants.LockFlags, limit: int) -> str:
        if mode_of(flags, limit) == 's':
            raise ValueError('cannot share a semaphore: its permits are alike')
        return 'p'


class RedisChannels(RedisLockState):
    """What a lock on several channels is, of either colour."""

    channels: tuple[str, ...]

    def _name(self, channels: Iterable[str]) -> str:
        self.channels = tuple(dict.fromkeys(channels))
        return self.channels[0] if self.channels else ''

    def _channels(self) -> tuple[str, ...]:
        return self.channels


def mode_of(flags: constants.LockFlags, limit: int) -> str:
    """What the server calls a kind of lock: `x`, `s`, or `p` for permits."""
    if limit < 1:
        raise ValueError(f'cannot have {limit} holders: at least one')
    if int(flags) & constants.LOCK_SH:
        if limit > 1:
            raise ValueError('cannot limit shared holders: see RedisSemaphore')
        return 's'
    return 'x' if limit == 1 else 'p'


def jittered_ticks(
    timeout: float, interval: float, pause: Callable[[float], object]
) -> Iterator[int]:
    """Count the attempts; the pauses between them are random."""
    deadline = _deadline.Deadline(timeout)
    interval = max(interval, _pacing.SHORTEST_PAUSE_SECONDS)
    attempt = 0
    while True:
        yield attempt
        remaining = deadline.remaining()
        if remaining <= 0:
            return
        attempt += 1
        jitter = 0.75 + random.random() / 2  # noqa: S311 - no secret
        pause(min(remaining, interval * jitter))
