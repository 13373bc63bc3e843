"""What workers wrote down about their holds, and what must be true of it.

All processes of a machine share one clock, so moments can be compared. A hold
is known by three of them at least: when its `acquire()` was called, when that
returned, and when `release()` was called. What lies between is certain.
"""

from __future__ import annotations

import bisect
import collections
import json
import os
import pathlib
import typing
from collections.abc import Iterable, Iterator
from typing import Any

RELEASED = 'released'
LOST = 'lost'


class Violation(AssertionError):
    """Something that the lock promises did not hold."""


class Hold(typing.NamedTuple):
    """One hold, as its worker saw it; None is what it did not live to see."""

    worker: str
    channel: str
    token: int
    asked: float
    got: float
    #: it was believed from here to there, at least
    believed: tuple[float, float] | None = None
    left: float | None = None
    outcome: str | None = None
    #: how often `on_lost` was called
    told: int = 0


class Journal:
    """Lines that any number of processes append."""

    def __init__(self, path: pathlib.Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **facts: Any) -> None:
        os.write(self._fd, json.dumps(facts).encode() + b'\n')

    def close(self) -> None:
        os.close(self._fd)


def read(path: pathlib.Path) -> list[Hold]:
    """Return the holds; a grant and its end are two lines of one hold."""
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for line in path.read_text('ascii').splitlines():
        facts = json.loads(line)
        key = facts['channel'], facts['worker'], facts['token']
        found.setdefault(key, {}).update(facts)
    for facts in found.values():
        if facts.get('believed'):
            facts['believed'] = tuple(facts['believed'])
    return [Hold(**facts) for facts in found.values()]


def check(holds: Iterable[Hold], *, is_strict: bool) -> None:
    """Raise `Violation` where a promise was broken.

    `is_strict`: nobody believed while another one did.
    """
    channels: dict[str, list[Hold]] = collections.defaultdict(list)
    for hold in holds:
        channels[hold.channel].append(hold)
    for of_channel in channels.values():
        _tokens_are_unique(of_channel)
        _tokens_follow_time(of_channel)
        _losses_are_told(of_channel)
        if is_strict:
            _believers_are_alone(of_channel)


def _tokens_are_unique(holds: list[Hold]) -> None:
    for token, times in collections.Counter(h.token for h in holds).items():
        if times > 1:
            raise Violation(f'{times} holds have the token {token}')


def _tokens_follow_time(holds: list[Hold]) -> None:
    """Whoever asks after another one was granted has a larger token."""
    granted = sorted(holds, key=lambda hold: hold.got)
    highest: Hold | None = None
    earlier = iter(granted)
    upcoming = next(earlier, None)
    for hold in sorted(holds, key=lambda hold: hold.asked):
        while upcoming is not None and upcoming.got < hold.asked:
            if highest is None or upcoming.token > highest.token:
                highest = upcoming
            upcoming = next(earlier, None)
        if highest is not None and hold.token <= highest.token:
            raise Violation(f'{hold} came after {highest}')


def _losses_are_told(holds: list[Hold]) -> None:
    """Who released had it to the end; who lost it was told, once."""
    granted = sorted(holds, key=lambda hold: hold.got)
    moments = [hold.got for hold in granted]
    # the largest token that was granted by then
    highest: list[Hold] = []
    for hold in granted:
        is_higher = not highest or hold.token > highest[-1].token
        highest.append(hold if is_higher else highest[-1])
    for hold in holds:
        if hold.outcome == LOST and hold.told != 1:
            raise Violation(f'told {hold.told} times of the loss: {hold}')
        if hold.outcome != RELEASED:
            continue
        assert hold.left is not None
        n = bisect.bisect_left(moments, hold.left)
        if n and highest[n - 1].token > hold.token:
            raise Violation(f'{highest[n - 1]} came before {hold} left')


def _beliefs(holds: list[Hold]) -> Iterator[tuple[float, float, Hold]]:
    for hold in holds:
        if hold.believed is not None:
            yield *hold.believed, hold


def _believers_are_alone(holds: list[Hold]) -> None:
    before: tuple[float, float, Hold] | None = None
    for belief in sorted(_beliefs(holds)):
        if before is not None and belief[0] < before[1]:
            raise Violation(f'{belief[2]} and {before[2]} both believed')
        before = max(before or belief, belief, key=lambda known: known[1])
