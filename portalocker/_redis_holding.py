"""Who holds a lock on a Redis server through one object, of either colour."""

from __future__ import annotations

from . import (
    _after_fork,
    _copies,
    _redis_claims,
    _redis_core,
    _redis_plan,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# What a forked child keeps of its parent's clients
_clients_of_parent: list[Any] = []


class RedisHolding(_copies.StartsReleased):
    """The holds of an object, and what became of the last one."""

    _of_the_hold = frozenset({'_claims', '_last_claim', '_session'})

    connection: Any
    close_connection: bool
    on_lost: Callable[[exceptions.LockLostError], object] | None
    reentrant: bool
    interrupt_on_lost: bool
    _order: _redis_plan.Order

    def _start_released(self) -> None:
        # Claimant -> claim, or a placeholder while it is being acquired
        self._claims: dict[object, Any] = {}
        # The last hold, for those who ask what became of it
        self._last_claim: _redis_claims.Claim | None = None
        self._session: Any = None
        _after_fork.forget_in_child(self)

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
            self._let_go(self._last_claim)
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
        # Two threads may release one object: only one gets it
        if claim.depth > 0 or not claim.is_mine_to_give_back():
            return None
        self._claims.pop(self._claimant(), None)
        return claim

    def _let_go(self, claim: _redis_claims.Claim | None) -> None:
        """Nobody has it, though an exception came before it was given back."""
        if claim is None or not claim.hold.is_wanted:
            return
        if (
            claim not in self._claims.values()
            and not claim.is_given_back_by_another()
        ):
            claim.session.forget(claim)

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
