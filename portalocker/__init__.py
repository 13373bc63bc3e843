"""Locks between processes, threads and hosts, with one way to use them.

Whoever waits is woken, not polled; whoever dies lets go; whoever asks is told
who holds.

>>> import os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), 'job.lock')
>>> with Lock(path, timeout=10):
...     'only one process at a time comes here'
'only one process at a time comes here'
"""

from __future__ import annotations

from . import __about__, constants, exceptions, portalocker, utils
from .__about__ import __author__, __email__
from .constants import LockFlags
from .exceptions import (
    AlreadyActive,
    AlreadyLocked,
    DeadlockError,
    DestinationExists,
    FileToLarge,
    LockException,
    LockLost,
    LockLostError,
)
from .holder import Holder, RemoteHolder
from .portalocker import lock, unlock
from .utils import (
    BoundedSemaphore,
    Lock,
    NamedBoundedSemaphore,
    PidFileLock,
    RLock,
    TemporaryFileLock,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._publication import (
        open_atomic,
        write_bytes_atomic,
        write_text_atomic,
    )
    from .redis import RedisLock

    __version__: str

#: the kinds of a lock request, see `LockFlags`
LOCK_EX = constants.LockFlags.EXCLUSIVE
LOCK_SH = constants.LockFlags.SHARED
LOCK_NB = constants.LockFlags.NON_BLOCKING
LOCK_UN = constants.LockFlags.UNBLOCK

__all__ = [
    'LOCK_EX',
    'LOCK_NB',
    'LOCK_SH',
    'LOCK_UN',
    'AlreadyActive',
    'AlreadyLocked',
    'BoundedSemaphore',
    'DeadlockError',
    'DestinationExists',
    'FileToLarge',
    'Holder',
    'Lock',
    'LockException',
    'LockFlags',
    'LockLost',
    'LockLostError',
    'NamedBoundedSemaphore',
    'PidFileLock',
    'RLock',
    'RedisLock',
    'RemoteHolder',
    'TemporaryFileLock',
    '__author__',
    '__email__',
    '__version__',
    'lock',
    'open_atomic',
    'unlock',
    'write_bytes_atomic',
    'write_text_atomic',
]


# The code of the redis room, where all modules are one
_ROOM_OF_REDIS: str | None = None


def _redis_lock_class() -> Any:
    """The class, imported by the first who asks for it."""
    import importlib

    try:
        if _ROOM_OF_REDIS is not None:
            code = compile(_ROOM_OF_REDIS, f'{__file__}: redis', 'exec')
            exec(code, globals())  # noqa: S102 - part of this file
            return globals()['RedisLock']
        return importlib.import_module(f'{__name__}.redis').RedisLock
    except ModuleNotFoundError as error:
        if error.name != 'redis':
            raise
        raise ImportError(
            'cannot import RedisLock: it needs the client library redis: '
            'pip install "portalocker[redis]"'
        ) from error


def __getattr__(name: str) -> Any:
    if name == 'RedisLock':
        return _redis_lock_class()
    if name == 'open_atomic':
        return getattr(utils, name)
    if name in {'write_bytes_atomic', 'write_text_atomic'}:
        from . import _publication

        return getattr(_publication, name)
    if name == '__version__':
        return __about__.__version__
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
