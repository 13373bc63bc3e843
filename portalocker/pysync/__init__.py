"""Locks between the threads of one process, after CPython's own.

Two implementations of one contract: a native one, in C, and pure Python.
`IMPLEMENTATION` tells which one is in use.
"""

from __future__ import annotations

import os

from ._core import FAIR, IMPLEMENTATION, core
from ._deadlocks import Blocked, deadlocks
from ._once_cell import OnceCell, once
from ._seq_reads import SeqLock
from ._words import (
    LockFlags,
    LockStatus,
    OnceFn,
    ParkStatus,
    UnparkFn,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._native import (
        AtomicInt,
        CriticalSection,
        CSThread,
        Event,
        Mutex,
        OnceFlag,
        RawMutex,
        RecursiveMutex,
        RWMutex,
        SeqLockWrite,
        _waits,
        after_fork,
        park,
        park_if,
        parked_count,
        unpark,
        unpark_all,
    )
else:
    AtomicInt = core.AtomicInt
    CSThread = core.CSThread
    CriticalSection = core.CriticalSection
    Event = core.Event
    Mutex = core.Mutex
    OnceFlag = core.OnceFlag
    RWMutex = core.RWMutex
    RawMutex = core.RawMutex
    RecursiveMutex = core.RecursiveMutex
    SeqLockWrite = core.SeqLockWrite
    _waits = core._waits
    after_fork = core.after_fork
    park = core.park
    park_if = core.park_if
    parked_count = core.parked_count
    unpark = core.unpark
    unpark_all = core.unpark_all

__all__ = [
    'FAIR',
    'IMPLEMENTATION',
    'LOCK_ACQUIRED',
    'LOCK_DETACH',
    'LOCK_FAILURE',
    'LOCK_HANDLE_SIGNALS',
    'LOCK_INTR',
    'PARK_AGAIN',
    'PARK_INTR',
    'PARK_OK',
    'PARK_TIMEOUT',
    'AtomicInt',
    'Blocked',
    'CSThread',
    'CriticalSection',
    'Event',
    'LockFlags',
    'LockStatus',
    'Mutex',
    'OnceCell',
    'OnceFlag',
    'OnceFn',
    'ParkStatus',
    'RWMutex',
    'RawMutex',
    'RecursiveMutex',
    'SeqLock',
    'SeqLockWrite',
    'UnparkFn',
    'after_fork',
    'deadlocks',
    'once',
    'park',
    'park_if',
    'parked_count',
    'suspended',
    'unpark',
    'unpark_all',
]

PARK_OK = ParkStatus.OK
PARK_TIMEOUT = ParkStatus.TIMEOUT
PARK_AGAIN = ParkStatus.AGAIN
PARK_INTR = ParkStatus.INTR

LOCK_FAILURE = LockStatus.FAILURE
LOCK_ACQUIRED = LockStatus.ACQUIRED
LOCK_INTR = LockStatus.INTR

LOCK_DETACH = LockFlags.DETACH
LOCK_HANDLE_SIGNALS = LockFlags.HANDLE_SIGNALS


def suspended() -> CriticalSection:
    """Return a `with` block in which this thread holds no critical section.

    For waits that this package does not know of, such as input and output.

    >>> mutex = Mutex()
    >>> with CriticalSection(mutex):
    ...     with suspended():
    ...         mutex.is_locked()
    ...     mutex.is_locked()
    False
    True
    """
    return CriticalSection()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=after_fork)
