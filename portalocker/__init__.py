"""Locks between processes, threads and hosts, with one way to use them.

Whoever waits is woken, not polled; whoever dies lets go; whoever asks is told
who holds.

>>> import os, portalocker, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), 'job.lock')
>>> with portalocker.Lock(path, timeout=10):
...     'only one process at a time comes here'
'only one process at a time comes here'
"""

from __future__ import annotations

import sys

# name -> where it is: loaded by the first who asks
_HOMES = {
    'LOCK_EX': 'constants.LockFlags.EXCLUSIVE',
    'LOCK_NB': 'constants.LockFlags.NON_BLOCKING',
    'LOCK_SH': 'constants.LockFlags.SHARED',
    'LOCK_UN': 'constants.LockFlags.UNBLOCK',
    'AlreadyActive': 'exceptions.AlreadyActive',
    'AlreadyLocked': 'exceptions.AlreadyLocked',
    'BoundedSemaphore': 'utils.BoundedSemaphore',
    'DeadlockError': 'exceptions.DeadlockError',
    'DestinationExists': 'exceptions.DestinationExists',
    'FileToLarge': 'exceptions.FileToLarge',
    'Holder': 'holder.Holder',
    'Lock': 'utils.Lock',
    'LockException': 'exceptions.LockException',
    'LockFlags': 'constants.LockFlags',
    'LockLost': 'exceptions.LockLost',
    'LockLostError': 'exceptions.LockLostError',
    'NamedBoundedSemaphore': 'utils.NamedBoundedSemaphore',
    'PidFileLock': 'utils.PidFileLock',
    'RLock': 'utils.RLock',
    'RedisLock': 'redis.RedisLock',
    'RemoteHolder': 'holder.RemoteHolder',
    'TemporaryFileLock': 'utils.TemporaryFileLock',
    '__author__': '__about__.__author__',
    '__email__': '__about__.__email__',
    '__version__': '__about__.__version__',
    'lock': 'portalocker.lock',
    'open_atomic': '_publication.open_atomic',
    'unlock': 'portalocker.unlock',
    'write_bytes_atomic': '_publication.write_bytes_atomic',
    'write_text_atomic': '_publication.write_text_atomic',
}
# Modules that nobody has to import before
_ROOMS = frozenset(
    ('__about__', 'constants', 'exceptions', 'holder', 'portalocker', 'utils')
)
# Nor these, but in the single file they are not
_ROOMS_APART = frozenset(
    (
        *('aio', 'atomic', 'exporters', 'fencing', 'filelock', 'postgres'),
        *('pysync', 'read_write', 'reapers', 'redis', 'semantics'),
        *('tempfile', 'types', 'wait_counters'),
    )
)

# What a reload finds is loaded again
for _name in _HOMES:
    globals().pop(_name, None)

# The same names for type checkers. The single file begins with this block.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import types as python_types

    from . import __about__, constants, exceptions, holder, portalocker, utils
    from .__about__ import __author__, __email__, __version__
    from ._publication import (
        open_atomic,
        write_bytes_atomic,
        write_text_atomic,
    )
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
    from .redis import RedisLock
    from .utils import (
        BoundedSemaphore,
        Lock,
        NamedBoundedSemaphore,
        PidFileLock,
        RLock,
        TemporaryFileLock,
    )

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


class _RedisLockWithoutClient:
    """`RedisLock` where its client library is missing: it says so."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise ImportError(
            'cannot make a RedisLock: it needs the client library redis: '
            'pip install "portalocker[redis]"',
            name='redis',
        )


# The code of the redis room, where all modules are one
_ROOM_OF_REDIS: str | None = None


def _redis_lock_class() -> object:
    """The class, or what says what is missing."""
    try:
        if _ROOM_OF_REDIS is None:
            return _imported_late('redis').RedisLock
        code = compile(_ROOM_OF_REDIS, f'{__file__}: redis', 'exec')
        exec(code, globals())  # noqa: S102 - part of this file
    except ModuleNotFoundError as error:
        if error.name != 'redis':
            raise
        return _RedisLockWithoutClient
    return globals()['RedisLock']


def _imported(room: str) -> python_types.ModuleType:
    """A module of ours; not `from . import`, which would ask us for it."""
    return __import__(room, globals(), None, ('__name__',), 1)


def _imported_late(room: str) -> python_types.ModuleType:
    """The same, and no child is forked meanwhile."""
    # Not for `_ROOMS`: modules that are being imported ask for those
    with _imported('_after_fork').late_import:
        return _imported(room)


def _getattr_of_face(name: str) -> object:
    """What is asked for the first time, see PEP 562."""
    if name in _ROOMS or (name in _ROOMS_APART and '__path__' in globals()):
        return _imported(name)
    if name not in _HOMES:
        raise AttributeError(
            f'module {__name__!r} has no attribute {name!r}',
            name=name,
            obj=sys.modules.get(__name__),
        )
    found: object
    if name == 'RedisLock':
        found = _redis_lock_class()
        if found is _RedisLockWithoutClient:
            return found  # the client may come yet
    else:
        room, *path = _HOMES[name].split('.')
        found = _imported_late(room)
        for step in path:
            found = getattr(found, step)
    # Another thread may have been faster, or have put something in its place
    return globals().setdefault(name, found)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})


if not TYPE_CHECKING:  # a type checker would believe every name
    __getattr__ = _getattr_of_face
