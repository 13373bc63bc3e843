"""How long after a release does the process that waits hold the lock?"""

from __future__ import annotations

import concurrent.futures
import os
import random
import statistics
import struct
import time
from typing import TYPE_CHECKING, ClassVar

import processes
import question

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    import rivals

HAND_OFFS = 10
MOMENT = struct.Struct('q')

# Longer than the longest polling interval of any rival, so that a release
# falls on every phase of a poller alike.
HOLD_SECONDS = (0.005, 0.305)
TIMEOUT = 60.0
NAME = 'one waiter'


class HandOff(question.Question):
    """From `release()` in one process to `acquire()` returned in another."""

    title = 'hand-off between two processes, default settings, with a timeout'
    goals: ClassVar[question.Goals] = {
        (NAME, 'x flock'): question.Goal(3),
        (NAME, 'p95 ms'): question.Goal(2),
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """Return the one case: a holder and a waiter."""
        return [question.Case(NAME)]

    def rounds(self, quick: bool) -> int:
        """Return how many times ten hand-offs are measured."""
        return 3 if quick else 10

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Hold, release at a random moment, hear when the other had it."""
        return {
            'ms': between_processes(
                rival.lock(path, TIMEOUT), lambda: rival.lock(path, TIMEOUT)
            )
        }

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return median, p95, maximum, and the ratio of the medians."""
        return {
            'median ms': statistics.median(answer['ms']),
            'p95 ms': question.percentile(answer['ms'], 95),
            'max ms': max(answer['ms']),
            **question.ratio('ms', answer, floor),
        }


def between_processes(
    lock: rivals.Lockable, other: Callable[[], rivals.Lockable]
) -> list[float]:
    """Milliseconds of some hand-offs to a forked child."""
    with processes.Children() as children, Pipes() as pipes:
        children.fork(lambda: obey(other(), pipes))
        milliseconds = [hand_over(lock, pipes) for _ in range(HAND_OFFS)]
        children.join()
    return milliseconds


def between_threads(
    lock: rivals.Lockable, other: Callable[[], rivals.Lockable]
) -> list[float]:
    """Milliseconds of some hand-offs to a thread."""
    with (
        Pipes() as pipes,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        obeying = threads.submit(lambda: obey(other(), pipes))
        milliseconds = [hand_over(lock, pipes) for _ in range(HAND_OFFS)]
        obeying.result()
    return milliseconds


class Pipes:
    """What the holder orders, and what the one who waits reports."""

    def __enter__(self) -> Pipes:
        self.orders, self.reports = os.pipe(), os.pipe()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for fd in (*self.orders, *self.reports):
            os.close(fd)


def hand_over(lock: rivals.Lockable, pipes: Pipes) -> float:
    """Milliseconds from our release to the other's acquire."""
    lock.acquire()
    os.write(pipes.orders[1], processes.READY)
    processes.read_exactly(pipes.reports[0], 1)
    time.sleep(random.uniform(*HOLD_SECONDS))
    released = time.monotonic_ns()
    lock.release()
    moment = processes.read_exactly(pipes.reports[0], MOMENT.size)
    acquired: int = MOMENT.unpack(moment)[0]
    return (acquired - released) / 1e6


def obey(lock: rivals.Lockable, pipes: Pipes) -> None:
    """Wait for the lock whenever told to; report when it was ours."""
    for _ in range(HAND_OFFS):
        processes.read_exactly(pipes.orders[0], 1)
        os.write(pipes.reports[1], processes.READY)
        lock.acquire()
        acquired = time.monotonic_ns()
        lock.release()
        os.write(pipes.reports[1], MOMENT.pack(acquired))
