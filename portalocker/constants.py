"""The words of a lock request: exclusive, shared, non-blocking, unlock.

`LockFlags` is what the public functions take and give. The bare integers
(`LOCK_EX`, `LOCK_SH`, `LOCK_NB`, `LOCK_UN`) are what the operating system
understands: the values of `fcntl` on POSIX, of `msvcrt` on Windows.
"""

import enum
import os
import sys

if os.name not in ('nt', 'posix'):
    raise RuntimeError(
        f'cannot lock files on {os.name!r}: only POSIX and Windows are known'
    )

if sys.platform == 'win32':  # executed by tests/windows_on_linux
    import msvcrt

    LOCK_EX = 0x1  # exclusive
    LOCK_SH = 0x2  # shared
    LOCK_NB = 0x4  # do not wait
    LOCK_UN = msvcrt.LK_UNLCK  # unlock
else:
    import fcntl

    LOCK_EX = fcntl.LOCK_EX
    LOCK_SH = fcntl.LOCK_SH
    LOCK_NB = fcntl.LOCK_NB
    LOCK_UN = fcntl.LOCK_UN


#: what a try asks for
EXCLUSIVE_TRY = LOCK_EX | LOCK_NB


class LockFlags(enum.IntFlag):
    """How a file is to be locked.

    Combine one kind (`EXCLUSIVE` or `SHARED`) with `NON_BLOCKING` where the
    call must not wait:

    >>> LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING == LOCK_EX | LOCK_NB
    True
    """

    #: one holder, nobody beside it
    EXCLUSIVE = LOCK_EX
    #: any number of holders that are all shared
    SHARED = LOCK_SH
    #: fail at once instead of waiting
    NON_BLOCKING = LOCK_NB
    #: let go; for the lockers themselves, users call `unlock()`
    UNBLOCK = LOCK_UN


#: Waiters hold a one-byte record lock at TICKET_BASE + the nanosecond of
#: their arrival: far beyond any data, invisible to flock, dropped by the
#: kernel when they die.
TICKET_BASE = 1 << 62
