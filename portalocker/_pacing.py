"""When to try again: computes pauses, leaves the sleeping to others."""

from __future__ import annotations

import os
import time

from . import _deadline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORTEST_PAUSE_SECONDS = 0.001  # below it polling burns the machine
LONGEST_PAUSE_SECONDS = 3600.0  # what every system call takes as a timeout


def ticks(
    timeout: float,
    check_interval: float,
    pause: Callable[[float], object],
) -> Iterator[int]:
    """Count the attempts, spending the time between them in `pause(seconds)`.

    0 comes before the clock starts and 1 right after it; the others after a
    pause each, and the last one at the deadline.
    """
    attempt = 0
    yield attempt

    started = time.perf_counter()
    deadline = _deadline.Deadline(timeout)
    if deadline.remaining() <= 0:
        return
    while True:
        attempt += 1
        yield attempt
        remaining = deadline.remaining()
        if remaining <= 0:
            return
        elapsed = time.perf_counter() - started
        pause(
            pause_until_next_slot(attempt, elapsed, check_interval, remaining)
        )


def pause_until_next_slot(
    attempt: int, elapsed: float, check_interval: float, remaining: float
) -> float:
    """Seconds until the next attempt that `check_interval` allows."""
    check_interval = max(check_interval, SHORTEST_PAUSE_SECONDS)
    # Attempt n + 1 starts at n * check_interval; an attempt that came early
    # (a wake-up) does not move the slots, so a pause is one interval at most.
    slots = min(attempt, int(elapsed / check_interval) + 1)
    pause = slots * check_interval - elapsed
    pause = max(SHORTEST_PAUSE_SECONDS, pause)
    return min(pause, remaining, LONGEST_PAUSE_SECONDS)


class Backoff:
    """Pauses for polling: short first, doubling, with jitter."""

    __slots__ = ('_ceiling',)

    def __init__(self) -> None:
        self._ceiling = SHORTEST_PAUSE_SECONDS

    def next_pause(self, longest: float) -> float:
        """The next pause in seconds, `longest` at most."""
        pause = min(self._ceiling, longest)
        self._ceiling = min(2 * self._ceiling, LONGEST_PAUSE_SECONDS)
        # Waiters that started together must not stay in step: take between
        # three and four quarters of the pause
        return pause * (1 - os.urandom(1)[0] / 1024)
