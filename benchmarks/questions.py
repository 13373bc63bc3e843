"""The questions by name, in the order in which they are asked."""

from __future__ import annotations

import contention
import event_loop
import file_lock
import growth
import hand_off
import hand_off_kinds
import import_time
import postgres_lock
import primitives
import publication
import question
import read_write
import redis_locks
import temporary_files
import threads
import uncontended
import waiter_cpu


def by_name(thousand: bool = False) -> dict[str, question.Question]:
    """Return every question; `thousand` adds 1000 contending processes."""
    return {
        'uncontended': uncontended.Uncontended(),
        'hand_off': hand_off.HandOff(),
        'file_lock': file_lock.FileLocks(),
        'hand_off_kinds': hand_off_kinds.HandOffKinds(),
        'waiter_cpu': waiter_cpu.WaiterCpu(),
        'contention': contention.Contention(thousand),
        'threads': threads.Threads(),
        'read_write': read_write.ReadWrite(),
        'event_loop': event_loop.EventLoop(),
        'publication': publication.Publication(),
        'import_time': import_time.ImportTime(),
        'waiters': growth.Waiters(),
        'held': growth.Held(),
        'primitives': primitives.Primitives(),
        'redis_locks': redis_locks.RedisLocks(),
        'postgres_lock': postgres_lock.PostgresLocks(),
        'temporary_files': temporary_files.TemporaryFiles(),
    }
