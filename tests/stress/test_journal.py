"""The stress run can fail: the journal sees what went wrong."""

from __future__ import annotations

from journal import (
    ENTER,
    LEAVE,
    STAY,
    Record,
    lost_updates,
    most_inside_at_once,
)


def visit(worker: int, number: int, value: int, *verbs: int) -> list[Record]:
    return [Record(worker, number, verb, value) for verb in verbs]


WHOLE = (ENTER, STAY, LEAVE)


def test_visits_one_after_the_other_lose_nothing() -> None:
    records = visit(1, 1, 1, *WHOLE) + visit(2, 1, 2, *WHOLE)
    assert most_inside_at_once(records) == 1
    assert not lost_updates(records)


def test_two_inside_at_once_are_seen() -> None:
    first, second = visit(1, 1, 1, *WHOLE), visit(2, 1, 2, *WHOLE)
    records = [first[0], second[0], *first[1:], *second[1:]]
    assert most_inside_at_once(records) == 2
    assert lost_updates(records)


def test_same_value_twice_is_a_lost_update() -> None:
    records = visit(1, 1, 1, *WHOLE) + visit(2, 1, 1, *WHOLE)
    assert most_inside_at_once(records) == 1
    assert lost_updates(records)


def test_value_of_a_killed_visit_may_have_been_written_or_not() -> None:
    killed = visit(1, 1, 1, ENTER, STAY)
    assert not lost_updates(killed + visit(2, 1, 1, *WHOLE))
    assert not lost_updates(killed + visit(2, 1, 2, *WHOLE))
    assert lost_updates(killed + visit(2, 1, 3, *WHOLE))


def test_killed_visit_is_inside_no_longer_than_it_said() -> None:
    records = visit(1, 1, 1, ENTER) + visit(2, 1, 1, *WHOLE)
    assert most_inside_at_once(records) == 1
