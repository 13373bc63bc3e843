"""How fast and fair is a lock that many threads of one process want?"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, ClassVar

import contention
import processes
import question

if TYPE_CHECKING:
    import rivals

SIZE = 16
OWN = '16 threads, an object each'
SHARED = '16 threads, one object'


class Threads(contention.Contention):
    """The load of `contention`, from threads instead of processes."""

    title = '16 threads of one process, 1 ms section, 1 ms think time'
    goals: ClassVar[question.Goals] = {
        (name, 'x flock'): question.Goal(0.9, at_least=True)
        for name in (OWN, SHARED)
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """Return both ways to share: by path, and by object."""
        return [question.Case(OWN, SIZE), question.Case(SHARED, SIZE)]

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Let the threads of a child contend for one window of time."""
        is_floor = rival.name == question.FLOOR
        if case.name == SHARED and not (rival.is_shareable or is_floor):
            return {}
        is_shared = case.name == SHARED and not is_floor
        seconds = contention.window(quick)
        return processes.in_a_child(
            lambda: contend_in_threads(rival, is_shared, path, seconds),
            seconds + 30,
        )


def contend_in_threads(
    rival: rivals.Rival, is_shared: bool, path: str, seconds: float
) -> question.Answer:
    """Sixteen threads on one path, with one lock or with one each."""
    first, slots = contention.FIRST, contention.SLOTS
    numbers = processes.shared_numbers(first + slots * SIZE)
    start = threading.Barrier(SIZE + 1)
    shared = rival.lock(path, contention.TIMEOUT)
    failures: list[BaseException] = []

    def work(mine: int) -> None:
        own = shared if is_shared else rival.lock(path, contention.TIMEOUT)
        start.wait()
        try:
            contention.contend(own, numbers, mine)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(first + slots * n,), daemon=True)
        for n in range(SIZE)
    ]
    for thread in threads:
        thread.start()
    start.wait()
    before = time.process_time_ns()
    time.sleep(seconds)
    numbers[contention.STOPPED_AT] = time.monotonic_ns()
    for thread in threads:
        thread.join()
    # one clock for all threads: booked on the first
    spent = time.process_time_ns() - before
    numbers[first + contention.PROCESSOR_TIME] = spent
    if failures:
        raise failures[0]
    return contention.boil_down(numbers, seconds)
