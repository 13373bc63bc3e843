"""A moment after which we stop waiting."""

from __future__ import annotations

import math
import time

import pytest

from portalocker import _deadline


def test_what_remains_shrinks_with_the_clock_and_passes_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    with monkeypatch.context() as patch:
        patch.setattr(time, 'perf_counter', lambda: now)
        deadline = _deadline.Deadline(2.0)
        seen = [deadline.remaining()]
        now = 101.5
        seen.append(deadline.remaining())
        now = 103.0
        seen.append(deadline.remaining())
    assert seen == [2.0, 0.5, -1.0]


def test_an_infinite_deadline_never_comes_nearer() -> None:
    assert _deadline.Deadline(_deadline.INFINITY).remaining() == math.inf


@pytest.mark.parametrize('seconds', [0, -1.0, -math.inf])
def test_a_deadline_that_is_not_in_the_future_is_over(seconds: float) -> None:
    assert _deadline.Deadline(seconds).remaining() <= 0


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match='not a number'):
        _deadline.Deadline(math.nan)
