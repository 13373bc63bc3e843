"""Locks on files: what you hold, and how it is let go.

The names `DEFAULT_TIMEOUT`, `DEFAULT_CHECK_INTERVAL`,
`DEFAULT_FAIL_WHEN_LOCKED` and `LOCK_METHOD` may be rebound: they are read when
a lock is made.
"""

from __future__ import annotations

import _thread
import abc
import os
import time

from . import (
    _acquisition,
    _after_fork,
    _copies,
    _deadline,
    _file_door,
    _holdings,
    _listening,
    _opening,
    _owner,
    _pacing,
    _pid_record,
    _places,
    _removal,
    _sweeping,
    _warning,
    constants,
    exceptions,
    portalocker,  # noqa: F401 - users rebind what is in it through us
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import pathlib
    import types as python_types
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import IO, Any

    from . import types
    from ._publication import open_atomic


#: seconds that a lock waits
DEFAULT_TIMEOUT = 5
#: seconds between two attempts, at most
DEFAULT_CHECK_INTERVAL = 0.25
#: whether contention fails at once
DEFAULT_FAIL_WHEN_LOCKED = False
#: how a lock is taken
LOCK_METHOD = constants.LockFlags.EXCLUSIVE | constants.LockFlags.NON_BLOCKING

__all__ = ['Lock', 'open_atomic']


logger: logging.Logger = _warning.lazy_logger('portalocker.utils')


def __getattr__(name: str) -> Any:
    if name != 'open_atomic':
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    # `import portalocker` is not to load what only publishers need
    global open_atomic
    from ._publication import open_atomic

    return open_atomic


def coalesce(*args: Any, test_value: Any = None) -> Any:
    """Return the first argument that is not `test_value`, by identity.

    None if there is no such argument.

    >>> coalesce(None, 0, 1)
    0
    >>> coalesce()
    """
    for arg in args:
        if arg is not test_value:
            return arg
    return None


class LockBase(abc.ABC):
    """What every lock of this package has: a timeout and two verbs.

    A subclass implements `acquire()` and `release()`; `with` uses them.

    `timeout`
        seconds to wait for the lock; 0: one attempt, `math.inf`: for ever.
    `check_interval`
        seconds between two attempts, at most; most locks are woken earlier.
    `fail_when_locked`
        give up at the first contention, whatever the timeout.

    None means the default of the module (`DEFAULT_TIMEOUT` ...) at the time
    the lock is made.
    """

    timeout: float
    check_interval: float
    fail_when_locked: bool

    def __init__(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> None:
        if timeout != timeout:
            raise ValueError('cannot wait: the timeout is not a number')
        if timeout is not None and not hasattr(timeout, '__float__'):
            raise TypeError(
                f'cannot wait for {timeout!r}: the timeout is a number of '
                'seconds'
            )
        self.timeout = coalesce(timeout, DEFAULT_TIMEOUT)
        self.check_interval = coalesce(check_interval, DEFAULT_CHECK_INTERVAL)
        self.fail_when_locked = coalesce(
            fail_when_locked, DEFAULT_FAIL_WHEN_LOCKED
        )

    @abc.abstractmethod
    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Any:
        """Take the lock; each argument that is given replaces the lock's."""

    @abc.abstractmethod
    def release(self) -> None:
        """Let the lock go."""

    def _timeout_generator(
        self,
        timeout: float | None,
        check_interval: float | None,
        pause: Callable[[float], object] | None = None,
    ) -> Iterator[int]:
        """Count the attempts, spending the pauses between them in `pause`."""
        if timeout is None:
            timeout = self.timeout
        if check_interval is None:
            check_interval = self.check_interval
        return _pacing.ticks(timeout, check_interval, pause or time.sleep)

    def _ticking(self, timeout: Any, interval: Any) -> Any:
        return lambda pause: self._timeout_generator(timeout, interval, pause)

    def __enter__(self) -> Any:
        return self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> Any:
        self.release()
        return None

    def __delete__(self, instance: object) -> None:
        self.release()

    def __del__(self) -> None:  # noqa: B027 - a promise, nothing to do
        """A lock object that nobody refers to holds nothing.

        The system's lock goes with the file handle: it is let go when the
        last reference to the handle is gone.
        """


class Lock(_copies.StartsReleased, _file_door.FileDoor, LockBase):
    """A lock on the file at a path, between processes and threads.

    Who waits is woken when the holder lets go, or dies, and is served first
    come, first served; where the system has no way to wake us, the file is
    tried every `check_interval` seconds or sooner. The kernel's lock alone
    decides who holds, so other programs that use `flock` take part.

    `filename`
        the path; it is opened by `acquire()`, and created by the modes that
        create. Its parent directory must exist.
    `mode`
        as for `open()`. A file opened with 'w' is truncated once the lock is
        held, never before.
    `timeout`, `check_interval`, `fail_when_locked`
        see `LockBase`.
    `flags`
        `EXCLUSIVE` or `SHARED`; without `NON_BLOCKING` it waits for ever and
        a timeout has no effect.
    `file_open_kwargs`
        passed on to `open()`.

    One object may be used by several threads: they exclude each other like
    any other contenders (shared holders come in together). In a forked child
    the object starts released, and never touches what the parent holds.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'counter')
    >>> with Lock(path, 'a+', timeout=1) as file:
    ...     file.write('1')
    1
    """

    fh: IO[Any] | None = None
    # Of a hold, when it begins
    _first_depth = 0
    # That a timeout has no effect
    _has_warned = False
    # Whether it reports to wait counters itself, and the name of those
    _is_counted = True
    counter_name: str | None = None

    # A timeout that nobody gave: no reason to warn
    _default_timeout: float | None = None
    # Who holds: threads
    _new_holdings = _holdings.Holdings
    _of_the_hold = frozenset({'fh', '_holdings', '_open_kwargs'})

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
        super().__init__(timeout, check_interval, fail_when_locked)
        self._lead_to(filename, mode, flags, file_open_kwargs)
        self._start_released()
        if timeout is not None and timeout != self._default_timeout:
            self._warn_if_timeout_is_useless()

    def _start_released(self) -> None:
        self._holdings = self._new_holdings()
        self._work_out()
        _after_fork.forget_in_child(self)

    def _is_in_use(self) -> bool:
        return bool(self._holdings)

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> IO[Any]:
        """Take the lock and return the open file.

        Waits for `timeout` seconds at most (for ever where `flags` lack
        `NON_BLOCKING`). A thread that holds the lock already gets the same
        handle again, and one `release()` lets it go; a handle that was closed
        by hand counts as let go.

        Raises `AlreadyLocked` at the end of the timeout, or at once where
        `fail_when_locked`, another `LockException` at once where the system
        refuses to lock, and `OSError` where the file cannot be opened.
        """
        holding = self._holdings.own() if self._holdings else None
        if holding is not None:
            return holding.fh  # type: ignore[no-any-return]
        if timeout is not None:
            self._warn_if_timeout_is_useless()
        if fail_when_locked is None:
            fail_when_locked = self.fail_when_locked
        if self._is_blocking:
            timeout = _deadline.INFINITY
        elif timeout is None:
            timeout = self.timeout
        may_wait = not fail_when_locked and timeout > 0
        phases_of = _listening.listener
        if phases_of is None or not self._is_counted:
            return self._take(may_wait, timeout, check_interval)
        try:
            with _listening.Acquiring(phases_of(self)) as acquiring:
                fh = self._take(may_wait, timeout, check_interval)
                acquiring.holds(self._holdings.own())
        except BaseException:  # a signal handler, or a sink
            if self._holdings.own() is not None:
                Lock.release(self)
            raise
        return fh

    def _take(
        self, may_wait: bool, timeout: float, check_interval: float | None
    ) -> IO[Any]:
        """Open the file and lock it, now or when it is our turn."""
        try:
            fh, opened = _acquisition.open_and_try(self, may_wait)
        except exceptions.AlreadyLocked as failure:
            self._holdings.note_user()
            _acquisition.explain(failure, [self._path])
            raise
        if opened is None:
            return self._publish(fh, None)
        self._holdings.note_user()
        contender = _acquisition.Contender(
            self, fh, opened, is_shared=self._is_shared
        )
        return self._publish(
            *self._wait(contender, self._ticking(timeout, check_interval))
        )

    def _wait(
        self, contender: _acquisition.Contender, ticking: Any
    ) -> tuple[IO[Any], Any]:
        """Wait for the lock; the handle, and what wakes the next."""
        return _acquisition.wait_for(contender, self, ticking)

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether we hold it.

        It never waits. Raises as `acquire()` does, except `AlreadyLocked`.

        >>> import os, tempfile
        >>> lock = Lock(os.path.join(tempfile.mkdtemp(), 'lock'))
        >>> lock.try_acquire()
        True
        >>> lock.release()
        """
        if self._holdings and self._holdings.own() is not None:
            return True
        return _acquisition.try_counted(self, self._try, self._holdings.own)

    def _try(self) -> bool:
        try:
            fh, _ = _acquisition.open_and_try(self, may_wait=False)
        except exceptions.AlreadyLocked:
            self._holdings.note_user()
            return False
        self._publish(fh, None)
        return True

    def release(self) -> None:
        """Let the lock go and close the file; the file stays.

        Releasing a lock that is not held does nothing. A thread that never
        acquired this object may release it for another one; a thread that
        did releases what it took itself, and nothing else.

        It does not wait; what is buffered is written first, and the error is
        raised, after the release, if that fails. Other failures of the
        clean-up are logged to `portalocker.utils`.
        """
        holdings = self._holdings
        holding = holdings.take_own() or holdings.take_from_another()
        try:
            self.fh = holdings.any_handle() if holdings else None
            if holding is not None:
                self._let_go(holding)
        except BaseException:
            if holding is not None:
                holding.end()
            raise

    def __enter__(self) -> IO[Any]:
        fh: IO[Any] = _holdings.enter(self, self._holdings)
        return fh

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> Any:
        if self._holdings.leave():
            self.release()
        return None

    def __del__(self) -> None:
        """A handle that outlives the lock object keeps the lock."""
        for holding in self.__dict__.get('_holdings', {}).values():
            if holding.turn is not None:
                holding.turn.close()
                holding.turn.clean_up()
            holding.stop_counting()
            _after_fork.forget_handle_in_child(holding.fh)

    def _publish(self, fh: IO[Any], turn: Any) -> IO[Any]:
        """Make the hold known; nothing can fail after it."""
        holding = _holdings.Holding(fh, turn)
        holding.depth = self._first_depth
        try:
            self._prepare_fh(fh)
            self._holdings.put(holding)
            self.fh = fh
        except BaseException:
            self._holdings.forget(holding)
            self._let_go(holding)
            raise
        return fh

    def _let_go(self, holding: _holdings.Holding) -> None:
        _acquisition.let_go(holding, self._path, self._log_clean_up)

    def _log_clean_up(self, verb: str, error: Exception) -> None:
        logger.warning('cannot %s %r: %s', verb, self._path, error)

    def _forget_parent(self) -> None:
        self.fh = None
        for holding in self._holdings.forget_all():
            if holding.turn is not None:
                holding.turn.abandon()
            _after_fork.part_with(holding.fh)

    def _warn_if_timeout_is_useless(self) -> None:
        if self._has_warned or not self._is_blocking:
            return
        self._has_warned = True
        _warning.warn_caller(
            'timeout has no effect in blocking mode', UserWarning, globals()
        )


class RLock(Lock):
    """A lock on the file at a path that its holder may take again.

    It is re-entrant per thread: the thread that holds it gets the same handle
    at every `acquire()`, and the last of as many `release()` lets it go. Other
    threads wait, as do other processes and other objects.

    The parameters are those of `Lock`, without those of `open()`.

    >>> import os, tempfile
    >>> lock = RLock(os.path.join(tempfile.mkdtemp(), 'lock'))
    >>> with lock, lock:
    ...     lock.fh.closed
    False
    """

    _default_timeout = DEFAULT_TIMEOUT
    _first_depth = 1

    def __init__(
        self,
        filename: types.Filename,
        mode: str = 'a',
        timeout: float | None = DEFAULT_TIMEOUT,
        check_interval: float | None = DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = False,
        flags: constants.LockFlags = LOCK_METHOD,
    ) -> None:
        super().__init__(
            filename, mode, timeout, check_interval, fail_when_locked, flags
        )

    @property
    def _acquire_count(self) -> int:
        """How often the calling thread has to release."""
        holding = self._holdings.own() if self._holdings else None
        return holding.depth if holding is not None else 0

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> IO[Any]:
        """Take the lock once more; see `Lock.acquire`."""
        again = self._holdings.own() if self._holdings else None
        if again is None:
            return super().acquire(timeout, check_interval, fail_when_locked)
        again.depth += 1
        return again.fh  # type: ignore[no-any-return]

    def try_acquire(self) -> bool:
        """Take the lock once more if it is free or ours; whether we did."""
        again = self._holdings.own() if self._holdings else None
        if again is None:
            return super().try_acquire()
        again.depth += 1
        return True

    def release(self) -> None:
        """Undo one `acquire()` of this thread; the last one lets go.

        Raises `LockException` in a thread that has nothing to release.
        """
        holding = self._holdings.get(self._holdings.claimant())
        if holding is None:
            raise exceptions.LockException(
                f'cannot release {self._path!r}: this thread does not hold it'
            )
        if holding.depth > 1:
            holding.depth -= 1
        else:
            super().release()

    def __enter__(self) -> IO[Any]:
        return self.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> Any:
        # A forked child leaves the block of its parent: nothing to undo
        if self._holdings.get(self._holdings.claimant()) is not None:
            self.release()
        return None


class TemporaryFileLock(Lock):
    """A lock whose file exists while somebody holds it or waits for it.

    The file is removed by `release()`, when a held lock is abandoned, and at
    the end of the process; what a killed process leaves behind is used and
    removed by the next holder. A symbolic link in the place of the file is
    refused (`OSError`), never followed.

    The parameters are those of `Lock`.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), '.lock')
    >>> with TemporaryFileLock(path):
    ...     os.path.exists(path)
    True
    >>> os.path.exists(path)
    False
    """

    # Files that go with the lock file, just before it
    _companions: tuple[str, ...] = ()

    _default_timeout = DEFAULT_TIMEOUT

    def __init__(
        self,
        filename: types.Filename = '.lock',
        timeout: float | None = DEFAULT_TIMEOUT,
        check_interval: float | None = DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = True,
        flags: constants.LockFlags = LOCK_METHOD,
    ) -> None:
        super().__init__(
            filename,
            'w',
            timeout,
            check_interval,
            fail_when_locked,
            flags,
            opener=_opening.nofollow_opener,
        )

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> IO[Any]:
        """Take the lock and return the open file; see `Lock.acquire`.

        Raises `LockLost` where this thread holds the lock but its file was
        unlinked or replaced meanwhile.
        """
        holding = self._holdings.own() if self._holdings else None
        if holding is not None:
            _removal.check_not_lost(holding.fh, self._path)
        try:
            return super().acquire(timeout, check_interval, fail_when_locked)
        except exceptions.AlreadyLocked as failure:
            # A holder leaves the file to those who wait: if it was left to
            # us after we had given up, nobody else removes it
            if failure.waited is not None:
                _removal.reap(self._path, self._companions)
            raise

    def _prepare_fh(self, fh: IO[Any]) -> IO[Any]:
        """Empty the file, unless it has another name too."""
        found = os.fstat(fh.fileno())
        if found.st_size and found.st_nlink == 1:
            return super()._prepare_fh(fh)
        return fh

    def _publish(self, fh: IO[Any], turn: Any) -> IO[Any]:
        super()._publish(fh, turn)
        try:
            holding = self._holdings[self._holdings.claimant()]
            holding.remains = _removal.Remains(
                fh, self._path, self._companions, is_shared=self._is_shared
            )
        except BaseException:
            self.release()
            raise
        return fh

    def _let_go(self, holding: _holdings.Holding) -> None:
        """Remove the file while it is still locked, where that is possible."""
        if os.name == 'posix' and not holding.is_over():
            self._remove(holding)
            super()._let_go(holding)
        else:
            super()._let_go(holding)
            _removal.reap(self._path, self._companions)

    def _remove(self, holding: _holdings.Holding) -> None:
        try:
            _removal.remove_held(
                holding.fh,
                self._path,
                self._companions,
                is_shared=self._is_shared,
            )
        except (OSError, exceptions.LockLost) as error:
            self._log_clean_up('unlink', error)


class PidFileLock(TemporaryFileLock):
    """A lock whose file tells the process id of the holder.

    The number is in `filename`, ASCII decimal; the system's lock is on a file
    beside it, `filename + '.lock'`, so that everybody can read the number on
    systems whose locks forbid reading. Both files are removed with the lock.

    As a context manager it does not raise where another process holds the
    lock: it gives the holder's process id, and None where this one holds it.
    See `fail_closed()` for a block that only runs with the lock.

    The parameters are those of `Lock`; a shared lock is refused
    (`ValueError`), there is one process id.

    >>> import os, tempfile
    >>> lock = PidFileLock(os.path.join(tempfile.mkdtemp(), 'daemon.pid'))
    >>> with lock as other_pid:
    ...     other_pid is None, lock.read_pid() == os.getpid()
    (True, True)
    """

    def __init__(
        self,
        filename: types.Filename = '.pid',
        timeout: float | None = DEFAULT_TIMEOUT,
        check_interval: float | None = DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = True,
        flags: constants.LockFlags = LOCK_METHOD,
    ) -> None:
        super().__init__(
            filename, timeout, check_interval, fail_when_locked, flags
        )

    _of_the_hold = TemporaryFileLock._of_the_hold | {'_sidecar'}

    def _work_out(self) -> None:
        super()._work_out()
        if self._is_shared:
            raise ValueError(
                f'cannot share the pid file {self.filename!r}: it names one '
                'process'
            )
        self._sidecar = TemporaryFileLock(
            self.filename + '.lock', flags=self.flags
        )
        self._sidecar._has_warned = True  # that is our duty
        self._sidecar.counter_name = f'portalocker.{type(self).__name__}'
        self._sidecar._companions = (self._path,)

    def _is_in_use(self) -> bool:
        return self._sidecar._is_in_use()

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> IO[Any]:
        """Take the lock and write our process id.

        Returns the handle of the file that is locked. Waits and raises as
        `Lock.acquire` does; `AlreadyLocked.holder` is the process that the
        system or the pid file names.
        """
        if timeout is not None:
            self._warn_if_timeout_is_useless()
        try:
            self.fh = self._sidecar.acquire(
                coalesce(timeout, self.timeout),
                coalesce(check_interval, self.check_interval),
                coalesce(fail_when_locked, self.fail_when_locked),
            )
            self._record_once()
        except exceptions.AlreadyLocked as failure:
            failure.filename = self._path
            recorded = self.read_pid()
            if recorded is not None and not failure.holders:
                failure.holders = (_owner.named_in_its_file(recorded),)
            raise
        except BaseException:
            self._give_back_unrecorded()
            raise
        return self.fh

    def try_acquire(self) -> bool:
        """Take the lock if it is free now; whether we hold it."""
        try:
            is_held = self._sidecar.try_acquire()
            if is_held:
                self.fh = self._sidecar.fh
                self._record_once()
        except BaseException:
            self._give_back_unrecorded()
            raise
        return is_held

    def _record_once(self) -> None:
        """Write the process id when the lock was just taken."""
        holding = self._sidecar._holdings.own()
        if holding is not None and not holding.has_record:
            _pid_record.write_pid(self._path, os.getpid())
            holding.has_record = True

    def _give_back_unrecorded(self) -> None:
        """Undo an `acquire()` that was cut off, and no earlier one."""
        holding = self._sidecar._holdings.own()
        if holding is not None and not holding.has_record:
            self.release()

    def read_pid(self) -> int | None:
        """The process id in the file, None where there is none to read.

        It says who wrote it, not who lives: after a holder was killed it
        stays until the next one comes. Never waits, never raises.
        """
        return _pid_record.read_pid(self._path)

    def release(self) -> None:
        """Let the lock go and remove both files, if it is held here."""
        self.fh = None
        self._sidecar.release()

    def __enter__(self) -> int | None:  # type: ignore[override]
        """None where this process holds the lock, else the holder's pid.

        Raises `AlreadyLocked` where another process holds it and cannot be
        named.
        """
        try:
            _holdings.enter(self, self._sidecar._holdings)
        except exceptions.AlreadyLocked as failure:
            if failure.holder is None:
                raise
            return failure.holder.pid
        return None

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> Any:
        if self._sidecar._holdings.leave():
            self.release()

    def fail_closed(self) -> _holdings.WhileHeld:
        """A context manager whose block only runs while we hold the lock.

        Entering raises `AlreadyLocked`, whose `holder` says who holds it.

        >>> import os, tempfile
        >>> lock = PidFileLock(os.path.join(tempfile.mkdtemp(), 'my.pid'))
        >>> with lock.fail_closed():
        ...     lock.read_pid() == os.getpid()
        True
        """
        return _holdings.WhileHeld(self, self._sidecar._holdings)


class BoundedSemaphore(_copies.StartsReleased, LockBase):
    """At most `maximum` holders at a time, between processes.

    Each holder locks one of `maximum` files, so a holder that dies frees its
    place. Who waits is served first come, first served.

    `maximum`
        how many may hold it; all that share a semaphore must agree.
    `name`
        what the semaphore is called; semaphores of one name are one. Anything
        that can be formatted into the file name.
    `filename_pattern`, `directory`
        where the files are: `{name}` and `{number}` in the pattern, below
        the directory (default: `tempfile.gettempdir()`). They stay.
    `timeout`, `check_interval`
        see `LockBase`.
    `fail_when_locked`
        what the end of the timeout means: `AlreadyLocked`, or `acquire()`
        returns None. `with` always raises.

    One object holds one place.

    >>> import tempfile
    >>> semaphore = BoundedSemaphore(2, 'doc', directory=tempfile.mkdtemp())
    >>> with semaphore as place:
    ...     place.fh.closed
    False
    """

    lock: Lock | None = None
    _of_the_hold = frozenset({'lock', '_lock_mutex'})

    def __init__(
        self,
        maximum: int,
        name: object = 'bounded_semaphore',
        filename_pattern: str = '{name}.{number:02d}.lock',
        directory: types.Filename | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = True,
    ) -> None:
        super().__init__(timeout, check_interval, fail_when_locked)
        if maximum < 1:
            raise ValueError(
                f'cannot make a semaphore for {maximum} holders: at least one'
            )
        if not name or name == 'bounded_semaphore':
            _warning.warn_caller(
                'give the semaphore a name: without one it is shared with '
                'every program that gave none',
                DeprecationWarning,
                globals(),
            )
        self.maximum = maximum
        self.name = name
        self.filename_pattern = filename_pattern
        self.directory: str = _opening.directory_or_default(directory)
        self._start_released()

    def _start_released(self) -> None:
        self._forget_parent()
        _after_fork.forget_in_child(self)

    def get_filenames(self) -> Sequence[pathlib.Path]:
        """The paths of all files of the semaphore, in order."""
        return [self.get_filename(n) for n in range(self.maximum)]

    def get_random_filenames(self) -> Sequence[pathlib.Path]:
        """The same paths in random order."""
        import random

        filenames = self.get_filenames()
        return random.SystemRandom().sample(filenames, len(filenames))

    def get_filename(self, number: int) -> pathlib.Path:
        """The path of the file with this number."""
        name = self.filename_pattern.format(name=self.name, number=number)
        return _places.path_of_place(self.directory, name)

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Lock | None:
        """Take a place and return its `Lock`.

        Waits for `timeout` seconds at most, also with `fail_when_locked`;
        then raises `AlreadyLocked`, or returns None without it. Raises
        `AlreadyActive` where this object has a place already, `OSError` where
        a file cannot be opened.
        """
        try:
            _places.take_one(self, timeout, check_interval)
        except exceptions.AlreadyLocked:
            if coalesce(fail_when_locked, self.fail_when_locked):
                raise
            return None
        return self.lock

    def try_lock(self, filenames: Iterable[types.Filename]) -> bool:
        """Take one of these places if one is free; whether we did.

        It never waits.
        """
        return _places.try_these(self, filenames)

    def _try_place(
        self, filename: types.Filename, opener: Callable[[str, int], int]
    ) -> bool:
        slot = Lock(filename, fail_when_locked=True, opener=opener)
        try:
            if slot._try():
                self._keep(slot)
                return True
        finally:  # a signal handler, or one place too many
            if self.lock is not slot:
                slot.release()
        return False

    def _keep(self, slot: Lock) -> None:
        with self._lock_mutex:
            if not self._has_place:
                _sweeping.mark_held(slot.fh)
                self.lock = slot
                return
        # Another thread was faster with this very object
        raise _places.already_has_place(self)

    @property
    def _has_place(self) -> bool:
        """Whether this object holds one, and nobody closed its handle."""
        return self.lock is not None and not self.lock._holdings.are_over()

    def try_acquire(self) -> bool:
        """Take a place if one is free now; whether we have one."""
        return self._has_place or _places.try_one(self)

    def release(self) -> None:
        """Give the place back; does nothing where there is none."""
        slot = None
        try:
            with self._lock_mutex:
                slot, self.lock = self.lock, None
            if slot is not None:
                _sweeping.unmark_free(slot.fh)
        finally:  # also when a signal handler raised
            if slot is not None:
                slot.release()

    def __enter__(self) -> Lock:
        self.acquire(fail_when_locked=True)
        return self.lock  # type: ignore[return-value]

    def _forget_parent(self) -> None:
        # Re-entrant: a signal handler may release
        self._lock_mutex = _thread.RLock()
        self.lock = None


class NamedBoundedSemaphore(BoundedSemaphore):
    """A `BoundedSemaphore` that gets a name nobody else has if none is given.

    The name is in `name`; pass it on to those that shall share the semaphore.
    The parameters are those of `BoundedSemaphore`.
    """

    def __init__(
        self,
        maximum: int,
        name: object = None,
        filename_pattern: str = '{name}.{number:02d}.lock',
        directory: types.Filename | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = True,
    ) -> None:
        if name is None:
            name = f'bounded_semaphore.{os.urandom(8).hex()}'
        super().__init__(
            maximum,
            name,
            filename_pattern,
            directory,
            timeout,
            check_interval,
            fail_when_locked,
        )
