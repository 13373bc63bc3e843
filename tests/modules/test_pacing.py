"""When to try again."""

from __future__ import annotations

import math
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portalocker import _pacing

seconds = st.floats(0, 1e6)
FLOOR = _pacing.SHORTEST_PAUSE_SECONDS


@pytest.mark.parametrize(
    ('attempt', 'elapsed', 'pause'),
    [
        (1, 0.0, 0.25),  # the second attempt follows the first at once
        (2, 0.25, 0.25),
        (3, 0.625, 0.125),
        (9, 0.625, 0.125),  # early attempts do not move the slots
        (3, 0.75, FLOOR),  # late: at once, nearly
    ],
)
def test_attempts_start_at_multiples_of_the_interval(
    attempt: int, elapsed: float, pause: float
) -> None:
    assert _pacing.pause_until_next_slot(attempt, elapsed, 0.25, 10) == pause


@given(st.integers(1, 10**6), seconds, seconds, seconds)
@example(1, 1.0, 5e-324, 1.0)
@example(10**6, 1e6, 1e6, 1e6)
def test_a_pause_is_within_all_its_bounds(
    attempt: int, elapsed: float, interval: float, remaining: float
) -> None:
    pause = _pacing.pause_until_next_slot(
        attempt, elapsed, interval, remaining
    )
    assert 0 <= pause <= remaining
    assert pause >= min(FLOOR, remaining)
    # one float's error of what has elapsed may be added to the interval
    assert pause <= max(interval, FLOOR) + math.ulp(elapsed + interval)
    assert pause <= _pacing.LONGEST_PAUSE_SECONDS


def test_pauses_are_what_a_system_call_can_take() -> None:
    assert (
        _pacing.pause_until_next_slot(1, 0, math.inf, math.inf)
        == _pacing.LONGEST_PAUSE_SECONDS
    )


def test_without_an_interval_the_shortest_pause_is_left() -> None:
    assert _pacing.pause_until_next_slot(5, 1.0, 0, 10) == FLOOR


@pytest.mark.parametrize(('byte', 'factor'), [(0, 1), (255, 1 - 255 / 1024)])
def test_backoff_doubles_up_to_the_longest_and_takes_most_of_it(
    byte: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'urandom', lambda n: bytes([byte]) * n)
    backoff = _pacing.Backoff()
    pauses = [backoff.next_pause(0.01) for _ in range(6)]
    ceilings = [FLOOR, 2 * FLOOR, 4 * FLOOR, 8 * FLOOR, 0.01, 0.01]
    assert pauses == [ceiling * factor for ceiling in ceilings]
    assert 0.75 <= factor <= 1


def test_backoff_ends_doubling_at_what_a_system_call_takes() -> None:
    backoff = _pacing.Backoff()
    pauses = [backoff.next_pause(math.inf) for _ in range(60)]
    assert pauses[-1] <= _pacing.LONGEST_PAUSE_SECONDS
