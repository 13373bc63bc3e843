"""What does a lock cost in an event loop, and how fast is it handed over?"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, ClassVar

import hand_off
import processes
import question

if TYPE_CHECKING:
    from collections.abc import Callable

    import rivals

CYCLES = 200
TASKS = 200
MANY_TASKS = 1000
HAND_OFFS = 20
HOLD_SECONDS = 0.06  # longer than the pauses of those that poll
WAIT_SECONDS = 0.5

#: kinds of locks, in the order of the table; the first is asked most
KINDS = ('FileLock', 'Lock', 'RLock', 'read', 'write', 'semaphore')
FREE = 'free {}, one task'
MANY = f'{TASKS} tasks, a FileLock each, empty section'
NESTED = f'{TASKS} tasks, a FileLock each, one checkpoint inside'
MORE = f'{MANY_TASKS} tasks, a FileLock each, empty section'
SERVED = f'{MANY_TASKS} tasks are served: longest pause of the loop'
TIMED_OUT = f'{MANY_TASKS} tasks give up at once: longest pause of the loop'
HAND_OFF = 'FileLock from task to task'
BETWEEN = '{} from a task to one of another process'
CONTENDED = ('FileLock', 'Lock', 'write')


class EventLoop(question.Question):
    """Locks for asyncio, used by tasks of one loop."""

    title = 'locks in an event loop (asyncio)'
    goals: ClassVar[question.Goals] = {
        **{
            (FREE.format(kind), 'median us'): question.Goal(40)
            for kind in KINDS
        },
        (MANY, 'median us'): question.Goal(100_000),
        **{
            (name, column): question.Goal(limit)
            for name in (HAND_OFF, *map(BETWEEN.format, CONTENDED))
            for column, limit in (('median us', 300), ('p95 us', 2000))
        },
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """One task, many tasks, two tasks, two processes."""
        return [
            question.Case(name)
            for name in (
                *map(FREE.format, KINDS),
                *(MANY, NESTED, MORE, SERVED, TIMED_OUT, HAND_OFF),
                *map(BETWEEN.format, CONTENDED),
            )
        ]

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
        name = case.name
        kind = next((kind for kind in KINDS if f'{kind} ' in name), KINDS[0])
        if name.startswith('free'):
            kind = name.split()[1].rstrip(',')

        def make() -> Any:
            return rival.task_lock(path, kind)

        if make() is None:
            return {}
        if name.startswith(str(MANY_TASKS)) and not rival.is_ours:
            return {}  # it would take half a minute
        if name in map(BETWEEN.format, CONTENDED):
            return {'us': between_processes(make)}
        body: Callable[..., Any] = {
            MANY: many,
            NESTED: lambda make: many(make, pauses=True),
            MORE: lambda make: many(make, MANY_TASKS),
            SERVED: served,
            TIMED_OUT: timed_out,
            HAND_OFF: hand_over,
        }.get(name, free)
        return {'us': asyncio.run(body(make))}

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


async def free(make: Callable[[], Any]) -> list[float]:
    """Microseconds of one cycle."""
    lock = make()
    numbers = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(CYCLES):
            await lock.acquire()
            await let_go(lock)
        numbers.append((time.perf_counter() - started) / CYCLES * 1e6)
    return numbers


async def many(
    make: Callable[[], Any], count: int = TASKS, pauses: bool = False
) -> list[float]:
    """Microseconds until all have been inside."""

    async def one() -> None:
        lock = make()
        await lock.acquire()
        if pauses:
            await asyncio.sleep(0)
        await let_go(lock)

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return [(time.perf_counter() - started) * 1e6]


async def longest_pause(working: asyncio.Future[Any]) -> float:
    """Microseconds that others had to wait for the loop, at most."""
    moments = [time.perf_counter()]
    while not working.done():
        await asyncio.sleep(0)
        moments.append(time.perf_counter())
    working.result()
    return 1e6 * max(
        after - before for before, after in itertools.pairwise(moments)
    )


async def served(make: Callable[[], Any]) -> list[float]:
    """Longest pause while many wait, and come in one after the other."""
    holder = make()
    await holder.acquire()

    async def one() -> None:
        lock = make()
        await lock.acquire()
        await let_go(lock)

    waiting = asyncio.gather(*(one() for _ in range(MANY_TASKS)))
    await asyncio.sleep(WAIT_SECONDS)
    pause = asyncio.ensure_future(longest_pause(waiting))
    await asyncio.sleep(0)
    await let_go(holder)
    return [await pause]


async def timed_out(make: Callable[[], Any]) -> list[float]:
    """Longest pause while many give up at the same moment."""
    holder = make()
    await holder.acquire()

    async def one() -> None:
        try:
            await make().acquire(timeout=WAIT_SECONDS)
        except TimeoutError:
            return

    waiting = asyncio.gather(*(one() for _ in range(MANY_TASKS)))
    await asyncio.sleep(WAIT_SECONDS / 2)  # they are not made at once
    pause = await longest_pause(waiting)
    await let_go(holder)
    return [pause]


async def hand_over(make: Callable[[], Any]) -> list[float]:
    """Microseconds from `release()` to `acquire()` returned elsewhere."""
    first, second = make(), make()
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


def between_processes(make: Callable[[], Any]) -> list[float]:
    """The same from a loop of this process to one of a forked child."""
    with processes.Children() as children, hand_off.Pipes() as pipes:
        children.fork(lambda: asyncio.run(obey(make(), pipes)))
        numbers = asyncio.run(order(make(), pipes))
        children.join()
    return numbers


async def order(lock: Any, pipes: hand_off.Pipes) -> list[float]:
    """Hold, have the child wait, release."""
    numbers = []
    for _ in range(HAND_OFFS):
        await lock.acquire()
        os.write(pipes.orders[1], processes.READY)
        processes.read_exactly(pipes.reports[0], 1)
        await asyncio.sleep(random.uniform(0.5, 1.5) * HOLD_SECONDS)
        released = time.monotonic_ns()
        await let_go(lock)
        moment = processes.read_exactly(pipes.reports[0], hand_off.MOMENT.size)
        acquired: int = hand_off.MOMENT.unpack(moment)[0]
        numbers.append((acquired - released) / 1e3)
    return numbers


async def obey(lock: Any, pipes: hand_off.Pipes) -> None:
    """Wait for the lock whenever told to; report when it was ours."""
    for _ in range(HAND_OFFS):
        processes.read_exactly(pipes.orders[0], 1)
        os.write(pipes.reports[1], processes.READY)
        await lock.acquire()
        acquired = time.monotonic_ns()
        await let_go(lock)
        os.write(pipes.reports[1], hand_off.MOMENT.pack(acquired))
