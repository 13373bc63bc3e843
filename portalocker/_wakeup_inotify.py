"""Linux: sleep until somebody closes the file, on one inotify instance.

An open file's last close tells the kernel's inotify, also when its owner was
killed, and whatever program it was. All threads of a process share one
instance: one of them reads it and wakes each other thread for its own file.
Closing an instance can take milliseconds and a user has few of them, so it is
kept until the process ends.

Source: inotify(7).
"""

from __future__ import annotations

import _thread
import os
import struct
import time

from . import _signal_handlers, _wakeup_poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_IN_ATTRIB = 0x4  # unlinked, among others
_IN_CLOSE_WRITE = 0x8
_IN_CLOSE_NOWRITE = 0x10
_IN_MOVE_SELF = 0x800
_WAKERS = _IN_CLOSE_WRITE | _IN_CLOSE_NOWRITE | _IN_ATTRIB | _IN_MOVE_SELF
_IN_Q_OVERFLOW = 0x4000
_IN_IGNORED = 0x8000
_IN_CLOEXEC = 0o2000000
_IN_NONBLOCK = 0o4000
# watch, mask, cookie, length of a name: none, we watch files only
_EVENT = struct.Struct('iIII')
_READ_BYTES = 16384
_IDLE_WATCHES = 8  # kept: a file once waited for is waited for again


class Interest:
    """One waiter's interest in some files; woken when one was closed.

    `on_wake` is called instead where the waiter does not park a thread: from
    whichever thread reads the instance, and it must not block.
    """

    __slots__ = ('_parker', 'is_woken', 'on_wake', 'watches')

    def __init__(self, on_wake: Callable[[], None] | None = None) -> None:
        self.on_wake = on_wake
        self.is_woken = False
        self.watches: list[int] = []
        self._parker = _thread.allocate_lock()
        self._parker.acquire()

    def unpark(self) -> None:
        """Let the parked thread go on; call with the instance's mutex."""
        try:
            self._parker.release()
        except RuntimeError:  # it goes on already
            pass

    def park(self, seconds: float) -> None:
        """Sleep until `unpark()`, or for `seconds`."""
        self._parker.acquire(timeout=min(seconds, _thread.TIMEOUT_MAX))


class Instance:
    """The inotify instance of this process.

    Guarded by `_mutex`: `_interests`, `_parked`, `_leader`. The leader is the
    one thread that sleeps in poll(); it hands over when it leaves.
    """

    def __init__(self) -> None:
        import ctypes

        self._ctypes = ctypes
        libc: Any = ctypes.CDLL(None, use_errno=True)
        self._add_watch = libc.inotify_add_watch
        self._rm_watch = libc.inotify_rm_watch
        self._kept = _signal_handlers.Kept()
        # As in `open_kept`
        [self._kept.fd] = map(
            libc.inotify_init1, (_IN_CLOEXEC | _IN_NONBLOCK,)
        )
        self.fd: int = self._kept.fd
        if self.fd < 0:
            self._raise_errno('create an inotify instance')
        # Re-entrant: a signal handler may wait for another lock
        self._mutex = _thread.RLock()
        self._interests: dict[int, list[Interest]] = {}
        # Watches that nobody is interested in just now
        self._idle: dict[int, None] = {}
        self._parked: dict[Interest, None] = {}
        self._leader: Interest | None = None
        # Whether there is something to read that nobody slept through
        self._has_unread = False

    def _raise_errno(self, verb: str) -> None:
        number = self._ctypes.get_errno()
        raise OSError(number, f'cannot {verb}: {os.strerror(number)}')

    def close(self) -> None:
        """Nobody can use it any more."""
        self._kept.close()
        self.fd = -1

    def fileno(self) -> int:
        """The descriptor to select on; when readable, call `drain()`."""
        return self.fd

    def watch_open_file(self, interest: Interest, fd: int) -> None:
        """Wake `interest` when somebody closes the file that `fd` has open."""
        self.watch_path(interest, b'/proc/self/fd/%d' % fd)

    def watch_path(self, interest: Interest, path: bytes) -> None:
        """Wake `interest` when somebody closes the file at `path`."""
        self.drain()  # what is old wakes nobody
        # One step: nobody may remove the watch before we are entered
        with self._mutex:
            # The kernel gives the watch that there is, if there is one
            watch = self._add(path)
            self._idle.pop(watch, None)
            interest.watches.append(watch)
            self._interests.setdefault(watch, []).append(interest)

    def _add(self, path: bytes) -> int:
        watch: int = self._add_watch(self.fd, path, _WAKERS)
        if watch < 0:
            self._raise_errno('watch the lock file')
        return watch

    def forget(self, interest: Interest) -> None:
        """Stop waking `interest`."""
        with self._mutex:
            # Interrupted as it stepped down
            if interest in self._parked or self._leader is interest:
                self._step_down(interest)
            for watch in interest.watches:
                others = self._interests.get(watch, [])
                if interest in others:
                    others.remove(interest)
                if not others:
                    self._idle[watch] = None
                    self._interests.pop(watch, None)
            interest.watches.clear()
            for watch in list(self._idle)[:-_IDLE_WATCHES]:
                del self._idle[watch]
                self._rm_watch(self.fd, watch)

    def drain(self) -> None:
        """Read what happened and wake whom it concerns; never blocks."""
        with self._mutex:
            # The leader sleeps in poll(): what we took it would not see
            if self._leader is None:
                self._read()

    def leave_unread(self) -> bool:
        """Do not read now, as nobody else sleeps here; False where one does.

        For a task whose loop was told that there is something to read: what
        it says can wait until somebody sleeps again.
        """
        if self._parked:
            return False
        self._has_unread = True
        return True

    def drain_unread(self) -> None:
        """Read what was left; call it before somebody sleeps."""
        if self._has_unread:
            self.drain()

    def _read(self) -> None:
        self._has_unread = False
        events = b' ' * _READ_BYTES if self.fd >= 0 else b''
        while len(events) == _READ_BYTES:  # there may be more
            try:
                events = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return
            for watch, mask, _, _ in _EVENT.iter_unpack(events):
                self._handle(watch, mask)

    def _handle(self, watch: int, mask: int) -> None:
        if mask & _IN_Q_OVERFLOW:  # events are lost: wake everybody
            for interests in list(self._interests.values()):
                self._wake(interests)
            return
        if mask & _IN_IGNORED:  # the file is gone, or we said so
            self._idle.pop(watch, None)
        self._wake(self._interests.get(watch, ()))

    def _wake(self, interests: Any) -> None:
        for interest in list(interests):
            interest.is_woken = True
            if interest.on_wake is not None:
                interest.on_wake()
            elif interest is not self._leader:
                interest.unpark()

    def wait(self, interest: Interest, seconds: float) -> bool:
        """Sleep until `interest` is woken or `seconds` are over; which?"""
        until = time.perf_counter() + seconds
        self.drain_unread()
        try:
            # No descriptor: a fork in a signal handler, and we are the child
            while not interest.is_woken and self.fd >= 0:
                remaining = until - time.perf_counter()
                if remaining <= 0:
                    break
                with self._mutex:
                    if interest.is_woken:  # by a leader that left since
                        break
                    self._parked[interest] = None
                    if self._leader not in self._parked:
                        self._leader = interest
                if self._leader is not interest:
                    interest.park(remaining)
                elif _wakeup_poll.wait_readable(self.fd, remaining):
                    if len(self._parked) == 1:
                        # Nobody else sleeps: what it says can wait
                        self._has_unread = True
                        return True
                    with self._mutex:
                        self._read()
        finally:
            self._step_down(interest)
        was_woken, interest.is_woken = interest.is_woken, False
        return was_woken

    def _step_down(self, interest: Interest) -> None:
        with self._mutex:
            self._parked.pop(interest, None)
            if self._leader is interest:
                self._leader = None
            if self._leader is None:
                # Whoever is parked may be the next leader; if it just left,
                # it comes through here and passes the duty on
                for successor in self._parked:
                    successor.unpark()
                    break


# At most one: the instance of this process. No mutex guards it: a signal
# handler may come while one is made
_instances: dict[None, Instance] = {}


def process_instance() -> Instance | None:
    """The instance of this process, made at first use.

    None where the system has no inotify, or no more instances for this user
    at the moment.
    """
    known = _instances.get(None)
    if known is not None:
        return known
    try:
        made = Instance()
    except (OSError, AttributeError, ImportError):
        return None
    kept = _instances.setdefault(None, made)
    if kept is not made:
        made.close()
    return kept


def _drop_inherited_instance() -> None:
    # The child's copy is not the last one, so this close is cheap
    instance = _instances.pop(None, None)
    if instance is not None:
        instance.close()
        instance._mutex = _thread.RLock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_drop_inherited_instance)
