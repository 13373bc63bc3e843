"""How do costs grow with the number of waiters, and of locks held?"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import time
from typing import TYPE_CHECKING

import processes
import question

if TYPE_CHECKING:
    import rivals

TIMEOUT = 120.0
FILES_BESIDES_LOCKS = 200
CYCLES = 200
PAGE_BYTES = resource.getpagesize()


class Waiters(question.Question):
    """A queue of processes; each takes the lock once and leaves."""

    title = 'a queue of waiters is served: cost of one hand-off'

    def cases(self, quick: bool) -> list[question.Case]:
        """Return how many wait."""
        sizes = (1, 10, 100) if quick else (1, 10, 100, 1000)
        return [question.Case(f'{size} waiting', size) for size in sizes]

    def rounds(self, quick: bool) -> int:
        """Return how many queues are served."""
        return 1 if quick else 3

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Queue them behind us, release, and time until all had it."""
        numbers = processes.shared_numbers(2 * case.size)
        gate = processes.Gate()

        def wait(mine: int) -> None:
            lock = rival.lock(path, TIMEOUT)
            gate.wait_at()
            lock.acquire()
            acquired = time.monotonic_ns()
            lock.release()
            numbers[mine] = acquired
            numbers[mine + 1] = time.process_time_ns()

        lock = rival.lock(path, TIMEOUT)
        with processes.Children() as children:
            for n in range(case.size):
                children.fork(lambda n=n: wait(2 * n))  # type: ignore[misc]
            gate.gather(case.size)
            lock.acquire()
            gate.open()
            time.sleep(0.5 + 0.002 * case.size)
            spent = sum(map(processes.processor_seconds, children.pids))
            released = time.monotonic_ns()
            lock.release()
            children.join()
        last = max(numbers[::2])
        spent_after = sum(numbers[1::2]) / 1e9 - spent
        return {
            'ms': [(last - released) / 1e6 / case.size],
            'CPU us': [1e6 * spent_after / case.size],
        }

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return time and processor time of one hand-off."""
        return {
            'ms/hand-off': statistics.median(answer['ms']),
            **question.ratio('ms', answer, floor),
            'CPU us/hand-off': statistics.median(answer['CPU us']),
        }


class Held(question.Question):
    """One process that holds many locks and takes one more."""

    title = 'one process holds many locks: cost of one more'

    def cases(self, quick: bool) -> list[question.Case]:
        """Return how many are held."""
        return [
            question.Case(f'{size} held', size) for size in (1, 100, 10_000)
        ]

    def rounds(self, quick: bool) -> int:
        """Return how many processes fill up."""
        return 1 if quick else 5

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Hold them in a child of its own."""
        allow_open_files(case.size + FILES_BESIDES_LOCKS)
        return processes.in_a_child(
            lambda: hold_and_time(rival, case.size, path), TIMEOUT
        )

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return the cost of one more, and the memory of each."""
        columns = {
            'one more us': statistics.median(answer['us']),
            **question.ratio('us', answer, floor),
        }
        if 'KiB' in answer:
            columns['KiB/lock'] = statistics.median(answer['KiB'])
        return columns


def hold_and_time(
    rival: rivals.Rival, size: int, path: str
) -> question.Answer:
    """Take `size` locks, then time the cycles of one more."""
    one_more = rival.lock(path, TIMEOUT)
    paths = [f'{path}.{n}' for n in range(size)]
    before = resident_bytes()
    locks = [rival.lock(held_path, TIMEOUT) for held_path in paths]
    for lock in locks:
        lock.acquire()
    answer: question.Answer = {}
    if size >= 100:
        # below that, the pages of the interpreter hide the locks
        answer['KiB'] = [(resident_bytes() - before) / 1024 / size]
    microseconds = []
    for _ in range(CYCLES):
        start = time.perf_counter()
        one_more.acquire()
        one_more.release()
        microseconds.append(1e6 * (time.perf_counter() - start))
    answer['us'] = [statistics.median(microseconds)]
    for lock, held_path in zip(locks, paths, strict=True):
        lock.release()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(held_path)
    return answer


def resident_bytes() -> int:
    """Memory of this process that is in RAM (Linux)."""
    with open('/proc/self/statm') as stream:
        return int(stream.read().split()[1]) * PAGE_BYTES


def allow_open_files(count: int) -> None:
    """Raise the soft limit of open files; OSError where it is too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(f'cannot open {count} files: the limit is {hard}')
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
