"""Locks for an event loop, as the laws know locks: each thread has a task.

All that a thread does with such a lock is done by one task of its own loop,
so that a law about threads is one about tasks that run in threads.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable
from typing import Any


class _Runner:
    """An event loop of asyncio with one task that does what it is told."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._orders: list[Callable[[], Any]] = []
        self._outcome: list[Any] = []
        self._wanted: asyncio.Event | None = None
        self._done: asyncio.Event | None = None
        self._task = self._loop.create_task(self._serve())
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self) -> None:
        self._wanted, self._done = asyncio.Event(), asyncio.Event()
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                result = self._orders.pop()()
                if inspect.isawaitable(result):
                    result = await result
                self._outcome.append((result, None))
                del result
            except GeneratorExit:
                raise
            except BaseException as failure:
                self._outcome.append((None, failure))
            self._done.set()

    def run(self, order: Callable[[], Any]) -> Any:
        """Have the task do something; give what comes of it."""
        assert self._wanted is not None
        assert self._done is not None
        self._orders.append(order)
        del order
        self._wanted.set()
        try:
            self._loop.run_until_complete(self._done.wait())
        except BaseException:  # a signal handler raised
            self._task.cancel()
            self._loop.run_until_complete(self._done.wait())
            self._outcome.clear()
            raise
        finally:
            self._done.clear()
        result, failure = self._outcome.pop()
        if failure is None:
            return result
        try:
            raise failure
        finally:
            del failure  # its traceback leads here

    def close(self) -> None:
        self._task.cancel()
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        self._loop.close()


_of_thread = threading.local()


def runner() -> _Runner:
    """The loop of this thread; a forked child starts a new one."""
    known = getattr(_of_thread, 'runner', None)
    if known is None or known[0] != os.getpid():
        _of_thread.runner = known = os.getpid(), _Runner()
    it = known[1]
    assert isinstance(it, _Runner)
    return it


def close() -> None:
    """The thread ends."""
    known = _of_thread.__dict__.pop('runner', None)
    if known is not None and known[0] == os.getpid():
        known[1].close()


class InLoop:
    """A lock for an event loop, with the verbs of one for threads."""

    def __init__(self, lock: Any) -> None:
        runner()  # what a loop needs is there before the law begins
        self._async = lock

    @property
    def blocking_half(self) -> Any:
        return self._async._half

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blocking_half, name)

    @property
    def _timeout_generator(self) -> Any:
        return self.blocking_half._timeout_generator

    @_timeout_generator.setter
    def _timeout_generator(self, replacement: Any) -> None:
        self.blocking_half._timeout_generator = replacement

    def acquire(self, **options: Any) -> Any:
        return runner().run(lambda: self._async.acquire(**options))

    def try_acquire(self) -> Any:
        return runner().run(self._async.try_acquire)

    def try_lock(self, filenames: Any) -> Any:
        return self.blocking_half.try_lock(filenames)

    def release(self) -> None:
        runner().run(self._async.release)

    def __enter__(self) -> Any:
        return runner().run(self._async.__aenter__)

    def __exit__(self, *exc_info: object) -> Any:
        return runner().run(lambda: self._async.__aexit__(*exc_info))
