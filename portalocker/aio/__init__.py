"""The locks of this package for an event loop: asyncio, and trio.

They need anyio: `pip install "portalocker[aio]"`. Whoever waits leaves the
loop to others and uses no thread; a lock is held by the task that took it.

>>> import anyio, os, tempfile
>>> async def main():
...     path = os.path.join(tempfile.mkdtemp(), 'job.lock')
...     async with Lock(path, timeout=10):
...         return 'only one task of one process at a time comes here'
>>> anyio.run(main)
'only one task of one process at a time comes here'
"""

from __future__ import annotations

try:
    from ._atomic import open_atomic
except ModuleNotFoundError as _error:
    if _error.name != 'anyio':
        raise
    raise ModuleNotFoundError(
        'cannot lock in an event loop: anyio is not installed; '
        'pip install "portalocker[aio]"',
        name='anyio',
    ) from _error

from ._file_lock import AcquireReturnProxy, FileLock
from ._locks import Lock, ReadSide, ReadWriteLock, RLock, WriteSide
from ._semaphores import BoundedSemaphore, NamedBoundedSemaphore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .postgres import AsyncPostgresLock
    from .redis import (
        AsyncRedisLock,
        AsyncRedisMultiLock,
        AsyncRedisSemaphore,
    )

__all__ = [
    'AcquireReturnProxy',
    'AsyncPostgresLock',
    'AsyncRedisLock',
    'AsyncRedisMultiLock',
    'AsyncRedisSemaphore',
    'BoundedSemaphore',
    'FileLock',
    'Lock',
    'NamedBoundedSemaphore',
    'RLock',
    'ReadSide',
    'ReadWriteLock',
    'WriteSide',
    'open_atomic',
]


def __getattr__(name: str) -> Any:
    if name.startswith('AsyncRedis') and name in __all__:
        from . import redis  # it needs the redis extra

        return getattr(redis, name)
    if name == 'AsyncPostgresLock':  # it needs the postgres extra
        from .postgres import AsyncPostgresLock

        return AsyncPostgresLock
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
