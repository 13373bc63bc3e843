"""The broken network breaks as it says."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from servers.proxy import BOTH, CLIENT, LONG, SERVER, Link, Proxy


class EchoServer:
    """Says what it hears; remembers how each connection ended."""

    def __init__(self) -> None:
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.address = self._listener.getsockname()
        self.heard: list[bytes] = []
        self.ends: list[str] = []
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        end = 'end'
        with sock:
            try:
                while part := sock.recv(65536):
                    self._note(self.heard, part)
                    sock.sendall(part)
            except OSError as error:
                end = type(error).__name__
        self._note(self.ends, end)

    def _note(self, where: list[bytes] | list[str], what: object) -> None:
        with self._changed:
            where.append(what)  # type: ignore[arg-type]
            self._changed.notify_all()

    def wait_for_end(self) -> str:
        with self._changed:
            assert self._changed.wait_for(lambda: self.ends, LONG)
        return self.ends.pop(0)

    def wait_until_heard(self, text: bytes) -> None:
        with self._changed:
            assert self._changed.wait_for(
                lambda: text in b''.join(self.heard), LONG
            )

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(LONG)
            assert not thread.is_alive()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[Proxy]:
    with Proxy(server.address) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with contextlib.closing(connect(proxy)) as sock:
        proxy.wait_for(lambda: bool(proxy.links))
        yield sock


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=LONG)


def echoed(sock: socket.socket, text: bytes) -> bytes:
    sock.sendall(text)
    return received(sock, len(text))


def received(sock: socket.socket, size: int) -> bytes:
    whole = b''
    while len(whole) < size:
        part = sock.recv(size - len(whole))
        assert part, f'the end came after {whole!r}'
        whole += part
    return whole


def is_silent(sock: socket.socket) -> bool:
    """Nothing comes, although the proxy was through with all it has."""
    return not select.select([sock], [], [], 0.02)[0]


def test_bytes_pass(client: socket.socket) -> None:
    assert echoed(client, b'hello') == b'hello'
    big = bytes(range(256)) * 4096
    threading.Thread(target=client.sendall, args=(big,)).start()
    assert received(client, len(big)) == big


def test_end_of_the_client_reaches_the_server(
    client: socket.socket, server: EchoServer, proxy: Proxy
) -> None:
    echoed(client, b'x')
    client.close()
    assert server.wait_for_end() == 'end'
    proxy.wait_for(lambda: not proxy.links)


def test_half_closed_connection_still_hears(client: socket.socket) -> None:
    client.sendall(b'last words')
    client.shutdown(socket.SHUT_WR)
    assert received(client, 10) == b'last words'
    assert client.recv(1) == b''


def test_delay_counts_for_each_way(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.delay(0.03)
    started = time.monotonic()
    assert echoed(client, b'slow') == b'slow'
    assert time.monotonic() - started >= 0.06
    proxy.heal()
    assert echoed(client, b'fast') == b'fast'


@pytest.mark.parametrize('toward', [CLIENT, SERVER, BOTH])
def test_what_was_held_arrives_when_healed(
    proxy: Proxy, client: socket.socket, toward: str
) -> None:
    proxy.hold(toward)
    client.sendall(b'held')
    assert is_silent(client)
    proxy.heal()
    assert received(client, 4) == b'held'
    assert echoed(client, b'more') == b'more'


def test_held_reply_does_not_hold_the_request(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    proxy.hold(CLIENT)
    client.sendall(b'request')
    server.wait_until_heard(b'request')
    assert is_silent(client)


def test_client_that_dies_in_a_partition_is_not_noticed(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    echoed(client, b'x')
    proxy.hold()
    client.close()
    proxy.wait_for(lambda: proxy.links[0].ways[SERVER].is_over)
    assert not server.ends
    proxy.heal()
    assert server.wait_for_end() == 'end'


def test_new_connection_is_in_the_partition_too(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.hold()
    with connect(proxy) as late:
        late.sendall(b'anybody?')
        assert is_silent(late)
        proxy.heal()
        assert received(late, 8) == b'anybody?'


def test_lost_reply_never_comes_and_healing_resets(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    proxy.lose(CLIENT)
    client.sendall(b'request')
    server.wait_until_heard(b'request')
    proxy.wait_for(lambda: proxy.links[0].ways[CLIENT].has_lost)
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.wait_for_end() == 'ConnectionResetError'


def test_link_that_lost_nothing_survives_healing(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.lose()
    proxy.heal()
    assert echoed(client, b'alive') == b'alive'


def test_reset_reaches_both_sides(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    echoed(client, b'x')
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert server.wait_for_end() == 'ConnectionResetError'
    assert not proxy.links


def test_end_reaches_both_sides(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    echoed(client, b'x')
    proxy.close_links()
    assert client.recv(1) == b''
    assert server.wait_for_end() == 'end'


def test_cut_toward_the_server_leaves_the_client_waiting(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    echoed(client, b'x')
    proxy.cut(SERVER)
    assert server.wait_for_end() == 'end'
    client.sendall(b'hello?')
    assert is_silent(client)


def test_cut_toward_the_client_leaves_the_server_waiting(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    echoed(client, b'x')
    proxy.cut(CLIENT)
    assert client.recv(1) == b''
    proxy.wait_for(lambda: CLIENT not in proxy.links[0].sockets)
    assert not server.ends


def test_refused_until_it_listens_again(
    proxy: Proxy, client: socket.socket
) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    assert echoed(client, b'old links live') == b'old links live'
    proxy.listen()
    with connect(proxy) as late:
        assert echoed(late, b'new') == b'new'
    assert proxy.accepted == 2


def test_fragments_arrive_one_by_one(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    proxy.fragment(1, SERVER)
    assert echoed(client, b'abcdefgh') == b'abcdefgh'
    assert b''.join(server.heard) == b'abcdefgh'


def test_strikes_when_the_bytes_come_by(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    struck = proxy.when(b'ask me', SERVER, lambda link: link.lose(CLIENT))
    assert echoed(client, b'before') == b'before'
    client.sendall(b'ask')
    assert received(client, 3) == b'ask'
    assert not struck.is_set()
    client.sendall(b' me')
    assert struck.wait(LONG)
    server.wait_until_heard(b'ask me')
    assert is_silent(client)


def test_strike_can_swallow_the_bytes_themselves(
    proxy: Proxy, client: socket.socket, server: EchoServer
) -> None:
    struck = proxy.when(b'secret', SERVER, Link.reset)
    client.sendall(b'secret')
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert struck.wait(LONG)
    assert server.wait_for_end() == 'ConnectionResetError'
    assert not server.heard


def test_server_that_is_not_there_resets(server: EchoServer) -> None:
    with socket.create_server(('127.0.0.1', 0)) as unused:
        address = unused.getsockname()
    with (
        Proxy(address) as proxy,
        pytest.raises(ConnectionResetError),
        connect(proxy) as client,
    ):
        client.recv(1)


def test_side_that_does_not_exist_is_refused(proxy: Proxy) -> None:
    with pytest.raises(ValueError, match='no side'):
        proxy.hold('left')
