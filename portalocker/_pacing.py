"""When to try again: computes pauses, never sleeps."""

from __future__ import annotations

import os

SHORTEST_PAUSE_SECONDS = 0.001  # below it polling burns the machine
LONGEST_PAUSE_SECONDS = 3600.0  # what every system call takes as a timeout


def pause_until_next_slot(
    attempt: int, elapsed: float, check_interval: float, remaining: float
) -> float:
    """Seconds until the next attempt that `check_interval` allows."""
    # Attempt n + 1 starts at n * check_interval; an attempt that came early
    # (a wake-up) does not move the slots, so a pause is one interval at most.
    slots = min(attempt, _slots_passed(elapsed, check_interval) + 1)
    pause = slots * check_interval - elapsed
    pause = max(SHORTEST_PAUSE_SECONDS, pause)
    return min(pause, remaining, LONGEST_PAUSE_SECONDS)


def _slots_passed(elapsed: float, check_interval: float) -> int:
    return int(elapsed / check_interval) if check_interval > 0 else 0


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
