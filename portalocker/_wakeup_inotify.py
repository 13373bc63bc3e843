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

from . import _wakeup_poll

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
_EVENT = struct.Struct('iIII')  # watch, mask, cookie, length of the name
_READ_BYTES = 16384
_IDLE_WATCHES = 8  # kept: a file once waited for is waited for again


class Interest:
    """One waiter's interest in some files; woken when one was closed.

    `on_wake` is called instead where the waiter does not park a thread: from
    whichever thread reads the instance, and it must not block.
    """

    __slots__ = ('_parker', 'file', 'is_woken', 'on_wake', 'watches')

    def __init__(self, on_wake: Callable[[], None] | None = None) -> None:
        self.on_wake = on_wake
        self.is_woken = False
        # Device and inode behind the first watch, where they are known
        self.file: tuple[int, int] | None = None
        self.watches: list[int] = []
        self._parker = _thread.allocate_lock()
        self._parker.acquire()

    def unpark(self) -> None:
        """Let the parked thread go on; call with the instance's mutex."""
        if self._parker.locked():
            self._parker.release()

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
        self.fd: int = libc.inotify_init1(_IN_CLOEXEC | _IN_NONBLOCK)
        if self.fd < 0:
            self._raise_errno('create an inotify instance')
        self._mutex = _thread.allocate_lock()
        self._interests: dict[int, list[Interest]] = {}
        # (device, inode) -> watch that nobody is interested in just now
        self._idle: dict[tuple[int, int], int] = {}
        self._parked: dict[Interest, None] = {}
        self._leader: Interest | None = None
        self._forgotten: list[Interest] = []
        # Whether there is something to read that nobody slept through
        self._has_unread = False

    def _raise_errno(self, verb: str) -> None:
        number = self._ctypes.get_errno()
        raise OSError(number, f'cannot {verb}: {os.strerror(number)}')

    def fileno(self) -> int:
        """The descriptor to select on; when readable, call `drain()`."""
        return self.fd

    def watch_open_file(
        self, interest: Interest, fd: int, opened: os.stat_result
    ) -> None:
        """Wake `interest` when somebody closes the file that `fd` has open."""
        self.drain()  # what is old wakes nobody, and ends dead watches
        file = (opened.st_dev, opened.st_ino)
        with self._mutex:
            watch = self._idle.pop(file, None)
        if watch is None:
            watch = self._add(b'/proc/self/fd/%d' % fd)
        self._enter(interest, watch)
        interest.file = file

    def watch_path(self, interest: Interest, path: bytes) -> None:
        """Wake `interest` when somebody closes the file at `path`."""
        self._enter(interest, self._add(path))

    def _add(self, path: bytes) -> int:
        watch: int = self._add_watch(self.fd, path, _WAKERS)
        if watch < 0:
            self._raise_errno('watch the lock file')
        return watch

    def _enter(self, interest: Interest, watch: int) -> None:
        with self._mutex:
            self._interests.setdefault(watch, []).append(interest)
            interest.watches.append(watch)

    def forget_later(self, interest: Interest) -> None:
        """Stop waking `interest`, without waiting for the mutex."""
        self._forgotten.append(interest)

    def forget(self, interest: Interest) -> None:
        """Stop waking `interest`."""
        while self._forgotten:
            try:
                self._forget(self._forgotten.pop())
            except IndexError:  # another thread was faster
                break
        self._forget(interest)

    def _forget(self, interest: Interest) -> None:
        with self._mutex:
            file = interest.file
            for watch in interest.watches:
                others = self._interests.get(watch, [])
                if interest in others:
                    others.remove(interest)
                if others or self._interests.pop(watch, None) is None:
                    continue
                if file is not None and watch == interest.watches[0]:
                    self._idle[file] = watch
                else:
                    self._rm_watch(self.fd, watch)
            interest.watches.clear()
            while len(self._idle) > _IDLE_WATCHES:
                self._rm_watch(self.fd, self._idle.pop(next(iter(self._idle))))

    def drain(self) -> None:
        """Read what happened and wake whom it concerns; never blocks."""
        try:
            events = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return
        with self._mutex:
            offset = 0
            while offset < len(events):
                watch, mask, _, length = _EVENT.unpack_from(events, offset)
                offset += _EVENT.size + length
                if mask & _IN_Q_OVERFLOW:  # events are lost: wake everybody
                    for interests in self._interests.values():
                        self._wake(interests)
                    continue
                if mask & _IN_IGNORED:
                    self._end_watch(watch)
                self._wake(self._interests.get(watch, ()))

    def _end_watch(self, watch: int) -> None:
        """The file is gone, or we said so: its number will not come back."""
        for file, idle in list(self._idle.items()):
            if idle == watch:
                del self._idle[file]

    def _wake(self, interests: Any) -> None:
        for interest in interests:
            interest.is_woken = True
            if interest.on_wake is not None:
                interest.on_wake()
            elif interest is not self._leader:
                interest.unpark()

    def wait(self, interest: Interest, seconds: float) -> bool:
        """Sleep until `interest` is woken or `seconds` are over; which?"""
        until = time.perf_counter() + seconds
        if self._has_unread:
            self._has_unread = False
            self.drain()
        try:
            while not interest.is_woken:
                remaining = until - time.perf_counter()
                if remaining <= 0:
                    break
                with self._mutex:
                    if self._leader is None:
                        self._leader = interest
                    self._parked[interest] = None
                if self._leader is not interest:
                    interest.park(remaining)
                elif _wakeup_poll.wait_readable(self.fd, remaining):
                    if len(self._parked) == 1:
                        # It can only be for us; what it says can wait
                        return self._leave_unread()
                    self.drain()
        finally:
            self._step_down(interest)
        was_woken, interest.is_woken = interest.is_woken, False
        return was_woken

    def _leave_unread(self) -> bool:
        self._has_unread = True
        return True

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


_instance: Instance | None = None
_instance_mutex = _thread.allocate_lock()


def process_instance() -> Instance | None:
    """The instance of this process, made at first use.

    None where the system has no inotify, or no more instances for this user
    at the moment.
    """
    global _instance
    with _instance_mutex:
        if _instance is None:
            try:
                _instance = Instance()
            except (OSError, AttributeError, ImportError):
                return None
        return _instance


def _drop_inherited_instance() -> None:
    # The child's copy is not the last one, so this close is cheap
    global _instance, _instance_mutex
    _instance_mutex = _thread.allocate_lock()
    if _instance is not None:
        os.close(_instance.fd)
        _instance = None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_drop_inherited_instance)
