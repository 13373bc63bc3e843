"""What a Redis lock is, whether a thread or an event loop waits for it."""

from __future__ import annotations

import time

from . import (
    _after_fork,
    _copies,
    _redis_claims,
    _redis_core,
    _redis_endpoint,
    _redis_plan,
    _redis_session,
    constants,
    exceptions,
    semantics,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from .semantics import Semantics

# Of a command client that we make
_CLIENT_OPTIONS = {'health_check_interval': 10, 'decode_responses': True}


# What a forked child keeps of its parent's clients
_clients_of_parent: list[Any] = []


class RedisLockState(_copies.StartsReleased):
    """Who holds through this object, and what it asks the server for."""

    _of_the_hold = frozenset({'_claims', '_last_claim', '_session'})

    connection: Any
    #: what locks on a Redis server promise
    semantics: Semantics = semantics.REDIS
    channel: str
    timeout: float
    check_interval: float
    fail_when_locked: bool
    reentrant: bool
    interrupt_on_lost: bool
    _order: _redis_plan.Order

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
            **_CLIENT_OPTIONS,
            **(redis_kwargs or {}),
        }
        self.on_lost = on_lost
        self._start_released()

    def _start_released(self) -> None:
        # Claimant -> claim, or a placeholder while it is being acquired
        self._claims: dict[object, Any] = {}
        # The last hold, for those who ask what became of it
        self._last_claim: _redis_claims.Claim | None = None
        self._session: Any = None
        _after_fork.forget_in_child(self)

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

    @property
    def token(self) -> int | tuple[int, ...] | None:
        """The fencing token of the hold; None where there is none.

        Larger than that of every earlier grant, also after the server lost
        its data, as long as its clock is not set back further.
        """
        claim = self._current()
        return None if claim is None else claim.hold.token or None

    fence_token = token

    @property
    def locked(self) -> bool:
        """Whether this object holds the lock, as far as we know; no wait."""
        claim = self._current()
        return claim is not None and claim.is_held

    @property
    def lost(self) -> bool:
        """Whether the last hold was lost; until the next `acquire()`."""
        claim = self._current() or self._last_claim
        return claim is not None and claim.is_lost

    @property
    def pubsub(self) -> Any:
        """The session in which the lock is held; None where it is not."""
        claim = self._current()
        return None if claim is None else claim.session

    @property
    def thread(self) -> Any:
        """The thread that keeps the lock; None where it is not held."""
        return getattr(self.pubsub, 'thread', None)

    def ensure_held(self) -> None:
        """Raise `LockLostError` where the lock was lost; asks nobody, no wait.

        Raises another `LockException` where it was never acquired.
        """
        claim = self._current()
        if claim is not None and claim.is_held:
            return
        claim = claim or self._last_claim
        if claim is not None and claim.is_lost:
            claim.happened(claim.hold.age, _redis_core.now())
            raise claim.loss or _redis_claims.loss_of(claim)
        raise exceptions.LockException(
            f'cannot rely on {self._order.channels[0]!r}: it is not held'
        )

    def _timeout_generator(
        self,
        timeout: float | None,
        check_interval: float | None,
        pause: Callable[[float], object] | None = None,
    ) -> Iterator[int]:
        """Count the attempts; the pauses between them are random."""
        return _redis_plan.jittered_ticks(
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

    def _claimant(self) -> object:
        """Who holds: the caller, or whoever has the object."""
        raise NotImplementedError

    def _loss_handler(self) -> Callable[[Any], object] | None:
        """What is called, by the reader, where the lock is lost."""
        return self.on_lost

    def _current(self) -> _redis_claims.Claim | None:
        """The claim of the caller; of an object that is not, anybody's."""
        claim = self._claims.get(self._claimant())
        return claim if isinstance(claim, _redis_claims.Claim) else None

    def _begin(self) -> tuple[_redis_claims.Claim | None, object]:
        """The claim that is held already, or a place for a new one.

        Raises `AlreadyActive` where the object is in use.
        """
        place = object()
        found = self._claims.setdefault(self._claimant(), place)
        if found is place:
            return None, place
        if isinstance(found, _redis_claims.Claim):
            if self.reentrant:
                self.ensure_held()
                found.depth += 1
                return found, None
            if found.is_lost:
                found.session.forget(found)
                found.stop_counting()
                self._claims[self._claimant()] = place
                return None, place
        raise exceptions.AlreadyActive('This lock is already active')

    def _publish(self, claim: _redis_claims.Claim) -> None:
        """Make the hold known; nothing can fail after it."""
        claim.on_lost = self._loss_handler()
        claim.wants_interrupt = self.interrupt_on_lost
        self._last_claim = claim
        self._claims[self._claimant()] = claim

    def _abort(self, place: object) -> None:
        """Nothing came of it."""
        claimant = self._claimant()
        if self._claims.get(claimant) is place:
            del self._claims[claimant]

    def _end_one(self) -> _redis_claims.Claim | None:
        """The claim to be given back, None while it is held more often."""
        claim = self._current()
        if claim is None:
            return None
        claim.depth -= 1
        if claim.depth > 0:
            return None
        # Two threads may release one object: only one gets it
        taken = self._claims.pop(self._claimant(), None)
        return taken if taken is claim else None

    @staticmethod
    def _tell_if_lost(claim: _redis_claims.Claim, *, was_held: bool) -> None:
        if not was_held:
            claim.session.note_loss(claim)
            raise claim.loss or _redis_claims.loss_of(claim)

    def _give_back_claims(self) -> None:
        """Nobody refers to the lock: its session lets go; never waits."""
        for claim in list(self.__dict__.get('_claims', {}).values()):
            if isinstance(claim, _redis_claims.Claim):
                claim.session.forget(claim)
                claim.stop_counting()

    def _forget_parent(self) -> None:
        self._claims = {}
        self._last_claim = self._session = None
        if self.close_connection and self.connection is not None:
            # our own client. Were it collected, its sockets would be taken
            # out of what the event loop of the parent waits for
            _clients_of_parent.append(self.connection)
            self.connection = None


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
