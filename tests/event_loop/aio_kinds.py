"""The locks for an event loop, and what tests ask about them."""

from __future__ import annotations

import fcntl
import os
import pathlib
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import portalocker
from portalocker import _owner, aio
from portalocker.aio import _loop

LONG = 15.0
SHORT = 0.05
#: nobody looks by itself before the test fails
WOKEN: dict[str, Any] = {'timeout': 10 * LONG, 'check_interval': 2 * LONG}


def file_of(path: pathlib.Path) -> pathlib.Path:
    """The file that the lock at `path` locks."""
    semaphore = path.with_name(path.name + '.00.lock')
    return semaphore if semaphore.exists() else path


def is_free(path: pathlib.Path) -> bool:
    with open(file_of(path), 'a', encoding='ascii') as fh:
        try:
            fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def waiters(path: pathlib.Path) -> int:
    return len(_owner.waiters_of(str(file_of(path))))


async def until(is_so: Callable[[], object]) -> None:
    while not is_so():  # noqa: ASYNC110 - of another thread or process
        await anyio.sleep(0.001)


async def pass_through(lock: Any, *options: Any) -> None:
    """Take the lock and let it go."""
    await lock.acquire(*options)
    lock.release()


KINDS: dict[str, Callable[[pathlib.Path], Any]] = {
    'lock': lambda path: aio.Lock(path, **WOKEN),
    'rlock': lambda path: aio.RLock(path, **WOKEN),
    'file_lock': lambda path: aio.FileLock(
        path, timeout=10 * LONG, poll_interval=2 * LONG
    ),
    'read': lambda path: aio.ReadWriteLock(path, **WOKEN).read(),
    'write': lambda path: aio.ReadWriteLock(path, **WOKEN).write(),
    'semaphore': lambda path: aio.BoundedSemaphore(
        1, path.name, directory=path.parent, **WOKEN
    ),
    'named_semaphore': lambda path: aio.NamedBoundedSemaphore(
        1, path.name, directory=path.parent, **WOKEN
    ),
}
BLOCKING: dict[str, Callable[[pathlib.Path], Any]] = {
    'semaphore': lambda path: portalocker.BoundedSemaphore(
        1, path.name, directory=path.parent, **WOKEN
    ),
}


def blocking(kind: str, path: pathlib.Path) -> Any:
    """A lock of threads that excludes one of this kind."""
    make = BLOCKING.get(kind.removeprefix('named_'))
    return make(path) if make else portalocker.Lock(path, **WOKEN)


async def in_line(path: pathlib.Path, length: int) -> None:
    """Wait until so many tasks of this loop wait."""
    lines = _loop.here().lines

    def found() -> int:
        return sum(map(len, lines.values()))

    await until(lambda: found() == length)


def sleepers() -> Any:
    return _loop.here()._watch._sleepers


every_kind = pytest.mark.parametrize('kind', KINDS)
