"""A moment after which we stop waiting: knows never, now, and remaining."""

from __future__ import annotations

import time

INFINITY = float('inf')


class Deadline:
    """The end of a wait, in seconds of `time.perf_counter`."""

    __slots__ = ('at',)

    def __init__(self, seconds: float) -> None:
        if seconds != seconds:
            raise ValueError('cannot wait: the timeout is not a number')
        self.at = time.perf_counter() + seconds

    def remaining(self) -> float:
        """Seconds left; zero or less when it is over, may be infinite."""
        return self.at - time.perf_counter()
