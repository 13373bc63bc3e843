"""FileLock for tasks: the one for threads, awaited."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from .. import (
    _acquisition,
    _deadlock,
    _filelock_opening,
    _hold,
    _listening,
    _task_claimant,
    filelock,
)
from . import _waiting

if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Self

    from .. import _filelock_waiting


class _FileLock(filelock.FileLock):
    """The blocking half, which never waits itself."""

    # What was waited for, until it is taken
    _awaited: tuple[int, Any] | None = None

    def _first_try(self, may_wait: bool) -> tuple[int, Any]:
        if self._awaited is not None:
            return self._awaited
        return _acquisition.open_descriptor_and_try(self, may_wait)

    def _wait_counted(
        self, fd: int, opened: os.stat_result, wish: _filelock_waiting.Wish
    ) -> tuple[int, Any]:
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            return awaited
        contender = _acquisition.Contender(self, fd, opened, is_shared=False)
        raise _waiting.MustWait(
            contender, self._attempts(contender, wish, opened)
        )

    def _claimant(self) -> Any:
        return _task_claimant.running_claimant()


class AcquireReturnProxy:
    """What `acquire()` gives: as a context manager it releases once.

    Entering it gives the lock and takes nothing more.
    """

    __slots__ = ('lock',)

    def __init__(self, lock: FileLock) -> None:
        self.lock = lock

    async def __aenter__(self) -> FileLock:
        return self.lock

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.lock.release()


class FileLock:
    """A lock on the file at a path, between processes, threads and tasks.

    `portalocker.filelock.FileLock` for an event loop of asyncio or trio: same
    parameters, same file, same errors. The task that holds it may take it
    again, and has to release it as often; other tasks wait, also those that
    share the object or the thread. `release()` is not awaited.

    >>> import anyio, os, tempfile
    >>> async def main():
    ...     lock = FileLock(os.path.join(tempfile.mkdtemp(), 'lock'))
    ...     async with lock, lock:
    ...         return lock.lock_counter
    >>> anyio.run(main)
    2
    """

    def __init__(
        self,
        lock_file: str | os.PathLike[str],
        timeout: float = -1,
        mode: int = -1,
        thread_local: bool = True,
        **options: Any,
    ) -> None:
        self._lock = _FileLock(
            lock_file, timeout, mode, thread_local, **options
        )

    async def acquire(
        self,
        timeout: float | None = None,
        poll_interval: float | None = None,
        *,
        blocking: bool | None = None,
    ) -> AcquireReturnProxy:
        """Take the lock, once more where this task holds it.

        Waits for `timeout` seconds at most, for ever where it is below zero,
        in the event loop. `timeout=0` and `blocking=False` make one attempt.
        It is a checkpoint before it takes anything; cancelled, it holds what
        it held before.

        Raises `Timeout`, `Deadlock` at once where waiting would never end,
        `OSError` where the file cannot be opened, `NotImplementedError` where
        its file system has no locks.
        """
        lock = self._lock
        wish = lock._wish(timeout, poll_interval, blocking, None)
        owner = _task_claimant.running_claimant()
        listener = _listening.listener
        if listener is None:
            await self._acquire(wish, owner, None)
            return AcquireReturnProxy(self)
        counted = listener(lock)
        began = counted.calls_acquire()
        try:
            await self._acquire(wish, owner, counted)
        except BaseException as failure:
            counted.fails(began, failure)
            raise
        hold = lock._hold
        region = counted.enters(began, hold.counted is None)
        if region is not None:
            hold.region, hold.counted = region, counted
        return AcquireReturnProxy(self)

    async def _acquire(
        self, wish: _filelock_waiting.Wish, owner: Any, counted: Any
    ) -> None:
        lock = self._lock
        if lock._hold.owner == owner:
            await anyio.lowlevel.checkpoint()
            lock._hold.depth += 1
            return
        path = lock._path
        if lock._is_relative:
            path = _filelock_opening.absolute(lock.lock_file)

        def attempt(remaining: float) -> None:
            wish.timeout, wish.may_wait = remaining, remaining > 0
            lock._take(owner, wish)

        def goes_on(awaited: tuple[int, Any]) -> None:
            lock._awaited = awaited
            try:
                lock._take(owner, wish)
            finally:
                left, lock._awaited = lock._awaited, None
                if left is not None:  # a signal handler raised
                    _hold.clean_up(*left)

        await _waiting.acquire(
            path,
            attempt,
            goes_on,
            wish.timeout if wish.may_wait else 0,
            lambda: _told(wish, owner, path),
            counted,
        )

    def try_acquire(self) -> bool:
        """Take the lock if it is free now, or ours; whether we hold it.

        It never waits, and is no checkpoint.
        """
        return self._lock.try_acquire()

    def release(self, force: bool = False) -> None:
        """Undo one `acquire()`, at once; the last one lets the lock go.

        Does nothing where this task does not hold the lock; see
        `portalocker.filelock.FileLock.release`. It is not awaited.
        """
        self._lock.release(force)

    @property
    def is_locked(self) -> bool:
        """Whether this task holds the lock through this object."""
        return self._lock.is_locked

    @property
    def lock_counter(self) -> int:
        """How often the lock has to be released; 0 where it is not held."""
        return self._lock.lock_counter

    @property
    def lock_file(self) -> str:
        """The path of the lock file, as it was given."""
        return self._lock.lock_file

    @property
    def timeout(self) -> float:
        """Seconds to wait: below zero for ever, 0 for one attempt."""
        return self._lock.timeout

    @timeout.setter
    def timeout(self, value: float) -> None:
        self._lock.timeout = value

    @property
    def poll_interval(self) -> float:
        """Seconds between two attempts, at most; most waits are woken."""
        return self._lock.poll_interval

    @poll_interval.setter
    def poll_interval(self, value: float) -> None:
        self._lock.poll_interval = value

    @property
    def blocking(self) -> bool:
        """Whether `acquire()` waits at all."""
        return self._lock.blocking

    @blocking.setter
    def blocking(self, value: bool) -> None:
        self._lock.blocking = value

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._lock.__exit__(exc_type, exc_value, traceback)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a coroutine function: its body runs with the lock held."""
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def generating(*args: Any, **kwargs: Any) -> Any:
                async with self:
                    async for item in function(*args, **kwargs):
                        yield item

            return generating
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f'cannot decorate {function!r}: a function that is not '
                'awaited cannot wait in an event loop; '
                'portalocker.filelock.FileLock decorates it'
            )

        @functools.wraps(function)
        async def calling(*args: Any, **kwargs: Any) -> Any:
            async with self:
                return await function(*args, **kwargs)

        return calling


def _told(
    wish: _filelock_waiting.Wish, owner: Any, path: str
) -> contextlib.AbstractContextManager[None]:
    """An endless wait in line, where circles of waits are looked for."""
    if wish.is_endless():
        with contextlib.suppress(OSError):  # it is being replaced
            return _deadlock.Wait(owner, os.stat(path), path)
    return contextlib.nullcontext()
