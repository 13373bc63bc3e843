"""What a hold believes, and what it stops believing."""

from __future__ import annotations

import pytest

from portalocker import _redis_core as core

LEASE = 10.0
BELIEVED = LEASE * core.BELIEF


def held(contact: float = 0.0) -> core.Hold:
    hold = core.Hold(LEASE, contact)
    assert hold.answered_ask(core.GRANTED, 7, contact, contact) is None
    assert hold.phase == core.HELD
    return hold


def test_belief_ends_before_the_lease() -> None:
    assert core.BELIEF < 1
    assert 2 * core.BEAT < core.BELIEF, 'one beat may be late'


def test_grant_is_believed_from_when_it_was_asked_for() -> None:
    hold = core.Hold(LEASE, 0)
    hold.answered_ask(core.GRANTED, 7, 1.0, 3.0)
    assert hold.believes(1.0 + BELIEVED - 0.1)
    assert not hold.believes(1.0 + BELIEVED)


def test_grant_learned_too_late_is_asked_for_again() -> None:
    hold = core.Hold(LEASE, 0)
    late = BELIEVED + 1
    assert hold.answered_ask(core.GRANTED, 7, 0.0, late) == core.ASK
    assert not hold.believes(late)
    assert hold.answered_ask(core.GRANTED, 7, late, late + 1) is None
    assert hold.believes(late + 1)


@pytest.mark.parametrize('age', [0.4, 0.6, 2.0])
def test_push_counts_from_the_last_answer(age: float) -> None:
    hold = core.Hold(LEASE, 0)
    hold.answered_ask(core.QUEUED, 5, 0.0, 0.1)
    moment = BELIEVED * age
    effect = hold.pushed_grant(7, 6, moment)
    assert (effect == core.ASK) == (age >= 0.5)
    assert hold.believes(moment) == (age < 0.5)


def test_push_may_come_before_the_answer_to_the_question() -> None:
    hold = core.Hold(LEASE, 0)
    hold.pushed_grant(7, 6, 0.5)
    hold.answered_ask(core.QUEUED, 5, 0.0, 0.6)
    assert hold.phase == core.HELD
    hold.answered_ask(core.GRANTED, 7, 0.0, 0.7)
    assert hold.token == 7


def test_push_that_an_answer_overtook_is_not_believed() -> None:
    hold = core.Hold(LEASE, 0)
    hold.answered_ask(core.QUEUED, 5, 0.0, 0.1)
    assert hold.pushed_grant(7, 5, 0.2) == core.ASK
    assert not hold.believes(0.2)
    assert hold.answered_ask(core.GRANTED, 7, 0.3, 0.4) is None
    assert hold.believes(0.4)


def test_lost_is_for_ever() -> None:
    hold = held()
    assert hold.answered_beat(True, 1.0, BELIEVED + 1) == core.TELL_LOSS
    assert hold.answered_beat(True, 99.0, 99.0) is None
    assert hold.pushed_grant(8, 99, 99.0) is None
    assert hold.answered_ask(core.GRANTED, 8, 99.0, 99.0) is None
    assert not hold.believes(99.0)


def test_beat_proves_from_when_it_was_sent() -> None:
    hold = held()
    assert hold.answered_beat(True, 2.0, 5.0) is None
    assert hold.believes(2.0 + BELIEVED - 0.1)
    assert hold.answered_beat(True, 1.0, 5.0) is None
    assert hold.believes(2.0 + BELIEVED - 0.1), 'an old answer takes nothing'


@pytest.mark.parametrize(
    'event',
    [
        lambda hold: hold.answered_beat(False, 1.0, 1.0),
        lambda hold: hold.pushed_loss(),
        lambda hold: hold.session_ended(),
        lambda hold: hold.age(BELIEVED),
        lambda hold: hold.answered_ask(core.GONE, None, 1.0, 1.0),
        lambda hold: hold.answered_ask(core.NO_SESSION, None, 1.0, 1.0),
    ],
)
def test_loss_is_told_once(event: object) -> None:
    hold = held()
    assert event(hold) == core.TELL_LOSS  # type: ignore[operator]
    assert event(hold) is None  # type: ignore[operator]


def test_beats_are_due_before_the_next_would_be_late() -> None:
    hold = held()
    every = LEASE * core.BEAT
    assert not hold.is_beat_due(every - 0.1)
    assert hold.is_beat_due(every)
    assert not hold.is_beat_due(every + 0.1), 'one is on its way'
    assert hold.is_beat_due(every + 0.1, pause=every)


def test_standing_still_for_half_a_lease_is_survived_at_any_moment() -> None:
    assert core.BEAT + 0.5 < core.BELIEF


def test_cancel_that_comes_too_late_holds() -> None:
    hold = core.Hold(LEASE, 0)
    hold.answered_ask(core.QUEUED, 5, 0.0, 0.1)
    hold.give_up()
    assert hold.pushed_grant(7, 6, 0.2) is None
    assert not hold.believes(0.2)
    assert hold.answered_cancel(core.GRANTED, 7, 0.2, 0.3) is None
    assert hold.believes(0.3)


def test_cancel_ends_it() -> None:
    hold = core.Hold(LEASE, 0)
    hold.give_up()
    hold.answered_cancel(core.GONE, None, 0.2, 0.3)
    assert hold.phase == core.OVER
    assert hold.pushed_grant(7, 6, 0.4) is None
    assert hold.phase == core.OVER


def test_stale_cancel_is_given_back() -> None:
    hold = core.Hold(LEASE, 0)
    hold.give_up()
    late = BELIEVED + 1
    answer = hold.answered_cancel(core.GRANTED, 7, 0.2, late + 0.2)
    assert answer == core.RELEASE
    assert not hold.believes(late)


def test_no_lease_is_believed_while_the_session_lives() -> None:
    hold = core.Hold(0, 0)
    hold.answered_ask(core.GRANTED, 7, 0, 0)
    assert hold.believes(1e9)
    assert not hold.is_beat_due(1e9)
    assert hold.session_ended() == core.TELL_LOSS
    assert not hold.believes(0)


def test_server_without_our_session_ends_the_session() -> None:
    hold = core.Hold(LEASE, 0)
    effect = hold.answered_ask(core.NO_SESSION, None, 0, 0)
    assert effect == core.LEAVE_SESSION
    assert not hold.is_wanted


def test_clock_runs_forward() -> None:
    assert core.now() <= core.now()
