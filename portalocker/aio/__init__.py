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

from ._atomic import open_atomic
from ._file_lock import FileLock
from ._locks import Lock, ReadWriteLock, RLock
from ._semaphores import BoundedSemaphore, NamedBoundedSemaphore

__all__ = [
    'BoundedSemaphore',
    'FileLock',
    'Lock',
    'NamedBoundedSemaphore',
    'RLock',
    'ReadWriteLock',
    'open_atomic',
]
