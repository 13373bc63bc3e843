"""SoftFileLock: a marker file, for file systems whose locks do not work."""

from __future__ import annotations

import contextlib
import os
import time

from . import (
    _filelock_waiting,
    _holdings,
    _pacing,
    _signal_handlers,
    _soft_marker,
    _this_process,
    exceptions,
)
from ._filelock_base import BaseFileLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .holder import Holder

# Markers that this process made and has not removed: token -> path
_markers: dict[str, str] = {}


class Made(int):
    """A marker that we made, where a hold has its descriptor: less than 0.

    It belongs to one hold. The object does not: as soon as the marker is
    gone, another thread may hold through it.
    """

    token: str
    path: str


class SoftFileLock(BaseFileLock):
    """A lock that is held by who made the lock file.

    The parameters are those of `FileLock`. It works where the system's locks
    do not, and is weaker: a process that dies leaves the file. The next one
    on the same machine finds that its maker is dead and takes its place; after
    a reboot, or from another machine, nobody can know, and an operator calls
    `break_lock()`. Waiting is polling, with short pauses first.

    >>> import os, tempfile
    >>> lock = SoftFileLock(os.path.join(tempfile.mkdtemp(), 'lock'))
    >>> with lock:
    ...     lock.pid == os.getpid()
    True
    >>> os.path.exists(lock.lock_file)
    False
    """

    def _set_up(self, lock_file: Any, options: dict[str, Any]) -> None:
        super()._set_up(lock_file, options)
        if self._on_acquired is not None:
            self._refuse('on_acquired', 'it has no descriptor')

    def _first_try(self, may_wait: bool) -> tuple[Any, Any]:
        self._find_path()
        made = self._try_to_make()
        if made is not None:
            return made, None
        if may_wait:
            return _signal_handlers.Kept(), True
        raise self._contention()

    def _try_to_make(self) -> Made | None:
        """Make the marker, if there is none."""
        path, mode = self._path, self._mode
        _this_process.call_at_exit(_remove_all)
        made = Made(-1)
        made.path, made.token = path, os.urandom(16).hex()
        token = made.token
        try:
            is_made = _soft_marker.make(path, mode, token)
        except FileNotFoundError:
            if not path:
                raise
            os.makedirs(os.path.dirname(path), exist_ok=True)
            is_made = _soft_marker.make(path, mode, token)
        if not is_made:
            return None
        # No call from here on: a signal handler may raise in each
        _markers[token] = path
        return made

    def _contention(
        self, waited: float | None = None
    ) -> exceptions.AlreadyLocked:
        return exceptions.AlreadyLocked(
            filename=self._path,
            holders=self._holders_at(self._path),
            waited=waited,
        )

    @staticmethod
    def _holders_at(path: str) -> tuple[Holder, ...]:
        marker = _soft_marker.read(path)
        holder = None if marker is None else marker.holder
        return () if holder is None else (holder,)

    def _wait_for(
        self,
        kept: _signal_handlers.Kept,
        opened: Any,
        wish: _filelock_waiting.Wish,
    ) -> tuple[_signal_handlers.Kept, Any]:
        began = time.perf_counter()
        backoff = _pacing.Backoff()
        patience = _filelock_waiting.Patience(
            self, _holdings.current_claimant(), wish, None
        )

        def pause(seconds: float) -> None:
            time.sleep(backoff.next_pause(seconds))

        made = None
        try:
            for _ in patience.ticks(pause):
                made = self._try_to_make()
                if made is not None:
                    break
            patience.end()
        except BaseException:  # a signal handler, after we had the lock
            patience.end()
            if made is not None:
                _take_away(made)
            raise
        if made is not None:
            kept.fd = made
            return kept, None
        failure = self._contention(time.perf_counter() - began)
        return _filelock_waiting.raise_for(self, failure, wish)

    def _unlock(self, made: Made) -> None:
        try:
            is_ours = _take_away(made)
        except OSError as error:  # it is still there
            raise exceptions.LockException(
                *error.args, filename=made.path
            ) from _signal_handlers.let_pass(error)
        if not is_ours:
            raise exceptions.LockLost(
                f'cannot rely on {made.path!r}: its marker was removed or '
                'replaced while the lock was held'
            )

    def _drop(self, made: Made) -> None:  # what a handler cut off
        with contextlib.suppress(OSError):
            _take_away(made)

    @property
    def pid(self) -> int | None:
        """The process id in the lock file, None where there is none."""
        marker = _soft_marker.read(self._find_path())
        return None if marker is None else marker.pid

    @property
    def is_lock_held_by_us(self) -> bool:
        """Whether the lock file is the one this object made."""
        made = self._hold.fd
        if self._hold.owner is None or not isinstance(made, Made):
            return False
        marker = _soft_marker.read(made.path)
        return marker is not None and marker.token == made.token

    def break_lock(self) -> None:
        """Remove the lock file, whoever made it; for operators.

        If its maker lives, two hold the lock from then on.
        """
        try:
            os.unlink(self._find_path())
        except FileNotFoundError:
            pass


def _take_away(made: Made) -> bool:
    """Remove a marker of ours; False where it is not there any more."""
    token = made.token
    # At the end of this process it is gone already
    is_ours = token not in _markers or _soft_marker.remove(made.path, token)
    _markers.pop(token, None)
    return is_ours


def _remove_all() -> None:
    """At the end of this process: nobody else would."""
    for token, path in list(_markers.items()):
        _markers.pop(token, None)
        try:
            _soft_marker.remove(path, token)
        except OSError:  # nobody to tell
            pass


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_markers.clear)
