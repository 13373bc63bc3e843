"""What does a lock cost in an event loop, and how fast is it handed over?"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any, ClassVar

import question

if TYPE_CHECKING:
    from collections.abc import Callable

    import rivals

CYCLES = 200
TASKS = 200
HAND_OFFS = 20
HOLD_SECONDS = 0.06  # longer than the pauses of those that poll

FREE = 'free lock, one task'
MANY = f'{TASKS} tasks, a lock object each, empty section'
NESTED = f'{TASKS} tasks, a lock object each, one checkpoint inside'
HAND_OFF = 'hand-off between two tasks'


class EventLoop(question.Question):
    """Locks for asyncio, used by tasks of one loop."""

    title = 'locks in an event loop (asyncio)'
    goals: ClassVar[question.Goals] = {
        (FREE, 'median us'): question.Goal(40),
        (MANY, 'median us'): question.Goal(100_000),
        (HAND_OFF, 'median us'): question.Goal(300),
        (HAND_OFF, 'p95 us'): question.Goal(2000),
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """One task, many tasks, two tasks."""
        return [question.Case(name) for name in (FREE, MANY, NESTED, HAND_OFF)]

    def rounds(self, quick: bool) -> int:
        """How often each library is asked."""
        return 2 if quick else 7

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Run one case in a new event loop."""
        if rival.task_lock(path) is None:
            return {}
        body: Callable[..., Any] = {
            FREE: free,
            MANY: many,
            NESTED: lambda rival, path: many(rival, path, pauses=True),
            HAND_OFF: hand_off,
        }[case.name]
        return {'us': asyncio.run(body(rival, path))}

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return median and p95."""
        return {
            'median us': statistics.median(answer['us']),
            'p95 us': question.percentile(answer['us'], 95),
            **question.ratio('us', answer, floor),
        }


async def let_go(lock: Any) -> None:
    """Release, whether the library wants that awaited or not."""
    waiting = lock.release()
    if waiting is not None:
        await waiting


async def free(rival: rivals.Rival, path: str) -> list[float]:
    """Microseconds of one cycle."""
    lock: Any = rival.task_lock(path)
    numbers = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(CYCLES):
            await lock.acquire()
            await let_go(lock)
        numbers.append((time.perf_counter() - started) / CYCLES * 1e6)
    return numbers


async def many(
    rival: rivals.Rival, path: str, pauses: bool = False
) -> list[float]:
    """Microseconds until all have been inside."""

    async def one() -> None:
        lock: Any = rival.task_lock(path)
        await lock.acquire()
        if pauses:
            await asyncio.sleep(0)
        await let_go(lock)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(TASKS)))
    return [(time.perf_counter() - started) * 1e6]


async def hand_off(rival: rivals.Rival, path: str) -> list[float]:
    """Microseconds from `release()` to `acquire()` returned elsewhere."""
    first: Any = rival.task_lock(path)
    second: Any = rival.task_lock(path)
    moments: list[float] = []

    async def wait() -> None:
        await second.acquire()
        moments.append(time.perf_counter())
        await let_go(second)

    numbers = []
    for _ in range(HAND_OFFS):
        await first.acquire()
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(HOLD_SECONDS)
        released = time.perf_counter()
        await let_go(first)
        await waiting
        numbers.append((moments.pop() - released) * 1e6)
    return numbers
