"""Waiting for what others do: for a state, never for a clock."""

from __future__ import annotations

import time
from collections.abc import Callable

# Nothing takes as long, unless it never happens
LONG = 30


def wait_until(is_so: Callable[[], object], what: str = '') -> None:
    """Return as soon as `is_so()`; fail with `what` if it never is."""
    until = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < until, what or f'{is_so} never was'
        time.sleep(0.001)
