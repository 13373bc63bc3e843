"""Locks for an event loop, as the laws know locks: each thread has a task.

All that a thread does with such a lock is done by one task of its own loop,
so that a law about threads is one about tasks that run in threads. There is a
loop of asyncio and one of trio for each thread that needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import trio
from locks import Lawful

from portalocker import aio


class _Runner:
    """An event loop with one task that does what it is told."""

    def __init__(self) -> None:
        self._orders: list[Callable[[], Any]] = []
        self._outcome: list[Any] = []
        self._wanted: anyio.Event | None = None
        self._scope: anyio.CancelScope
        self._order_scope: anyio.CancelScope

    async def _serve(self) -> None:
        with anyio.CancelScope() as self._scope:
            while True:
                self._wanted = anyio.Event()
                await self._wanted.wait()
                await self._obey()
                self._tell_done()

    async def _obey(self) -> None:
        with anyio.CancelScope() as self._order_scope:
            try:
                result = self._orders.pop()()
                if inspect.isawaitable(result):
                    result = await result
                self._outcome.append((result, None))
            except GeneratorExit:
                raise
            except BaseException as failure:
                self._outcome.append((None, failure))

    def _tell_done(self) -> None:
        """Called by the task."""

    def _call(self, function: Callable[[], object]) -> None:
        """Have the loop call something soon."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Run the loop until the order is done."""
        raise NotImplementedError

    def run(self, order: Callable[[], Any]) -> Any:
        """Have the task do something; give what comes of it."""
        assert self._wanted is not None
        self._orders.append(order)
        del order
        self._call(self._wanted.set)
        try:
            self._go_on()
        except BaseException:  # a signal handler raised
            self._call(self._order_scope.cancel)
            self._go_on()
            self._outcome.clear()
            raise
        result, failure = self._outcome.pop()
        if failure is None:
            return result
        try:
            raise failure
        finally:
            del failure  # its traceback leads here


class _AsyncioRunner(_Runner):
    """As `asyncio.run()` does it: an interrupt is a cancellation first."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._done = asyncio.Event()
        self._task = self._loop.create_task(self._serve())
        self._runner.run(asyncio.sleep(0))

    def _tell_done(self) -> None:
        self._done.set()

    def _call(self, function: Callable[[], object]) -> None:
        self._loop.call_soon(function)

    def _go_on(self) -> None:
        try:
            self._runner.run(self._done.wait())  # type: ignore[arg-type]
        finally:
            self._done.clear()

    def close(self) -> None:
        self._call(self._scope.cancel)
        self._loop.run_until_complete(self._task)
        self._runner.close()


def _leave_parents_run() -> None:
    # trio takes the run of the parent, which stands still here, for ours
    trio._core._run.GLOBAL_RUN_CONTEXT.__dict__.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_leave_parents_run)


class _TrioRunner(_Runner):
    """A guest of this thread, which runs it while an order is done.

    In between the thread is in no run of trio: others may begin one, and an
    interrupt is not for trio.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: queue.SimpleQueue[Callable[[], object]] = (
            queue.SimpleQueue()
        )
        self._is_done = False
        self._ends: list[Any] = []
        self._run_context: dict[str, Any] = {}
        self._on_interrupt: Any = None
        with self._inside():
            trio.lowlevel.start_guest_run(
                self._serve,
                run_sync_soon_threadsafe=self._calls.put,
                done_callback=self._ends.append,
                host_uses_signal_set_wakeup_fd=True,  # a child has the same
            )
            self._go_on_until(lambda: self._wanted is not None)

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        await super()._serve()

    def _tell_done(self) -> None:
        self._is_done = True

    def _call(self, function: Callable[[], object]) -> None:
        self._token.run_sync_soon(function)

    def _go_on(self) -> None:
        with self._inside():
            self._go_on_until(lambda: self._is_done)
        self._is_done = False

    def _go_on_until(self, is_so: Callable[[], object]) -> None:
        while not is_so():
            self._calls.get()()

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        context = trio._core._run.GLOBAL_RUN_CONTEXT.__dict__
        context.update(self._run_context)
        outside = signal.getsignal(signal.SIGINT)
        if outside is signal.default_int_handler and self._on_interrupt:
            signal.signal(signal.SIGINT, self._on_interrupt)
        try:
            yield
        finally:
            inside = signal.getsignal(signal.SIGINT)
            if threading.current_thread() is threading.main_thread() and (
                inside is not outside
            ):
                self._on_interrupt = inside
                signal.signal(signal.SIGINT, outside)
            self._run_context = dict(context)
            context.clear()

    def close(self) -> None:
        self._call(self._scope.cancel)
        with self._inside():
            self._go_on_until(lambda: self._ends)
        self._ends.pop().unwrap()


RUNNERS: dict[str, Callable[[], Any]] = {
    'asyncio': _AsyncioRunner,
    'trio': _TrioRunner,
}
_of_thread = threading.local()


def runner(backend: str) -> Any:
    """The loop of this thread; a forked child starts a new one."""
    runners = _of_thread.__dict__.setdefault('runners', {})
    key = os.getpid(), backend
    if key not in runners:
        runners[key] = RUNNERS[backend]()
    return runners[key]


def close() -> None:
    """The thread ends."""
    runners = _of_thread.__dict__.pop('runners', {})
    for (pid, _), found in runners.items():
        if pid == os.getpid():
            found.close()


class InLoop:
    """A lock for an event loop, with the verbs of one for threads."""

    def __init__(self, backend: str, lock: Any) -> None:
        runner(backend)  # what a loop needs is there before the law begins
        self._backend = backend
        self._async = lock

    def _run(self, order: Callable[[], Any]) -> Any:
        return runner(self._backend).run(order)

    @property
    def blocking_half(self) -> Any:
        return self._async._half

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._async, name, self)
        return getattr(self.blocking_half, name) if found is self else found

    def acquire(self, **options: Any) -> Any:
        return self._run(lambda: self._async.acquire(**options))

    def try_acquire(self) -> Any:
        return self._run(self._async.try_acquire)

    def try_lock(self, filenames: Any) -> Any:
        return self.blocking_half.try_lock(filenames)

    def release(self) -> None:
        self._run(self._async.release)

    def __enter__(self) -> Any:
        return self._run(self._async.__aenter__)

    def __exit__(self, *exc_info: object) -> Any:
        return self._run(lambda: self._async.__aexit__(*exc_info))


class LawfulTaskFileLock(Lawful, aio.FileLock):
    @property
    def _hold(self) -> Any:
        return self._half._hold

    async def acquire(
        self,
        timeout: float | None = None,  # noqa: ASYNC109
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Any:
        await super().acquire(
            timeout,
            check_interval,
            blocking=None if fail_when_locked is None else False,
        )
        return self.fh


#: how a lock of each name is made
MAKE: dict[str, Callable[..., Any]] = {
    'lock': aio.Lock,
    'rlock': aio.RLock,
    'read': lambda path, **options: aio.ReadWriteLock(path, **options).read(),
    'write': (
        lambda path, **options: aio.ReadWriteLock(path, **options).write()
    ),
    'semaphore': lambda path, **options: aio.BoundedSemaphore(
        1, path.name, directory=path.parent, **options
    ),
    'filelock': LawfulTaskFileLock,
}
