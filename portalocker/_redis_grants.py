"""Who reads what a session is sent: its thread, or a caller that waits.

A caller that waits for its grant looks at the socket itself, so nobody has
to wake it. It takes nothing but this grant; anything else it leaves in the
socket, for the thread. The thread never has to be woken for a change of
roles: what it sleeps at is told by the kernel to look at the socket or not.
"""

from __future__ import annotations

import _thread
import re
import select
import socket
import time

from . import _redis_endpoint, _redis_turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from . import _redis_claims, _redis_session

_CHUNK = 65536
# What only some systems have, see `can_look`
_kernel: Any = select
_GRANT = re.compile(
    rb'>3\r\n\$7\r\nmessage\r\n\$\d+\r\nportalocker:s:(\w+)\r\n\$\d+\r\n'
    rb'(grant (\w+) [\d,]+ \d+)\r\n'
)


def can_look(sock: socket.socket) -> bool:
    """Whether callers can look at what is there without taking it."""
    return hasattr(_kernel, 'epoll') and not hasattr(sock, 'pending')


class _Look:
    """One caller that looks."""

    def __init__(self) -> None:
        self.thread = _thread.get_ident()


class GrantWatch(_redis_turns.UsedByOne):
    """The place of the one caller that looks at a session's socket."""

    def __init__(
        self, session: _redis_session.RedisSession, sock: socket.socket
    ) -> None:
        super().__init__()
        self._session = session
        self._socket = sock
        #: readable where there is something for the thread
        self.arrivals = _kernel.epoll()
        self.arrivals.register(self._socket, _kernel.EPOLLIN)
        self._waker, self._wake_end = socket.socketpair()
        self._waker.settimeout(0)
        self._wake_end.settimeout(0)
        self._poll = _kernel.poll()
        self._poll.register(self._socket, _kernel.POLLIN)
        self._poll.register(self._wake_end, _kernel.POLLIN)

    def wait(self, claim: _redis_claims.Claim, seconds: float) -> bool:
        """Wait for a grant; whether it came, or the time is over.

        Otherwise somebody else looks, or something else has come.
        """
        me = _Look()
        try:
            if not self.take(me):
                return False
            try:
                self.arrivals.unregister(self._socket)
            except (OSError, ValueError):  # closed, or an exception came
                pass
            return self._look(claim, time.monotonic() + seconds)
        finally:
            if self.is_taken_by(me):
                try:
                    self._leave_to_thread()
                finally:
                    self.give_back(me)

    def yield_to_thread(self) -> None:
        """Have the thread read while we wait, in a handler, in a look."""
        look = self._users.get(None)
        if isinstance(look, _Look) and look.thread == _thread.get_ident():
            self._leave_to_thread()

    def _leave_to_thread(self) -> None:
        try:
            self.arrivals.register(self._socket, _kernel.EPOLLIN)
        except (OSError, ValueError):  # it is, closed, or a forked child
            pass

    def _look(self, claim: _redis_claims.Claim, deadline: float) -> bool:
        reader = _thread.get_ident()

        def wake() -> None:
            if _thread.get_ident() != reader:
                self._wake()

        while claim.prepare_pause(wake):
            pause = min(deadline - time.monotonic(), 86400.0)
            found = self._poll.poll(max(0.0, pause * 1e3))
            if not found:
                return True
            if any(number != self._socket.fileno() for number, _ in found):
                return self._is_woken()
            with self._session.reading:
                try:
                    data = self._socket.recv(_CHUNK, socket.MSG_PEEK)
                except BlockingIOError:  # the thread was faster
                    continue
                except OSError:  # reset, or closed: the thread tells
                    return False
                grant = _GRANT.fullmatch(data)
                if not grant or not self._session.is_own_grant(claim, grant):
                    return False
                self._socket.recv(len(data))
            return True
        return True

    def _is_woken(self) -> bool:
        try:
            return bool(self._wake_end.recv(_CHUNK))
        except OSError:  # the socket of a session that has just ended
            return False

    def _wake(self) -> None:
        try:
            self._waker.send(b'.')
        except OSError:
            pass

    def _close(self) -> None:
        for one in (self.arrivals, self._waker, self._wake_end):
            one.close()

    def forget_parent(self) -> None:
        """A forked child closes its copies."""
        self.arrivals.close()
        for one in (self._waker, self._wake_end):
            _redis_endpoint.close_copy(one)
