"""Between two steps of the lot in pure Python: a fork, a raising handler."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import loading
import pytest
from crew import SHORT, Crew, until
from test_forked_child import in_child, pytestmark  # noqa: F401


class Boom(Exception):
    """Raised between two steps."""


def lot() -> Any:
    sync = loading.load_pure(loading.FOLDER)
    return sys.modules[f'{sync.__name__}._lot']


def steps(name: str) -> list[int]:
    """The lines of a function of the lot."""
    code = getattr(lot(), name).__code__
    lines = {line for _, _, line in code.co_lines() if line}
    return sorted(lines - {code.co_firstlineno})


class Step:
    """Calls `then` once, before that line of the lot is run."""

    def __init__(
        self, name: str, line: int, then: Callable[[], object]
    ) -> None:
        self._code = getattr(lot(), name).__code__
        self._line = line
        self._then = then
        self.is_reached = False

    def _trace(self, frame: Any, event: str, arg: Any) -> Any:
        if (
            event == 'line'
            and frame.f_code is self._code
            and frame.f_lineno == self._line
            and not self.is_reached
        ):
            self.is_reached = True
            self._then()
        return self._trace

    def during(self, fn: Callable[..., Any], *args: Any) -> Any:
        before = sys.gettrace()
        sys.settrace(self._trace)
        try:
            return fn(*args)
        finally:
            sys.settrace(before)


def is_empty(key: object) -> bool:
    return lot().parked_count(key) == 0 and id(key) not in lot()._queues


@pytest.mark.parametrize('name', ['enqueue', 'withdraw'])
def test_a_fork_leaves_nobody_in_line(name: str) -> None:
    def child(key: object) -> None:
        assert is_empty(key)
        assert lot().unpark_all(key) == 0
        assert lot().park(key, object, SHORT).name == 'TIMEOUT'

    reached = 0
    for line in steps(name):
        key, may_go_on = object(), threading.Event()
        step = Step(name, line, may_go_on.wait)
        with Crew() as crew:
            thread = crew.start(step.during, lot().park, key, object, SHORT)
            until(lambda: step.is_reached or not thread.is_alive())  # noqa: B023
            if step.is_reached:
                in_child(lambda: child(key))  # noqa: B023
            may_go_on.set()
        reached += step.is_reached
        assert is_empty(key)
    assert reached > 2


@pytest.mark.parametrize('name', ['enqueue', 'withdraw'])
def test_an_exception_leaves_nobody_in_line(name: str) -> None:
    def boom() -> None:
        raise Boom

    reached = 0
    for line in steps(name):
        key = object()
        step = Step(name, line, boom)
        try:
            step.during(lot().park, key, object, SHORT)
        except Boom:
            reached += 1
        assert is_empty(key)
        assert lot().unpark(key) is False
    assert reached > 2
