"""Which flags make a lock request: one kind, perhaps NON_BLOCKING."""

from __future__ import annotations

from . import constants

_LOCK_KINDS = constants.LOCK_EX | constants.LOCK_SH

# Every request that makes sense; the fast path is one look into this set
_LOCK_REQUESTS = frozenset(
    kind | waiting
    for kind in (constants.LOCK_EX, constants.LOCK_SH)
    for waiting in (0, constants.LOCK_NB)
)


def check_flags(flags: int) -> None:
    """Raise `RuntimeError` unless `flags` ask for exactly one kind of lock.

    One of `EXCLUSIVE` and `SHARED`, alone or with `NON_BLOCKING`. It never
    blocks and asks the system nothing.

    >>> check_flags(constants.LockFlags.NON_BLOCKING)
    Traceback (most recent call last):
    RuntimeError: cannot lock with NON_BLOCKING alone: add SHARED or EXCLUSIVE
    """
    if flags not in _LOCK_REQUESTS:
        raise RuntimeError(_why_no_request(flags))


def _why_no_request(flags: int) -> str:
    """What is wrong with the flags, in words."""
    kinds = flags & _LOCK_KINDS
    if kinds == _LOCK_KINDS:
        return 'cannot lock as SHARED and EXCLUSIVE at once: choose one'
    # UNBLOCK is 0 on Windows: there it is the same as asking for nothing
    if flags == constants.LOCK_UN or flags & constants.LOCK_UN:
        return (
            'cannot lock with UNBLOCK: call unlock() to let go, or choose '
            'SHARED or EXCLUSIVE'
        )
    if flags == constants.LOCK_NB:
        return 'cannot lock with NON_BLOCKING alone: add SHARED or EXCLUSIVE'
    if flags == 0:
        return 'cannot lock with no flags: choose SHARED or EXCLUSIVE'
    return f'cannot lock with unknown flags: {flags:#x}'
