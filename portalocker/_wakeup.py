"""A place in line for one open file: sleep until it may be free.

Picks the best way this place has: behind a predecessor, at the head of the
line with inotify, or polling. All of it is a hint; the kernel lock alone
decides who holds.
"""

from __future__ import annotations

import os
import time

from . import (
    _after_fork,
    _pacing,
    _wakeup_filesystem,
    _wakeup_inotify,
    _wakeup_queue,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# The kernel tells of a close just before it drops the lock; last one first
_PROBE_PAUSES_SECONDS = (0.0004, 0.0002, 0.0001, 0.00005)


# st_dev -> whether waiters for files of this device stand in line
_is_orderly: dict[int, bool] = {}

# Paths that we lately had to wait for -> how often yet to get in line there
# without a look whether the file is free. Who has not seen a line for a while
# may slip in once, between two others, and then has seen the line.
crowded: dict[Any, int] = {}
_TIMES_IN_LINE = 16
_MOST_CROWDED = 256


def must_queue(fd: int, device: int) -> bool:
    """Whether a newcomer finds others waiting for this file already."""
    return is_orderly(fd, device) and _wakeup_queue.somebody_waits(fd)


def is_orderly(fd: int, device: int) -> bool:
    """Whether those who wait for a file of this device stand in line."""
    try:
        return _is_orderly[device]
    except KeyError:
        _is_orderly[device] = _wakeup_filesystem.is_local(
            fd, device
        ) and _wakeup_queue.has_tickets(fd)
        return _is_orderly[device]


def note_crowd(path: Any, had_to_wait: bool) -> None:
    """Remember for the next time whether there was a line at `path`."""
    if had_to_wait:
        crowded[path] = _TIMES_IN_LINE
        if len(crowded) > _MOST_CROWDED:
            crowded.pop(next(iter(crowded)), None)
    else:
        times = crowded.get(path, 0) - 1
        if times > 0:
            crowded[path] = times
        else:
            crowded.pop(path, None)


class Turn:
    """What a holder that had to wait has to give back.

    `close()` wakes the next in line, as soon as the lock is let go;
    `clean_up()` does what nobody waits for.
    """

    __slots__ = ('_instance', '_interest', '_ticket')

    def __init__(
        self,
        ticket: _wakeup_queue.Ticket | None,
        instance: _wakeup_inotify.Instance | None,
        interest: _wakeup_inotify.Interest | None,
    ) -> None:
        self._ticket = ticket
        self._instance = instance
        self._interest = interest

    def close(self) -> None:
        """Wake the next in line."""
        if self._ticket is not None:
            self._ticket.wake_successors()

    def clean_up(self) -> None:
        """Forget the predecessor and the watch."""
        if self._ticket is not None:
            self._ticket.stop_following()
        if self._instance is not None and self._interest is not None:
            self._instance.forget(self._interest)

    def abandon(self) -> None:
        """Both, where we must not wait for a mutex: in a finaliser."""
        if self._ticket is not None:
            self._ticket.wake_successors()
            self._ticket.stop_following()
        if self._instance is not None and self._interest is not None:
            self._instance.forget_later(self._interest)


class Place:
    """Where one waiter sleeps.

    predecessor | interest | it sleeps
    ------------|----------|----------------------------------------------
    connected   | any      | until its predecessor lets go, leaves or dies
    None        | watching | until somebody closes the file
    None        | None     | for a short pause: polling

    `fd` has the file open that carries the line; a close of it, or of one of
    the paths in `also`, may mean that it is our turn.
    """

    def __init__(
        self,
        fd: int,
        opened: os.stat_result,
        arrival: int,
        *,
        is_ordered: bool,
        also: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        self._fd = fd
        self._opened = opened
        self._also = also
        self._ticket: _wakeup_queue.Ticket | None = None
        self._instance: _wakeup_inotify.Instance | None = None
        self._interest: _wakeup_inotify.Interest | None = None
        self._can_watch = _wakeup_filesystem.is_local(fd, opened.st_dev)
        self._backoff: _pacing.Backoff | None = None
        self._probes = 0  # how many short pauses to make before sleeping on
        self._first_when_over: int | None = None
        _after_fork.waiting.add(self)
        if is_ordered and is_orderly(fd, opened.st_dev):
            self._ticket = _wakeup_queue.take_ticket(fd, opened, arrival)
        # The first try comes when a wake-up would reach us
        self._may_try = not self._is_behind()
        if self._ticket is None or self._ticket.predecessor is None:
            self._watch_if_possible()

    def may_try(self) -> bool:
        """Whether a try makes sense: it is our turn, as far as we know."""
        may_try, self._may_try = self._may_try, False
        return may_try

    def wait(self, seconds: float) -> None:
        """Sleep until it may be our turn, or for `seconds`."""
        until = time.perf_counter() + seconds
        remaining = seconds
        while remaining > 0:
            if self._sleep(remaining):
                self._may_try = True
                return
            remaining = until - time.perf_counter()
        self._may_try = not self._is_behind() or self._is_first_one_late()

    def _is_behind(self) -> bool:
        """Whether somebody is before us; follow the last one of them."""
        return self._ticket is not None and self._ticket.follow()

    def _is_first_one_late(self) -> bool:
        # The same one is first as when our last pause ended: it is stopped,
        # or its ticket outlived it. Try without waiting for it.
        first = self._ticket.first_ahead() if self._ticket else None
        was_first, self._first_when_over = self._first_when_over, first
        return first is not None and first == was_first

    def _sleep(self, seconds: float) -> bool:
        """Sleep once; whether it may be our turn before `seconds` ended."""
        ticket = self._ticket
        if ticket is not None and ticket.follow():
            if ticket.predecessor is not None:
                # It let go, or it gave up and we shall follow another one:
                # the kernel tells us fastest
                return ticket.outlive_predecessor(seconds)
            self._watch(seconds)
            return False
        return self._watch(seconds)

    def _watch(self, seconds: float) -> bool:
        """Sleep until somebody closes the file."""
        if self._probes:
            self._probes -= 1
            time.sleep(min(_PROBE_PAUSES_SECONDS[self._probes], seconds))
            return True
        if self._watch_if_possible():
            # What happened before we watched was not seen: look again
            return True
        if self._interest is None or self._instance is None:
            self._backoff = self._backoff or _pacing.Backoff()
            time.sleep(self._backoff.next_pause(seconds))
            return True
        if not self._instance.wait(self._interest, seconds):
            return False
        self._probes = len(_PROBE_PAUSES_SECONDS)
        return True

    def _watch_if_possible(self) -> bool:
        """Start watching; False where we do already, or cannot."""
        if self._interest is not None or not self._can_watch:
            return False
        self._can_watch = self._start_watching()
        return self._can_watch

    def _start_watching(self) -> bool:
        instance = _wakeup_inotify.process_instance()
        if instance is None:
            return False
        interest = _wakeup_inotify.Interest()
        try:
            instance.watch_open_file(interest, self._fd, self._opened)
            for path in self._also:
                instance.watch_path(interest, os.fsencode(path))
        except OSError:  # out of watches, or no /proc
            instance.forget(interest)
            return False
        self._instance, self._interest = instance, interest
        return True

    def _stop_watching(self) -> None:
        interest, self._interest = self._interest, None
        if interest is not None and self._instance is not None:
            self._instance.forget(interest)

    def got_in(self) -> Turn:
        """Leave the line with the lock held."""
        _after_fork.waiting.discard(self)
        if self._ticket is not None:
            self._ticket.drop()
        turn = Turn(self._ticket, self._instance, self._interest)
        self._ticket = self._instance = self._interest = None
        return turn

    def leave(self) -> None:
        """Leave the line without the lock."""
        turn = self.got_in()
        turn.close()
        turn.clean_up()

    def _forget_parent(self) -> None:
        Turn(self._ticket, None, None).abandon()
        self._ticket = self._instance = self._interest = None
        self._can_watch = False
        _after_fork.part_with(self._fd)
