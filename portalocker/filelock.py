"""FileLock: re-entrant and counted, for programs written for `filelock`.

`from portalocker.filelock import FileLock, Timeout` replaces the import from
the library of that name; docs/migrate/from_filelock.rst tells what differs.

>>> import os, tempfile
>>> path = os.path.join(tempfile.mkdtemp(), 'cache.lock')
>>> lock = FileLock(path, timeout=10)
>>> with lock:
...     with lock:
...         lock.lock_counter
2
>>> lock.is_locked
False
"""

from __future__ import annotations

import sys

from . import (
    _acquisition,
    _filelock_opening,
    _filelock_waiting,
    _holdings,
    _signal_handlers,
    constants,
    exceptions,
    portalocker,
)
from ._deadlock import Deadlock
from ._filelock_base import AcquireReturnProxy, BaseFileLock
from ._filelock_errors import Cancelled, Timeout
from ._filelock_soft import SoftFileLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Generator
    from typing import Any

__all__ = [
    'AcquireReturnProxy',
    'BaseFileLock',
    'Cancelled',
    'Deadlock',
    'FileLock',
    'SoftFileLock',
    'Timeout',
    'UnixFileLock',
    'WindowsFileLock',
]


class FileLock(BaseFileLock):
    """A lock on the file at a path, between processes, threads and tasks.

    Whoever holds it may take it again, and has to release it as often. One
    object, or many objects on one path, exclude everybody else: other
    processes, other threads, and other tasks of the same thread. The system
    lets go for a process that ends. The lock file stays.

    `lock_file`
        the path; the file and missing parents are made by `acquire()`. A
        relative path leads to where it does when the lock is acquired.
    `timeout`
        seconds to wait; below zero: for ever, 0: one attempt.
    `mode`
        permissions of a file that is created, whatever the umask; -1: 0o666
        without the umask's. A file that exists keeps its own.
    `thread_local`
        whether changed settings, `is_locked` and `release()` are those of the
        calling thread or task; else anybody may release for the holder. It
        never lets two in.
    `blocking`
        whether to wait at all.
    `is_singleton`
        make one object for each path: then it may be taken again through
        every `FileLock(path, is_singleton=True)`.
    `poll_interval`
        seconds between two attempts, at most; most waits are woken.
    `context_error_policy`
        what a `with` block raises where its body and the release fail: the
        second with the first as its context ('chain'), or both ('group').
    `close_error_policy`
        'raise' for errors of closing the file, after the release.
    `on_acquired`
        called with the descriptor whenever the lock was taken from outside;
        if it raises, the lock is let go.
    `lifetime`, `fallback_to_soft`, `preserve_lock_file`
        known for their names: a lifetime and a fallback are refused
        (`TypeError`), the lock file is always preserved.

    In a forked child the lock starts released and never touches what the
    parent holds. A pickle is the path and the options.
    """

    _has_line = False
    _gives_way = False
    _first_try = _acquisition.open_descriptor_and_try
    _unlock = staticmethod(portalocker.unlock)

    def _wait_for(
        self,
        kept: _signal_handlers.Kept,
        opened: os.stat_result,
        wish: _filelock_waiting.Wish,
    ) -> tuple[_signal_handlers.Kept, Any]:
        contender = _acquisition.Contender(self, kept, opened, is_shared=False)
        try:
            return _acquisition.follow(
                self._attempts(contender, wish, opened), contender.pause
            )
        except BaseException:  # a signal handler, after we had the lock
            contender.close()
            raise

    def _attempts(
        self,
        contender: _acquisition.Contender,
        wish: _filelock_waiting.Wish,
        opened: os.stat_result,
    ) -> Generator[float, None, tuple[_signal_handlers.Kept, Any]]:
        """The plan of `_wait_for()`: whoever follows it spends the pauses."""
        patience = _filelock_waiting.Patience(
            self, self._claimant(), wish, opened
        )
        try:
            return (yield from contender.attempts(patience.ticks))
        except exceptions.LockException as failure:
            _filelock_waiting.raise_for(self, failure, wish)
        finally:
            patience.end()

    def _claimant(self) -> Any:
        """Who waits: the thread, which runs nothing else meanwhile."""
        return _holdings.current_claimant()

    def _open_there(self) -> int:
        """What the usual way to open did not do."""
        return _filelock_opening.open_or_make(self._find_path(), self._mode)

    def _get_fh(self) -> _signal_handlers.Kept:
        kept = _signal_handlers.Kept()
        kept.fd = self._open_there()
        return kept

    def _get_lock(self, fh: _signal_handlers.Kept) -> None:
        portalocker.lock(fh, constants.EXCLUSIVE_TRY)  # type: ignore[arg-type]


class _FileLockOfAnotherSystem(BaseFileLock):
    """A name that programs import on every system, for what is not here."""

    def _first_try(self, may_wait: bool) -> tuple[Any, Any]:
        raise NotImplementedError(
            f'cannot lock {self._lock_file!r}: that is the lock of another '
            'system; use FileLock'
        )


WindowsFileLock: type[BaseFileLock] = _FileLockOfAnotherSystem
UnixFileLock: type[BaseFileLock] = _FileLockOfAnotherSystem
if sys.platform == 'win32':
    WindowsFileLock = FileLock
else:
    UnixFileLock = FileLock


def __getattr__(name: str) -> Any:
    if name == '__version__':  # ours; it takes time to find out
        from . import __about__

        return __about__.__version__
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
