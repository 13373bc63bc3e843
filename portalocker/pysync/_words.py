"""The words of the synchronization primitives: statuses and flags."""

from __future__ import annotations

import enum
from collections.abc import Callable


class ParkStatus(enum.IntEnum):
    """How a call of `park()` ended."""

    OK = 0  # woken by unpark() or unpark_all()
    TIMEOUT = 1  # the time was over first
    AGAIN = 2  # check() said no: we did not sleep
    INTR = 3  # never returned: signal handlers run while we wait


class LockStatus(enum.IntEnum):
    """How a call of `Mutex.lock_timed()` ended."""

    FAILURE = 0  # the time was over first
    ACQUIRED = 1  # the caller holds the lock
    INTR = 2  # never returned: signal handlers run while we wait


class LockFlags(enum.IntFlag):
    """What a call of `Mutex.lock_timed()` may do; both are always done."""

    DONT_DETACH = 0  # accepted, and without effect
    DETACH = 1  # let other threads run while we wait
    HANDLE_SIGNALS = 2  # run signal handlers while we wait


# What unpark() calls: with the argument of whom it wakes (None where nobody
# waits), and whether more wait for the same key
UnparkFn = Callable[[object, bool], object]

# What OnceFlag.do() calls
OnceFn = Callable[[], object]
