"""What the type checkers make of the locks for an event loop."""

from __future__ import annotations

import pathlib
from typing import IO, Any, assert_type

import anyio

import portalocker
from portalocker import aio


async def use(path: pathlib.Path) -> None:
    """Use each of them; it is read by the type checkers, and never run."""
    async with aio.Lock(path) as fh:
        assert_type(fh, IO[Any])
    async with aio.FileLock(path) as lock:
        assert_type(lock, aio.FileLock)
    async with await aio.FileLock(path).acquire() as lock:
        assert_type(lock, aio.FileLock)
    async with aio.ReadWriteLock(path).read() as fh:
        assert_type(fh, IO[Any])
    async with aio.BoundedSemaphore(1, 'typed') as place:
        assert_type(place, portalocker.Lock)
    async with aio.open_atomic(path) as file:
        assert_type(file, anyio.AsyncFile[bytes])
    async with aio.open_atomic(path, binary=False) as text:
        assert_type(text, anyio.AsyncFile[str])
    assert_type(aio.Lock(path).timeout, float)
    assert_type(aio.ReadWriteLock(path).write(), aio.WriteSide)
