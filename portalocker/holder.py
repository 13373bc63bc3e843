"""One process that holds a lock, as far as the system tells."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Holder:
    """Who holds a lock: process id, command line, and how we know.

    `pid`
        the process id, in our process id namespace.
    `command`
        its command line as one string, or None where it cannot be read.
    `shared`
        whether it holds a shared lock.
    `recorded`
        True where the pid was only read from a file that the holder wrote
        (it says who wrote it, not who lives); False where the kernel said so.
    `since`
        seconds since the epoch at which the lock was taken, or None.

    >>> print(Holder(4121, 'python worker.py'))
    pid 4121 (python worker.py)
    """

    __slots__ = ('command', 'pid', 'recorded', 'shared', 'since')

    def __init__(
        self,
        pid: int,
        command: str | None = None,
        *,
        shared: bool = False,
        recorded: bool = False,
        since: float | None = None,
    ) -> None:
        self.pid = pid
        self.command = command
        self.shared = shared
        self.recorded = recorded
        self.since = since

    def _values(self) -> tuple[Any, ...]:
        return (self.pid, self.command, self.shared, self.recorded, self.since)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Holder):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __str__(self) -> str:
        text = f'pid {self.pid}'
        if self.command:
            text += f' ({self.command})'
        if self.recorded:
            text += ', as recorded in its pid file'
        return text

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({self.pid}, {self.command!r}, '
            f'shared={self.shared}, recorded={self.recorded}, '
            f'since={self.since})'
        )
