"""Locks on servers, as `who` is asked about them: a URL names one."""

from __future__ import annotations

import datetime as dt
import urllib.parse

from .. import exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from ..holder import RemoteHolder

#: how long a server may take to answer
PATIENCE_SECONDS = 10.0
#: what `who` takes beside paths
FORMS = 'postgresql://[USER@]HOST[:PORT]/DATABASE/LOCK, redis://HOST/CHANNEL'

_HEADINGS = ('LOCK', 'ROLE', 'KIND', 'PID', 'HOST', 'SINCE', 'LABEL')


class CannotTell(Exception):
    """Nothing can be said about a lock; the text says why."""


def is_url(text: str) -> bool:
    """Whether this names a lock on a server."""
    return '://' in text


class ServerReport:
    """What a server tells about one lock. Waits for the network only.

    Raises `CannotTell`.
    """

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        make = _LOCKS.get(parts.scheme)
        if make is None:
            raise CannotTell(f'no server is known for {parts.scheme}://')
        try:
            self.name, lock = make(parts)
            self.holders: tuple[RemoteHolder, ...] = lock.holders()
            self.waiters: tuple[RemoteHolder, ...] = lock.waiters()
        except (exceptions.LockException, ImportError, ValueError) as error:
            raise CannotTell(str(error)) from error

    @property
    def is_held(self) -> bool:
        """Whether anybody holds the lock."""
        return bool(self.holders)

    def as_facts(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            'lock': self.name,
            'held': self.is_held,
            'holders': [_facts(holder) for holder in self.holders],
            'waiters': [_facts(waiter) for waiter in self.waiters],
        }

    def lines(self) -> Iterator[tuple[str, ...]]:
        """For the table."""
        for role, people in (
            ('holder', self.holders),
            ('waiter', self.waiters),
        ):
            for person in people:
                yield self.name, role, *_cells(person)
        if not self.holders and not self.waiters:
            yield self.name, 'free', *['-'] * (len(_HEADINGS) - 2)


def as_lines(reports: Iterable[ServerReport]) -> list[tuple[str, ...]]:
    """The table of locks on servers; empty where there are none."""
    lines = [line for report in reports for line in report.lines()]
    return [_HEADINGS, *lines] if lines else []


def _cells(person: RemoteHolder) -> tuple[str, ...]:
    since = '?'
    if person.since is not None:
        moment = dt.datetime.fromtimestamp(person.since, dt.UTC)
        since = moment.astimezone().isoformat(' ', 'seconds')
    return (
        'shared' if person.shared else 'exclusive',
        str(person.pid) if person.pid else '?',
        person.host or '?',
        since,
        person.label or '-',
    )


def _facts(person: RemoteHolder) -> dict[str, Any]:
    names = ('host', 'label', 'shared', 'since', 'token')
    facts = {name: getattr(person, name) for name in names}
    return {'pid': person.pid or None, **facts}


def _postgres_lock(parts: urllib.parse.SplitResult) -> tuple[str, Any]:
    database, _, name = parts.path.removeprefix('/').partition('/')
    name = urllib.parse.unquote(name)
    if not name:
        raise ValueError('a lock is named as postgresql://HOST/DATABASE/LOCK')
    from .. import postgres

    server = parts._replace(path=f'/{database}').geturl()
    return name, postgres.PostgresLock(name, server, fence=False)


def _redis_lock(parts: urllib.parse.SplitResult) -> tuple[str, Any]:
    name = urllib.parse.unquote(parts.path.removeprefix('/'))
    if not name:
        raise ValueError('a lock is named as redis://HOST/CHANNEL')
    try:
        from .. import _redis_commands, _redis_endpoint, redis
    except ImportError as error:
        raise CannotTell(
            f'cannot import portalocker.redis: {error}; the client of Redis '
            'comes with pip install "portalocker[redis]"'
        ) from error
    wishes = urllib.parse.parse_qs(parts.query)
    database = wishes.pop('db', ['0'])[-1]
    if wishes:
        raise ValueError(f'of {parts.query!r} only db=NUMBER is understood')
    options: dict[str, Any] = {
        'socket_connect_timeout': PATIENCE_SECONDS,
        'socket_timeout': PATIENCE_SECONDS,
        # or the client would be patient many times over
        'retry': _redis_endpoint.once(),
        'health_check_interval': 0,
        'db': int(database),
        'host': parts.hostname or 'localhost',
        'port': parts.port or 6379,
        'username': _unquoted(parts.username),
        'password': _unquoted(parts.password),
        'ssl': parts.scheme == 'rediss',
    }
    errors = _redis_commands.FAILURES
    lock = redis.RedisLock(name, redis_kwargs=options)
    return name, _RedisQuestion(lock, errors)


def _unquoted(text: str | None) -> str | None:
    return None if text is None else urllib.parse.unquote(text)


class _RedisQuestion:
    """Who has a lock on Redis; what the client raises is ours."""

    def __init__(self, lock: Any, errors: type[Exception]) -> None:
        self._lock = lock
        self._errors = errors

    def holders(self) -> Any:
        return self._ask(self._lock.holders)

    def waiters(self) -> Any:
        return self._ask(self._lock.waiters)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._errors as error:
            raise CannotTell(str(error)) from error


_LOCKS: dict[str, Callable[[Any], tuple[str, Any]]] = {
    'postgres': _postgres_lock,
    'postgresql': _postgres_lock,
    'redis': _redis_lock,
    'rediss': _redis_lock,
}
