"""What a session does: it renews, and takes in what the server says.

Whatever reads and writes (a thread, an event loop) is in a subclass.
"""

from __future__ import annotations

import functools
import json
import time

from . import (
    _redis_claims,
    _redis_core,
    _redis_mail,
    _redis_scripts,
    _redis_wire,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: seconds for which a channel stays subscribed after its lock was released
LINGER_SECONDS = 0.25
# Holds that one beat asks for
_BEATS_AT_ONCE = 100
# The server will not have us any more, whatever we ask
_FATAL_CODES = frozenset(('READONLY', 'MOVED', 'ASK', 'CLUSTERDOWN'))


class SessionListener(_redis_claims.ClaimCarrier):
    """A session, but for the socket: what it says, and what it hears."""

    def look_at_clock(self) -> float:
        """Renew what is due; return the seconds until the next look."""
        moment = _redis_core.now()
        # first: whoever registers after our list compares with what it is
        self.tick_seconds = pause = _redis_claims.LONGEST_TICK
        leased = [claim for claim in self.living_claims() if claim.lease]
        for claim in leased:
            pause = min(pause, claim.hold.beat_every)
        pause = max(pause, _redis_claims.SHORTEST_TICK)
        due: list[_redis_claims.Claim] = []
        for claim in leased:
            if claim.hold.is_beat_due(moment, pause):
                due.append(claim)
            elif claim.hold.is_overdue(moment):
                claim.happened(claim.hold.age, moment)
        self._beat(due, moment)
        self.give_back_again(moment)
        self.tick_seconds = pause
        return min(pause, self._leave_channels(moment))

    def _beat(self, due: list[_redis_claims.Claim], moment: float) -> None:
        """Ask the server whether these still hold, which renews them."""
        at_once = 1 if self.dialect.is_sharded else _BEATS_AT_ONCE
        for i in range(0, len(due), at_once):
            batch = due[i : i + at_once]
            keys = [key for claim in batch for key in claim.keys[::4]]
            hids = [claim.hid for claim in batch for _ in claim.keys[::4]]

            def answered(
                answer: Any, batch: list[_redis_claims.Claim] = batch
            ) -> None:
                self._beaten(batch, answer, moment)

            self.post_script(
                self.dialect.beat, keys, [self.sid, *hids], answered
            )

    def _beaten(
        self, batch: list[_redis_claims.Claim], answer: Any, sent: float
    ) -> None:
        if isinstance(answer, _redis_wire.ServerError):
            if answer.code in _FATAL_CODES:
                raise ConnectionError(answer.text)
            _redis_claims.redis_logger.warning(
                'cannot renew locks: %s', answer.text
            )
            return  # what is not renewed gets too old
        answers = iter(answer)
        moment = _redis_core.now()
        for claim in batch:
            is_there = min(next(answers) for _ in claim.keys[::4]) == 1
            claim.happened(claim.hold.answered_beat, is_there, sent, moment)

    # Channels of locks: old-style pings come there

    def visit_channels(self, claim: _redis_claims.Claim) -> None:
        """Listen on the channels of a lock, at least while it is held.

        The claim is woken when the server has confirmed what is `unheard`.
        """
        if claim.is_legacy:
            return
        with self.mutex:  # the reader must not leave them meanwhile
            for channel in claim.channels:
                visit = self._visit(channel)
                if not visit.is_confirmed:
                    claim.unheard += 1
                    self.post(
                        *('SUBSCRIBE', channel),
                        answered=functools.partial(
                            self._joined, visit, claim.hid
                        ),
                    )

    def _visit(self, channel: str) -> _redis_claims.ChannelVisit:
        """Our stay on a channel, which goes on; the mutex is held."""
        visit = self.channels.get(channel)
        if visit is None:
            visit = self.channels[channel] = _redis_claims.ChannelVisit()
        visit.used = _redis_core.now()
        return visit

    def _joined(
        self, visit: _redis_claims.ChannelVisit, hid: str, answer: Any
    ) -> None:
        """The server answered SUBSCRIBE; not who asked for it, but later."""
        refusal = getattr(answer, 'text', None)
        visit.is_confirmed = refusal is None
        claim = self.claim_of(hid)
        if claim is None:
            return
        with self.mutex:
            claim.refusal = claim.refusal or refusal
            claim.unheard -= 1
            if not claim.hold.is_undecided:
                claim.wake_up()

    def look_for_company(self, claim: _redis_claims.Claim) -> None:
        """Subscribe as older releases do, and count who is there beside us.

        The claim is woken when `company` is known.
        """
        channel = claim.channels[0]
        claim.company = None

        def found(answer: Any, is_in: bool) -> None:
            others = int(answer[1]) - is_in if isinstance(answer, list) else 1
            if not others and not is_in:
                look(subscribe=True)
                return
            with self.mutex:
                claim.company = others
                claim.wake_up()

        def look(*, subscribe: bool) -> None:
            if subscribe:
                with self.mutex:
                    visit = self._visit(channel)
                joined = functools.partial(self._joined, visit, '')
                self.post('SUBSCRIBE', channel, answered=joined)
            self.post(
                *('PUBSUB', 'NUMSUB', channel),
                answered=lambda answer: found(answer, subscribe),
            )

        look(subscribe=channel in self.channels)

    def leave_company(self, claim: _redis_claims.Claim) -> None:
        """Older releases may go on: we are no subscriber any more."""
        claim.company = 1
        for channel in claim.channels:
            if channel in self._needed_channels():
                continue
            self._leave(channel)

    def _leave(self, channel: str) -> None:
        if self.channels.pop(channel, None) is not None:
            self.post(
                *('UNSUBSCRIBE', channel),
                answered=_redis_mail.ignore_answer,
            )

    def _needed_channels(self) -> set[str]:
        return {
            channel
            for claim in self.living_claims()
            for channel in claim.channels
            if not claim.is_legacy or claim.company == 0
        }

    def _leave_channels(self, moment: float) -> float:
        """Leave those that nobody needs; seconds until the next look."""
        pause = _redis_claims.LONGEST_TICK
        if not self.channels:
            return pause
        with self.mutex:  # who visits a channel now finds it, or comes back
            needed = self._needed_channels()
            for channel, visit in list(self.channels.items()):
                if channel in needed:
                    continue
                if moment - visit.used < LINGER_SECONDS:
                    pause = LINGER_SECONDS
                else:
                    self._leave(channel)
        return pause

    # Messages

    def take_in(self, message: Any) -> None:
        """One thing that the server said; raises `ConnectionError`."""
        if not isinstance(message, _redis_wire.PushMessage):
            self.take_answer(message)
            return
        kind, channel, *rest = message
        name = _redis_scripts.as_text(channel)
        if kind in {b'message', b'smessage'}:
            if name in self.own_channels:
                self.take_own(_redis_scripts.as_text(rest[0]).split(' '))
            else:
                self._take_ping(name, rest[0])
        elif name in self.own_channels:
            if kind not in {b'subscribe', b'ssubscribe'}:
                raise ConnectionError('the server ended our subscription')
            self.own_channels[name] = True
            self.take_answer(None)
            self.confirmed(name)
        elif kind in {b'subscribe', b'unsubscribe'}:
            self.take_answer(None)

    def confirmed(self, channel: str) -> None:
        """The server confirmed one of our own channels."""

    def take_own(self, words: list[str]) -> None:
        """A message to this session, from a script or another session."""
        match words:
            case ['grant', hid, tokens, granted_at]:
                claim = self.claim_of(hid)
                if claim is None:
                    return  # it gave up; what it did takes the grant back
                claim.happened(
                    claim.hold.pushed_grant,
                    _redis_scripts.token_of(tokens.split(',')),
                    int(granted_at),
                    _redis_core.now(),
                )
            case ['lost', hid]:
                claim = self.claim_of(hid)
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
        # who asks may hold already, and would be killed for its silence
        is_held = any(
            channel in claim.channels and (claim.is_held or claim.is_asking)
            for claim in self.living_claims()
        )
        if asked_by is not None and is_held:
            self.post(
                'PUBLISH',
                asked_by,
                str(time.time()),
                answered=_redis_mail.ignore_answer,
            )

    def ping(self, sid: str, base: str, nonce: str) -> None:
        """Ask another session to answer; `pongs` has who is told."""
        own = self.dialect.channel(self.sid, base)
        self._publish(self.dialect.channel(sid, base), f'ping {nonce} {own}')

    def _publish(self, channel: str, text: str) -> None:
        verb = 'SPUBLISH' if self.dialect.is_sharded else 'PUBLISH'
        self.post(verb, channel, text, answered=_redis_mail.ignore_answer)


def response_channel(data: Any) -> str | None:
    """Where the sender of a ping wants the answer; None for anything else."""
    try:
        ping = json.loads(data)
    except (TypeError, ValueError):
        return None
    channel = ping.get('response_channel') if isinstance(ping, dict) else None
    return channel if isinstance(channel, str) else None
