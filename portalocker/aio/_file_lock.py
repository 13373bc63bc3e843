"""FileLock for tasks: the one for threads, awaited."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from typing import TYPE_CHECKING, Any

from .. import (
    _acquisition,
    _deadlock,
    _filelock_options,
    _hold,
    _signal_handlers,
    _task_claimant,
    filelock,
)
from . import _face, _waiting

if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Literal, ParamSpec, Self, TypedDict, TypeVar, Unpack

    from .. import _filelock_waiting

    Parameters = ParamSpec('Parameters')
    Returned = TypeVar('Returned')

    class Options(TypedDict, total=False):
        blocking: bool
        is_singleton: bool
        poll_interval: float
        lifetime: float | None
        context_error_policy: Literal['chain', 'group']
        close_error_policy: Literal['default', 'raise', 'suppress']
        fallback_to_soft: bool
        preserve_lock_file: bool
        on_acquired: Callable[[int], object] | None


class _FileLock(filelock.FileLock):
    """The blocking half, which never waits itself."""

    def _wait_counted(
        self,
        kept: _signal_handlers.Kept,
        opened: os.stat_result,
        wish: _filelock_waiting.Wish,
    ) -> tuple[_signal_handlers.Kept, Any]:
        contender = _acquisition.Contender(self, kept, opened, is_shared=False)
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
        self.lock: FileLock = lock

    async def __aenter__(self) -> FileLock:
        return self.lock

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.lock.release()


class _Attempt(_waiting.Attempt[None]):
    def __init__(
        self,
        lock: FileLock,
        timeout: float | None,
        poll_interval: float | None,
        blocking: bool | None,
    ) -> None:
        half = self._half = lock._half
        wish = self._wish = half._wish(timeout, poll_interval, blocking)
        self._owner = _task_claimant.running_claimant()
        path = half._path
        if half._is_relative:
            path = half._find_path()
        is_ours = half._hold.owner == self._owner
        may_wait = wish.may_wait and not is_ours
        super().__init__(lock, path, wish.timeout if may_wait else 0)

    def begin(self, seconds: float) -> None:
        hold, wish = self._half._hold, self._wish
        if hold.owner == self._owner:
            hold.depth += 1
            return
        if seconds != self.seconds:
            wish.timeout, wish.may_wait = seconds, seconds > 0
        self._half._take(self._owner, wish)

    def finish(self, taken: tuple[_signal_handlers.Kept, Any]) -> None:
        self._half._take(self._owner, self._wish, taken)

    def new_hold(self) -> _hold.Hold | None:
        hold = self._half._hold
        return hold if hold.counted is None else None

    def in_line(self) -> contextlib.AbstractContextManager[None]:
        """An endless wait: circles of waits are looked for."""
        if self._wish.is_endless():
            with contextlib.suppress(OSError):  # it is being replaced
                return _deadlock.Wait(
                    self._owner, os.stat(self.path), self.path
                )
        return contextlib.nullcontext()


class FileLock(
    _face.Face,
    _filelock_options.AsGiven,
    metaclass=_filelock_options.SingletonMeta,
):
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

    _half: _FileLock

    #: seconds to wait: below zero for ever, 0 for one attempt
    timeout: _face.OfHalf[float] = _face.OfHalf()
    #: seconds between two attempts, at most; most waits are woken
    poll_interval: _face.OfHalf[float] = _face.OfHalf()
    #: whether `acquire()` waits at all
    blocking: _face.OfHalf[bool] = _face.OfHalf()

    def __init__(
        self,
        lock_file: str | os.PathLike[str],
        timeout: float = -1,
        mode: int = -1,
        thread_local: bool = True,
        **options: Unpack[Options],
    ) -> None:
        self._half = _FileLock(
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
        # Made first: no call stands between the lock and our caller
        proxy = AcquireReturnProxy(self)
        await _waiting.acquire(
            _Attempt(self, timeout, poll_interval, blocking)
        )
        return proxy

    def try_acquire(self) -> bool:
        """Take the lock if it is free now, or ours; whether we hold it.

        It never waits, and is no checkpoint.
        """
        return self._half.try_acquire()

    def release(self, force: bool = False) -> None:
        """Undo one `acquire()`, at once; the last one lets the lock go.

        Does nothing where this task does not hold the lock; see
        `portalocker.filelock.FileLock.release`. It is not awaited.
        """
        self._half.release(force)

    @property
    def is_locked(self) -> bool:
        """Whether this task holds the lock through this object."""
        return self._half.is_locked

    @property
    def lock_counter(self) -> int:
        """How often the lock has to be released; 0 where it is not held."""
        return self._half.lock_counter

    @property
    def lock_file(self) -> str:
        """The path of the lock file, as it was given."""
        return self._half.lock_file

    @property
    def mode(self) -> int:
        """Permissions of a new lock file; 0o666 is subject to the umask."""
        return self._half.mode

    @property
    def has_explicit_mode(self) -> bool:
        """Whether `mode` was given."""
        return self._half.has_explicit_mode

    @property
    def is_singleton(self) -> bool:
        """Whether all locks of this class on one path are one object."""
        return self._half.is_singleton

    def is_thread_local(self) -> bool:
        """Whether settings are those of each thread, releases of each task."""
        return self._half.is_thread_local()

    # What locks of one path are compared by
    @property
    def _options(self) -> dict[str, Any]:  # type: ignore[override]
        return self._half._options

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._half.__exit__(exc_type, exc_value, traceback)

    def __call__(
        self, function: Callable[Parameters, Returned]
    ) -> Callable[Parameters, Returned]:
        """Decorate a coroutine function: its body runs with the lock held."""
        held: Callable[Parameters, Returned] = self._while_held(function)
        return held

    def _while_held(self, function: Any) -> Any:
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.__getstate__())

    def __repr__(self) -> str:
        return (
            f'<{type(self).__qualname__} {self.lock_file!r}, '
            f'held {self.lock_counter} times at {id(self):#x}>'
        )


def _rebuilt(kind: type[FileLock], state: dict[str, Any]) -> FileLock:
    """The lock of a pickle or a copy: same path and options, not held."""
    lock = kind.__new__(kind)
    vars(lock).update(state)
    if lock.is_singleton:
        known: FileLock = _filelock_options.one_for_all(lock)
        return known
    return lock
