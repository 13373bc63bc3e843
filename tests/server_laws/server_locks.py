"""Every lock on a server, and how a law is stated for all of them.

A new lock joins by adding one entry to `KINDS`; a law is a test decorated
with `@law(...)`, which names the locks it is not for and says why.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import loops
import pytest

import portalocker

SHORT = 0.05  # seconds: a wait that is meant to end without the lock
LONG = 15.0  # seconds: only ever reached by a failure
# The timeout of a lock that waits: who is let in by its end only is late
TIMEOUT = 10 * LONG

SHARED = portalocker.LockFlags.SHARED
_LOOP = 'asyncio'  # the client of Redis knows no other

# What a lock of the other colour has to be asked in its task
_AWAITED = (
    *('acquire', 'try_acquire', 'release', 'verify', 'holders', 'waiters'),
)


class InTask:
    """A lock for an event loop, with the verbs of one for threads.

    All that a thread does with it is done by one task of its own loop.
    """

    def __init__(self, lock: Any) -> None:
        loops.runner(_LOOP)  # what it needs is there before the law begins
        self.lock = lock

    def __getattr__(self, name: str) -> Any:
        if name in _AWAITED:
            verb = getattr(self.lock, name)
            return lambda **given: loops.runner(_LOOP).run(
                lambda: verb(**given)
            )
        return loops.runner(_LOOP).run(lambda: getattr(self.lock, name))

    def ensure_held(self) -> None:
        loops.runner(_LOOP).run(self.lock.ensure_held)

    def __enter__(self) -> Any:
        loops.runner(_LOOP).run(self.lock.__aenter__)
        return self

    def __exit__(self, *exc_info: object) -> Any:
        return loops.runner(_LOOP).run(lambda: self.lock.__aexit__(*exc_info))


Make = Callable[..., Any]


class Kind:
    """One kind of lock: its server, how it is made, and its rival."""

    def __init__(
        self, name: str, engine: str, make: Make, *, rival: Make | None = None
    ) -> None:
        self.name = name
        self.engine = engine
        self._make = make
        self._rival = rival or make
        self.is_shared = rival is not None

    def __repr__(self) -> str:
        return self.name

    def made(self, server: Any, name: str, **options: Any) -> Any:
        """A lock of this kind that waits, unless options differ."""
        return self._make(server, name, **{'timeout': TIMEOUT, **options})

    def rival_of(self, server: Any, name: str, **options: Any) -> Any:
        """A lock that this kind excludes, and that excludes it."""
        return self._rival(server, name, **{'timeout': TIMEOUT, **options})


def _redis_lock(server: Any, name: str, **options: Any) -> Any:
    from portalocker import redis

    return redis.RedisLock(name, server.client(), **options)


def _redis_semaphore(server: Any, name: str, **options: Any) -> Any:
    from portalocker import redis

    return redis.RedisSemaphore(1, name, server.client(), **options)


def _redis_multi_lock(server: Any, name: str, **options: Any) -> Any:
    from portalocker import redis

    names = [name, name + ' and another']
    return redis.RedisMultiLock(names, server.client(), **options)


def _redis_task_lock(server: Any, name: str, **options: Any) -> Any:
    from portalocker.aio.redis import AsyncRedisLock

    given = {'redis_kwargs': {'port': server.port}, **options}
    return InTask(AsyncRedisLock(name, **given))


def _postgres_lock(server: Any, name: str, **options: Any) -> Any:
    from portalocker import postgres

    return postgres.PostgresLock(name, server.url, **options)


def _postgres_task_lock(server: Any, name: str, **options: Any) -> Any:
    from portalocker.aio.postgres import AsyncPostgresLock

    return InTask(AsyncPostgresLock(name, server.url, **options))


def _shared(make: Make) -> Make:
    return functools.partial(make, flags=SHARED)


KINDS = (
    Kind('redis', 'valkey', _redis_lock),
    Kind('redis_safe', 'valkey',
         functools.partial(_redis_lock, takeover='safe', lease=3.0)),
    Kind('redis_barging', 'valkey',
         functools.partial(_redis_lock, fair=False)),
    Kind('redis_reentrant', 'valkey',
         functools.partial(_redis_lock, reentrant=True)),
    Kind('redis_shared', 'valkey', _shared(_redis_lock), rival=_redis_lock),
    Kind('redis_semaphore', 'valkey', _redis_semaphore),
    Kind('redis_multi', 'valkey', _redis_multi_lock),
    Kind('redis_task', 'valkey', _redis_task_lock),
    Kind('redis_task_shared', 'valkey', _shared(_redis_task_lock),
         rival=_redis_task_lock),
    Kind('postgres', 'postgresql', _postgres_lock),
    Kind('postgres_shared', 'postgresql', _shared(_postgres_lock),
         rival=_postgres_lock),
    Kind('postgres_task', 'postgresql', _postgres_task_lock),
)  # fmt: skip
KIND_OF = {kind.name: kind for kind in KINDS}

#: names that stand for several locks in `@law(...)`
GROUPS = {
    'readers': ('redis_shared', 'redis_task_shared', 'postgres_shared'),
    'exclusive': tuple(kind.name for kind in KINDS if not kind.is_shared),
    'redis_tasks': ('redis_task', 'redis_task_shared'),
}

#: law -> (locks it runs against, locks it is not for -> why)
LAWS: dict[str, tuple[frozenset[str], dict[str, str]]] = {}


def law(**not_for: str) -> Callable[[Any], Any]:
    """State a test as a law of every lock but those in `not_for`."""
    excused = {
        name: reason
        for key, reason in not_for.items()
        for name in GROUPS.get(key, (key,))
    }
    kinds = [kind for kind in KINDS if kind.name not in excused]

    def stated(test: Any) -> Any:
        assert test.__name__ not in LAWS, f'{test.__name__} is stated twice'
        assert excused.keys() <= KIND_OF.keys()
        LAWS[test.__name__] = (frozenset(k.name for k in kinds), excused)
        return pytest.mark.parametrize('kind', kinds, ids=str)(test)

    return stated
