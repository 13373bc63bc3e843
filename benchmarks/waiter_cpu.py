"""How much processor time does a waiter burn?"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, ClassVar

import processes
import question

if TYPE_CHECKING:
    import rivals

SECONDS = 2.0
WARM_UP_SECONDS = 0.1
FIRST = 'first wait of a process'
LATER = 'a later wait'


class WaiterCpu(question.Question):
    """Processor time of one waiting process, as percent of a core."""

    title = 'processor time of one process that waits 2 s'
    goals: ClassVar[question.Goals] = {
        (name, '% of a core'): question.Goal(0.1) for name in (FIRST, LATER)
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """Return the first wait, which may load code, and another."""
        return [question.Case(FIRST), question.Case(LATER)]

    def rounds(self, quick: bool) -> int:
        """Return how often; every round takes two seconds a rival."""
        return 1 if quick else 3

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Hold while a child waits, as often as the case says."""
        holds = [SECONDS]
        if case.name == LATER:
            holds.insert(0, WARM_UP_SECONDS)
        gates = [processes.Gate() for _ in holds]
        numbers = processes.shared_numbers(2)

        def wait() -> None:
            waiting = rival.lock(path, 60)
            for gate in gates:
                gate.wait_at()
                before = time.monotonic_ns(), time.process_time_ns()
                waiting.acquire()
                numbers[0] = time.monotonic_ns() - before[0]
                numbers[1] = time.process_time_ns() - before[1]
                waiting.release()

        lock = rival.lock(path, 60)
        with processes.Children() as children:
            children.fork(wait)
            for gate, seconds in zip(gates, holds, strict=True):
                gate.gather(1)
                lock.acquire()
                gate.open()
                time.sleep(seconds)
                lock.release()
            children.join()
        return {'%': [100 * numbers[1] / numbers[0]]}

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return the median and the worst round."""
        return {
            '% of a core': statistics.median(answer['%']),
            'worst %': max(answer['%']),
        }
