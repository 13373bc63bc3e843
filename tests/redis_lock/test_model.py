"""Every order of messages and faults, as far as the bounds go.

`hold` and `server` are the rules; a rule that is taken out must be missed.
"""

from __future__ import annotations

from typing import Any

import model
import model_server
import pytest
from model import Bounds, Violation, check

from portalocker import _redis_core as core

# A lease of three moments, of which two are believed
TIMED: dict[str, Any] = {
    'lease': 3,
    'believed_for': 2,
    'polls': True,
    'moments': 2,
}

SMALL = {
    'exclusion, nobody stuck, no polling': Bounds(clients=3),
    'the same for two rounds': Bounds(rounds=2),
    'barging': Bounds(rounds=2, is_fair=False),
    'giving up against the grant': Bounds(cancels=2),
    'lost replies': Bounds(lost_replies=2),
    'lost reply and giving up': Bounds(lost_replies=1, cancels=1),
    'crash': Bounds(crashes=1, polls=True),
    'killed connection': Bounds(kills=1, polls=True, is_strict=False),
    'restart with empty data': Bounds(restarts=1, polls=True, is_strict=False),
    'readers and a writer': Bounds(clients=3, modes='ssx'),
    'permits': Bounds(clients=3, modes='ppp', limit=2),
    'permits beside a writer, giving up': Bounds(
        clients=3, modes='pxp', limit=1, cancels=1
    ),
    'readers, giving up and lost replies': Bounds(
        modes='sx', cancels=1, lost_replies=1
    ),
    'time, and messages that take any time': Bounds(**TIMED),
    'time and a crash': Bounds(**{**TIMED, 'moments': 1}, crashes=1),
    'time and a lease that is hardly believed': Bounds(
        **{**TIMED, 'lease': 2, 'believed_for': 1}
    ),
}

LARGE = {
    'three clients, two rounds': Bounds(clients=3, rounds=2),
    'three clients that may give up': Bounds(clients=3, cancels=2),
    'three clients, lost replies': Bounds(clients=3, lost_replies=2),
    'three clients, two crashes': Bounds(clients=3, crashes=2, polls=True),
    'two killed connections': Bounds(
        rounds=2, kills=2, cancels=1, polls=True, is_strict=False
    ),
    'readers and a writer, two crashes': Bounds(
        clients=3, modes='sxs', crashes=2, polls=True
    ),
    'permits, lost replies and giving up': Bounds(
        clients=3, modes='ppp', limit=2, lost_replies=1, cancels=1
    ),
    'permits, killed connection': Bounds(
        clients=3,
        modes='ppp',
        limit=2,
        kills=1,
        polls=True,
        is_strict=False,
    ),
    'readers and a writer, partition': Bounds(
        **TIMED, modes='sx', partitions=1
    ),
    'partition': Bounds(**TIMED, partitions=1),
    'more time': Bounds(**{**TIMED, 'moments': 4}),
    'flushed data': Bounds(**TIMED, flushes=1, is_strict=False),
    'safe takeover, killed connection': Bounds(**TIMED, kills=1, takeover='s'),
    'safe takeover, killed and cut off': Bounds(
        **TIMED, kills=1, partitions=1, takeover='s'
    ),
}


@pytest.mark.parametrize('name', SMALL)
def test_rules_hold(name: str) -> None:
    assert check(SMALL[name]) > 100


@pytest.mark.stress
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('name', LARGE)
def test_rules_hold_in_larger_worlds(name: str) -> None:
    print(name, check(LARGE[name]), 'states')


class ContactFromArrival(core.Hold):
    """Without R2."""

    __slots__ = ()

    def prove(self, sent: float, arrived: float) -> None:
        super().prove(arrived, arrived)


class BeliefWithoutAge(core.Hold):
    """Without R3."""

    __slots__ = ()

    def believes(self, moment: float) -> bool:
        return self.phase == core.HELD


class LossThatHeals(core.Hold):
    """Without R4."""

    __slots__ = ()

    def age(self, moment: float) -> str | None:
        return None


class BeatThatDoesNotLook(model_server.Server):
    """Without R5."""

    def beat(self, hid: Any, sid: Any) -> bool:
        return True


class PushOverAnswer(core.Hold):
    """Without the order of pushes and answers."""

    __slots__ = ()

    def pushed_grant(
        self, token: Any, granted_at: float, moment: float
    ) -> str | None:
        return super().pushed_grant(token, granted_at + 999, moment)


class ReadersAreNotCounted(model_server.Server):
    """Without the modes of the holders."""

    def _fits(self, request: model_server.Request) -> bool:
        return all(h.mode == 's' for h in self.holders.values())


class TokenOfNobody(core.Hold):
    """Without the token of its own grant."""

    __slots__ = ()

    def _believe(self, token: Any, moment: float, within: float) -> str | None:
        return super()._believe(0, moment, within)


class NothingPumped(model_server.Server):
    """Without I3: a release wakes nobody."""

    def release(self, hid: Any) -> int:
        return int(self.holders.pop(hid, None) is not None)


WITHOUT = {
    'R2': (Bounds(**{**TIMED, 'moments': 4}, hold=ContactFromArrival), 'all'),
    'R3': (Bounds(**{**TIMED, 'moments': 4}, hold=BeliefWithoutAge), 'all'),
    'R4': (Bounds(**{**TIMED, 'moments': 4}, hold=LossThatHeals), 'had lost'),
    'R5': (
        Bounds(
            **TIMED, flushes=1, is_strict=False, server=BeatThatDoesNotLook
        ),
        'proven after',
    ),
    'R9': (
        Bounds(**{**TIMED, 'moments': 4, 'lease': 2, 'believed_for': 3}),
        'all believe',
    ),
    'order of pushes': (
        Bounds(
            **{**TIMED, 'lease': 2, 'believed_for': 1},
            flushes=1,
            is_strict=False,
            hold=PushOverAnswer,
        ),
        'proven after',
    ),
    'I3': (Bounds(server=NothingPumped), 'stuck'),
    'modes': (
        Bounds(modes='sx', server=ReadersAreNotCounted),
        'all believe',
    ),
    'tokens': (Bounds(hold=TokenOfNobody), 'token of another'),
}


@pytest.mark.parametrize(
    'rule',
    [
        pytest.param(rule, marks=pytest.mark.stress if 'order' in rule else ())
        for rule in WITHOUT
    ],
)
def test_each_rule_is_needed(rule: str) -> None:
    bounds, complaint = WITHOUT[rule]
    with pytest.raises(Violation, match=complaint) as caught:
        check(bounds)
    # The counterexample is told step by step
    assert '\n  1 ' in str(caught.value)


def test_expected_window_is_found() -> None:
    """A killed connection has two believers until its end is read: M1."""
    with pytest.raises(Violation, match='all believe'):
        check(Bounds(kills=1, polls=True))


def test_margin_of_the_real_constants() -> None:
    assert core.BELIEF * 1.05 < 0.95, 'clocks may differ by 5 % in rate'
    assert model.Client(1).state(0, None)
