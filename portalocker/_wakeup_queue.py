"""Linux: first come, first served, in the kernel's own lock table.

A waiter holds a ticket: an open-file-description record lock on one byte of
the lock file, at TICKET_BASE + the nanosecond of its arrival; a reader's is a
read lock. flock does not see record locks, the kernel drops the ticket
when the waiter dies, and nothing is ever written.

Each waiter sleeps on its predecessor alone, so a release wakes one process
however many wait: it listens on a socket in the abstract namespace, named
after its ticket, and is connected to the socket of the ticket before it. The
connection ends when the predecessor lets go of the lock, gives up or dies.
Nothing is ever sent. (Sleeping on the predecessor is the idea of the CLH
queue lock: Craig 1993; Magnusson, Landin and Hagersten 1994.)

Both are hints: the kernel lock alone decides who holds.
"""

from __future__ import annotations

import errno
import sys

from . import _record_lock, _wakeup_poll, constants

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import os
    from typing import Any

if sys.platform == 'linux':
    import fcntl

    _GET_LOCK: Any = getattr(fcntl, 'F_OFD_GETLK', None)
    _SET_LOCK: Any = getattr(fcntl, 'F_OFD_SETLK', None)
    _WRITE_LOCK, _NO_LOCK = fcntl.F_WRLCK, fcntl.F_UNLCK
    _ANY_TICKET = _record_lock.pack_range(
        _WRITE_LOCK, constants.TICKET_BASE, 0
    )
    _NO_TICKET = _record_lock.pack_range(_NO_LOCK, constants.TICKET_BASE, 0)
    _READ_LOCK = fcntl.F_RDLCK
else:  # on macOS and the BSDs record locks and flock exclude each other
    fcntl: Any = None
    _GET_LOCK = _SET_LOCK = None
    _WRITE_LOCK = _READ_LOCK = _NO_LOCK = 0
    _ANY_TICKET = _NO_TICKET = b''

_BACKLOG = 64  # successors that died or gave up count until we leave
_TICKET_TRIES = 4  # two waiters in one nanosecond: the second takes the next
_FIRST_LOOK_BACK_NANOSECONDS = 2_000_000


def has_tickets(fd: int) -> bool:
    """Whether this system can keep tickets without disturbing flock."""
    if _GET_LOCK is None:
        return False
    try:
        fcntl.fcntl(fd, _GET_LOCK, _ANY_TICKET)
    except OSError:  # a kernel without open-file-description locks
        return False
    return True


def somebody_waits(fd: int) -> bool:
    """Whether another waiter has a ticket for the file that `fd` has open."""
    answer = fcntl.fcntl(fd, _GET_LOCK, _ANY_TICKET)
    if answer == _NO_TICKET:
        return False
    # A record lock of another program may cover the whole file
    return _record_lock.unpack_range(answer)[1] >= constants.TICKET_BASE


def some_writer_waits(fd: int, before: int | None = None) -> bool:
    """Whether somebody waits for the file exclusively, `before` a ticket."""
    # The ticket of a reader is a read lock, which a read lock does not meet
    first = constants.TICKET_BASE
    end = first if before is None else before
    length = end - first
    if before is not None and length <= 0:
        return False
    question = _record_lock.pack_range(_READ_LOCK, first, length)
    answer = fcntl.fcntl(fd, _GET_LOCK, question)
    kind, found = _record_lock.unpack_range(answer)
    return kind != _NO_LOCK and found >= first


def _ticket_between(fd: int, start: int, end: int) -> int | None:
    """A ticket of somebody else in [start, end), the oldest one, or None."""
    if start >= end:
        return None
    question = _record_lock.pack_range(_WRITE_LOCK, start, end - start)
    answer = fcntl.fcntl(fd, _GET_LOCK, question)
    kind, found = _record_lock.unpack_range(answer)
    if kind == _NO_LOCK or found < constants.TICKET_BASE:
        return None
    return found


class Ticket:
    """One waiter's turn: its byte, its listener, its predecessor."""

    __slots__ = (
        '_fd',
        '_file',
        '_is_first',
        '_listener',
        '_nobody_ahead',
        '_spent',
        '_who_is_ahead',
        'ahead',
        'number',
        'predecessor',
    )

    def __init__(
        self,
        fd: int,
        file: bytes,
        number: int,
        listener: _socket.socket | None,
    ) -> None:
        self._fd = fd
        self._file = file
        self.number = number
        # Asked when every microsecond counts: the question, and its answer
        line = (constants.TICKET_BASE, number - constants.TICKET_BASE)
        self._who_is_ahead = _record_lock.pack_range(_WRITE_LOCK, *line)
        self._nobody_ahead = _record_lock.pack_range(_NO_LOCK, *line)
        # Successors are connected to it; closing it wakes them
        self._listener = listener
        #: readable when our predecessor is gone
        self.predecessor: _socket.socket | None = None
        #: the number of the one we follow
        self.ahead: int | None = None
        self._spent: _socket.socket | None = None
        self._is_first = False

    def first_ahead(self) -> int | None:
        """The ticket number of the first in line, None if that is us."""
        return _ticket_between(self._fd, constants.TICKET_BASE, self.number)

    def is_first(self) -> bool:
        """Whether nobody is before us; nobody arrives there any more."""
        if not self._is_first:
            answer = fcntl.fcntl(self._fd, _GET_LOCK, self._who_is_ahead)
            self._is_first = answer == self._nobody_ahead
        return self._is_first

    def _last_ahead(self) -> int | None:
        """The ticket number just before ours."""
        # The system names the oldest in a range: look back a little, then
        # further, then ask again for what is nearer
        fd, number = self._fd, self.number
        look_back = _FIRST_LOOK_BACK_NANOSECONDS
        found = _ticket_between(fd, number - look_back, number)
        if found is None:
            first = _ticket_between(fd, constants.TICKET_BASE, number)
            if first is None:
                return None
            while found is None:
                look_back *= 8
                start = max(first, number - look_back)
                found = _ticket_between(fd, start, number)
                if start == first:
                    found = found or first
        nearer: int | None = found
        while nearer is not None:
            found = nearer
            nearer = _ticket_between(fd, found + 1, number)
        return found

    def follow(self) -> bool:
        """Whether somebody is before us; connect to the last one of them.

        `predecessor` stays None where it cannot be reached.
        """
        if self.predecessor is not None:
            return True
        if self._is_first:
            return False
        self.stop_following()
        self.ahead = ahead = self._last_ahead()
        if ahead is None:
            self._is_first = True  # nobody arrives before us any more
            return False
        self.predecessor = _connect(self._file + b'%x' % ahead)
        return True

    def outlive_predecessor(self, seconds: float) -> bool:
        """Sleep until the predecessor is gone, or for `seconds`; which?"""
        assert self.predecessor is not None
        if not _wakeup_poll.wait_readable(self.predecessor, seconds):
            return False
        self.lose_predecessor()
        return True

    def lose_predecessor(self) -> None:
        """It is gone: its connection was readable."""
        # Closed later: every microsecond counts just now
        self._spent, self.predecessor = self.predecessor, None

    def stop_following(self) -> None:
        """Forget the predecessor."""
        for connection in (self.predecessor, self._spent):
            if connection is not None:
                connection.close()
        self.predecessor = self._spent = None

    def drop(self) -> None:
        """Leave the line; whoever follows is not woken yet."""
        # Not left to the close of fd: a forked child may share it
        request = _record_lock.pack_range(_NO_LOCK, self.number, 1)
        try:
            fcntl.fcntl(self._fd, _SET_LOCK, request)
        except (OSError, ValueError):  # the descriptor is closed already
            pass

    def wake_successors(self) -> None:
        """Let whoever follows us look for itself."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()


def take_ticket(
    fd: int, opened: os.stat_result, arrival: int, *, is_shared: bool = False
) -> Ticket | None:
    """Get in line at `arrival` (nanoseconds), or None where we cannot."""
    kind = _READ_LOCK if is_shared else _WRITE_LOCK
    file = b'\0portalocker-%x-%x-' % (opened.st_dev, opened.st_ino)
    first = constants.TICKET_BASE + arrival
    for number in range(first, first + _TICKET_TRIES):
        # Listen before the ticket can be seen, so that it can be followed
        listener = _listen(file + b'%x' % number)
        try:
            _lock_byte(fd, number, kind)
        except OSError as error:
            if listener is not None:
                listener.close()
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return None
        else:
            return Ticket(fd, file, number, listener)
    return None


def _lock_byte(fd: int, number: int, kind: int) -> None:
    try:
        request = _record_lock.pack_range(kind, number, 1)
        fcntl.fcntl(fd, _SET_LOCK, request)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        # Opened for reading only, or for writing only: the other kind is
        # seen as well
        other = _READ_LOCK if kind == _WRITE_LOCK else _WRITE_LOCK
        request = _record_lock.pack_range(other, number, 1)
        fcntl.fcntl(fd, _SET_LOCK, request)


def _unix_socket() -> _socket.socket:
    import _socket

    linux: Any = _socket
    return _socket.socket(
        linux.AF_UNIX,
        linux.SOCK_STREAM | linux.SOCK_NONBLOCK | linux.SOCK_CLOEXEC,
    )


def _listen(address: bytes) -> _socket.socket | None:
    try:
        listener = _unix_socket()
    except (OSError, ImportError):  # no descriptor left, or forbidden
        return None
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        return None
    return listener


def _connect(address: bytes) -> _socket.socket | None:
    try:
        connection = _unix_socket()
    except (OSError, ImportError):
        return None
    try:
        connection.connect(address)
    except OSError:  # in another network namespace, or gone, or full
        connection.close()
        return None
    return connection
