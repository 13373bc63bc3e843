"""How a FileLock waits, what it says meanwhile, and how it gives up."""

from __future__ import annotations

import errno
import sys
import time

from . import (
    _deadline,
    _deadlock,
    _filelock_errors,
    _owner,
    _pacing,
    exceptions,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

# After it, once, the log is told whom we wait for
WARN_AFTER_SECONDS = 5.0
_DEBUG = 10

# What programs, and their tests, look for in the log
ATTEMPTING = 'Attempting to acquire lock %s on %s'
ACQUIRED = 'Lock %s acquired on %s'
_RELEASING = 'Attempting to release lock %s on %s'
RELEASED = 'Lock %s released on %s'
_WAITING = 'Lock %s not acquired on %s, waiting %s seconds ...'
_TIMED_OUT = 'Timeout on acquiring lock %s on %s'
_FAILED = 'Failed to immediately acquire lock %s on %s'
_CANCELLED = 'Cancellation requested for lock %s on %s'


class Wish:
    """What one `acquire()` asks for, beyond the first try."""

    __slots__ = (
        'blocking',
        'cancel_check',
        'check_interval',
        'may_wait',
        'timeout',
    )

    def __init__(
        self,
        timeout: float,
        poll_interval: float,
        *,
        blocking: bool,
        cancel_check: Callable[[], object] | None,
    ) -> None:
        self.timeout = _deadline.INFINITY if timeout < 0 else timeout
        self.check_interval = poll_interval
        self.blocking = blocking
        self.may_wait = blocking and timeout != 0
        self.cancel_check = cancel_check

    def is_endless(self) -> bool:
        """Whether nothing but the lock ends the wait."""
        return self.timeout == _deadline.INFINITY and self.cancel_check is None


# What a mere try asks for: nobody hears why it failed
TRY = Wish(0, 0, blocking=False, cancel_check=None)

# The logger `filelock`, once somebody imported logging
_logger: Any = None


def is_logged() -> bool:
    """Whether anybody reads what the logger `filelock` says."""
    if _logger is None and not _find_logger():
        return False
    found: Any = _logger
    level: int = found.level or found.parent.level
    return level <= _DEBUG and found.isEnabledFor(_DEBUG)


def _find_logger() -> bool:
    global _logger
    logging = sys.modules.get('logging')
    # It may be on its way only, in another thread
    get_logger = getattr(logging, 'getLogger', None)
    if get_logger is None:
        return False
    _logger = get_logger('filelock')
    return True


def log(text: str, lock: Any, *more: object) -> None:
    """Tell the log of an event in the life of a lock."""
    _logger.debug(text, id(lock), lock.lock_file, *more)


def log_release(lock: Any, hold: Any) -> None:
    """Tell the log that a hold is about to be let go."""
    try:
        log(_RELEASING, lock)
    except BaseException:  # of a handler of the log: let go nonetheless
        hold.is_logged = False
        lock._let_go(hold)
        raise


class Patience:
    """Spends the pauses of one wait; tells the log when it becomes long."""

    def __init__(
        self,
        lock: Any,
        claimant: Any,
        wish: Wish,
        opened: os.stat_result | None,
    ) -> None:
        self._lock = lock
        self._wish = wish
        self._warn_at: float | None = time.perf_counter() + WARN_AFTER_SECONDS
        self._wait = None
        if wish.timeout == _deadline.INFINITY:
            self._wait = _deadlock.Wait(
                claimant,
                opened,
                lock._path,
                may_be_cancelled=not wish.is_endless(),
            )

    def ticks(self, pause: Callable[[float], object]) -> Iterator[int]:
        """Count the attempts; ends, or raises `Cancelled`, between two.

        Raises `Deadlock` before the first one where none would succeed.
        """
        wish, lock = self._wish, self._lock
        if self._wait is not None:
            self._wait.__enter__()
        for tick in _pacing.ticks(
            wish.timeout,
            wish.check_interval,
            lambda seconds: self._spend(seconds, pause),
        ):
            if tick:
                raise_if_cancelled(lock, wish)
            if tick == 1 and is_logged():
                log(_WAITING, lock, wish.check_interval)
            yield tick

    def end(self) -> None:
        """The wait is over."""
        if self._wait is not None:
            self._wait.__exit__()

    def _spend(self, seconds: float, pause: Callable[[float], object]) -> None:
        if self._warn_at is not None:
            until_warning = self._warn_at - time.perf_counter()
            if until_warning <= 0:
                self._warn()
            else:
                seconds = min(seconds, until_warning)
        pause(seconds)

    def _warn(self) -> None:
        import logging

        self._warn_at = None
        holders = self._lock._holders_at(self._lock._path)
        logging.getLogger('filelock').warning(
            'Lock %s on %s is still not acquired after %g seconds, held by %s',
            id(self._lock),
            self._lock.lock_file,
            WARN_AFTER_SECONDS,
            ', '.join(map(str, holders)) or 'nobody the system names',
        )


def raise_if_cancelled(lock: Any, wish: Wish) -> None:
    """Raise `Cancelled` if whoever waits wants the lock no more."""
    if wish.cancel_check is not None and wish.cancel_check():
        if is_logged():
            log(_CANCELLED, lock)
        raise _filelock_errors.Cancelled(lock.lock_file)


def raise_for(
    lock: Any, failure: exceptions.LockException, wish: Wish | None = None
) -> NoReturn:
    """Raise what a FileLock says where the engine said this.

    `wish` is what was asked for; None: what the lock was made with.
    """
    if isinstance(
        failure, (_filelock_errors.Timeout, exceptions.DeadlockError)
    ):
        raise failure
    if isinstance(failure, exceptions.AlreadyLocked):
        if wish is not None and wish.blocking and not wish.may_wait:
            raise_if_cancelled(lock, wish)  # asked once, as by every try
        raise _timeout(lock, failure, wish or lock) from None
    cause = failure.__cause__
    if not isinstance(cause, OSError):
        raise failure
    if cause.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
        raise NotImplementedError(
            f'cannot lock {lock.lock_file!r}: its file system has no locks; '
            'use SoftFileLock instead'
        ) from cause
    raise OSError(cause.errno, cause.strerror, lock.lock_file) from cause


def _timeout(
    lock: Any, failure: exceptions.AlreadyLocked, wish: Any
) -> _filelock_errors.Timeout:
    if is_logged():
        log(_TIMED_OUT if wish.blocking else _FAILED, lock)
    if wish is TRY:
        return _filelock_errors.Timeout(lock.lock_file)
    holders = failure.holders
    if failure.waited is None and not holders:
        holders = lock._holders_at(lock._path)
    for holder in holders[:1]:
        _owner.since_when(holder, lock._path)
    return _filelock_errors.Timeout(
        lock.lock_file,
        holders[0] if holders else None,
        others=holders[1:],
        waited=failure.waited,
    )
