"""One connection as a conversation: a statement, then its reply."""

from __future__ import annotations

import contextlib
import select
import time

import psycopg
from psycopg import pq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _postgres_sql

    Rows = list[tuple[bytes | None, ...]]

#: how long a server may take to answer what takes it no time
ANSWER_SECONDS = 10.0
#: a cancellation may overtake the statement it is meant for: say it again
CANCEL_AGAIN_SECONDS = 0.2
# What a system call takes as a number of milliseconds
_LONGEST_WAIT_MS = 2**31 - 1

# Each system has its part of it
_select: Any = select

LOCK_NOT_AVAILABLE = '55P03'
DEADLOCK_DETECTED = '40P01'
QUERY_CANCELED = '57014'
_DUPLICATE_STATEMENT = '42P05'


class Refused(Exception):
    """The server said no to a statement."""

    def __init__(self, sqlstate: str, text: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class WireLost(Exception):
    """The connection is gone, and with it whatever was held in it."""


class NoAnswer(WireLost):
    """The server is there, and says nothing."""


class Abandoned(BaseException):
    """Whoever awaited the reply does not want it any more."""


class Wire:
    """A connection of our own; one thread speaks at a time."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._wire = connection.pgconn
        self.fd = self._wire.socket
        self.server_version = self._wire.server_version
        self.backend_pid = self._wire.backend_pid
        self._prepared: set[bytes] = set()
        # what the server was told, in milliseconds
        self.lock_timeout = 0
        # a reply that was read on behalf of whoever awaits it
        self._drained: tuple[Rows, Refused | None] | None = None
        self._last_words = ''
        connection.add_notice_handler(self._hear)

    def execute(self, text: str) -> Rows:
        """Run statements that take no time; the rows of the last one."""
        self._wire.send_query(text.encode())
        return self.reply()

    def ask(self, statement: _postgres_sql.Statement, values: Any) -> Rows:
        """Run a statement that takes no time; its rows."""
        try:
            self.say(statement, values)
            return self.reply()
        except (Refused, WireLost):
            raise
        except BaseException:  # Ctrl-C: it is answered nevertheless
            self.settle()
            raise

    def say(self, statement: _postgres_sql.Statement, values: Any) -> None:
        """Send a statement; `reply()` waits for what it says."""
        if statement.name not in self._prepared:
            self._wire.send_prepare(statement.name, statement.text.encode())
            try:
                self.reply()
            except Refused as refusal:
                # it was interrupted the first time, and prepared all the same
                if refusal.sqlstate != _DUPLICATE_STATEMENT:
                    raise
            self._prepared.add(statement.name)
        self._drained = None
        self._wire.send_query_prepared(statement.name, values)

    def reply(self, seconds: float | None = None, waker: Any = None) -> Rows:
        """Wait for all that the server has to say to the statement.

        Raises `Refused`, or `WireLost` where it said nothing for so long, or
        `Abandoned` where there is something to read from the waker.
        """
        rows, refusal = self._collect(
            ANSWER_SECONDS if seconds is None else seconds, waker
        )
        if refusal is not None:
            if self._wire.status != pq.ConnStatus.OK:
                raise WireLost(str(refusal))
            raise refusal
        return rows

    def _collect(
        self, seconds: float, waker: Any = None
    ) -> tuple[Rows, Refused | None]:
        refusal: Refused | None = None
        rows: Rows = []
        has_result = False
        try:
            while (result := self._next_result(seconds, waker)) is not None:
                # the answer to a nudge is none
                has_result |= result.status != pq.ExecStatus.EMPTY_QUERY
                if result.status == pq.ExecStatus.TUPLES_OK:
                    rows = _rows_of(result)
                elif result.status == pq.ExecStatus.FATAL_ERROR:
                    refusal = refusal or _refusal(result)
        except psycopg.OperationalError as error:
            raise WireLost(self.why(error)) from None
        if not has_result and self._drained is not None:
            return self._drained
        return rows, refusal

    def _next_result(self, seconds: float, waker: Any) -> Any:
        wire = self._wire
        while wire.flush():
            _wait(self.fd, seconds, for_writing=True)
        while wire.is_busy():
            if not _wait(self.fd, seconds, waker=waker):
                raise NoAnswer('the server does not answer')
            wire.consume_input()
        return wire.get_result()

    def settle(self) -> None:
        """Read what the server still has to say; raises `WireLost`."""
        if self.is_busy():
            self._collect(ANSWER_SECONDS)

    def is_busy(self) -> bool:
        """Whether a statement has no reply yet."""
        status: int = self._wire.transaction_status
        return status == pq.TransactionStatus.ACTIVE

    def interrupt(self, words: Callable[[], Rows]) -> Rows:
        """Speak in a signal handler, while this thread awaits a reply."""
        drained = self._collect(ANSWER_SECONDS)
        try:
            return words()
        finally:
            # who awaited the reply sleeps on, until something comes
            self._wire.send_query(b'')
            self._drained = drained

    def cancel(self) -> None:
        """Have the server end the statement; any thread may call this."""
        with contextlib.suppress(psycopg.Error):
            self.connection.cancel_safe(timeout=ANSWER_SECONDS)

    def cancel_until_heard(self) -> None:
        """End the statement that was just sent; its reply is to be read."""
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until:
            self.cancel()
            if _wait(self.fd, CANCEL_AGAIN_SECONDS):
                return

    def listen(self) -> None:
        """Hear what the server says of its own accord; `WireLost`."""
        try:
            self._wire.consume_input()
            self._wire.is_busy()
        except psycopg.OperationalError as error:
            raise WireLost(self.why(error)) from None
        if self._wire.status != pq.ConnStatus.OK:
            raise WireLost(self._last_words)

    def has_hung_up(self) -> bool:
        """Whether the other side ended the connection, where we can see."""
        try:
            fd = self._wire.socket
        except psycopg.OperationalError:  # libpq closed it
            return True
        poll = _select.poll()
        poll.register(fd, getattr(select, 'POLLRDHUP', 0))
        return bool(poll.poll(0))

    def why(self, error: Exception | None = None) -> str:
        """Why the connection ended: what the server said last, or libpq."""
        text = self._last_words or str(error or '').strip()
        return text.partition('\n')[0].removeprefix('consuming input failed: ')

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(psycopg.Error):
            self.connection.close()

    def _hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == 'FATAL':
            self._last_words = diagnostic.message_primary or ''


def milliseconds(seconds: float) -> int:
    """What lock_timeout is to be; 0 is for ever."""
    if seconds * 1000 >= _LONGEST_WAIT_MS:
        return 0
    return max(1, int(seconds * 1000 + 0.999))


def _wait(
    fd: int, seconds: float, *, for_writing: bool = False, waker: Any = None
) -> bool:
    """Sleep until the socket is ready; whether it is."""
    if not hasattr(_select, 'poll'):  # Windows
        wakers = [] if waker is None else [waker]
        readers, writers = ([], [fd]) if for_writing else ([fd, *wakers], [])
        seconds = min(seconds, _LONGEST_WAIT_MS / 1000)
        ready = select.select(readers, writers, [], seconds)
        if waker in ready[0]:
            raise Abandoned
        return any(map(bool, ready))
    poll = _select.poll()
    poll.register(fd, _select.POLLOUT if for_writing else _select.POLLIN)
    if waker is not None:
        poll.register(waker, _select.POLLIN)
    deadline = time.monotonic() + seconds
    while True:
        seconds = max(0.0, deadline - time.monotonic())
        ready = poll.poll(min(seconds * 1000, _LONGEST_WAIT_MS))
        if any(found != fd for found, _ in ready):
            raise Abandoned
        if ready:
            return True
        if seconds == 0.0:
            return False


def _rows_of(result: Any) -> Rows:
    columns = range(result.nfields)
    return [
        tuple(result.get_value(row, column) for column in columns)
        for row in range(result.ntuples)
    ]


def _refusal(result: Any) -> Refused:
    def field(name: pq.DiagnosticField) -> str:
        return (result.error_field(name) or b'').decode('utf-8', 'replace')

    text = field(pq.DiagnosticField.MESSAGE_PRIMARY)
    detail = field(pq.DiagnosticField.MESSAGE_DETAIL)
    if detail:
        text += ': ' + ' '.join(detail.split())
    return Refused(field(pq.DiagnosticField.SQLSTATE), text)
