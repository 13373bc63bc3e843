"""Threads whose exceptions are seen, ordered by what they did."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

LONG = 20.0  # seconds; only a failure takes as long
# what an error says of a timeout that is none
WRONG_TIME = r'(?i)nan|number|timeout|time'
SHORT = 0.01  # seconds; for waits that are meant to end by the clock


class Crew:
    """Threads that have all ended, well, when the block ends."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def start(self, fn: Callable[..., Any], *args: Any) -> threading.Thread:
        def body() -> None:
            try:
                fn(*args)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=body, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        deadline = time.monotonic() + LONG
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive() and not self._errors and error is None:
                raise AssertionError('a thread waits for ever')
        if self._errors:
            raise self._errors[0]


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something that other threads do, and return it."""
    deadline = time.monotonic() + LONG
    while not (reached := condition()):
        assert time.monotonic() < deadline, 'it never happened'
        time.sleep(0.0005)
    return reached


def until_parked(sync: Any, key: object, n: int = 1) -> None:
    """Wait until so many threads wait for `key`, in the lot."""
    until(lambda: sync.parked_count(key) == n)


def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    """Return what `fn` returns in a thread of its own."""
    results: list[Any] = []
    with Crew() as crew:
        crew.start(lambda: results.append(fn(*args)))
    return results[0]
