"""Open, lock, verify, close: how the file at a path comes to be held.

One place for every lock on files; the caller brings the verbs as a `Door`.
"""

from __future__ import annotations

import errno
import os
import time

from . import _file_identity, _wakeup, exceptions, portalocker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    class Door(Protocol):
        """What has to be opened and locked."""

        def _get_fh(self) -> Any: ...

        def _get_lock(self, fh: Any) -> Any: ...

        def _lock_path(self, fh: Any) -> Any: ...


class StaleFile(Exception):  # noqa: N818 - never leaves this package
    """The file that was locked is not the one at the path any more."""


def shut(fh: Any) -> None:
    """Close a handle we do not hold a lock with, whatever it says."""
    try:
        os.close(fh) if isinstance(fh, int) else fh.close()
    except (OSError, ValueError):
        pass


def lock_verified(door: Door, fh: Any, opened: os.stat_result) -> None:
    """Lock `fh`; raise `StaleFile` if its path leads elsewhere by now."""
    try:
        door._get_lock(fh)
    except (exceptions.LockException, RuntimeError, TypeError):
        raise
    except Exception as error:
        raise exceptions.LockException(error) from error
    if not _file_identity.still_names(door._lock_path(fh), opened):
        raise StaleFile


def status_of(fh: Any) -> os.stat_result:
    """Device and inode of an open handle."""
    return os.fstat(fh if isinstance(fh, int) else fh.fileno())


class Contender:
    """One `acquire()` that has to wait for its turn."""

    def __init__(
        self,
        door: Door,
        fh: Any,
        opened: os.stat_result,
        *,
        is_shared: bool,
        also: Iterable[Any] = (),
    ) -> None:
        self._door = door
        self._is_shared = is_shared
        self._also = also
        self._arrival = time.monotonic_ns()
        self._failure: exceptions.AlreadyLocked | None = None
        # fh is open, and _place belongs to it, exactly while we contend
        self._fh = fh
        self._opened = opened
        self._place: _wakeup.Place | None = None

    def hold(self, ticks: Iterable[int]) -> tuple[Any, _wakeup.Turn | None]:
        """Try at every tick; gives the handle and what wakes the next.

        Raises `AlreadyLocked` when the ticks are over. Whatever is raised,
        nothing stays open and nobody waits behind us.
        """
        try:
            self._join_line()
            for _ in ticks:
                if self._is_our_turn() and self._try_to_hold():
                    return self._fh, self._come_in()
            # Out of time: one try, whoever is before us
            if self._try_to_hold():
                return self._fh, self._come_in()
            raise self._contention()
        except BaseException:
            self._leave_line()
            shut(self._fh)
            raise

    def pause(self, seconds: float) -> None:
        """Sleep until the file may be free, or for `seconds`."""
        assert self._place is not None
        self._place.wait(seconds)

    def _contention(self) -> exceptions.AlreadyLocked:
        if self._failure is not None:
            return self._failure
        error = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return exceptions.AlreadyLocked(error)

    def _is_our_turn(self) -> bool:
        return self._place is not None and self._place.may_try()

    def _try_to_hold(self) -> bool:
        try:
            lock_verified(self._door, self._fh, self._opened)
        except exceptions.AlreadyLocked as failure:
            self._failure = failure
            path = self._door._lock_path(self._fh)
            if not _file_identity.still_names(path, self._opened):
                self._reopen()
            return False
        except StaleFile:
            self._reopen()
            return False
        return True

    def _reopen(self) -> None:
        """Contend for the file that is at the path now."""
        self._leave_line()
        shut(self._fh)
        self._fh = self._door._get_fh()
        self._opened = status_of(self._fh)
        self._join_line()

    def _join_line(self) -> None:
        fh = self._fh
        self._place = _wakeup.Place(
            fh if isinstance(fh, int) else fh.fileno(),
            self._opened,
            self._arrival,
            is_ordered=portalocker.uses_flock(),
            also=self._also,
        )

    def _leave_line(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            place.leave()

    def _come_in(self) -> _wakeup.Turn | None:
        place, self._place = self._place, None
        assert place is not None
        return place.got_in(is_shared=self._is_shared)
