"""SoftFileLock: a marker file, for file systems whose locks do not work."""

from __future__ import annotations

import contextlib
import os
import time

from . import (
    _filelock_opening,
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

# Markers that this process made and has not removed: token -> path
_markers: dict[str, str] = {}


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

    # The marker we made, while we hold it
    _token: str | None = None

    def _set_up(self, lock_file: Any, options: dict[str, Any]) -> None:
        super()._set_up(lock_file, options)
        if self._on_acquired is not None:
            self._refuse('on_acquired', 'it has no descriptor')

    def _first_try(self, may_wait: bool) -> tuple[Any, Any]:
        self._path = _filelock_opening.absolute(self._lock_file)
        self._hold.path = self._path
        if self._try_to_make() is not None:
            return -1, None
        if may_wait:
            return _signal_handlers.Kept(), True
        raise self._contention()

    def _try_to_make(self) -> str | None:
        """Make the marker, if there is none; gives its token."""
        path, mode = self._path, self._mode
        _this_process.call_at_exit(_remove_all)
        token = os.urandom(16).hex()
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
        self._token = token
        return token

    def _contention(
        self, waited: float | None = None
    ) -> exceptions.AlreadyLocked:
        marker = _soft_marker.read(self._path)
        holder = None if marker is None else marker.holder
        return exceptions.AlreadyLocked(
            filename=self._path,
            holders=() if holder is None else (holder,),
            waited=waited,
        )

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

        token = None
        try:
            for _ in patience.ticks(pause):
                token = self._try_to_make()
                if token is not None:
                    break
            patience.end()
        except BaseException:  # a signal handler, after we had the lock
            patience.end()
            if token is not None:
                self._take_away(token)
            raise
        if token is not None:
            return kept, None
        failure = self._contention(time.perf_counter() - began)
        return _filelock_waiting.raise_for(self, failure, wish)

    def _unlock(self, fd: int) -> None:
        token = self._token
        if token is None:
            return
        if not self._take_away(token):
            raise exceptions.LockLost(
                f'cannot rely on {self._path!r}: its marker was removed or '
                'replaced while the lock was held'
            )

    def _drop(self, fd: int) -> None:  # what a handler cut off
        with contextlib.suppress(OSError, exceptions.LockLost):
            self._unlock(fd)

    def _take_away(self, token: str) -> bool:
        """Remove our marker; False where it is not there any more."""
        # At the end of this process it is gone already
        is_ours = token not in _markers or _soft_marker.remove(
            self._path, token
        )
        self._token = None
        _markers.pop(token, None)
        return is_ours

    @property
    def pid(self) -> int | None:
        """The process id in the lock file, None where there is none."""
        marker = _soft_marker.read(_filelock_opening.absolute(self.lock_file))
        return None if marker is None else marker.pid

    @property
    def is_lock_held_by_us(self) -> bool:
        """Whether the lock file is the one this object made."""
        token = self._token
        marker = _soft_marker.read(_filelock_opening.absolute(self.lock_file))
        # A forked child made nothing
        if token not in _markers or marker is None:
            return False
        return marker.token == token

    def break_lock(self) -> None:
        """Remove the lock file, whoever made it; for operators.

        If its maker lives, two hold the lock from then on.
        """
        try:
            os.unlink(_filelock_opening.absolute(self.lock_file))
        except FileNotFoundError:
            pass


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
