"""How a task waits for a lock: the plan of the blocking one, followed here."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio.lowlevel

from .. import _listening, exceptions
from . import _line, _loop

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractContextManager

    from .. import _acquisition, _wakeup

Result = TypeVar('Result')


class MustWait(Exception):
    """The lock is not free: follow the plan to get it."""

    def __init__(
        self,
        waiter: _acquisition.HasPlan[Any],
        plan: Generator[float, None, Any],
    ) -> None:
        super().__init__()
        self.waiter = waiter
        self.plan = plan


class Attempt(Generic[Result]):
    """One `acquire()`: what is done without waiting, by the blocking half.

    `lock` is told to counters, `path` is where it waits, `seconds` how long
    at most. With zero seconds it must not wait, and stands in no line.
    """

    # Whether it is to be told to counters
    is_counted = True

    def __init__(self, lock: Any, path: Any, seconds: float) -> None:
        self.lock = lock
        self.path = path
        self.seconds = seconds

    def begin(self, seconds: float) -> Result:
        """Take the lock if it is free, or raise `MustWait`."""
        raise NotImplementedError

    def finish(self, taken: Any) -> Result:
        """Make the result of what the plan gave."""
        raise NotImplementedError

    def new_hold(self) -> Any:
        """What was taken, None if it was ours before or is over."""
        raise NotImplementedError

    def in_line(self) -> AbstractContextManager[None]:
        """Entered while other tasks are before us."""
        return nullcontext()


async def acquire(attempt: Attempt[Result]) -> Result:
    """Acquire a lock within `attempt.seconds`, and tell the counters.

    Between the lock taken and the return there is nothing to be cancelled at.
    """
    phases_of = _listening.listener
    if phases_of is None or not attempt.is_counted:
        return await _acquire(attempt, None)
    counted = phases_of(attempt.lock)
    with _listening.Acquiring(counted) as acquiring:
        result = await _acquire(attempt, counted)
        acquiring.holds(attempt.new_hold())
    return result


async def _acquire(attempt: Attempt[Result], counted: Any) -> Result:
    arrival, started = time.monotonic_ns(), time.perf_counter()
    await anyio.lowlevel.checkpoint()
    loop = _loop.here()
    path, seconds = attempt.path, attempt.seconds
    line = loop.lines.get(path) if seconds > 0 else None
    standing = None if line is None else _stand(line, counted)
    try:
        if standing is not None:
            with attempt.in_line():
                await standing.wait(seconds)
                seconds = max(0, seconds - time.perf_counter() + started)
                if not seconds:
                    await loop.turnstile()
        try:
            return attempt.begin(seconds)
        except MustWait as must_wait:  # kept, it would be a cycle
            waiter, plan = must_wait.waiter, must_wait.plan
        if line is None:
            line = _line.at(loop.lines, path)
            standing = _stand(line, counted)
        waiter.arrival = arrival
        return attempt.finish(await follow(loop, waiter, plan))
    except exceptions.AlreadyLocked as failure:
        if line is not None:
            failure.waited = time.perf_counter() - started
        raise
    finally:
        if line is not None and standing is not None:
            line.leave(standing)
            if counted is not None:
                counted.waits_no_more()


def _stand(line: _line.Line, counted: Any) -> _line.Standing:
    if counted is not None:
        counted.waits()
    return line.join()


async def follow(
    loop: _loop.Loop,
    waiter: _acquisition.HasPlan[Result],
    plan: Generator[float, None, Result],
) -> Result:
    """Follow a plan to its end, spending its pauses asleep in the loop."""
    try:
        while True:
            await _spend(loop, waiter.naps(next(plan)))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        plan.close()


async def _spend(
    loop: _loop.Loop, naps: Generator[_wakeup.Nap, bool, None]
) -> None:
    try:
        nap = next(naps)
        while True:
            nap = naps.send(await loop.sleep(nap))
    except StopIteration:
        return
