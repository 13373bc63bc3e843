"""What every FileLock does: count, own, wait, let go, whatever it locks."""

from __future__ import annotations

import os
import sys

from . import (
    _acquisition,
    _filelock_decorating,
    _filelock_options,
    _filelock_waiting,
    _hold,
    _listening,
    _owner,
    _signal_handlers,
    _task_claimant,
    exceptions,
)
from ._hold import held
from ._holdings import current_claimant
from ._task_claimant import running_claimant

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Any, Literal, NoReturn, Self, Union

    Path = Union[str, os.PathLike[str]]


class AcquireReturnProxy:
    """What `acquire()` gives: as a context manager it releases once.

    Entering it gives the lock and takes nothing more.
    """

    __slots__ = ('lock',)

    lock: BaseFileLock

    def __init__(self, lock: BaseFileLock) -> None:
        self.lock = lock

    def __enter__(self) -> BaseFileLock:
        return self.lock

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.lock.release()


# Every `acquire()` makes one: without the frame of its __init__
_new_proxy = AcquireReturnProxy.__new__


def _know_no_way(lock: BaseFileLock, may_wait: bool) -> NoReturn:
    raise NotImplementedError(
        f'cannot lock {lock.lock_file!r}: {type(lock).__name__} does not '
        'say how; derive from FileLock'
    )


def _close(fd: int) -> None:
    if fd >= 0:
        os.close(fd)


class BaseFileLock(
    _filelock_options.Settings, metaclass=_filelock_options.SingletonMeta
):
    """Base of `FileLock` and `SoftFileLock`; see there.

    A subclass says how the lock is taken, awaited and let go.
    """

    #: what counters are called, see `portalocker.wait_counters.enable`
    counter_name = 'pytorch.filelock'

    # What coroutine functions are decorated with
    _twin: Any = None

    def __init__(
        self,
        lock_file: Path,
        timeout: float = -1,
        mode: int = -1,
        thread_local: bool = True,
        *,
        blocking: bool = True,
        is_singleton: bool = False,
        poll_interval: float = 0.05,
        lifetime: float | None = None,
        context_error_policy: Literal['chain', 'group'] = 'chain',
        close_error_policy: Literal['default', 'raise', 'suppress'] = (
            'default'
        ),
        fallback_to_soft: bool = False,
        preserve_lock_file: bool = False,
        on_acquired: Callable[[int], object] | None = None,
    ) -> None:
        # First: __del__ must work whatever fails below
        self._hold = _hold.Hold()
        self._set_up(
            lock_file,
            {
                'timeout': timeout,
                'mode': mode,
                'thread_local': thread_local,
                'blocking': blocking,
                'is_singleton': is_singleton,
                'poll_interval': poll_interval,
                'lifetime': lifetime,
                'context_error_policy': context_error_policy,
                'close_error_policy': close_error_policy,
                'fallback_to_soft': fallback_to_soft,
                'preserve_lock_file': preserve_lock_file,
                'on_acquired': on_acquired,
            },
        )

    def acquire(
        self,
        timeout: float | None = None,
        poll_interval: float | None = None,
        *,
        poll_intervall: float | None = None,
        blocking: bool | None = None,
        cancel_check: Callable[[], object] | None = None,
    ) -> AcquireReturnProxy:
        """Take the lock, once more where this thread or task holds it.

        Waits for `timeout` seconds at most, for ever where it is below zero;
        `timeout=0` and `blocking=False` make one attempt. Whoever waits is
        woken; `poll_interval` is the longest pause between two attempts, and
        between two calls of `cancel_check`, which ends the wait when it
        returns something true. None means what the lock was made with.

        Raises `Timeout`, `Cancelled` (which is a `Timeout`), `Deadlock` at
        once where waiting would never end, `OSError` where the file cannot
        be opened, `NotImplementedError` where its file system has no locks.
        Whatever is raised, nothing is held that was not held before.
        """
        phases_of = _listening.listener
        counted = None if phases_of is None else phases_of(self)
        began = None if counted is None else counted.calls_acquire()
        try:
            # Made first: no call stands between the lock and our caller
            proxy = _new_proxy(AcquireReturnProxy)
            proxy.lock = self
            owner, hold = running_claimant(), self._hold
            if hold.owner is not None and hold.owner == owner:
                hold.depth += 1
            elif (
                timeout is None
                and poll_interval is None
                and poll_intervall is None
                and blocking is None
                and cancel_check is None
            ):
                self._take(owner, None)
            else:
                options = timeout, poll_interval, blocking, cancel_check
                self._take(owner, self._wish(*options, poll_intervall))
            try:
                if counted is not None:
                    counted.enters(began, hold if hold.depth == 1 else None)
            except BaseException:  # a signal handler, or a sink
                BaseFileLock.release(self)
                raise
        except BaseException as failure:
            if counted is not None:
                counted.fails(began, failure)
            raise
        return proxy

    def try_acquire(self) -> bool:
        """Take the lock if it is free now, or ours; whether we hold it.

        Raises as `acquire()` does, except `Timeout`.
        """
        hold = self._hold
        return _acquisition.try_counted(
            self, self._try, lambda: hold if hold.depth == 1 else None
        )

    def _try(self) -> bool:
        owner = _task_claimant.running_claimant()
        if self._hold.owner == owner:
            self._hold.depth += 1
            return True
        try:
            self._take(owner, _filelock_waiting.TRY)
        except exceptions.AlreadyLocked:
            return False
        return True

    def _take(
        self,
        owner: Any,
        wish: _filelock_waiting.Wish | None,
        awaited: tuple[_signal_handlers.Kept, Any] | None = None,
    ) -> None:
        """Take what is not held yet; `awaited`, if a task waited for it."""
        if wish is None and self._of_thread is not None:
            wish = self._wish()
        is_logged = 'logging' in sys.modules and _filelock_waiting.is_logged()
        hold, turn = self._hold, None
        if awaited is None:
            if is_logged:
                _filelock_waiting.log(_filelock_waiting.ATTEMPTING, self)
            try:
                fd, opened = self._first_try(
                    self._may_wait if wish is None else wish.may_wait
                )
            except exceptions.LockException as failure:
                _filelock_waiting.raise_for(self, failure, wish)
            if opened is not None:
                wish = wish or self._wish()
                awaited = self._wait_counted(fd, opened, wish)
        if awaited is not None:
            kept, turn = awaited
            fd, kept.fd = kept.fd, -1
        # No call until all is known: a signal handler may raise in each
        hold.fd = fd
        hold.turn = turn
        hold.is_logged = is_logged
        hold.depth = 1
        hold.owner = owner
        held[hold] = None
        if turn is not None or is_logged or self._on_acquired is not None:
            try:
                self._after_taking(hold)
            except BaseException:
                self._let_go(hold)
                raise

    def _after_taking(self, hold: _hold.Hold) -> None:
        """What is done with the lock held, before `acquire()` returns."""
        if hold.is_logged:
            _filelock_waiting.log(_filelock_waiting.ACQUIRED, self)
        if self._on_acquired is not None:
            self._on_acquired(hold.fd)
        elif hold.fd >= 0:
            _owner.stamp(hold.fd)

    def _wish(
        self,
        timeout: float | None = None,
        poll_interval: float | None = None,
        blocking: bool | None = None,
        cancel_check: Callable[[], object] | None = None,
        poll_intervall: float | None = None,
    ) -> _filelock_waiting.Wish:
        """What is asked for, checked; None: as the lock was made."""
        options = _filelock_options
        if blocking is None:
            blocking = self.blocking
        if timeout is None:
            timeout = self.timeout
        if poll_intervall is not None:
            poll_interval = options.one_spelling(poll_interval, poll_intervall)
        if poll_interval is None:
            poll_interval = self.poll_interval
        return _filelock_waiting.Wish(
            options.timeout(timeout, blocking=options.blocking(blocking)),
            options.poll_interval(poll_interval),
            blocking=blocking,
            cancel_check=cancel_check,
        )

    # Takes the lock if it is free: a descriptor and None, or else what
    # `_wait_for` goes on with
    _first_try: Any = _know_no_way

    def _wait_counted(
        self,
        kept: _signal_handlers.Kept,
        opened: os.stat_result,
        wish: _filelock_waiting.Wish,
    ) -> tuple[_signal_handlers.Kept, Any]:
        return _listening.wait_counted(
            self, lambda: self._wait_for(kept, opened, wish)
        )

    def _wait_for(
        self,
        kept: _signal_handlers.Kept,
        opened: os.stat_result,
        wish: _filelock_waiting.Wish,
    ) -> tuple[_signal_handlers.Kept, Any]:
        """Take the lock when it is our turn; gives what the next waits for."""
        raise NotImplementedError

    # Who holds what is at a path, as far as anybody knows
    _holders_at: Any = staticmethod(_owner.holders_of)

    # Lets the system's lock go, or raises with the lock held
    _unlock: Any
    # Lets go what a signal handler kept us from unlocking
    _drop: Any = staticmethod(_close)

    def release(self, force: bool = False) -> None:
        """Undo one `acquire()`; the last one lets the lock go.

        Does nothing where this thread or task does not hold the lock; where
        the lock is not thread-local, anybody may release it. `force=True`
        undoes all at once, and lets go what an ended thread or task left.

        Never waits. Raises `OSError` where the system refuses to unlock; the
        lock is still held then.
        """
        hold = self._hold
        # A task may let go what its thread took outside of tasks
        if hold.owner is not current_claimant() and (
            hold.owner is None or not self._is_ours_to_release(hold, force)
        ):
            return
        if hold.depth > 1 and not force:
            hold.depth -= 1
            if hold.counted is not None:
                hold.counted.leaves(hold.counted.calls_release(), None)
            return
        self._let_go(hold)

    def _is_ours_to_release(self, hold: _hold.Hold, force: bool) -> bool:
        """Whether to release what somebody else holds through this object."""
        if (
            self._is_thread_local
            and hold.owner != _task_claimant.running_claimant()
            and not (force and _task_claimant.has_ended(hold.owner))
        ):
            return False
        if hold.counted is not None:
            hold.counted = hold.counted.here()
        return True

    def _let_go(self, hold: _hold.Hold) -> None:  # noqa: C901
        if hold.is_logged:
            _filelock_waiting.log_release(self, hold)
        fd, turn, owner = hold.fd, hold.turn, hold.owner
        is_logged, counted, region = hold.is_logged, hold.counted, hold.region
        began = None if counted is None else counted.calls_release()
        try:
            del held[hold]
        except KeyError:  # somebody else releases it at this moment
            return
        # Before the lock is let go: afterwards it belongs to the next one
        hold.owner = hold.counted = None
        if counted is not None:
            counted.region.active -= 1
        try:
            self._unlock(fd)
            turn is None or turn.close()  # wakes the next in line
        except exceptions.LockLost:  # there was no descriptor
            counted is None or counted.leaves(began, region)
            raise
        except exceptions.LockException as failure:
            hold.owner, hold.counted = owner, counted
            held[hold] = None
            counted is None or counted.stays(began, failure)
            _filelock_waiting.raise_for(self, failure)
        except BaseException:
            self._drop(fd)
            counted is None or counted.leaves(began, region)
            raise
        error = None
        try:  # no call before it: closed once, whatever a handler raises
            if fd >= 0:
                os.close(fd)
        except OSError as failure:
            error = _signal_handlers.let_pass(failure)
        turn is None or turn.clean_up()
        counted is None or counted.leaves(began, region)
        if is_logged:
            _filelock_waiting.log(_filelock_waiting.RELEASED, self)
        if error is not None and self._raises_close_errors:
            raise error

    @property
    def is_locked(self) -> bool:
        """Whether this thread or task holds the lock through this object.

        Of a lock that is not thread-local: whether anybody does.
        """
        return self.lock_counter > 0

    @property
    def lock_counter(self) -> int:
        """How often the lock has to be released; 0 where it is not held."""
        hold = self._hold
        owner = hold.owner
        if owner is None or (
            self._is_thread_local
            and owner != _task_claimant.running_claimant()
        ):
            return 0
        return hold.depth

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        try:
            self.release()
        except Exception as error:
            if exc_value is None or not self._groups_errors:
                raise
            raise BaseExceptionGroup(
                f'the block and the release of {self._lock_file!r} failed',
                [exc_value, error],
            ) from None

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Decorate a function: its body runs with the lock held."""
        return _filelock_decorating.decorated(self, function)

    def __del__(self) -> None:
        """Nobody can release it any more: let it go."""
        hold = self.__dict__.get('_hold')
        if hold is not None and hold.owner is not None:
            if hold.counted is not None:
                hold.counted = hold.counted.here()
            self._let_go(hold)

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__)
        for name in ('_hold', '_of_thread', '_openings', '_twin'):
            state.pop(name, None)
        return rebuilt, (type(self), state)

    def __repr__(self) -> str:
        return (
            f'<{type(self).__qualname__} {self._lock_file!r}, '
            f'held {self.lock_counter} times at {id(self):#x}>'
        )


def rebuilt(kind: type[BaseFileLock], state: dict[str, Any]) -> BaseFileLock:
    """The lock of a pickle or a copy: same path and options, not held."""
    lock = kind.__new__(kind)
    lock._hold = _hold.Hold()
    vars(lock).update(state)
    lock._get_ready()
    if lock.is_singleton:
        known: BaseFileLock = _filelock_options.one_for_all(lock)
        return known
    return lock
