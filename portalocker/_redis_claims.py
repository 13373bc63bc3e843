"""What a session carries: claims, their renewal, and the messages to them.

Whatever reads and writes (a thread, an event loop) is in a subclass.
"""

from __future__ import annotations

import _thread
import collections
import json
import os
import time

from . import (
    _redis_core,
    _redis_endpoint,
    _redis_scripts,
    _redis_wire,
    _warning,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

#: seconds without a claim after which a session is closed
IDLE_SECONDS = 30.0
#: seconds for which a channel stays subscribed after its lock was released
LINGER_SECONDS = 0.25
# Between two looks at the clock
_LONGEST_TICK = 1.25
_SHORTEST_TICK = 0.005
_TICKS_IN_LEASE = 8
# Holds that one beat asks for
_BEATS_AT_ONCE = 100
# The server will not have us any more, whatever we ask
_FATAL_CODES = frozenset(('READONLY', 'MOVED', 'ASK', 'CLUSTERDOWN'))

redis_logger = _warning.lazy_logger('portalocker.redis')


class SessionEnded(Exception):
    """The session is over: nothing can be held in it any more."""


class Claim:
    """One attempt to hold, in one session, and who wants to know of a loss."""

    __slots__ = (
        *('__weakref__', '_wake', 'channels', 'claimant', 'depth', 'hid'),
        *('hold', 'is_mute', 'keys', 'lease', 'loss', 'on_lost', 'rank'),
        *('is_published', 'session', 'wants_interrupt'),
    )

    def __init__(
        self,
        session: BaseSession,
        channels: tuple[str, ...],
        keys: tuple[str, ...],
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
        # Pings on the channels are answered while we hold, unless mute
        self.is_mute = False
        self.loss: exceptions.LockLostError | None = None
        # How many are before us in line
        self.rank = 0
        # Ends our pause; guarded by the mutex of the session
        self._wake: Callable[[], object] | None = None
        self.claimant: object = None
        self.depth = 1

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

    def prepare_pause(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called when something happens; whether it still may."""
        with self.session.mutex:
            self._wake = wake
            return self.hold.is_undecided

    def wake_up(self) -> None:
        """End the pause, if there is one; the mutex is held."""
        wake, self._wake = self._wake, None
        if wake is not None:
            wake()

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


class BaseSession:
    """One subscription to ourselves; when it ends, so do all holds in it."""

    def __init__(self, endpoint: _redis_endpoint.Endpoint) -> None:
        self.endpoint = endpoint
        self.dialect = endpoint.dialect
        self.sid = os.urandom(16).hex()
        self.mutex = _thread.allocate_lock()
        #: hold id -> claim
        self.claims: dict[str, Claim] = {}
        self.is_over = False
        self.cause = ''
        #: seconds until the reader looks at the clock again, at most
        self.tick_seconds = _LONGEST_TICK
        #: a lease came in that needs earlier looks
        self.needs_look = False
        #: our own channels; True once the server confirmed
        self.own_channels: dict[str, bool] = {}
        #: channels of locks -> when they were needed last
        self.channels: dict[str, float] = {}
        #: nonce -> who waits for a pong
        self.pongs: dict[str, Callable[[], object]] = {}
        # What to send, and what to do with the answer: only the reader sends
        self._outbox: collections.deque[
            tuple[bytes, Callable[[Any], None] | None]
        ] = collections.deque()
        # What to do with the answers that are still to come, in order
        self._expected: collections.deque[Callable[[Any], None]] = (
            collections.deque()
        )
        self._losses: collections.deque[Claim] = collections.deque()
        self._hid_number = 0
        self._last_used = _redis_core.now()

    @property
    def subscribed(self) -> bool:
        """Whether the subscription lives, as far as we know."""
        return not self.is_over

    def close(self, cause: str = 'the session was closed') -> None:
        """End the session, and all holds in it; never waits."""
        self.cause = self.cause or cause
        self.is_over = True
        self.attend()

    def attend(self) -> None:
        """Have the reader look at what we have for it; never waits."""
        raise NotImplementedError

    def next_hid(self) -> str:
        """An id that no other hold ever had."""
        self._hid_number += 1
        return f'{self.sid}{os.urandom(4).hex()}{self._hid_number:x}'

    # Claims

    def register(self, claim: Claim) -> None:
        """Carry a claim from now on; raises `SessionEnded`."""
        with self.mutex:
            if self.is_over:
                raise SessionEnded(self.cause)
            self.claims[claim.hid] = claim
        if 0 < claim.lease < self.tick_seconds * _TICKS_IN_LEASE:
            self.needs_look = True
            self.attend()

    def drop(self, claim: Claim) -> None:
        """Carry it no longer."""
        self.claims.pop(claim.hid, None)
        self._last_used = _redis_core.now()

    def forget(self, claim: Claim) -> None:
        """Give back what the server may have given; never waits."""
        self.drop(claim)
        if claim.hold.leave() and not self.is_over:
            self.post_script(
                self.dialect.release, claim.keys, [claim.hid], _ignore
            )

    def note_loss(self, claim: Claim) -> None:
        """A claim was lost; the reader shall tell, once."""
        with self.mutex:
            self._note_loss(claim)
        self.attend()

    def _note_loss(self, claim: Claim) -> None:
        if claim.loss is None and claim.is_published:
            claim.loss = loss_of(claim)
            self._losses.append(claim)

    def tell_losses(self) -> None:
        """Log losses and call those who asked for it, each once."""
        while self._losses:
            claim = self._losses.popleft()
            loss = claim.loss
            assert loss is not None
            redis_logger.error('%s', loss)
            if claim.on_lost is not None:
                try:
                    claim.on_lost(loss)
                except Exception:
                    redis_logger.exception('on_lost failed')
            if claim.wants_interrupt:
                _thread.interrupt_main()

    def end(self, cause: str) -> None:
        """The connection is gone; every hold in it is lost."""
        with self.mutex:
            self.is_over = True
            self.cause = self.cause or cause
            for claim in list(self.claims.values()):
                if claim.hold.session_ended() is not None:
                    self._note_loss(claim)
                claim.wake_up()
        self.tell_losses()

    # Time

    def look_at_clock(self) -> float:
        """Renew what is due; return the seconds until the next look."""
        moment = _redis_core.now()
        shortest = _LONGEST_TICK * _TICKS_IN_LEASE
        due: list[Claim] = []
        for claim in list(self.claims.values()):
            if not claim.lease:
                continue
            shortest = min(shortest, claim.lease)
            if claim.hold.is_beat_due(moment):
                due.append(claim)
            elif claim.hold.is_overdue(moment):
                claim.happened(claim.hold.age, moment)
        self._beat(due, moment)
        self.tick_seconds = max(shortest / _TICKS_IN_LEASE, _SHORTEST_TICK)
        return min(self.tick_seconds, self._leave_channels(moment))

    def is_idle(self) -> bool:
        """Whether nobody has needed the session for a while."""
        idle = _redis_core.now() - self._last_used
        return not self.claims and idle > IDLE_SECONDS

    def _beat(self, due: list[Claim], moment: float) -> None:
        """Ask the server whether these still hold, which renews them."""
        at_once = 1 if self.dialect.is_sharded else _BEATS_AT_ONCE
        for i in range(0, len(due), at_once):
            batch = due[i : i + at_once]
            keys = [key for claim in batch for key in claim.keys[::4]]
            hids = [claim.hid for claim in batch for _ in claim.keys[::4]]

            def answered(answer: Any, batch: list[Claim] = batch) -> None:
                self._beaten(batch, answer, moment)

            self.post_script(
                self.dialect.beat, keys, [self.sid, *hids], answered
            )

    def _beaten(self, batch: list[Claim], answer: Any, sent: float) -> None:
        if isinstance(answer, _redis_wire.ServerError):
            if answer.code in _FATAL_CODES:
                raise ConnectionError(answer.text)
            redis_logger.warning('cannot renew locks: %s', answer.text)
            return  # what is not renewed gets too old
        answers = iter(answer)
        moment = _redis_core.now()
        for claim in batch:
            is_there = min(next(answers) for _ in claim.keys[::4]) == 1
            claim.happened(claim.hold.answered_beat, is_there, sent, moment)

    # Channels of locks: old-style pings come there

    def visit_channels(self, claim: Claim) -> None:
        """Listen on the channels of a lock, at least while it is held."""
        moment = _redis_core.now()
        for channel in claim.channels:
            if channel not in self.channels:
                self.post('SUBSCRIBE', channel)
            self.channels[channel] = moment

    def _leave_channels(self, moment: float) -> float:
        """Leave those that nobody needs; seconds until the next look."""
        pause = _LONGEST_TICK
        if not self.channels:
            return pause
        needed = {
            channel
            for claim in list(self.claims.values())
            for channel in claim.channels
        }
        for channel, used in list(self.channels.items()):
            if channel in needed:
                continue
            if moment - used < LINGER_SECONDS:
                pause = LINGER_SECONDS
            elif self.channels.pop(channel, None) is not None:
                self.post('UNSUBSCRIBE', channel)
        return pause

    # Messages

    def post(
        self,
        *words: str | bytes | int,
        answered: Callable[[Any], None] | None = None,
    ) -> None:
        """Send a command soon, in order; may be called from anywhere.

        Nothing is locked: destructors come here in the middle of anything.
        """
        self._outbox.append((_redis_wire.packed(*words), answered))
        self.attend()

    def post_script(
        self,
        script: _redis_scripts.Script,
        keys: Iterable[str],
        words: list[Any],
        answered: Callable[[Any], None],
    ) -> None:
        """Run a script over the session's own connection."""
        keys = list(keys)

        def with_text(answer: Any) -> None:
            if getattr(answer, 'code', None) != 'NOSCRIPT':
                answered(answer)
                return
            self.post(
                *('EVAL', script.text, len(keys), *keys, *words),
                answered=answered,
            )

        self.post(
            *('EVALSHA', script.sha, len(keys), *keys, *words),
            answered=with_text,
        )

    def take_outgoing(self) -> bytes:
        """What is to be sent now; its answers are expected from here on."""
        parts = []
        while self._outbox:
            data, answered = self._outbox.popleft()
            parts.append(data)
            if answered is not None:
                self._expected.append(answered)
        return b''.join(parts)

    def take_in(self, message: Any) -> None:
        """One thing that the server said; raises `ConnectionError`."""
        if not isinstance(message, _redis_wire.PushMessage):
            if not self._expected:
                raise ConnectionError(f'unexpected answer {message!r}')
            self._expected.popleft()(message)
            return
        kind, channel, *rest = message
        name = _redis_scripts.as_text(channel)
        if kind in {b'message', b'smessage'}:
            if name in self.own_channels:
                self._take_own(_redis_scripts.as_text(rest[0]).split(' '))
            else:
                self._take_ping(name, rest[0])
        elif name in self.own_channels:
            if kind not in {b'subscribe', b'ssubscribe'}:
                raise ConnectionError('the server ended our subscription')
            self.own_channels[name] = True
            self.confirmed(name)

    def confirmed(self, channel: str) -> None:
        """The server confirmed one of our own channels."""

    def _take_own(self, words: list[str]) -> None:
        """A message to this session, from a script or another session."""
        match words:
            case ['grant', hid, tokens]:
                claim = self.claims.get(hid)
                if claim is None:
                    return  # it gave up; what it did takes the grant back
                claim.happened(
                    claim.hold.pushed_grant,
                    _redis_scripts.token_of(tokens.split(',')),
                    _redis_core.now(),
                )
                if claim.is_held and not claim.is_mute:
                    self.visit_channels(claim)
            case ['lost', hid]:
                claim = self.claims.get(hid)
                if claim is not None:
                    claim.happened(claim.hold.pushed_loss)
            case ['ping', nonce, *channel]:
                self._publish(' '.join(channel), f'pong {nonce}')
            case ['pong', nonce]:
                waiter = self.pongs.pop(nonce, None)
                if waiter is not None:
                    waiter()

    def _take_ping(self, channel: str, data: Any) -> None:
        """A ping as older releases send it to whom holds the channel."""
        asked_by = response_channel(data)
        is_held = any(
            channel in claim.channels and claim.is_held and not claim.is_mute
            for claim in list(self.claims.values())
        )
        if asked_by is not None and is_held:
            self.post('PUBLISH', asked_by, str(time.time()), answered=_ignore)

    def _publish(self, channel: str, text: str) -> None:
        verb = 'SPUBLISH' if self.dialect.is_sharded else 'PUBLISH'
        self.post(verb, channel, text, answered=_ignore)


def response_channel(data: Any) -> str | None:
    """Where the sender of a ping wants the answer; None for anything else."""
    try:
        ping = json.loads(data)
    except (TypeError, ValueError):
        return None
    channel = ping.get('response_channel') if isinstance(ping, dict) else None
    return channel if isinstance(channel, str) else None


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


def _ignore(_: object) -> None:
    """Nobody waits for this answer."""
