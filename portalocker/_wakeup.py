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
    from collections.abc import Generator, Iterable
    from typing import Any

# How long the next in line waits for a first one that does not move
_PATIENCE_SECONDS = 0.5
# The kernel tells of a close just before it drops the lock; last one first
_PROBE_PAUSES_SECONDS = (0.0004, 0.0002, 0.0001, 0.00005)


# How often the path is looked at while nothing is heard of the file
_QUIET_TICKS = 4

# st_dev -> whether waiters for files of this device stand in line
_is_orderly: dict[int, bool] = {}
# Those where they do
with_lines: set[int] = set()

# Paths that we lately had to wait for -> how often yet to get in line there
# without a look at the line first
crowded: dict[Any, int] = {}
_TIMES_IN_LINE = 16
_MOST_CROWDED = 256


def must_queue(fd: int, device: int) -> bool:
    """Whether a newcomer finds others waiting for this file already."""
    orderly = _is_orderly.get(device)
    if orderly is None:
        orderly = is_orderly(fd, device)
    return orderly and _wakeup_queue.somebody_waits(fd)


def must_give_way(fd: int, device: int) -> bool:
    """Whether others wait for this file who do not want to share it."""
    return is_orderly(fd, device) and _wakeup_queue.some_writer_waits(fd)


def nudge(fd: int) -> None:
    """Have those who watch the file look again: they are told of a close."""
    try:
        os.close(os.open(f'/proc/self/fd/{fd}', os.O_RDONLY))
    except OSError:  # then they look now and then
        pass


def is_orderly(fd: int, device: int) -> bool:
    """Whether those who wait for a file of this device stand in line."""
    try:
        return _is_orderly[device]
    except KeyError:
        if not _wakeup_filesystem.is_local(fd, device):
            return False
        has_lines = _is_orderly[device] = _wakeup_queue.has_tickets(fd)
        if has_lines:
            with_lines.add(device)
        return has_lines


def note_crowd(path: Any) -> None:
    """Remember for the next time that we had to wait at `path`."""
    crowded[path] = _TIMES_IN_LINE
    if len(crowded) > _MOST_CROWDED:
        for oldest in list(crowded)[:1]:
            crowded.pop(oldest, None)


def note_quiet(path: Any) -> None:
    """Remember that nobody was before us there."""
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

    # For one that is not made to the end
    _ticket: _wakeup_queue.Ticket | None = None
    _instance: _wakeup_inotify.Instance | None = None
    _interest: _wakeup_inotify.Interest | None = None

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
        self._ticket = self._instance = self._interest = None

    def __del__(self) -> None:
        """A signal handler made somebody lose it: nobody waits in vain."""
        self.close()
        self.clean_up()

    def abandon(self) -> None:
        """Both, in a forked child, which shares no watch with its parent."""
        self._instance = None
        self.close()
        self.clean_up()


class Nap:
    """A sleep, `seconds` long at most, and what may end it earlier.

    That is the end of the predecessor that `ticket` follows, or, without a
    ticket, what wakes `interest`; with neither nothing does.
    """

    __slots__ = ('interest', 'seconds', 'ticket')

    def __init__(
        self,
        seconds: float,
        ticket: _wakeup_queue.Ticket | None = None,
        interest: _wakeup_inotify.Interest | None = None,
    ) -> None:
        self.seconds = seconds
        self.ticket = ticket
        self.interest = interest


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
        is_shared: bool = False,
        also: Iterable[str | os.PathLike[str]] = (),
    ) -> None:
        self._fd = fd
        self._arrival = arrival
        self._is_ordered = is_ordered
        self._is_shared = is_shared
        self._opened = opened
        self._also = also
        self._ticket: _wakeup_queue.Ticket | None = None
        self._instance: _wakeup_inotify.Instance | None = None
        self._interest: _wakeup_inotify.Interest | None = None
        self._can_watch = _wakeup_filesystem.is_local(fd, opened.st_dev)
        self._backoff: _pacing.Backoff | None = None
        self._probes = 0  # how many short pauses to make before sleeping on
        self._quiet_ticks = 0  # in a row, of those that we would hear of
        self._was_behind = False
        self._first: int | None = None
        self._first_since = 0.0
        self._may_try = False

    def join(self) -> None:
        """Get in line; whatever is raised, `leave()` undoes it."""
        fd, opened = self._fd, self._opened
        _after_fork.waiting.add(self)
        if self._is_ordered and is_orderly(fd, opened.st_dev):
            self._ticket = _wakeup_queue.take_ticket(
                fd, opened, self._arrival, is_shared=self._is_shared
            )
        # The first try comes when a wake-up would reach us
        self._may_try = not self._is_behind()
        if self._ticket is None or self._ticket.predecessor is None:
            self._watch_if_possible()

    def is_behind_writer(self) -> bool:
        """Whether somebody is before us who does not want to share."""
        ticket = self._ticket
        return ticket is not None and _wakeup_queue.some_writer_waits(
            self._fd, ticket.number
        )

    def may_try(self) -> bool:
        """Whether a try makes sense: it is our turn, as far as we know."""
        may_try, self._may_try = self._may_try, False
        return may_try

    def is_quiet(self) -> bool:
        """Whether the file is still at its path, as far as we would hear."""
        # Of a directory that was moved away we do not hear: look at times
        return self._quiet_ticks % _QUIET_TICKS > 0

    def wait(self, seconds: float) -> None:
        """Sleep until it may be our turn, or for `seconds`."""
        naps = self.naps(seconds)
        try:
            nap = next(naps)
            while True:
                nap = naps.send(self._sleep(nap))
        except StopIteration:
            return

    def naps(self, seconds: float) -> Generator[Nap, bool, None]:
        """The sleeps of `wait()`; send whether each ended before its time."""
        until = time.perf_counter() + seconds
        remaining = seconds
        while remaining > 0:
            if (yield from self._nap(remaining)):
                self._may_try = True
                self._quiet_ticks = 0
                return
            remaining = until - time.perf_counter()
        if self._interest is not None:
            self._quiet_ticks += 1
        self._may_try = not self._is_behind() or self._may_pass()

    def _sleep(self, nap: Nap) -> bool:
        """Sleep in this thread; whether something ended it."""
        if nap.ticket is not None:
            return nap.ticket.outlive_predecessor(nap.seconds)
        if nap.interest is None:
            time.sleep(nap.seconds)
            return False
        # No instance: a fork in a signal handler, and we are the child
        return self._instance is not None and self._instance.wait(
            nap.interest, nap.seconds
        )

    def _is_behind(self) -> bool:
        """Whether somebody is before us; follow the last one of them."""
        self._was_behind = self._ticket is not None and self._ticket.follow()
        return self._was_behind

    def _may_pass(self) -> bool:
        """Whether to try although somebody was before us.

        It may have got in and let go without a word, or be stopped.
        """
        ticket, now = self._ticket, time.perf_counter()
        first = ticket.first_ahead() if ticket is not None else None
        if first != self._first:
            self._first, self._first_since = first, now
        if first is None or ticket is None:
            return True
        # Whoever is next goes first: else all would slip in between the
        # holder and the first one
        patience = _PATIENCE_SECONDS
        if ticket.ahead != first:
            patience *= 10
        return now - self._first_since >= patience

    def _nap(self, seconds: float) -> Generator[Nap, bool, bool]:
        """Sleep once; whether it may be our turn before `seconds` ended."""
        was_behind = self._was_behind
        if not self._is_behind():
            # Whoever was before us may have come and gone unseen: look
            return was_behind or (yield from self._watch(seconds))
        ticket = self._ticket
        assert ticket is not None
        if ticket.predecessor is None:
            yield from self._watch(seconds)
            return False
        # It let go, or it gave up and we shall follow another one
        return (yield Nap(seconds, ticket)) and ticket.is_first()

    def _watch(self, seconds: float) -> Generator[Nap, bool, bool]:
        """Sleep until somebody closes the file."""
        if self._probes:
            self._probes -= 1
            pause = min(_PROBE_PAUSES_SECONDS[self._probes], seconds)
            yield Nap(pause)
            return True
        if self._watch_if_possible():
            # What happened before we watched was not seen: look again
            return True
        if self._interest is None or self._instance is None:
            self._backoff = self._backoff or _pacing.Backoff()
            yield Nap(self._backoff.next_pause(seconds))
            return True
        if not (yield Nap(seconds, interest=self._interest)):
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
        self._instance, self._interest = instance, interest
        try:
            instance.watch_open_file(interest, self._fd)
            for path in self._also:
                instance.watch_path(interest, os.fsencode(path))
        except OSError:  # out of watches, or no /proc
            self._instance = self._interest = None
            instance.forget(interest)
            return False
        return True

    def got_in(self) -> Turn:
        """Leave the line with the lock held."""
        _after_fork.waiting.discard(self)
        if self._ticket is not None:
            self._ticket.drop()
        turn = Turn(self._ticket, self._instance, self._interest)
        self._ticket = self._instance = self._interest = None
        return turn

    def leave(self) -> None:
        """Leave the line without the lock; again, where that was cut off."""
        turn = self.got_in()
        turn.close()
        turn.clean_up()

    def _forget_parent(self) -> None:
        Turn(self._ticket, None, None).abandon()
        self._ticket = self._instance = self._interest = None
        self._can_watch = False
        _after_fork.part_with(self._fd)
