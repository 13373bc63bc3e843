"""Which threads wait for each other in a circle."""

from __future__ import annotations

from typing import NamedTuple

from ._core import core


class Blocked(NamedTuple):
    """A thread, what it waits for, and the thread that holds that."""

    thread: int
    key: object
    holder: int


def deadlocks() -> list[list[Blocked]]:
    """Return the circles of threads that wait for each other now.

    Each circle is a list in which everybody waits for the next one, and the
    last one for the first. Known holders are: of a `Mutex` or
    `RecursiveMutex` (not in the pure implementation, where the interpreter
    keeps their waiters), the writer of an `RWMutex`, and the thread that runs
    under an `OnceFlag`. Readers and other keys have no known holder. A wait
    with a timeout counts while it lasts.

    >>> deadlocks()
    []
    """
    blocked = _blocked()
    if not blocked:
        return []
    # A holder was asked for after the wait was seen. Whoever still waits in
    # that same wait has not moved in between, so a circle of them is one.
    still = _blocked()
    certain = {
        thread: wait
        for thread, wait in blocked.items()
        if still.get(thread) == wait
    }
    return _circles({thread: wait[1] for thread, wait in certain.items()})


def _blocked() -> dict[int, tuple[int, Blocked]]:
    found = {}
    for thread, serial, key in core._waits():
        ask = getattr(type(key), '_holder', None)
        if ask is not None:
            found[thread] = (serial, Blocked(thread, key, ask(key)))
    return found


def _circles(blocked: dict[int, Blocked]) -> list[list[Blocked]]:
    circles = []
    seen: set[int] = set()
    for start in blocked:
        path: list[Blocked] = []
        thread = start
        while thread in blocked and thread not in seen:
            seen.add(thread)
            path.append(blocked[thread])
            thread = blocked[thread].holder
        on_path = [wait.thread for wait in path]
        if thread in on_path:
            circles.append(path[on_path.index(thread) :])
    return circles
