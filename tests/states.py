"""States: asking for one, and waiting for one, never for a clock."""

from __future__ import annotations

import fcntl
import os
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


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether somebody has the file locked, as a program without us asks."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
