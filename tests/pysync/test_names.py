"""The names of CPython's primitives, as Go programs and we write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crew import SHORT

#: CPython's name in Go's spelling | ours | as threading would have it
NAMES = """
Mutex.Lock                | Mutex.lock                  | Mutex.acquire
Mutex.Unlock              | Mutex.unlock                | Mutex.release
Mutex.TryLock             | Mutex.try_lock              | Mutex.acquire
Mutex.LockTimed           | Mutex.lock_timed            | Mutex.acquire
Mutex.IsLocked            | Mutex.is_locked             | Mutex.locked
RawMutex.Lock             | RawMutex.lock               | RawMutex.acquire
RawMutex.Unlock           | RawMutex.unlock             | RawMutex.release
RecursiveMutex.Lock       | RecursiveMutex.lock         | RecursiveMutex.acquire
RecursiveMutex.Unlock     | RecursiveMutex.unlock       | RecursiveMutex.release
RecursiveMutex.IsLockedBy | RecursiveMutex.is_locked_by | RecursiveMutex._is_owned
RWMutex.RLock             | RWMutex.r_lock              | RWMutex.acquire_read
RWMutex.RUnlock           | RWMutex.r_unlock            | RWMutex.release_read
RWMutex.Lock              | RWMutex.lock                | RWMutex.acquire_write
RWMutex.Unlock            | RWMutex.unlock              | RWMutex.release_write
SeqLock.LockWrite         | SeqLock.lock_write          | SeqLock.write
SeqLock.UnlockWrite       | SeqLock.unlock_write        | SeqLock.write
SeqLock.AbandonWrite      | SeqLock.abandon_write       | SeqLockWrite.abandon
SeqLock.BeginRead         | SeqLock.begin_read          | SeqLock.reads
SeqLock.EndRead           | SeqLock.end_read            | SeqLock.read
SeqLock.AfterFork         | SeqLock.after_fork          |
Event.IsSet               | Event.is_set                | Event.is_set
Event.Notify              | Event.notify                | Event.set
Event.Wait                | Event.wait                  | Event.wait
Event.WaitTimed           | Event.wait_timed            | Event.wait
OnceFlag.Do               | OnceFlag.do                 | OnceCell.get
OnceFlag.Done             | OnceFlag.done               | OnceCell.done
CriticalSection.Begin     | CriticalSection.begin       | CriticalSection.__enter__
CriticalSection.BeginMutex2 | CriticalSection.begin_mutex2 | CriticalSection.__enter__
CriticalSection.End       | CriticalSection.end         | CriticalSection.__exit__
CSThread.Top              | CSThread.top                | CSThread.current
Park                      | park                        |
Unpark                    | unpark                      |
UnparkAll                 | unpark_all                  |
AfterFork                 | after_fork                  |
UnparkFn                  | UnparkFn                    |
OnceFn                    | OnceFn                      | once
ParkOK                    | PARK_OK                     | ParkStatus.OK
ParkTimeout               | PARK_TIMEOUT                | ParkStatus.TIMEOUT
ParkAgain                 | PARK_AGAIN                  | ParkStatus.AGAIN
ParkIntr                  | PARK_INTR                   | ParkStatus.INTR
LockFailure               | LOCK_FAILURE                | LockStatus.FAILURE
LockAcquired              | LOCK_ACQUIRED               | LockStatus.ACQUIRED
LockIntr                  | LOCK_INTR                   | LockStatus.INTR
LockDetach                | LOCK_DETACH                 | LockFlags.DETACH
LockHandleSignals         | LOCK_HANDLE_SIGNALS         | LockFlags.HANDLE_SIGNALS
"""  # noqa: E501
ROWS = [
    [name.strip() for name in row.split('|')]
    for row in NAMES.strip().splitlines()
]


def look_up(sync: Any, name: str) -> Any:
    """The member `name`: in the type, or in what the type makes."""
    first, _, last = name.partition('.')
    found = getattr(sync, first)
    return getattr(found, last) if last else found


@pytest.mark.parametrize(('seed', 'ours', 'twin'), ROWS)
def test_a_name_is_there_and_its_twin(
    sync: Any, seed: str, ours: str, twin: str
) -> None:
    for name in filter(None, (ours, twin)):
        look_up(sync, name)
    assert (
        seed.replace('.', '').lower()
        == ours.replace('_', '').replace('.', '').lower()
    )


@pytest.mark.parametrize(
    ('name', 'number'),
    [
        ('PARK_OK', 0),
        ('PARK_TIMEOUT', 1),
        ('PARK_AGAIN', 2),
        ('PARK_INTR', 3),
        ('LOCK_FAILURE', 0),
        ('LOCK_ACQUIRED', 1),
        ('LOCK_INTR', 2),
        ('LOCK_DETACH', 1),
        ('LOCK_HANDLE_SIGNALS', 2),
    ],
)
def test_numbers(sync: Any, name: str, number: int) -> None:
    assert getattr(sync, name) == number


#: a lock | take | give back | with `with`
PAIRS: list[tuple[str, str, str]] = [
    ('Mutex', 'lock', 'unlock'),
    ('Mutex', 'try_lock', 'unlock'),
    ('Mutex', 'acquire', 'release'),
    ('RawMutex', 'lock', 'unlock'),
    ('RawMutex', 'acquire', 'release'),
    ('RecursiveMutex', 'lock', 'unlock'),
    ('RecursiveMutex', 'acquire', 'release'),
    ('RWMutex', 'r_lock', 'r_unlock'),
    ('RWMutex', 'lock', 'unlock'),
    ('RWMutex', 'acquire_read', 'release_read'),
    ('RWMutex', 'acquire_write', 'release_write'),
    ('SeqLock', 'lock_write', 'unlock_write'),
    ('SeqLock', 'lock_write', 'abandon_write'),
]


@pytest.mark.parametrize(('kind', 'take', 'give_back'), PAIRS)
def test_who_takes_may_mix_the_spellings(
    sync: Any, kind: str, take: str, give_back: str
) -> None:
    lock = getattr(sync, kind)()
    for other in [row[2] for row in PAIRS if is_twin((kind, take), row)]:
        assert getattr(lock, take)() in {None, True}
        getattr(lock, other)()
        with pytest.raises(RuntimeError):
            getattr(lock, give_back)()


def is_twin(taken: tuple[str, str], row: tuple[str, str, str]) -> bool:
    """Whether a row gives back what was taken: the same side of that lock."""
    kind, take = taken
    return row[0] == kind and ('r_' in take or '_read' in take) == (
        'r_' in row[1] or '_read' in row[1]
    )


def test_negative_is_for_ever_in_what_cpython_names(sync: Any) -> None:
    """And the flags are taken, whatever they say."""
    mutex = sync.Mutex()
    assert mutex.lock_timed(-1, sync.LOCK_DETACH) is sync.LOCK_ACQUIRED
    assert mutex.lock_timed(0, flags=0) is sync.LOCK_FAILURE
    assert mutex.lock_timed(SHORT) is sync.LOCK_FAILURE
    mutex.unlock()
    assert mutex.lock_timed(None, sync.LOCK_HANDLE_SIGNALS) == 1
    mutex.release()


@pytest.mark.parametrize('size', [1, 2])
def test_sections_begin_by_hand(sync: Any, size: int) -> None:
    mutexes = [sync.Mutex() for _ in range(size)]
    section = sync.CriticalSection()
    begin: Callable[..., None] = (
        section.begin if size == 1 else section.begin_mutex2
    )
    begin(*mutexes, thread=sync.CSThread.current())
    assert sync.CSThread.current().top() is section
    section.end(thread=sync.CSThread.current())
    assert sync.CSThread.current().top() is None
