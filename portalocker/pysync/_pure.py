"""What `_native` provides, in pure Python."""

from __future__ import annotations

from . import _atomic_int, _lot
from ._atomic_int import AtomicInt, park_if
from ._critical_section import CriticalSection, CSThread
from ._event import Event
from ._lot import park, parked_count, unpark, unpark_all
from ._lot import waits as _waits
from ._mutex import Mutex, RawMutex
from ._once_flag import OnceFlag
from ._recursive_mutex import RecursiveMutex
from ._rw_mutex import RWMutex
from ._seq_lock import SeqLock, SeqLockWrite
from ._timed import Timed

__all__ = [
    'AtomicInt',
    'CSThread',
    'CriticalSection',
    'Event',
    'Mutex',
    'OnceFlag',
    'RWMutex',
    'RawMutex',
    'RecursiveMutex',
    'SeqLock',
    'SeqLockWrite',
    'Timed',
    '_waits',
    'after_fork',
    'park',
    'park_if',
    'parked_count',
    'unpark',
    'unpark_all',
]


def after_fork() -> None:
    """Forget all waiters: in a forked child they are not there.

    It runs by itself in every child of `os.fork()`. Called by hand where
    other threads wait, it makes them wait for ever.

    CPython's name: _PyParkingLot_AfterFork.
    """
    _lot.after_fork()
    _atomic_int.after_fork()
