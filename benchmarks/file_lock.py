"""What does a FileLock cost, and what more if its waits are counted?"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, ClassVar

import question
import uncontended

if TYPE_CHECKING:
    from collections.abc import Callable

    import rivals

FREE = 'free lock'
NESTED = 'held by us already'
CONSTRUCTED = 'constructed, then free'
COUNTED = 'free lock, wait counters on'
CYCLES = 400
BATCHES = 4


class FileLocks(question.Question):
    """Acquire + release of what is called FileLock, in two libraries."""

    title = 'acquire + release of a FileLock; flock: the bare system calls'
    goals: ClassVar[question.Goals] = {
        (FREE, 'x flock'): question.Goal(2.5),
        (COUNTED, 'more us'): question.Goal(1),
    }
    rivals = (
        'flock', 'ours', 'bare', 'filelock', 'filelock 3.12', 'fasteners',
    )  # fmt: skip

    def cases(self, quick: bool) -> list[question.Case]:
        """Return each situation of a lock that nobody else wants."""
        return [
            question.Case(name)
            for name in (FREE, NESTED, CONSTRUCTED, COUNTED)
        ]

    def rounds(self, quick: bool) -> int:
        """Return many: the medians have to settle."""
        return 10 if quick else 40

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Time some batches; without the counters as well, in turn."""
        lock = rival.file_lock(path, 5)
        cycle = uncontended.lock_cycle(lock)
        if case.name == COUNTED:
            return counted(rival, cycle)
        if case.name == CONSTRUCTED:

            def cycle() -> None:
                made = rival.file_lock(path, 5)
                made.acquire()
                made.release()

        elif case.name == NESTED:
            if not rival.counts_levels:
                return {}
            lock.acquire()
        numbers = timed(cycle, BATCHES)
        if case.name == NESTED:
            lock.release()
        return {'us': numbers}

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return the median, the ratio, and what counting costs more."""
        columns = {
            'median us': statistics.median(answer['us']),
            **question.ratio('us', answer, floor),
        }
        if 'uncounted us' in answer:
            more = (
                counted - free
                for counted, free in zip(
                    answer['us'], answer['uncounted us'], strict=True
                )
            )
            columns['more us'] = statistics.median(more)
        return columns


def counted(
    rival: rivals.Rival, cycle: Callable[[], object]
) -> question.Answer:
    """Microseconds with the counters on and off, in turn."""
    if not rival.count_waits(wanted=True):
        return {}
    answer: question.Answer = {'us': [], 'uncounted us': []}
    for _ in range(BATCHES):
        rival.count_waits(wanted=True)
        answer['us'] += timed(cycle, 1)
        rival.count_waits(wanted=False)
        answer['uncounted us'] += timed(cycle, 1)
    return answer


def timed(cycle: Callable[[], object], batches: int) -> list[float]:
    """Microseconds of one cycle, for some batches."""
    uncontended.seconds_each(cycle, 3)
    return [
        1e6 * uncontended.seconds_each(cycle, CYCLES) for _ in range(batches)
    ]
