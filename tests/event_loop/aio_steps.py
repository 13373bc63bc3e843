"""Run a coroutine and do something at each place where it waits."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any


class Steps:
    """A coroutine that calls `at(n)` before it waits for the n-th time."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], at: Callable[[int], object]
    ) -> None:
        self._coroutine = coroutine
        self._at = at
        #: how often it waited
        self.waits = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        step: Callable[[Any], Any] = inner.send
        argument: Any = None
        while True:
            try:
                wanted = step(argument)
            except StopIteration as end:
                return end.value
            self._at(self.waits)
            self.waits += 1
            try:
                argument = yield wanted
                step = inner.send
            except BaseException as failure:
                step, argument = inner.throw, failure
