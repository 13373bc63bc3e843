"""How a task waits for a lock: the plan of the blocking one, followed here."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import anyio.lowlevel

from .. import exceptions
from . import _line, _loop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from typing import Any, Protocol, TypeVar

    from .. import _wakeup

    Result = TypeVar('Result')

    class Waiter(Protocol):
        """Whoever has a plan: a `Contender`, or `Places`."""

        arrival: Any

        def naps(
            self, seconds: float
        ) -> Generator[_wakeup.Nap, bool, None]: ...


class MustWait(Exception):
    """The lock is not free: follow the plan to get it."""

    def __init__(
        self, waiter: Waiter, plan: Generator[float, None, Any]
    ) -> None:
        super().__init__()
        self.waiter = waiter
        self.plan = plan


async def acquire(
    path: Any,
    attempt: Callable[[float], Result],
    goes_on: Callable[[Any], Result],
    timeout: float,
    in_line: Callable[[], AbstractContextManager[None]] = nullcontext,
    counted: Any = None,
) -> Result:
    """Acquire the lock at `path` within `timeout` seconds.

    `attempt(timeout)` acquires it, or raises `MustWait`, whose plan gives
    what `goes_on()` makes the result of. With a timeout of zero the attempt
    must not wait, and stands in no line; `in_line()` is entered meanwhile
    where other tasks are before us. `counted` is told of the wait.

    Between the lock taken and the return there is nothing to be cancelled at.
    """
    arrival, started = time.monotonic_ns(), time.perf_counter()
    await anyio.lowlevel.checkpoint()
    loop = _loop.here()
    line = loop.lines.get(path) if timeout > 0 else None
    place = None if line is None else _stand(line, counted)
    try:
        if line is not None:
            with in_line():
                await line.wait(place, timeout)
            timeout = max(0, timeout - time.perf_counter() + started)
        try:
            return attempt(timeout)
        except MustWait as must_wait:  # kept, it would be a cycle
            waiter, plan = must_wait.waiter, must_wait.plan
        if line is None:
            line = _line.at(loop.lines, path)
            place = _stand(line, counted)
        waiter.arrival = arrival
        return goes_on(await follow(loop, waiter, plan))
    except exceptions.AlreadyLocked as failure:
        if line is not None:
            failure.waited = time.perf_counter() - started
        raise
    finally:
        if line is not None:
            line.leave(place)
            if counted is not None:
                counted.waits_no_more()


def _stand(line: _line.Line, counted: Any) -> object:
    if counted is not None:
        counted.waits()
    return line.join()


async def follow(
    loop: _loop.Loop, waiter: Waiter, plan: Generator[float, None, Result]
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
