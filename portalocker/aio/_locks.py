"""Locks on files for tasks: `Lock`, `RLock` and `ReadWriteLock`."""

from __future__ import annotations

import copy
from typing import IO, TYPE_CHECKING, Any

from .. import (
    _acquisition,
    _deadline,
    _holdings,
    _task_claimant,
    read_write,
    utils,
)
from . import _face, _waiting

if TYPE_CHECKING:
    import types as python_types

    from .. import constants, types

DEFAULT_CHECK_INTERVAL = utils.DEFAULT_CHECK_INTERVAL
DEFAULT_FAIL_WHEN_LOCKED = utils.DEFAULT_FAIL_WHEN_LOCKED
LOCK_METHOD = utils.LOCK_METHOD


class _TaskHoldings(_holdings.Holdings):
    """The holds of one lock object, each of a task."""

    claimant: Any = staticmethod(_task_claimant.running_claimant)


class _OfTasks(utils.Lock):
    """The blocking half: held by tasks, and never waiting itself."""

    _new_holdings = _TaskHoldings
    _is_counted = False  # its acquire() is a part of ours

    def _wait(
        self, contender: _acquisition.Contender, ticking: Any
    ) -> tuple[IO[Any], Any]:
        raise _waiting.MustWait(contender, contender.attempts(ticking))


class _Lock(_OfTasks):
    pass


class _RLock(_OfTasks, utils.RLock):
    pass


class _ReadSide(_OfTasks, read_write.ReadSide):
    pass


class _WriteSide(_OfTasks, read_write.WriteSide):
    pass


class _ReadWriteLock(read_write.ReadWriteLock):
    _sides = _ReadSide, _WriteSide


class _Attempt(_waiting.Attempt[IO[Any]]):
    def __init__(
        self,
        lock: TaskLock,
        timeout: float | None,
        check_interval: float | None,
        fail_when_locked: bool | None,
    ) -> None:
        half = self._half = lock._half
        self._timeout = timeout
        self._check_interval = check_interval
        if fail_when_locked is None:
            fail_when_locked = half.fail_when_locked
        self._fails_when_locked = fail_when_locked
        seconds = half.timeout if timeout is None else timeout
        if half._is_blocking:
            seconds = _deadline.INFINITY
        # The hold that there is
        self._known = half._holdings.own() if half._holdings else None
        self.is_counted = self._known is None
        if fail_when_locked or self._known is not None:
            seconds = 0
        super().__init__(lock, half._path, seconds)

    def begin(self, seconds: float) -> IO[Any]:
        half, timeout = self._half, self._timeout
        if seconds != self.seconds:
            timeout = None if half._is_blocking else seconds
        return half.acquire(
            timeout, self._check_interval, self._fails_when_locked
        )

    def finish(self, taken: tuple[IO[Any], Any]) -> IO[Any]:
        return self._half._publish(*taken)

    def new_hold(self) -> Any:
        return self._half._holdings.own()


class TaskLock(_face.Face):
    """What the locks of this module have in common.

    `async with` holds the lock for the block; the verbs are those of the
    locks for threads. Only `acquire()` waits, so only it is awaited.
    """

    _half: utils.Lock

    #: seconds to wait, see `portalocker.utils.LockBase`
    timeout: _face.OfHalf[float] = _face.OfHalf()
    #: seconds between two attempts, at most
    check_interval: _face.OfHalf[float] = _face.OfHalf()
    #: whether to give up at the first contention
    fail_when_locked: _face.OfHalf[bool] = _face.OfHalf()

    async def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> IO[Any]:
        """Take the lock and return the open file.

        Waits for `timeout` seconds at most, in the event loop: other tasks
        run meanwhile. A task that holds the lock already gets the same handle
        again. It is a checkpoint before it takes anything; cancelled, it
        holds nothing and stands in no line.

        Raises what the lock for threads raises: `AlreadyLocked` at the end of
        the timeout or at once where `fail_when_locked`, another
        `LockException` where the system refuses, `OSError` where the file
        cannot be opened.
        """
        return await _waiting.acquire(
            _Attempt(self, timeout, check_interval, fail_when_locked)
        )

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether we hold it.

        It never waits, and is no checkpoint.
        """
        return self._half.try_acquire()

    def release(self) -> None:
        """Let the lock go, at once; it is not awaited.

        A task that never acquired this object may release it for another
        one; a task that did releases what it took itself, and nothing else.
        Raises what the lock for threads raises.
        """
        self._half.release()

    @property
    def fh(self) -> IO[Any] | None:
        """The open file of a hold, None where the lock is not held."""
        return self._half.fh

    @property
    def filename(self) -> str:
        """The path of the lock file, as it was given."""
        return self._half.filename

    @property
    def mode(self) -> str:
        """How the file is opened; 'a' where 'w' was given, see `truncate`."""
        return self._half.mode

    @property
    def truncate(self) -> bool:
        """Whether whoever holds the lock finds the file empty."""
        return self._half.truncate

    @property
    def flags(self) -> constants.LockFlags:
        """How the lock is taken."""
        return self._half.flags

    @property
    def file_open_kwargs(self) -> dict[str, Any]:
        """What is passed on to `open()`."""
        return self._half.file_open_kwargs

    async def __aenter__(self) -> IO[Any]:
        fh = await self.acquire()
        self._half._holdings.enter()
        return fh

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> None:
        self._half.__exit__(exc_type, exc_value, traceback)


class Lock(TaskLock):
    """A lock on the file at a path, between processes, threads and tasks.

    `portalocker.Lock` for an event loop of asyncio or trio: same parameters,
    same file, same order of arrival. It is held by the task that acquired it:
    other tasks wait, whether they share the object or have their own, and so
    do threads and other processes. No thread is used, whoever waits.

    >>> import anyio, os, tempfile
    >>> async def main():
    ...     path = os.path.join(tempfile.mkdtemp(), 'counter')
    ...     async with Lock(path, 'a+', timeout=1) as file:
    ...         return file.write('1')
    >>> anyio.run(main)
    1
    """

    def __init__(
        self,
        filename: types.Filename,
        mode: str = 'a',
        timeout: float | None = None,
        check_interval: float | None = DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = DEFAULT_FAIL_WHEN_LOCKED,
        flags: constants.LockFlags = LOCK_METHOD,
        **file_open_kwargs: Any,
    ) -> None:
        self._half = _Lock(
            filename,
            mode,
            timeout,
            check_interval,
            fail_when_locked,
            flags,
            **file_open_kwargs,
        )


class RLock(TaskLock):
    """A lock on the file at a path that its task may take again.

    `portalocker.RLock` for an event loop: the last of as many `release()`
    lets it go. Child tasks are tasks of their own, and wait.

    >>> import anyio, os, tempfile
    >>> async def main():
    ...     lock = RLock(os.path.join(tempfile.mkdtemp(), 'lock'))
    ...     async with lock, lock:
    ...         return lock.fh.closed
    >>> anyio.run(main)
    False
    """

    def __init__(
        self,
        filename: types.Filename,
        mode: str = 'a',
        timeout: float | None = utils.DEFAULT_TIMEOUT,
        check_interval: float | None = DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = False,
        flags: constants.LockFlags = LOCK_METHOD,
    ) -> None:
        self._half = _RLock(
            filename, mode, timeout, check_interval, fail_when_locked, flags
        )

    async def __aenter__(self) -> IO[Any]:
        return await self.acquire()

    def release(self) -> None:
        """Undo one `acquire()` of this task; the last one lets go.

        Raises `LockException` in a task that has nothing to release.
        """
        self._half.release()


class ReadSide(TaskLock):
    """The shared side of a `ReadWriteLock`: what `read()` gives."""

    def __init__(self, half: read_write.ReadSide) -> None:
        self._half = half


class WriteSide(TaskLock):
    """The exclusive side of a `ReadWriteLock`: what `write()` gives."""

    def __init__(self, half: read_write.WriteSide) -> None:
        self._half = half


class ReadWriteLock:
    """A lock on a file, shared by readers or held by one writer.

    `portalocker.read_write.ReadWriteLock` for an event loop: same parameters,
    same rules, with tasks in the place of threads.

    >>> import anyio, os, tempfile
    >>> async def main():
    ...     lock = ReadWriteLock(os.path.join(tempfile.mkdtemp(), 'lock'))
    ...     async with lock.write():
    ...         lock.downgrade()
    ...     async with lock.read():
    ...         return lock.write().fh
    >>> anyio.run(main)
    """

    def __init__(
        self,
        filename: types.Filename,
        timeout: float | None = None,
        check_interval: float | None = DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = DEFAULT_FAIL_WHEN_LOCKED,
    ) -> None:
        self._stand_on(
            _ReadWriteLock(filename, timeout, check_interval, fail_when_locked)
        )

    def _stand_on(self, half: _ReadWriteLock) -> None:
        self._half = half
        self._reader = ReadSide(half.read())
        self._writer = WriteSide(half.write())

    def __getstate__(self) -> _ReadWriteLock:
        return copy.copy(self._half)

    def __setstate__(self, half: _ReadWriteLock) -> None:
        self._stand_on(half)

    @property
    def filename(self) -> str:
        """The path of the lock file, as it was given."""
        return self._half.filename

    def read(self) -> ReadSide:
        """The side that is shared; the same object each time."""
        return self._reader

    def write(self) -> WriteSide:
        """The side that is exclusive; the same object each time."""
        return self._writer

    def downgrade(self) -> None:
        """Turn the write lock of this task into a read lock, without a gap.

        It does not wait. Raises as the lock for threads does.
        """
        self._half.downgrade()
