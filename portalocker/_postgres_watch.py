"""One thread that sees connections end, and does what nobody waits for."""

from __future__ import annotations

import queue
import select
import socket
import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _postgres_session

#: seconds without a lock after which a connection is closed, at least
IDLE_SECONDS = 30.0
# Where the system cannot tell a hang-up from data, we look this often
_LOOK_SECONDS = 1.0

# Linux: an end of the other side wakes us, an answer does not
_select: Any = select
_HANG_UP = getattr(select, 'EPOLLRDHUP', 0)


class Watch:
    """The open sessions of this process, and the thread that watches them.

    The thread lives as long as there is a session. Its name is that of the
    package; it never keeps a process alive.
    """

    def __init__(self, on_tick: Callable[[], object]) -> None:
        # guards _sessions and _thread
        self._mutex = threading.Lock()
        self._sessions: dict[int, _postgres_session.Session] = {}
        self._thread: threading.Thread | None = None
        self._errands: queue.SimpleQueue[Callable[[], object]] = (
            queue.SimpleQueue()
        )
        self._on_tick = on_tick
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.settimeout(0.0)
        self._wake_write.settimeout(0.0)
        self._epoll: Any = None
        if _HANG_UP:
            self._epoll = _select.epoll()
            self._epoll.register(self._wake_read, _select.EPOLLIN)

    def add(self, session: _postgres_session.Session) -> None:
        """Watch a session from now on."""
        with self._mutex:
            self._sessions[session.wire.fd] = session
            if self._epoll is not None:
                events = _HANG_UP | _select.EPOLLONESHOT
                self._epoll.register(session.wire.fd, events)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name='portalocker.postgres', daemon=True
                )
                self._thread.start()

    def discard(self, session: _postgres_session.Session) -> None:
        """The session is about to be closed: watch it no more."""
        with self._mutex:
            if self._sessions.get(session.wire.fd) is not session:
                return
            del self._sessions[session.wire.fd]
            if self._epoll is not None:
                try:
                    self._epoll.unregister(session.wire.fd)
                except OSError:  # libpq closed it
                    pass
            is_last = not self._sessions
        if is_last:
            self._wake()

    def join(self) -> None:
        """Wait for the end of the thread, if there is nothing to watch."""
        with self._mutex:
            thread = None if self._sessions else self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def post(self, errand: Callable[[], object]) -> None:
        """Have the thread run this; never waits, also within a collection."""
        self._errands.put(errand)
        self._wake()

    def close(self) -> None:
        """At the exit, and in a forked child, whose copies these are."""
        self._wake_read.close()
        self._wake_write.close()
        if self._epoll is not None:
            self._epoll.close()

    def _wake(self) -> None:
        try:
            self._wake_write.send(b'!')
        except OSError:  # it is full: the thread wakes anyway
            pass

    def _run(self) -> None:
        ticked = time.monotonic()
        while True:
            for session in self._wait():
                session.note_hang_up()
            while not self._errands.empty():
                self._errands.get()()
            if time.monotonic() - ticked >= IDLE_SECONDS:
                ticked = time.monotonic()
                self._on_tick()
            with self._mutex:
                if not self._sessions and self._errands.empty():
                    self._thread = None
                    return

    def _wait(self) -> list[_postgres_session.Session]:
        """Sleep; return the sessions that may be over."""
        if self._epoll is not None:
            found = [fd for fd, _ in self._epoll.poll(IDLE_SECONDS)]
            with self._mutex:
                over = [self._sessions.get(fd) for fd in found]
        else:
            select.select([self._wake_read], [], [], _LOOK_SECONDS)
            with self._mutex:
                sessions = list(self._sessions.values())
            over = [s for s in sessions if not s.is_alive()]
        try:
            self._wake_read.recv(4096)
        except OSError:  # nobody woke us
            pass
        return [session for session in over if session is not None]
