"""A session that a thread listens to, and the sessions of this process."""

from __future__ import annotations

import _thread
import atexit
import re
import selectors
import socket
import threading
import time

from redis import client as redis_client
from redis import exceptions as redis_errors

from . import (
    _after_fork,
    _redis_commands,
    _redis_endpoint,
    _redis_grants,
    _redis_listening,
    _redis_mail,
    _redis_wire,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    from . import _redis_claims

_CHUNK = 65536
# A server that takes no more is asked again so soon
_UNSENT_SECONDS = 0.01


class RedisSession(_redis_listening.SessionListener):
    """A session on a connection of its own, which is opened once.

    `thread`
        listens, renews the holds, and tells of losses.
    """

    def __init__(self, endpoint: _redis_endpoint.Endpoint, name: str) -> None:
        super().__init__(endpoint)
        client_name = _as_client_name(name)
        self.connection = endpoint.connection(client_name)
        self.line = _redis_commands.ScriptLine(endpoint, client_name)
        #: guards reading, which never waits, and taking in what was read
        self.reading = threading.Lock()
        self._watch: _redis_grants.GrantWatch | None = None
        self._confirmations: dict[str, threading.Event] = {}
        self._parser = _redis_wire.ReplyParser()
        self._unsent = b''
        self._waker, self._wake_end = socket.socketpair()
        self._waker.settimeout(0)
        self._wake_end.settimeout(0)
        self.thread = SessionThread(self)

    def open(self, base: str) -> None:
        """Connect, subscribe, and listen from now on.

        Raises what the client raises where the server cannot be reached or
        does not let us in.
        """
        try:
            self._socket = _redis_endpoint.open_socket(self.connection)
            self._subscribe_first(self.dialect.channel(self.sid, base))
            self._socket.settimeout(0)
            if _redis_grants.can_look(self._socket):
                self._watch = _redis_grants.GrantWatch(self, self._socket)
            _after_fork.forget_in_child(self)
            self.thread.start()
        except BaseException:
            self.is_over = True
            self._close_sockets()
            raise

    def _subscribe_first(self, channel: str) -> None:
        """Subscribe to ourselves and wait for the confirmation."""
        self.own_channels[channel] = False
        self.post('HELLO', '3', answered=_must_be_no_error)
        self.post(self.dialect.subscribe, channel, answered=_must_be_taken)
        self._socket.settimeout(_redis_endpoint.CONNECT_SECONDS)
        try:
            self._socket.sendall(self.take_outgoing())
            while not self.own_channels[channel]:
                self._feed(self._socket.recv(_CHUNK))
        except OSError as error:
            raise redis_errors.ConnectionError(
                f'cannot open a session for locks: {error}'
            ) from error

    def listen_on(self, base: str) -> None:
        """Be there for locks that a cluster keeps in another slot.

        Waits for the server's confirmation; raises `ConnectionError` of the
        client where there is none. The locks that are held here stay.
        """
        channel = self.dialect.channel(self.sid, base)
        if self.own_channels.get(channel):
            return
        with self.mutex:
            event = self._confirmations.setdefault(channel, threading.Event())
            self.own_channels.setdefault(channel, False)
        refusals: list[str] = []

        def answered(answer: Any) -> None:
            if isinstance(answer, _redis_wire.ServerError):
                refusals.append(answer.text)
                self.own_channels.pop(channel, None)
                event.set()

        self.post(self.dialect.subscribe, channel, answered=answered)
        event.wait(_redis_endpoint.CONNECT_SECONDS)
        if self.is_over or not self.own_channels.get(channel):
            why = self.cause or ', '.join(refusals) or 'no answer'
            raise redis_errors.ConnectionError(
                f'cannot subscribe to a channel for locks: {why}'
            )

    def confirmed(self, channel: str) -> None:
        """Let those go on who wait for it."""
        event = self._confirmations.pop(channel, None)
        if event is not None:
            event.set()

    def attend(self) -> None:
        """Wake the thread; never waits, and may be called from anywhere."""
        try:
            self._waker.send(b'.')
        except OSError:  # it is awake, or the session is over
            pass

    def rest(self, claim: _redis_claims.Claim, seconds: float) -> None:
        """Sleep until something happens to a claim, or the time is over."""
        deadline = time.monotonic() + seconds
        is_in_line = claim.hold.is_undecided
        watch = self._watch
        if watch is None:
            park(claim, seconds)
        # what confirms a subscription is for the thread
        elif claim.unheard or not watch.wait(claim, seconds):
            watch.yield_to_thread()
            park(claim, deadline - time.monotonic())
        # whoever only waits needs no connection more
        self.line.waits += is_in_line and claim.is_held

    def is_own_grant(
        self, claim: _redis_claims.Claim, grant: re.Match[bytes]
    ) -> bool:
        """Take in what a caller found, if it is what it waits for."""
        sid, text, hid = (part.decode() for part in grant.groups())
        if (sid, hid) != (self.sid, claim.hid) or self._parser.has_begun:
            return False
        self.take_own(text.split(' '))
        return True

    # On the thread

    def listen(self) -> None:
        """Read, send and look at the clock until the session is over."""
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._wake_end, selectors.EVENT_READ)
                heard = self._watch.arrivals if self._watch else self._socket
                selector.register(heard, selectors.EVENT_READ)
                self._listen_with(selector)
            self._send()
            cause = 'the session was closed'
        except Exception as error:  # noqa: BLE001 - without us it is over
            cause = f'the connection is gone: {error!s}'
        forget_session(self)
        self._close_sockets()
        self.end(cause)
        for event in list(self._confirmations.values()):
            event.set()

    def _listen_with(self, selector: selectors.BaseSelector) -> None:
        next_look = 0.0
        while not self.is_over:
            moment = time.monotonic()
            if moment >= next_look or self.needs_look:
                self.needs_look = False
                next_look = time.monotonic() + self.look_at_clock()
                if self.is_idle():
                    self._end_if_idle()
            self.tell_losses()
            pause = next_look - time.monotonic()
            if not self._send():
                pause = min(pause, _UNSENT_SECONDS)
            selector.select(max(0.0, pause))
            # also where nothing is there: who looks may be stuck in a handler
            self._receive()

    def _end_if_idle(self) -> None:
        with self.mutex:
            self.is_over = not self.claims

    def _send(self) -> bool:
        """Send what there is; whether it is gone."""
        self._unsent += self.take_outgoing()
        while self._unsent:
            try:
                count = self._socket.send(self._unsent)
            except _LATER:
                return False
            self._unsent = self._unsent[count:]
        return True

    def _receive(self) -> None:
        try:
            self._wake_end.recv(_CHUNK)
        except BlockingIOError:
            pass
        # a handler may have stopped who looks just where it has this
        if not self.reading.acquire(timeout=_UNSENT_SECONDS):
            return
        try:
            self._receive_all()
        finally:
            self.reading.release()

    def _receive_all(self) -> None:
        while True:
            try:
                chunk = self._socket.recv(_CHUNK)
            except _LATER:
                return
            self._feed(chunk)
            if len(chunk) < _CHUNK and not hasattr(self._socket, 'pending'):
                return

    def _feed(self, chunk: bytes) -> None:
        if not chunk:
            raise ConnectionError('the server closed it')
        for message in self._parser.feed(chunk):
            self.take_in(message)

    def _close_sockets(self) -> None:
        self.line.close()
        if self._watch is not None:
            self._watch.close()
        self.connection.disconnect()
        self._waker.close()
        self._wake_end.close()

    def _forget_parent(self) -> None:
        """A forked child closes its copies; the parent's session lives."""
        self.is_over = True
        self.cause = 'it belongs to the parent process'
        for claim in self.living_claims():
            claim.hold.session_ended()  # who forked while waiting asks anew
        self.claims.clear()
        self.mutex = _thread.RLock()
        for sock in (self._socket, self._waker, self._wake_end):
            _redis_endpoint.close_copy(sock)
        self.line.forget_parent()
        if self._watch is not None:
            self._watch.forget_parent()


def _tls_later() -> tuple[type[OSError], ...]:
    """What TLS raises where a plain socket would block."""
    try:
        import ssl
    except ImportError:  # a Python without TLS
        return ()
    return ssl.SSLWantReadError, ssl.SSLWantWriteError


_LATER: tuple[type[OSError], ...] = (BlockingIOError, *_tls_later())


def park(claim: Any, seconds: float) -> None:
    """Sleep until something happens to a claim, or the time is over."""
    parker = _thread.allocate_lock()
    parker.acquire()
    if claim is None or claim.prepare_pause(parker.release):
        parker.acquire(timeout=max(0.0, min(seconds, threading.TIMEOUT_MAX)))


class SessionThread(redis_client.PubSubWorkerThread):
    """Listens to a session; a daemon, since a session ends with us anyway."""

    def __init__(self, session: RedisSession) -> None:
        super().__init__(session, sleep_time=0, daemon=True)
        self.name = 'portalocker-redis'

    def run(self) -> None:
        """Listen until the session is over."""
        self.pubsub.listen()

    def stop(self) -> None:
        """End the session, and with it every hold in it."""
        self.pubsub.close()


# Endpoint -> the session of this process; one is opened at a time
_sessions: dict[Hashable, RedisSession] = {}
_opening = threading.Lock()


def session_for(
    endpoint: _redis_endpoint.Endpoint, base: str, name: str
) -> RedisSession:
    """Return the session of this process, opened if there is none.

    Raises what the client raises where it cannot be opened.
    """
    session = _sessions.get(endpoint.key)
    if session is None or session.is_over:
        with _opening:
            session = _sessions.get(endpoint.key)
            if session is None or session.is_over:
                session = RedisSession(endpoint, name)
                session.open(base)
                atexit.unregister(_close_at_exit)
                atexit.register(_close_at_exit)
                _sessions[endpoint.key] = session
    if session.dialect.is_sharded:
        session.listen_on(base)
    return session


def forget_session(session: RedisSession) -> None:
    """Give the session to nobody any more."""
    if _sessions.get(session.endpoint.key) is session:
        del _sessions[session.endpoint.key]


def _close_at_exit() -> None:
    """Let go of what is held, without a word: the process ends."""
    for session in list(_sessions.values()):
        claims = session.living_claims()
        if claims and not session.is_over:
            # nobody will be there to send it where the server has it not
            session.post(
                *('SCRIPT', 'LOAD', session.dialect.release.text),
                answered=_redis_mail.ignore_answer,
            )
        for claim in claims:
            session.forget(claim)
    _end([session.thread for session in list(_sessions.values())])


def close_sessions() -> None:
    """End every session of this process and wait for their threads.

    Whatever is held is lost to its holder and free for others. There is no
    need to call it: a session that nobody uses ends by itself, and all end
    with the process. Called by `on_lost`, it does not wait.
    """
    # also those that are just telling of their end
    running = threading.enumerate()
    _end([each for each in running if isinstance(each, SessionThread)])


def _end(threads: list[SessionThread]) -> None:
    for thread in threads:
        thread.stop()
    if isinstance(threading.current_thread(), SessionThread):
        return  # two of them could wait for each other
    for thread in threads:
        thread.join()


class _Sessions:
    """Forgets the sessions of the parent in a forked child."""

    def _forget_parent(self) -> None:
        global _opening
        _sessions.clear()
        _opening = threading.Lock()


_sessions_of_parent = _Sessions()
_after_fork.forget_in_child(_sessions_of_parent)


def _as_client_name(name: str) -> str:
    """A name that servers accept: printable ASCII without spaces."""
    return re.sub('[^!-~]', '_', name)[:200]


def _must_be_taken(answer: Any) -> None:
    if isinstance(answer, _redis_wire.ServerError):
        raise ConnectionError(answer.text)


def _must_be_no_error(answer: Any) -> None:
    if isinstance(answer, _redis_wire.ServerError):
        raise redis_errors.ResponseError(
            'cannot open a session for locks: the server must be Redis 6.2 '
            f'or newer, or speak RESP3: {answer.text}'
        )
