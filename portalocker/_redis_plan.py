"""How a lock is taken and given back, step by step, without a colour.

Each plan is a generator: it yields what it needs (a session, an answer of the
server, a pause) and is sent the result, by a thread or by an event loop.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import typing

from redis import exceptions as redis_errors

from . import (
    _deadline,
    _redis_claims,
    _redis_core,
    _redis_endpoint,
    _redis_holder,
    _redis_scripts,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any

#: a server that never sees our session is asked so often
_RESTARTS_IN_A_ROW = 3
# Waiters further behind look for the death of those before them less often
_HIGHEST_RANK = 7
# The end of a session wakes those who have a claim in it, not who asks for it
_LIFE_SECONDS = 0.02
# of the interval: who is first looks more often, all the others wait for that
_FIRST_IN_LINE = 0.75
_TAKEOVERS = {'immediate': 'i', 'safe': 's'}

#: the outcome is not known: the script is run once more
UNKNOWN_OUTCOME = (
    redis_errors.ConnectionError,
    redis_errors.TimeoutError,
)
#: no second try would help
REFUSALS = tuple(
    getattr(redis_errors, name)
    for name in (
        'AuthenticationError',
        'AuthorizationError',
        'MaxClientsError',
    )
    if hasattr(redis_errors, name)
)


class ServerSeesNoSession(exceptions.LockException):
    """What runs the scripts is not where we subscribed."""


#: who waits already, waits on: a restart, or a slot that moves, takes a while
_MAY_PASS = (
    *UNKNOWN_OUTCOME,
    redis_errors.ClusterError,
    redis_errors.TryAgainError,
    ServerSeesNoSession,
)


class OpenSession(typing.NamedTuple):
    """Wanted: a claim in a session that lives."""


class RunScript(typing.NamedTuple):
    """Wanted: the answer of the server."""

    script: _redis_scripts.Script
    keys: tuple[bytes, ...]
    words: tuple[Any, ...]
    #: whose connection may be used
    session: _redis_claims.ClaimCarrier | None = None


class CanBeWoken(typing.Protocol):
    """What a pause is spent at."""

    def prepare_pause(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called when something happens; whether it still may."""
        ...


class Rest(typing.NamedTuple):
    """Wanted: a pause; what happens to the claim ends it."""

    claim: CanBeWoken | None
    seconds: float


Step = typing.Union[OpenSession, RunScript, Rest]
Plan = typing.Generator[Step, typing.Any, typing.Any]


class Order:
    """What a lock asks the server for, in the words of its scripts."""

    def __init__(
        self,
        channels: tuple[str, ...],
        mode: str,
        limit: int,
        lease: float,
        takeover: str,
    ) -> None:
        for channel in channels:
            if not isinstance(channel, str):
                raise TypeError(
                    f'cannot lock the channel {channel!r}: a name is a str'
                )
            try:
                channel.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f'cannot lock the channel {channel!r}: a name is sent as '
                    f'UTF-8: {error.reason}'
                ) from None
        if not all(channels) or not channels:
            raise ValueError('cannot lock a channel without a name')
        _check_lease(lease, takeover)
        self.channels = channels
        self.bases = tuple(map(_redis_scripts.base_of, channels))
        self.keys = tuple(
            key for base in self.bases for key in _redis_scripts.keys_of(base)
        )
        self.lease = lease
        microseconds = round(lease * 1e6)
        self._limit = limit
        self._kind = f'{mode} {microseconds} {_TAKEOVERS[takeover]}'
        self._host = socket.gethostname().replace(':', '_') or '?'

    def set_options(
        self,
        *,
        fair: bool,
        fence: bool,
        label: str | None,
        legacy_compat: bool,
    ) -> None:
        """What does not change who fits in."""
        self._options = f'{int(fair)} {self._limit} {int(fence)}'
        self._label = label or ''
        is_alone = self._kind.startswith('x') and len(self.channels) == 1
        if legacy_compat and not is_alone:
            raise ValueError(
                'cannot share with older releases: legacy_compat is for '
                'exclusive locks on one channel'
            )
        self.is_legacy = legacy_compat

    def words(
        self, claim: _redis_claims.Claim, *, may_wait: bool
    ) -> tuple[Any, ...]:
        """The arguments of the script that acquires."""
        meta = (
            f'{self._host}:{os.getpid()}:{threading.get_native_id()}:'
            f'{self._label}'
        )
        request = (
            f'{int(may_wait)} {self._options} '
            f'{claim.session.sid} {self._kind} {meta}'
        )
        return claim.hid, request


def _check_lease(lease: float, takeover: str) -> None:
    if takeover not in _TAKEOVERS:
        raise ValueError(
            f'cannot take over {takeover!r}: choose from {[*_TAKEOVERS]}'
        )
    if not (lease == 0 or 0.001 <= lease < math.inf):
        raise ValueError(f'cannot lease for {lease} s: zero, or 1 ms and more')
    if takeover == 'safe' and lease == 0:
        raise ValueError(
            'cannot take over safely without a lease: nobody would ever get '
            'the lock of a dead holder'
        )


def acquisition(
    order: Order,
    timeout: float,
    ticks: Iterator[int],
    pauses: list[float],
    counted: Any = None,
) -> Generator[Step, Any, _redis_claims.Claim]:
    """Take the lock and return the claim, which holds.

    `ticks` yields once for each attempt, and puts the pause that comes
    before it into `pauses`; a wait is told to `counted`. Raises
    `AlreadyLocked` after the last one.
    """
    acquiring = _Acquisition(order, timeout, counted)
    return (yield from acquiring.steps(ticks, pauses))


class _Acquisition:
    def __init__(self, order: Order, timeout: float, counted: Any) -> None:
        self._order = order
        # Who counts waits, and whether it knows of ours
        self._counted = counted
        self._is_counted = False
        self._may_wait = timeout > 0
        self._deadline = _deadline.Deadline(timeout)
        self._timeout = timeout
        # As the server knows them
        self._holders: list[Any] = []
        self._restarts = 0
        # We were in line: an error may pass
        self._has_waited = False
        self.claim: _redis_claims.Claim | None = None
        self._error: Exception | None = None

    def steps(
        self, ticks: Iterable[int], pauses: list[float]
    ) -> Generator[Step, Any, _redis_claims.Claim]:
        try:
            for _ in ticks:
                if pauses:
                    yield from self._rest(pauses.pop())
                if (yield from self._try()) and (yield from self._is_alone()):
                    assert self.claim is not None
                    return self.claim
                if not self._may_wait:
                    break
            return (yield from self._give_up())
        except BaseException:
            if self.claim is not None:
                self.claim.session.forget(self.claim)
            raise
        finally:
            if self._is_counted:
                self._counted.waits_no_more()

    def _rest(self, seconds: float) -> Generator[Step, Any, None]:
        claim = self.claim
        if claim is not None and claim.hold.is_undecided:
            rank = min(claim.rank, _HIGHEST_RANK)
            seconds *= 1 + rank if rank else _FIRST_IN_LINE
            # A grant is believed without a question while our last is young
            seconds = min(seconds, claim.hold.believed_for / 2)
        elif self._error is None and not (claim and claim.is_held):
            return
        else:
            claim = None  # the server is away, or an older release holds
        self._count_wait()
        yield Rest(claim, max(0.0, min(seconds, self._deadline.remaining())))

    def _count_wait(self) -> None:
        if self._counted is not None and not self._is_counted:
            self._is_counted = True
            self._counted.waits()

    def _try(self) -> Generator[Step, Any, bool]:
        """One attempt; whether we hold."""
        try:
            is_held = yield from self._try_here()
        except _MAY_PASS as error:
            if not self._has_waited or isinstance(error, REFUSALS):
                raise
            self._error = error  # the server may come back
            self._restarts = 0
            return False
        self._error = None
        return is_held

    def _try_here(self) -> Generator[Step, Any, bool]:
        while True:
            claim = self.claim
            if claim is None or not claim.hold.is_wanted:
                if claim is not None:
                    claim.session.forget(claim)
                    self.claim = None
                claim = self.claim = yield OpenSession()
            assert claim is not None
            if claim.is_held and (yield from self._has(claim)):
                return True
            answer = yield from self._ask(claim)
            if claim.is_held and (yield from self._has(claim)):
                return True
            if answer in {_redis_core.QUEUED, _redis_core.REFUSED}:
                self._has_waited = answer == _redis_core.QUEUED
                return False
            yield from self._note_restart(claim, answer)

    def _has(self, claim: _redis_claims.Claim) -> Generator[Step, Any, bool]:
        """Whether it is ours, as soon as its channel has a subscriber.

        Older releases may object.
        """
        if self._order.is_legacy:
            return True
        if claim.unheard or claim.refusal is not None:
            yield from self._be_heard(claim)
        return claim.publish()

    def _has_after_all(
        self, claim: _redis_claims.Claim
    ) -> Generator[Step, Any, bool]:
        is_ours = claim.is_held and not self._order.is_legacy
        return is_ours and (yield from self._has(claim))

    def _be_heard(
        self, claim: _redis_claims.Claim
    ) -> Generator[Step, Any, None]:
        """Wait for the confirmation of what was sent before we asked."""
        patience = _deadline.Deadline(_redis_endpoint.CONNECT_SECONDS)
        while claim.unheard and claim.is_held:
            if patience.remaining() <= 0:
                claim.session.close_unless_holding(claim)
                raise redis_errors.ConnectionError(
                    f'cannot lock {self._order.channels[0]!r}: the server '
                    'does not confirm our subscription'
                )
            yield Rest(claim, patience.remaining())
        if claim.refusal is not None:
            raise redis_errors.NoPermissionError(
                f'cannot lock {self._order.channels[0]!r}: its holder has to '
                f'be subscribed to the channel of that name: {claim.refusal}'
            )

    def _is_alone(self) -> Generator[Step, Any, bool]:
        """Whether no older release holds: then none will while we hold."""
        claim = self.claim
        if claim is None or not self._order.is_legacy:
            return True
        claim.session.look_for_company(claim)
        while claim.company is None and claim.is_held:
            yield Rest(claim, claim.hold.believed_for)
        if claim.company == 0 and claim.publish():
            return True
        claim.session.leave_company(claim)
        return False

    def _note_restart(
        self, claim: _redis_claims.Claim, answer: str
    ) -> Generator[Step, Any, None]:
        """The server knows nothing of us, or what it knew got too old."""
        self._restarts += 1
        if answer != _redis_core.NO_SESSION:
            return
        if claim.session.dialect.is_sharded:
            yield from self._look_for_life(claim.session)
        else:
            claim.session.close('the server does not see it')
        if self._restarts > _RESTARTS_IN_A_ROW:
            raise ServerSeesNoSession(
                f'cannot lock {self._order.channels[0]!r}: the server does '
                'not see our subscription; is there a proxy in between, or '
                'a replica, or does the lock move to another node?'
            )

    @staticmethod
    def _look_for_life(
        session: _redis_claims.ClaimCarrier,
    ) -> Generator[Step, Any, None]:
        """Its other locks may lie in slots that did not move: it stays.

        Unless it is over, which it may not have noticed.
        """
        life = _redis_claims.SignOfLife(session)
        patience = _deadline.Deadline(_redis_endpoint.CONNECT_SECONDS)
        while not life.is_known and patience.remaining() > 0:
            yield Rest(life, _LIFE_SECONDS)

    def _ask(self, claim: _redis_claims.Claim) -> Generator[Step, Any, str]:
        """Ask for the lock; what the server said."""
        words = self._order.words(claim, may_wait=self._may_wait)
        step = RunScript(
            *(claim.session.dialect.acquire, claim.keys, words),
            claim.session,
        )
        sent = _redis_core.now()
        claim.is_asking = True
        reply = yield from _run_twice(step)
        claim.is_asking = False
        answer, fact = self._understand(claim, reply)
        claim.happened(
            *(claim.hold.answered_ask, answer, fact, sent),
            _redis_core.now(),
        )
        return answer

    def _understand(
        self, claim: _redis_claims.Claim, reply: list[Any]
    ) -> tuple[str, Any]:
        kind = int(reply[0])
        if kind == 1:
            return _redis_core.GRANTED, _redis_scripts.token_of(reply[1:])
        if kind == -1:
            return _redis_core.NO_SESSION, None
        if kind == -2:
            return _redis_core.GONE, None
        self._restarts = 0
        claim.rank = max(0, int(reply[1]))
        self._holders = reply[3:]
        is_queued = int(reply[1]) >= 0
        answer = _redis_core.QUEUED if is_queued else _redis_core.REFUSED
        return answer, int(reply[2])

    def _give_up(self) -> Generator[Step, Any, _redis_claims.Claim]:
        """The time is over: leave the line, unless the lock came first."""
        claim = self.claim
        if claim is not None and claim.hold.is_undecided:
            with claim.session.mutex:
                claim.hold.give_up()
            step = RunScript(
                *(claim.session.dialect.cancel, claim.keys, (claim.hid,)),
                claim.session,
            )
            sent = _redis_core.now()
            reply = yield from _run_twice(step)
            answer, token = self._understand_cancel(reply)
            claim.happened(
                *(claim.hold.answered_cancel, answer, token, sent),
                _redis_core.now(),
            )
        if claim is not None and (yield from self._has_after_all(claim)):
            return claim
        if self._error is not None:
            raise self._error
        if claim is not None:
            if claim.hold.is_wanted:  # an older release keeps us out
                yield from releasing(claim)
            else:
                claim.session.drop(claim)
            self.claim = None
        if self._may_wait:  # perhaps so shortly that there was no pause
            self._count_wait()
        raise exceptions.AlreadyLocked(
            filename=self._order.channels[0],
            holders=tuple(map(_redis_holder.holder_of, self._holders)),
            waited=self._timeout if self._may_wait else None,
        )

    @staticmethod
    def _understand_cancel(reply: list[Any]) -> tuple[str, Any]:
        if int(reply[0]) == 1:
            return _redis_core.GRANTED, _redis_scripts.token_of(reply[1:])
        return _redis_core.GONE, None


def _run_twice(step: RunScript) -> Generator[Step, Any, Any]:
    """Run a script; where nobody knows whether it ran, once more."""
    try:
        return (yield step)
    except REFUSALS:
        raise
    except UNKNOWN_OUTCOME:
        return (yield step)


def releasing(claim: _redis_claims.Claim) -> Generator[Step, Any, bool]:
    """Give a claim back; whether it was held until now, as far as we know.

    Raises nothing that only says that the server cannot be reached: then the
    session gives the lock back, or its end does.
    """
    session = claim.session
    try:
        session.drop(claim)
        if claim.is_legacy:
            session.leave_company(claim)
        was_held = claim.is_held
        with session.mutex:
            claim.hold.leave()
        words = (claim.hid, *claim.tokens)
        found = yield from _run_twice(
            RunScript(session.dialect.release, claim.keys, words, session)
        )
        return bool(found) and was_held
    except redis_errors.RedisError as error:
        session.forget(claim)
        # a server that was demoted has let others go on without us
        is_gone = isinstance(error, redis_errors.ReadOnlyError)
        if was_held and not is_gone and not isinstance(error, UNKNOWN_OUTCOME):
            raise
        _redis_claims.redis_logger.warning(
            'cannot release %r at once: %s', claim.channels[0], error
        )
        return was_held and not is_gone
    except BaseException:
        session.forget(claim)
        raise


def question_beat(claim: _redis_claims.Claim) -> RunScript:
    """Ask whether a claim still holds, which renews it."""
    keys = claim.keys[::4]
    words = (claim.session.sid, *[claim.hid] * len(keys))
    return RunScript(claim.session.dialect.beat, keys, words, claim.session)


def question_who(dialect: _redis_scripts.Dialect, base: str) -> RunScript:
    """Ask who holds a lock, and who waits for it."""
    return RunScript(dialect.who, _redis_scripts.keys_of(base), ())
