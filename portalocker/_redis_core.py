"""One hold on a Redis server, as its client knows it: decisions, no waiting.

Events come in as method calls with the moment at which they happened; what is
to be done about them goes out as an effect. Threads, event loops and the
model checker of the tests drive the same object.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: of a lease: how long we believe in a hold after its last proof. It must end
#: before the lease does, whatever the rates of the two clocks.
BELIEF = 0.6
#: of a lease: the time between two proofs. A process that does nothing for
#: half a lease loses nothing, whenever that begins
BEAT = 0.06

# Phases
ASKED = 'asked'
WAITING = 'waiting'
HELD = 'held'
LOST = 'lost'
LEAVING = 'leaving'
OVER = 'over'

# Effects
ASK = 'ask'
RELEASE = 'release'
TELL_LOSS = 'tell loss'
LEAVE_SESSION = 'leave session'

# What the server answers
GRANTED = 'granted'
QUEUED = 'queued'
REFUSED = 'refused'
NO_SESSION = 'no session'
GONE = 'gone'


def _clock() -> Callable[[], float]:
    """A clock of seconds that runs while the machine is suspended too."""
    if sys.platform == 'linux':
        read, clock = time.clock_gettime, time.CLOCK_BOOTTIME
        return lambda: read(clock)
    return time.monotonic


now = _clock()


class Hold:
    """One attempt to hold, from the first question to the last answer.

    ========  ==========================================================
    phase     meaning
    ========  ==========================================================
    asked     the server may know us, and may have granted
    waiting   the server had us in line at the time of `contact`
    held      granted; believed while the last proof is young enough
    lost      it was held; it never is again
    leaving   we have asked the server to forget us
    over      nothing is left on the server, or it was never there
    ========  ==========================================================
    """

    __slots__ = (
        *('asked_beat', 'beat_every', 'believed_for', 'contact', 'phase'),
        *('queued_at', 'token'),
    )

    def __init__(self, lease: float, moment: float) -> None:
        self.phase = ASKED
        self.token: int | tuple[int, ...] | None = None
        # When the last command that proved us was sent; never when its
        # answer came: the server's lease runs from something in between
        self.contact = moment
        # By the server's clock: when it last said that we have to wait
        self.queued_at: float = -1
        # When we last asked for a proof
        self.asked_beat = moment
        self.believed_for = lease * BELIEF or float('inf')
        self.beat_every = lease * BEAT or float('inf')

    @property
    def is_undecided(self) -> bool:
        """Whether the server may still let us in."""
        return self.phase in {ASKED, WAITING}

    @property
    def is_wanted(self) -> bool:
        """Whether this attempt may still lead to the lock."""
        return self.phase in {ASKED, WAITING, HELD}

    def is_beat_due(self, moment: float, pause: float = 0.0) -> bool:
        """Whether to ask for a proof now; asking is what it notes.

        `pause`: nobody asks again before that many seconds.
        """
        since = max(self.contact, self.asked_beat)
        is_early = moment + pause - since < self.beat_every
        if is_early or not self.believes(moment):
            return False
        self.asked_beat = moment
        return True

    def is_overdue(self, moment: float) -> bool:
        """Whether a hold got too old and nobody has said so."""
        return self.phase == HELD and not self.is_fresh(moment)

    def believes(self, moment: float) -> bool:
        """Whether we may act as the holder; needs no answer of anybody."""
        return self.phase == HELD and self.is_fresh(moment)

    def is_fresh(self, moment: float) -> bool:
        """Whether the server cannot have given the lock to others yet."""
        return moment - self.contact < self.believed_for

    def prove(self, sent: float, _arrived: float) -> None:
        """The server said that we are there, some time after `sent`."""
        self.contact = max(self.contact, sent)

    def age(self, moment: float) -> str | None:
        """Time has passed: a hold that got too old is lost for ever."""
        if self.is_overdue(moment):
            return self._lose()
        return None

    def answered_ask(
        self,
        answer: str,
        fact: Any,
        sent: float,
        moment: float,
    ) -> str | None:
        """The server answered the question that was sent at `sent`.

        `fact` is the token of a grant, or the moment, by the server's clock,
        at which it put us into the line.
        """
        effect = self.age(moment)
        if self.phase in {LOST, LEAVING, OVER}:
            return effect  # the release that follows takes it back
        if answer == GRANTED:
            self.prove(sent, moment)
            return self._believe(fact, moment, self.believed_for)
        if answer == QUEUED:
            self.prove(sent, moment)
            self.queued_at = fact
            if self.phase == ASKED:
                self.phase = WAITING
            return None
        if self.phase == HELD:  # by a push that was faster than this answer
            return self._lose()
        self.phase = OVER
        return LEAVE_SESSION if answer == NO_SESSION else None

    def pushed_grant(
        self,
        token: int | tuple[int, ...],
        granted_at: float,
        moment: float,
    ) -> str | None:
        """The server says that our turn has come."""
        effect = self.age(moment)
        if self.phase not in {ASKED, WAITING}:
            return effect
        if granted_at <= self.queued_at:
            return ASK  # it took that grant back, and lost all its data
        # It came after our last question; how long ago nobody knows
        return self._believe(token, moment, self.believed_for / 2)

    def _believe(
        self,
        token: int | tuple[int, ...] | None,
        moment: float,
        within: float,
    ) -> str | None:
        """A grant is believed while its proof is young; else it needs one."""
        if self.phase == HELD:
            return None
        if moment - self.contact >= within:
            return ASK
        self.phase = HELD
        self.token = token
        return None

    def answered_beat(
        self, is_there: bool, sent: float, moment: float
    ) -> str | None:
        """The server looked whether we still hold."""
        effect = self.age(moment)
        if self.phase != HELD:
            return effect
        if not is_there:
            return self._lose()
        self.prove(sent, moment)
        return None

    def pushed_loss(self) -> str | None:
        """The server says that it gave our place to others."""
        if self.phase == HELD:
            return self._lose()
        if self.phase in {ASKED, WAITING}:
            self.phase = OVER
        return None

    def session_ended(self) -> str | None:
        """Our subscription is gone, and with it what we had."""
        return self.pushed_loss()

    def give_up(self) -> None:
        """We wait no longer; the server may have granted already."""
        if self.phase in {ASKED, WAITING}:
            self.phase = LEAVING

    def answered_cancel(
        self,
        answer: str,
        token: int | tuple[int, ...] | None,
        sent: float,
        moment: float,
    ) -> str | None:
        """Whether a grant was faster than our giving up: then we hold."""
        if self.phase != LEAVING:
            return None
        if answer != GRANTED:
            self.phase = OVER
            return None
        self.prove(sent, moment)
        self.phase = ASKED
        return self._believe(token, moment, self.believed_for) and RELEASE

    def leave(self) -> bool:
        """We let go, or forget; whether the server has to be told."""
        had_place = self.phase != OVER
        self.phase = LEAVING
        return had_place

    def _lose(self) -> str:
        self.phase = LOST
        return TELL_LOSS
