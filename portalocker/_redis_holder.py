"""Who holds a lock on a Redis server, or waits for it, as the server says."""

from __future__ import annotations

from . import _redis_scripts, holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MODES = {'x': 'exclusive', 's': 'shared', 'p': 'permit'}


class RedisHolder(holder.RemoteHolder):
    """One holder of a lock on a Redis server, or one waiter.

    Beside what every `RemoteHolder` has: `thread` (the number the system
    gives it) and `mode` (`'exclusive'`, `'shared'` or `'permit'`).
    """

    __slots__ = ('hid', 'mode', 'sid', 'thread')

    def __init__(self, mode: str, since: str, token: str, meta: str) -> None:
        host, pid, thread, label = (*meta.split(':', 3), '', '', '')[:4]
        super().__init__(
            int(pid) if pid.isdigit() else 0,
            host=host or None,
            label=label or None,
            token=int(token) or None,
            shared=mode == 's',
            since=int(since) / 1e6,
        )
        self.thread: int | None = int(thread) if thread.isdigit() else None
        self.mode: str = _MODES.get(mode, mode)
        #: what the server knows the hold and its session by
        self.hid: str = ''
        self.sid: str = ''


def holder_of(record: Any) -> RedisHolder:
    """A holder, of its record."""
    token, since, _, _, mode, _, _, meta = _redis_scripts.as_text(
        record
    ).split(' ', 7)
    return RedisHolder(mode, since, token, meta)


def those_who(role: str, reply: list[Any]) -> tuple[RedisHolder, ...]:
    """Those of the answer who have this role."""
    return tuple(
        found for its_role, found in understood_who(reply) if its_role == role
    )


def understood_who(reply: list[Any]) -> list[tuple[str, RedisHolder]]:
    """The answer of the script, as objects."""
    found = []
    for row in reply[1]:
        role, hid, sid, mode, token, since, meta = map(
            _redis_scripts.as_text, row
        )
        one = RedisHolder(mode, since, token, meta)
        one.hid, one.sid = hid, sid
        found.append((role, one))
    return found
