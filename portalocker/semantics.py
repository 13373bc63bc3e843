"""What each kind of lock promises, for programs to read.

The table of the documentation is `as_table()`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADINGS = (
    ('engine', 'engine'),
    ('reach', 'between'),
    ('unlock_on_disconnect', 'let go when the holder dies'),
    ('lease', 'lease'),
    ('fair', 'in turn'),
    ('fenced', 'fencing token'),
    ('shared', 'shared locks'),
    ('push', 'waiters are woken'),
)


class Semantics:
    """What the locks of one engine promise.

    `engine`
        what decides who holds.
    `reach`
        between whom it decides: 'threads', 'processes' or 'hosts'.
    `unlock_on_disconnect`
        whether a holder that dies, or is cut off, lets go by that alone.
    `lease`
        seconds after which a holder that does not answer lets go, or None.
    `fair`
        whether the first to come is the first to be served.
    `fenced`
        whether each hold has a token larger than all before it.
    `shared`
        whether there are shared holds beside the exclusive ones.
    `push`
        whether a waiter is woken when it can hold, instead of polling.

    >>> POSTGRESQL.fenced, FLOCK.fenced
    (True, False)
    """

    __slots__ = tuple(name for name, _ in _HEADINGS)

    engine: str
    reach: str
    unlock_on_disconnect: bool
    lease: float | None
    fair: bool
    fenced: bool
    shared: bool
    push: bool

    def __init__(
        self,
        engine: str,
        *,
        reach: str,
        unlock_on_disconnect: bool,
        lease: float | None,
        fair: bool,
        fenced: bool,
        shared: bool,
        push: bool,
    ) -> None:
        self.engine = engine
        self.reach = reach
        self.unlock_on_disconnect = unlock_on_disconnect
        self.lease = lease
        self.fair = fair
        self.fenced = fenced
        self.shared = shared
        self.push = push

    def as_dict(self) -> dict[str, Any]:
        """The promises by their names."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Semantics):
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def __repr__(self) -> str:
        promises = ', '.join(
            f'{name}={value!r}'
            for name, value in self.as_dict().items()
            if name != 'engine'
        )
        return f'Semantics({self.engine!r}, {promises})'


#: `Lock` and its kin on Linux
FLOCK = Semantics(
    'flock (Linux)',
    reach='processes',
    unlock_on_disconnect=True,
    lease=None,
    fair=True,
    fenced=False,
    shared=True,
    push=True,
)
#: the same on other systems, and on network file systems
FILE_ELSEWHERE = Semantics(
    'file lock (elsewhere)',
    reach='processes',
    unlock_on_disconnect=True,
    lease=None,
    fair=False,
    fenced=False,
    shared=True,
    push=False,
)
#: `RedisLock`, `RedisSemaphore` and `RedisMultiLock`
REDIS = Semantics(
    'Redis, Valkey',
    reach='hosts',
    unlock_on_disconnect=True,
    lease=10.0,
    fair=True,
    fenced=True,
    shared=True,
    push=True,
)
#: `PostgresLock`
POSTGRESQL = Semantics(
    'PostgreSQL',
    reach='hosts',
    unlock_on_disconnect=True,
    lease=None,
    fair=True,
    fenced=True,
    shared=True,
    push=True,
)

#: every engine, in the order of the table
ENGINES = (FLOCK, FILE_ELSEWHERE, REDIS, POSTGRESQL)


def as_table(engines: tuple[Semantics, ...] = ENGINES) -> str:
    """The promises as a table of reStructuredText, one line an engine."""
    lines = [tuple(heading for _, heading in _HEADINGS)]
    lines += [
        tuple(_cell(value) for value in engine.as_dict().values())
        for engine in engines
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = '  '.join('=' * width for width in widths)
    texts = [
        '  '.join(map(str.ljust, line, widths)).rstrip() for line in lines
    ]
    return '\n'.join([rule, texts[0], rule, *texts[1:], rule]) + '\n'


def _cell(value: Any) -> str:
    if value is None:
        return 'none'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:g} s' if isinstance(value, float) else str(value)
