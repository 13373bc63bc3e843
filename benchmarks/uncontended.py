"""What does a lock cost that nobody else wants?"""

from __future__ import annotations

import contextlib
import fcntl
import os
import statistics
import time
from typing import TYPE_CHECKING, ClassVar

import question
import rivals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BATCHES = 4
BATCH_SECONDS = 0.004
EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB
LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC

REUSED = 'Lock, object reused'
CONSTRUCTED = 'Lock, constructed + with'
NESTED = 'RLock, nested'
TEMPORARY = 'TemporaryFileLock'
PID = 'PidFileLock'
ON_DISK = ', on disk'
IN_RAM = ', in RAM'


class Uncontended(question.Question):
    """Acquire + release of a free lock."""

    title = 'acquire + release of a lock that is free'
    goals: ClassVar[question.Goals] = {
        (REUSED, 'x flock'): question.Goal(1.5),
        (TEMPORARY + ON_DISK, 'median us'): question.Goal(60),
        (PID + ON_DISK, 'median us'): question.Goal(120),
    }

    rivals = (*question.Question.rivals, 'bare')

    def cases(self, quick: bool) -> list[question.Case]:
        """Return every kind of lock, file-making ones on disk and in RAM."""
        return [
            *map(question.Case, (REUSED, CONSTRUCTED, NESTED)),
            *(
                question.Case(name + place, in_memory=place == IN_RAM)
                for name in (TEMPORARY, PID)
                for place in (ON_DISK, IN_RAM)
            ),
        ]

    def rounds(self, quick: bool) -> int:
        """Return many: the median and the minimum have to settle."""
        return 10 if quick else 50

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Time some batches of a few milliseconds each."""
        with prepared(rival, kind_of(case), path) as cycle:
            if cycle is None:
                return {}
            seconds_each(cycle, 3)
            count = 1 + int(BATCH_SECONDS / seconds_each(cycle, 3))
            return {
                'us': [
                    1e6 * seconds_each(cycle, count) for _ in range(BATCHES)
                ]
            }

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return median, minimum, and the ratios of both to the floor."""
        columns = {
            'median us': statistics.median(answer['us']),
            'min us': min(answer['us']),
            **question.ratio('us', answer, floor),
        }
        if floor:
            columns['x flock, of min'] = min(answer['us']) / min(floor['us'])
        return columns


def kind_of(case: question.Case) -> str:
    """The kind of lock, without the place of its file."""
    return case.name.removesuffix(ON_DISK).removesuffix(IN_RAM)


def seconds_each(cycle: Callable[[], object], count: int) -> float:
    """Mean time of `count` cycles."""
    start = time.perf_counter()
    for _ in range(count):
        cycle()
    return (time.perf_counter() - start) / count


@contextlib.contextmanager
def prepared(
    rival: rivals.Rival, name: str, path: str
) -> Iterator[Callable[[], object] | None]:
    """What is timed, or None where the rival has no such lock."""
    if isinstance(rival, rivals.Floor):
        yield floor_cycle(name, path)
    elif name == CONSTRUCTED:
        yield with_cycle(rival, path)
    elif name == NESTED:
        lock = rival.reentrant(path)
        if lock is None:
            yield None
        else:
            lock.acquire()
            yield lock_cycle(lock)
            lock.release()
    else:
        lock = {
            REUSED: lambda path: rival.lock(path, 5),
            TEMPORARY: rival.temporary,
            PID: rival.pid,
        }[name](path)
        yield None if lock is None else lock_cycle(lock)


def lock_cycle(lock: rivals.Lockable) -> Callable[[], object]:
    """Acquire and release one object."""

    def cycle() -> None:
        lock.acquire()
        lock.release()

    return cycle


def with_cycle(rival: rivals.Rival, path: str) -> Callable[[], object]:
    """Make a lock, enter it, leave it."""

    def cycle() -> None:
        with rival.guard(path):
            pass

    return cycle


def floor_cycle(name: str, path: str) -> Callable[[], object] | None:
    """The system calls that the lock cannot do without."""

    def raw() -> None:
        fh = open(path, 'a')  # noqa: SIM115
        fcntl.flock(fh, EXCLUSIVE)
        fcntl.flock(fh, fcntl.LOCK_UN)
        fh.close()

    def temporary() -> None:
        fd = os.open(path, LOCK_FILE, 0o666)
        fcntl.flock(fd, EXCLUSIVE)
        os.unlink(path)
        os.close(fd)

    pid_path = f'{path}.pid'
    pid_text = b'%d' % os.getpid()

    def pid() -> None:
        fd = os.open(path, LOCK_FILE, 0o666)
        fcntl.flock(fd, EXCLUSIVE)
        pid_fd = os.open(pid_path, LOCK_FILE, 0o666)
        os.write(pid_fd, pid_text)
        os.close(pid_fd)
        os.unlink(pid_path)
        os.unlink(path)
        os.close(fd)

    return {
        REUSED: raw,
        CONSTRUCTED: raw,
        TEMPORARY: temporary,
        PID: pid,
    }.get(name)
