"""The tasks of one event loop that wait for one path, first come first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from typing import Any


class Line:
    """Who waits for a path; only the head contends with other processes.

    However many tasks wait, the system sees one of each loop: a ticket, a
    socket and an open file. Each keeps the moment of its arrival, so that the
    order between processes is kept as well.
    """

    def __init__(self, lines: dict[Any, Line], path: Any) -> None:
        self._lines = lines
        self._path = path
        # In order; set when the task is the head
        self._waiting: dict[object, anyio.Event] = {}

    def join(self) -> object:
        """Stand at the end; gives the place to `leave()`."""
        place = object()
        self._lines[self._path] = self
        self._waiting[place] = event = anyio.Event()
        if len(self._waiting) == 1:
            event.set()
        return place

    async def wait(self, place: object, seconds: float) -> bool:
        """Wait until it is our turn, or for `seconds`; which?"""
        event = self._waiting[place]
        with anyio.move_on_after(seconds):
            await event.wait()
        return event.is_set()

    def leave(self, place: object) -> None:
        """Leave, with the lock or without it; whoever is next is the head."""
        del self._waiting[place]
        for event in self._waiting.values():
            event.set()
            return
        del self._lines[self._path]


def at(lines: dict[Any, Line], path: Any) -> Line:
    """The line for a path."""
    return lines.get(path) or Line(lines, path)
