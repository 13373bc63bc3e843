"""The tasks of one event loop that wait for one path, first come first."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from typing import Any


class Standing:
    """One task in a line; `event` is set when it is the head.

    Only the task keeps it: one that waits in a closed loop is collected.
    """

    __slots__ = ('__weakref__', 'event', 'reference')

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.reference = weakref.ref(self)

    async def wait(self, seconds: float) -> None:
        """Wait until it is our turn, or for `seconds`."""
        with anyio.move_on_after(seconds):
            await self.event.wait()


class Line:
    """Who waits for a path; only the head contends with other processes.

    However many tasks wait, the system sees one of each loop: a ticket, a
    socket and an open file. Each keeps the moment of its arrival, so that the
    order between processes is kept as well.
    """

    def __init__(self, lines: dict[Any, Line], path: Any) -> None:
        self._lines = lines
        self._path = path
        # In order
        self._waiting: dict[weakref.ref[Standing], None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self) -> Standing:
        """Stand at the end; whoever does so leaves again."""
        standing = Standing()
        self._lines[self._path] = self
        self._waiting[standing.reference] = None
        if len(self._waiting) == 1:
            standing.event.set()
        return standing

    def leave(self, standing: Standing) -> None:
        """Leave, with the lock or without it; whoever is next is the head."""
        del self._waiting[standing.reference]
        for reference in self._waiting:
            successor = reference()
            if successor is not None:
                wake(successor.event)
                return
        if not self._waiting:
            del self._lines[self._path]


def at(lines: dict[Any, Line], path: Any) -> Line:
    """The line for a path."""
    return lines.get(path) or Line(lines, path)


def wake(event: anyio.Event) -> None:
    """Let a task of this loop go on, if it ever does."""
    try:
        event.set()
    except RuntimeError:  # the loop was closed while the task waited
        pass
