"""How fast, how fair and how costly is a lock that many processes want?"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, ClassVar

import processes
import question

if TYPE_CHECKING:
    import rivals

SECTION_SECONDS = 0.001
THINK_SECONDS = 0.001
TIMEOUT = 120.0

# Slots of the shared numbers, before those of the contenders.
STOPPED_AT, COUNTER, FIRST = range(3)
# Slots of one contender.
SECTIONS, WORST_WAIT, PROCESSOR_TIME, SLOTS = range(4)


class Contention(question.Question):
    """Short sections with short breaks, as many as go into the window."""

    title = 'many processes, 1 ms section, 1 ms think time'
    goals: ClassVar[question.Goals] = {
        (f'{size} processes', column): goal
        for size, limits in (
            (16, (0.92, 1, 0.99)),
            (64, (0.85, 1.5, 0.99)),
            (256, (0.85, 1.5, 0.99)),
        )
        for column, goal in (
            ('x flock', question.Goal(limits[0], at_least=True)),
            ('wait x flock', question.Goal(limits[1])),
            ('Jain', question.Goal(limits[2], at_least=True)),
        )
    }

    def __init__(self, thousand: bool = False) -> None:
        self.thousand = thousand

    def cases(self, quick: bool) -> list[question.Case]:
        """Return how many contenders there are."""
        sizes = (4, 16, 64) if quick else (4, 16, 64, 256)
        if self.thousand:
            sizes = (*sizes, 1000)
        return [question.Case(f'{size} processes', size) for size in sizes]

    def rounds(self, quick: bool) -> int:
        """Return how many windows every rival gets."""
        return 1 if quick else 3

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Let them contend for one window of time."""
        return contend_in_processes(rival, case.size, path, window(quick))

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return throughput, worst wait, fairness, cost, lost updates."""
        wait_ratio = question.ratio('worst ms', answer, floor)
        return {
            'sections/s': statistics.median(answer['sections/s']),
            **question.ratio('sections/s', answer, floor),
            'worst wait ms': statistics.median(answer['worst ms']),
            **{f'wait {name}': number for name, number in wait_ratio.items()},
            'Jain': statistics.median(answer['Jain']),
            'CPU us/section': statistics.median(answer['CPU us']),
            'lost updates': sum(answer['lost']),
        }


def window(quick: bool) -> float:
    """Seconds that one measurement lasts."""
    return 2 if quick else 5


def contend(
    lock: rivals.Lockable, numbers: memoryview[int], mine: int
) -> None:
    """Enter, count, leave and think until told to stop."""
    while not numbers[STOPPED_AT]:
        asked = time.monotonic_ns()
        lock.acquire()
        acquired = time.monotonic_ns()
        stopped_at = numbers[STOPPED_AT]
        if not stopped_at:
            # any second process in here would make us lose an update
            counted = numbers[COUNTER]
            time.sleep(SECTION_SECONDS)
            numbers[COUNTER] = counted + 1
            numbers[mine + SECTIONS] += 1
        lock.release()
        waited = min(acquired, stopped_at or acquired) - asked
        numbers[mine + WORST_WAIT] = max(numbers[mine + WORST_WAIT], waited)
        time.sleep(THINK_SECONDS)


def contend_in_processes(
    rival: rivals.Rival, size: int, path: str, seconds: float
) -> question.Answer:
    """`size` processes on one path, each with a lock of its own."""
    numbers = processes.shared_numbers(FIRST + SLOTS * size)
    gate = processes.Gate()

    def work(mine: int) -> None:
        lock = rival.lock(path, TIMEOUT)
        gate.wait_at()
        before = time.process_time_ns()
        contend(lock, numbers, mine)
        numbers[mine + PROCESSOR_TIME] = time.process_time_ns() - before

    with processes.Children() as children:
        for n in range(size):
            children.fork(lambda n=n: work(FIRST + SLOTS * n))  # type: ignore[misc]
        gate.gather(size)
        gate.open()
        time.sleep(seconds)
        numbers[STOPPED_AT] = time.monotonic_ns()
        children.join()
    return boil_down(numbers, seconds)


def boil_down(numbers: memoryview[int], seconds: float) -> question.Answer:
    """The figures of one window."""
    slots = list(numbers[FIRST:])
    sections = slots[SECTIONS::SLOTS]
    total = sum(sections)
    squares = sum(count * count for count in sections)
    return {
        'sections/s': [total / seconds],
        'worst ms': [max(slots[WORST_WAIT::SLOTS]) / 1e6],
        'Jain': [total * total / (len(sections) * squares) if total else 0.0],
        'CPU us': [sum(slots[PROCESSOR_TIME::SLOTS]) / 1e3 / max(total, 1)],
        'lost': [total - numbers[COUNTER]],
    }
