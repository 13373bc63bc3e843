"""One process that holds a lock, as far as the system or a server tells."""

from __future__ import annotations

import time

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
    `elsewhere`
        True where that is a process of another PID namespace (another
        container): here the number means nothing, or another process.

    >>> print(Holder(4121, 'python worker.py'))
    pid 4121 (python worker.py)
    """

    __slots__ = (
        'command',
        'elsewhere',
        'pid',
        'recorded',
        'shared',
        'since',
    )

    def __init__(
        self,
        pid: int,
        command: str | None = None,
        *,
        shared: bool = False,
        recorded: bool = False,
        since: float | None = None,
        elsewhere: bool = False,
    ) -> None:
        self.elsewhere: bool = elsewhere
        self.pid: int = pid
        self.command: str | None = command
        self.shared: bool = shared
        self.recorded: bool = recorded
        self.since: float | None = since

    def _values(self) -> tuple[Any, ...]:
        return (
            self.pid,
            self.command,
            self.shared,
            self.recorded,
            self.since,
            self.elsewhere,
        )

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
        if self.elsewhere:
            text += ', in another PID namespace'
        if self.since is not None:
            text += time.strftime(
                ', since %Y-%m-%d %H:%M:%S', time.localtime(self.since)
            )
        return text

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({self.pid}, {self.command!r}, '
            f'shared={self.shared}, recorded={self.recorded}, '
            f'since={self.since}, elsewhere={self.elsewhere})'
        )


class RemoteHolder(Holder):
    """Who holds a lock on a server, or waits for it: a process on some host.

    `pid`
        the process id on `host`; 0 where the server was not told.
    `host`
        the host's name or address as the server knows it, or None.
    `label`
        what the process calls itself, or None.
    `token`
        the fencing token of its hold, or None.
    `since`
        seconds since the epoch, by the server's clock, at which the hold or
        the wait began, or None.

    >>> print(RemoteHolder(4121, host='web1', label='nightly'))
    pid 4121 on web1 (nightly)
    """

    __slots__ = ('host', 'label', 'token')

    def __init__(
        self,
        pid: int = 0,
        *,
        host: str | None = None,
        label: str | None = None,
        token: int | None = None,
        shared: bool = False,
        since: float | None = None,
    ) -> None:
        super().__init__(pid, shared=shared, since=since)
        self.host: str | None = host
        self.label: str | None = label
        self.token: int | None = token

    def _values(self) -> tuple[Any, ...]:
        return (*super()._values(), self.host, self.label, self.token)

    def __str__(self) -> str:
        text = f'pid {self.pid}' if self.pid else 'a process'
        if self.host:
            text += f' on {self.host}'
        if self.label:
            text += f' ({self.label})'
        return text

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({self.pid}, host={self.host!r}, '
            f'label={self.label!r}, token={self.token}, '
            f'shared={self.shared}, since={self.since})'
        )
