"""A TCP proxy that does to a connection what networks do to it.

Put it between a client and a server; then break the network. What a method
says has happened when it returns. A side is `CLIENT` or `SERVER`; bytes go
*toward* one of them.

    with Proxy(('127.0.0.1', port)) as proxy:
        client = connect(proxy.host, proxy.port)

        proxy.delay(0.05)            # latency, on both ways
        proxy.hold()                 # a partition: silence on both ways,
        proxy.hold(CLIENT)           #   or only what the server says
        proxy.heal()                 # all that was held back arrives
        proxy.lose(CLIENT)           # bytes toward the client are gone
        proxy.cut(SERVER)            # half open: the server sees its end,
                                     #   the client hears nothing
        proxy.reset()                # RST to both sides
        proxy.close_links()          # FIN to both sides
        proxy.refuse()               # nobody listens any more ...
        proxy.listen()               # ... until now, at the same port
        proxy.fragment(1)            # bytes arrive one by one

Faults of the proxy hold for its connections and for those to come; each
`Link` of `proxy.links` has the same verbs for itself. To strike at a moment
of the protocol, wait for its bytes; the action runs in the proxy's thread,
before the bytes that were awaited are sent on:

    struck = proxy.when(b'EVALSHA', SERVER, lambda link: link.lose(CLIENT))
    ...                              # the reply of that command never comes
    assert struck.wait(LONG)

`proxy.accepted` counts the connections since the start, and
`proxy.wait_for(lambda: not proxy.links)` waits for a state.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

CLIENT: Final = 'client'
SERVER: Final = 'server'
BOTH: Final = 'both'

LONG = 15.0  # seconds: only ever reached by a failure
_CHUNK = 65536
_RESET = struct.pack('ii', 1, 0)  # SO_LINGER: close() sends RST


def _sides(toward: str) -> Iterator[str]:
    if toward not in {CLIENT, SERVER, BOTH}:
        raise ValueError(f'there is no side {toward!r}')
    yield from (CLIENT, SERVER) if toward == BOTH else (toward,)


class _Faults:
    """What happens to bytes toward one side."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.is_held = False
        self.is_lossy = False
        self.chunk = _CHUNK

    def copy(self) -> _Faults:
        faults = _Faults()
        faults.__dict__.update(self.__dict__)
        return faults


class _Way:
    """One direction of a link: bytes on their way toward one side."""

    def __init__(self, faults: _Faults) -> None:
        self.faults = faults
        # (when it may arrive, bytes); None is the end of the stream
        self.waiting: collections.deque[tuple[float, bytes | None]] = (
            collections.deque()
        )
        self.has_lost = False
        self.is_over = False  # its source said all
        self.tail = b''

    def put(self, part: bytes | None) -> None:
        if self.faults.is_lossy:
            self.has_lost = True
        else:
            due = time.monotonic() + self.faults.seconds
            self.waiting.append((due, part))

    def seconds_until_due(self) -> float | None:
        """None where nothing will be due whatever time passes."""
        if not self.waiting or self.faults.is_held:
            return None
        return max(0.0, self.waiting[0][0] - time.monotonic())

    def drop_all(self) -> None:
        self.has_lost = self.has_lost or bool(self.waiting)
        self.waiting.clear()


class Link:
    """One connection through the proxy; used as `proxy` says."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self._proxy = proxy
        self.sockets: dict[str, socket.socket] = {CLIENT: client}
        self.ways = {
            side: _Way(faults.copy()) for side, faults in proxy.faults.items()
        }

    def delay(self, seconds: float, toward: str = BOTH) -> None:
        """Bytes take this long."""
        self._change(toward, 'seconds', seconds)

    def hold(self, toward: str = BOTH) -> None:
        """Keep bytes, and ends, until `heal()`; nobody is told."""
        self._change(toward, 'is_held', True)

    def lose(self, toward: str = BOTH) -> None:
        """Throw away bytes, and ends, until `heal()`; nobody is told."""

        def lose() -> None:
            for side in _sides(toward):
                self.ways[side].faults.is_lossy = True
                self.ways[side].drop_all()

        self._proxy._do(lose)

    def fragment(self, size: int, toward: str = BOTH) -> None:
        """Bytes arrive at most this many at a time."""
        self._change(toward, 'chunk', size)

    def heal(self) -> None:
        """End delay, hold and loss; a link that lost bytes is reset."""

        def heal() -> None:
            if any(way.has_lost for way in self.ways.values()):
                self._end(_RESET)
            for way in self.ways.values():
                way.faults = _Faults()

        self._proxy._do(heal)

    def cut(self, side: str) -> None:
        """End the connection on one side; the other hears nothing."""

        def cut() -> None:
            for name in _sides(side):
                self._close(name, None)
                self.ways[name].drop_all()
            for way in self.ways.values():
                way.faults.is_lossy = True

        self._proxy._do(cut)

    def reset(self) -> None:
        """Both sides see the connection reset."""
        self._proxy._do(lambda: self._end(_RESET))

    def close(self) -> None:
        """Both sides see the end of the connection."""
        self._proxy._do(lambda: self._end(None))

    def _change(self, toward: str, name: str, value: Any) -> None:
        def change() -> None:
            for side in _sides(toward):
                setattr(self.ways[side].faults, name, value)

        self._proxy._do(change)

    def _close(self, side: str, linger: bytes | None) -> None:
        sock = self.sockets.pop(side, None)
        if sock is None:
            return
        if linger is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        sock.close()

    def _end(self, linger: bytes | None) -> None:
        for side in list(self.sockets):
            self._close(side, linger)
        self._proxy._forget(self)


def _other(side: str) -> str:
    return SERVER if side == CLIENT else CLIENT


class Proxy:
    """A port on the loopback that leads to `target`, more or less.

    `target` is a (host, port), or the path of a Unix socket.
    """

    def __init__(self, target: tuple[str, int] | str) -> None:
        self.target = target
        self.faults = {CLIENT: _Faults(), SERVER: _Faults()}
        self.links: list[Link] = []
        self.accepted = 0
        self._awaited: list[
            tuple[bytes, str, Callable[[Link], object], threading.Event]
        ] = []
        self._listener: socket.socket | None = _listening(('127.0.0.1', 0))
        self.host, self.port = self._listener.getsockname()
        self._errands: queue.SimpleQueue[Callable[[], object]] = (
            queue.SimpleQueue()
        )
        self._wake_read, self._wake_write = os.pipe()
        self._has_changed = threading.Condition()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name='proxy')

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._do(self._stop)
        self._thread.join(LONG)
        assert not self._thread.is_alive(), 'the proxy does not end'
        os.close(self._wake_read)
        os.close(self._wake_write)

    def delay(self, seconds: float, toward: str = BOTH) -> None:
        """Bytes take this long."""
        self._change(toward, 'seconds', seconds)
        self._each(lambda link: link.delay(seconds, toward))

    def hold(self, toward: str = BOTH) -> None:
        """Keep bytes, and ends, until `heal()`; nobody is told."""
        self._change(toward, 'is_held', True)
        self._each(lambda link: link.hold(toward))

    def lose(self, toward: str = BOTH) -> None:
        """Throw away bytes, and ends, until `heal()`; nobody is told."""
        self._change(toward, 'is_lossy', True)
        self._each(lambda link: link.lose(toward))

    def fragment(self, size: int, toward: str = BOTH) -> None:
        """Bytes arrive at most this many at a time."""
        self._change(toward, 'chunk', size)
        self._each(lambda link: link.fragment(size, toward))

    def heal(self) -> None:
        """End delay, hold and loss; links that lost bytes are reset."""

        def heal() -> None:
            self.faults = {CLIENT: _Faults(), SERVER: _Faults()}

        self._do(heal)
        self._each(lambda link: link.heal())

    def cut(self, side: str) -> None:
        """End the connections on one side; the other hears nothing."""
        self._each(lambda link: link.cut(side))

    def reset(self) -> None:
        """Both sides see their connections reset."""
        self._each(lambda link: link.reset())

    def close_links(self) -> None:
        """Both sides see the end of their connections."""
        self._each(lambda link: link.close())

    def refuse(self) -> None:
        """New connections are refused, until `listen()`."""

        def refuse() -> None:
            listener, self._listener = self._listener, None
            if listener is not None:
                listener.close()

        self._do(refuse)

    def listen(self) -> None:
        """New connections are taken again, at the same port."""

        def listen() -> None:
            if self._listener is None:
                self._listener = _listening((self.host, self.port))

        self._do(listen)

    def when(
        self, pattern: bytes, toward: str, action: Callable[[Link], object]
    ) -> threading.Event:
        """Act once, when these bytes come by; the event tells that it did."""
        happened = threading.Event()
        (side,) = _sides(toward)
        self._do(
            lambda: self._awaited.append((pattern, side, action, happened))
        )
        return happened

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until this is true of the proxy."""
        with self._has_changed:
            assert self._has_changed.wait_for(is_so, LONG), 'it never was so'

    def _change(self, toward: str, name: str, value: Any) -> None:
        def change() -> None:
            for side in _sides(toward):
                setattr(self.faults[side], name, value)

        self._do(change)

    def _each(self, act: Callable[[Link], object]) -> None:
        self._do(lambda: [act(link) for link in list(self.links)])

    def _do(self, errand: Callable[[], object]) -> None:
        """Run it between two steps of the proxy; wait until it ran."""
        if threading.current_thread() is self._thread:
            errand()
            return
        answer: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                errand()
            except BaseException as error:
                answer.put(error)
            else:
                answer.put(None)

        self._errands.put(run)
        os.write(self._wake_write, b'!')
        error = answer.get(timeout=LONG)
        if error is not None:
            raise error

    def _stop(self) -> None:
        self._is_over = True
        for link in list(self.links):
            link._end(None)
        if self._listener is not None:
            self._listener.close()

    def _forget(self, link: Link) -> None:
        if link in self.links:
            self.links.remove(link)

    def _run(self) -> None:
        while not self._is_over:
            self._step()
        self._tell_change()

    def _tell_change(self) -> None:
        with self._has_changed:
            self._has_changed.notify_all()

    def _step(self) -> None:
        timeout = self._send_what_is_due()
        self._tell_change()  # of this step and of the last one
        poll = select.poll()
        readers = self._register(poll)
        found = {fd for fd, _ in poll.poll(timeout)}
        if self._wake_read in found:
            os.read(self._wake_read, _CHUNK)
            while not self._errands.empty():
                self._errands.get()()
        elif self._listener is not None and self._listener.fileno() in found:
            self._accept()
        else:
            for fd in found & readers.keys():
                self._receive(*readers[fd])

    def _register(self, poll: select.poll) -> dict[int, tuple[Link, str]]:
        """Who is read from: descriptor -> (link, side it comes from)."""
        poll.register(self._wake_read, select.POLLIN)
        if self._listener is not None:
            poll.register(self._listener, select.POLLIN)
        readers: dict[int, tuple[Link, str]] = {}
        for link in self.links:
            for side, sock in link.sockets.items():
                if not link.ways[_other(side)].is_over:
                    readers[sock.fileno()] = link, side
                    poll.register(sock, select.POLLIN)
        return readers

    def _send_what_is_due(self) -> float | None:
        """Send; return milliseconds until more is due, None for never."""
        pauses: list[float] = []
        for link in list(self.links):
            for side in (CLIENT, SERVER):
                way = link.ways[side]
                while way.seconds_until_due() == 0.0:
                    if not self._send(link, side):
                        pauses.append(0.001)  # its buffer is full
                        break
                seconds = way.seconds_until_due()
                if seconds:
                    pauses.append(seconds)
        return min(pauses) * 1000 + 1 if pauses else None

    def _send(self, link: Link, side: str) -> bool:
        """Send the next part toward this side; whether it could be sent."""
        way = link.ways[side]
        _, part = way.waiting.popleft()
        sock = link.sockets.get(side)
        if sock is None:
            return True
        try:
            if part is None:
                sock.shutdown(socket.SHUT_WR)
                if all(w.is_over and not w.waiting
                       for w in link.ways.values()):  # fmt: skip
                    link._end(None)
                return True
            sent = sock.send(part[: way.faults.chunk])
        except BlockingIOError:
            way.waiting.appendleft((0.0, part))
            return False
        except OSError:
            link._end(_RESET)
            return True
        if sent < len(part):
            way.waiting.appendleft((0.0, part[sent:]))
        return True

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.setblocking(False)
        link = Link(self, client)
        self.accepted += 1
        try:
            link.sockets[SERVER] = _connected(self.target)
        except OSError:
            link._close(CLIENT, _RESET)
        else:
            self.links.append(link)

    def _receive(self, link: Link, side: str) -> None:
        """Take what one side says, on its way toward the other."""
        sock = link.sockets.get(side)
        if sock is None:
            return
        toward = _other(side)
        way = link.ways[toward]
        try:
            part = sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:  # it was reset
            way.is_over = True
            if way.faults.is_held or way.faults.is_lossy:
                way.put(None)
            else:
                link._end(_RESET)
            return
        if not part:
            way.is_over = True
            way.put(None)
            return
        self._strike(link, toward, part)
        way.put(part)

    def _strike(self, link: Link, toward: str, part: bytes) -> None:
        way = link.ways[toward]
        seen = way.tail + part
        for awaited in list(self._awaited):
            pattern, side, action, happened = awaited
            if side == toward and pattern in seen:
                self._awaited.remove(awaited)
                action(link)
                happened.set()
        way.tail = seen[-256:]


def _listening(address: tuple[str, int]) -> socket.socket:
    return socket.create_server(address, backlog=1024)


def _connected(target: tuple[str, int] | str) -> socket.socket:
    if isinstance(target, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(target)
    else:
        sock = socket.create_connection(target)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock
