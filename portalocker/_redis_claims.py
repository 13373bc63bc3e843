"""What a session carries: attempts to hold, and the news of their losses."""

from __future__ import annotations

import _thread
import collections
import os
import weakref

from . import (
    _listening,
    _redis_core,
    _redis_endpoint,
    _redis_mail,
    _task_claimant,
    _warning,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: seconds without a claim after which a session is closed
IDLE_SECONDS = 30.0
#: seconds for which a question whose answer nobody has is taken back
AGAIN_SECONDS = 10.0
# Between two looks at the clock; the longest is what the usual lease needs
LONGEST_TICK = 0.6
SHORTEST_TICK = 0.005

redis_logger = _warning.lazy_logger('portalocker.redis')


class SessionEnded(Exception):
    """The session is over: nothing can be held in it any more."""


class ChannelVisit:
    """Our stay on the channel of a lock."""

    __slots__ = ('is_confirmed', 'used')

    def __init__(self) -> None:
        #: the server has us among its subscribers
        self.is_confirmed = False
        #: when it was needed last
        self.used = 0.0


class Claim:
    """One attempt to hold, in one session, and who wants to know of a loss."""

    __slots__ = (
        'giver',
        *('__weakref__', '_wake', 'channels', 'company', 'counted', 'depth'),
        *('hid', 'hold', 'is_asking', 'is_legacy', 'keys', 'lease', 'loss'),
        *('on_lost',),
        *('is_published', 'rank', 'refusal', 'region', 'session'),
        *('unheard', 'wants_interrupt'),
    )

    def __init__(
        self,
        session: ClaimCarrier,
        channels: tuple[str, ...],
        keys: tuple[bytes, ...],
        lease: float,
    ) -> None:
        self.session = session
        self.channels = channels
        self.keys = keys
        self.lease = lease
        self.hid = session.next_hid()
        self.hold = _redis_core.Hold(lease, _redis_core.now())
        self.on_lost: Callable[[exceptions.LockLostError], object] | None = (
            None
        )
        self.wants_interrupt = False
        # Somebody believes in it: a loss is told
        self.is_published = False
        # Older releases take the subscribers of the channel for holders: we
        # subscribe where we are alone, and not before
        self.is_legacy = False
        # How many are subscribed beside us; None: not known
        self.company: int | None = 0
        # How many subscriptions the server has not confirmed yet, and what
        # it said where it refused one; guarded by the mutex of the session
        self.unheard = 0
        self.refusal: str | None = None
        self.loss: exceptions.LockLostError | None = None
        # The server may still be going to read what we asked
        self.is_asking = False
        # How many are before us in line
        self.rank = 0
        # Ends our pause; guarded by the mutex of the session
        self._wake: Callable[[], object] | None = None
        self.depth = 1
        # The thread, or task, that gives it back
        self.giver: object = None
        # Who counts it, and when it began, see `_listening`
        self.counted: Any = None
        self.region: int | None = None

    def __del__(self) -> None:
        """An exception came before anybody could have it: it is let go."""
        hold = getattr(self, 'hold', None)
        if hold is None:
            return
        if hold.is_wanted:
            self.session.forget(self)
        elif self.hid in self.session.claims:
            self.session.drop(self)

    @property
    def is_held(self) -> bool:
        """Whether we may act as the holder at this moment."""
        return self.hold.believes(_redis_core.now())

    @property
    def is_lost(self) -> bool:
        """Whether it was held, and is not any more though nobody let go."""
        return (
            self.loss is not None
            or self.hold.phase == _redis_core.LOST
            or self.hold.is_overdue(_redis_core.now())
        )

    @property
    def tokens(self) -> tuple[int, ...]:
        """The fencing tokens, one for each lock."""
        token = self.hold.token
        return token if isinstance(token, tuple) else (token or 0,)

    def publish(self) -> bool:
        """Make it somebody's; whether it was still held."""
        with self.session.mutex:
            self.is_published = self.is_held
            return self.is_published

    def is_mine_to_give_back(self) -> bool:
        """Whether the caller gives it back: the first who wants to does."""
        me = _task_claimant.running_claimant()
        with self.session.mutex:
            if self.giver is None:
                self.giver = me
            return self.giver == me

    def is_given_back_by_another(self) -> bool:
        """Whether another thread or task, which lives, is about to do it."""
        giver: Any = self.giver
        return (
            giver is not None
            and giver != _task_claimant.running_claimant()
            and not _task_claimant.has_ended(giver)
        )

    def prepare_pause(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called when something happens; whether it still may."""
        with self.session.mutex:
            self._wake = wake
            if self.hold.is_undecided:
                return True
            is_known = self.company is not None and not self.unheard
            return self.hold.is_wanted and not is_known

    def wake_up(self) -> None:
        """End the pause, if there is one; the mutex is held."""
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def stop_counting(self) -> None:
        """Nobody will release it: what is counted ends now."""
        if self.counted is not None:
            with _listening.Releasing(self):
                pass

    def happened(
        self, event: Callable[..., str | None], *facts: Any
    ) -> str | None:
        """Tell the hold what happened; a loss is told by the reader."""
        with self.session.mutex:
            effect = event(*facts)
            self.wake_up()
        if effect == _redis_core.TELL_LOSS:
            self.session.note_loss(self)
        return effect


class ClaimCarrier(_redis_mail.RedisMail):
    """One subscription to ourselves; when it ends, so do all holds in it."""

    def __init__(self, endpoint: _redis_endpoint.Endpoint) -> None:
        super().__init__()
        self.endpoint = endpoint
        self.dialect = endpoint.dialect
        self.sid = os.urandom(16).hex()
        self.pid = os.getpid()
        # a signal handler may use locks wherever its thread is
        self.mutex = _thread.RLock()
        #: hold id -> claim; whoever holds refers to it
        self.claims: dict[str, weakref.ref[Claim]] = {}
        self.is_over = False
        self.cause = ''
        #: seconds until the reader looks at the clock again, at most
        self.tick_seconds = LONGEST_TICK
        #: a lease came in that needs earlier looks
        self.needs_look = False
        #: our own channels; True once the server confirmed
        self.own_channels: dict[str, bool] = {}
        #: channels of locks; guarded by the mutex
        self.channels: dict[str, ChannelVisit] = {}
        #: nonce -> who waits for a pong
        self.pongs: dict[str, Callable[[], object]] = {}
        self._losses: collections.deque[Claim] = collections.deque()
        # Holds that nobody wants: when to say it again, and how long
        self._given_back: collections.deque[
            tuple[float, float, tuple[bytes, ...], str]
        ] = collections.deque()
        # The reader is gone: whoever notes a loss tells it
        self._has_ended = False
        self._hid_number = 0
        self._last_used = _redis_core.now()

    def rest(self, claim: Claim, seconds: float) -> None:
        """Sleep until something happens to a claim, or the time is over."""
        raise NotImplementedError

    def look_for_company(self, claim: Claim) -> None:
        """Find out who is subscribed to the channel beside us."""
        raise NotImplementedError

    def leave_company(self, claim: Claim) -> None:
        """Be a subscriber of the channel no longer."""
        raise NotImplementedError

    @property
    def subscribed(self) -> bool:
        """Whether the subscription lives, as far as we know."""
        return not self.is_over

    def close(self, cause: str = 'the session was closed') -> None:
        """End the session, and all holds in it; never waits."""
        self.cause = self.cause or cause
        self.is_over = True
        self.attend()

    def close_unless_holding(self, claim: Claim) -> None:
        """It does not answer this one: end it, if nobody else has a hold."""
        if not any(
            other.is_held and other is not claim
            for other in self.living_claims()
        ):
            self.close('the server does not answer')

    def next_hid(self) -> str:
        """An id that no other hold ever had."""
        self._hid_number += 1
        return f'{self.sid}{os.urandom(4).hex()}{self._hid_number:x}'

    def register(self, claim: Claim) -> None:
        """Carry a claim from now on; raises `SessionEnded`."""
        with self.mutex:
            if self.is_over:
                raise SessionEnded(self.cause)
            self.claims[claim.hid] = weakref.ref(claim)
        if claim.hold.beat_every < self.tick_seconds:
            self.needs_look = True
            self.attend()

    def living_claims(self) -> list[Claim]:
        """The claims that somebody refers to."""
        found = [reference() for reference in list(self.claims.values())]
        return [claim for claim in found if claim is not None]

    def claim_of(self, hid: str) -> Claim | None:
        """The claim with this hold id, if somebody refers to it."""
        reference = self.claims.get(hid)
        return None if reference is None else reference()

    def drop(self, claim: Claim) -> None:
        """Carry it no longer."""
        self.claims.pop(claim.hid, None)
        self._last_used = _redis_core.now()

    def forget(self, claim: Claim) -> None:
        """Give back what the server may have given; never waits."""
        self.drop(claim)
        if claim.hold.leave() and not self.is_over and self.pid == os.getpid():
            self._give_back(claim.keys, claim.hid)
            if claim.is_asking:
                due = _redis_core.now() + LONGEST_TICK
                until = due + AGAIN_SECONDS
                self._given_back.append((due, until, claim.keys, claim.hid))

    def _give_back(self, keys: tuple[bytes, ...], hid: str) -> None:
        self.post_script(
            *(self.dialect.release, keys, [hid]),
            _redis_mail.ignore_answer,
        )

    def give_back_again(self, moment: float) -> None:
        """What was asked over another connection may arrive after all."""
        for _ in range(len(self._given_back)):
            due, until, keys, hid = self._given_back.popleft()
            if moment >= due:
                self._give_back(keys, hid)
                due = moment + LONGEST_TICK
            if due < until:
                self._given_back.append((due, until, keys, hid))

    def note_loss(self, claim: Claim) -> None:
        """A claim was lost; the reader shall tell, once."""
        with self.mutex:
            self._note_loss(claim)
            has_reader = not self._has_ended
        if has_reader:
            self.attend()
        else:
            self.tell_losses()

    def _note_loss(self, claim: Claim) -> None:
        if claim.loss is None and claim.is_published:
            claim.loss = loss_of(claim)
            self._losses.append(claim)

    def tell_losses(self) -> None:
        """Log losses and call those who asked for it, each once."""
        while True:
            try:
                claim = self._losses.popleft()
            except IndexError:
                return
            loss = claim.loss
            assert loss is not None
            redis_logger.error('%s', loss)
            if claim.on_lost is not None:
                try:
                    claim.on_lost(loss)
                except BaseException:  # others are still to be told
                    redis_logger.exception('on_lost failed')
            if claim.wants_interrupt:
                _thread.interrupt_main()

    def end(self, cause: str) -> None:
        """The connection is gone; every hold in it is lost."""
        with self.mutex:
            self.is_over = self._has_ended = True
            self.cause = self.cause or cause
            for claim in self.living_claims():
                if claim.hold.session_ended() is not None:
                    self._note_loss(claim)
                claim.wake_up()
        self.tell_losses()

    def is_idle(self) -> bool:
        """Whether nobody has needed the session for a while."""
        idle = _redis_core.now() - self._last_used
        return not self.claims and idle > IDLE_SECONDS


class SignOfLife:
    """Whether a session still hears its server, which is asked for it."""

    def __init__(self, session: ClaimCarrier) -> None:
        self._session = session
        self._wake: Callable[[], object] | None = None
        self._has_answered = False
        session.post('PING', answered=self._hear)

    @property
    def is_known(self) -> bool:
        """Whether it has answered, or ended."""
        return self._has_answered or self._session.is_over

    def _hear(self, _: object) -> None:
        with self._session.mutex:
            self._has_answered = True
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def prepare_pause(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called at the answer; whether one is awaited."""
        with self._session.mutex:
            self._wake = wake
            return not self.is_known


def loss_of(claim: Claim) -> exceptions.LockLostError:
    """The loss of a claim, as an error with its cause."""
    cause = claim.session.cause or (
        'it was given to others, or could not be renewed in time'
    )
    names = ', '.join(map(repr, claim.channels))
    return exceptions.LockLostError(
        f'lost the lock {names} while it was held: {cause}',
        filename=claim.channels[0],
        token=claim.tokens[0] or None,
    )
