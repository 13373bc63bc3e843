"""A session: one connection of our own, and the locks it holds."""

from __future__ import annotations

import _thread
import contextlib
import signal
import sys
import threading

from . import _holdings, _postgres_wire, _warning, exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import _deadline, _listening, _postgres_pool, _postgres_sql

logger: Any = _warning.lazy_logger('portalocker.postgres')

#: how long a server may take to say that the time is over
GRACE_SECONDS = 5.0

# Statements that ended so did not take the lock
_NOT_GRANTED = frozenset(
    (
        _postgres_wire.LOCK_NOT_AVAILABLE,
        _postgres_wire.DEADLOCK_DETECTED,
        _postgres_wire.QUERY_CANCELED,
    )
)

# Whoever sees a loss first tells of it
_losses = threading.Lock()


class Hold(_holdings.Holding):
    """One lock in a session: asked for | held | lost | let go."""

    def __init__(
        self,
        name: str,
        key: _postgres_sql.Key,
        verbs: _postgres_sql.Verbs,
        *,
        is_shared: bool,
        on_lost: Callable[[exceptions.LockLostError], object] | None,
        interrupt_on_lost: bool,
    ) -> None:
        super().__init__(None, None)
        self.name = name
        self.key = key
        self.verbs = verbs
        self.is_shared = is_shared
        self.token: int | None = None
        # The session, from the grant on
        self.session: Session | None = None
        self.is_let_go = False
        # Its lock object is gone
        self.is_forgotten = False
        # Something to read there ends the wait for the lock
        self.waker: Any = None
        # Why it was lost; a hold that was lost stays lost
        self.loss: str | None = None
        self.on_lost = on_lost
        self._interrupt_on_lost = interrupt_on_lost
        # Who is told when it has to wait; None: nobody
        self.counted_wait: Any = None
        self._is_counted_waiting = False

    def waits(self) -> None:
        """Others are before us; whoever counts is told once."""
        if not self._is_counted_waiting:
            self._is_counted_waiting = True
            self.counted_wait.waits()

    def waits_no_more(self) -> None:
        """It is held, or given up."""
        counted, self.counted_wait = self.counted_wait, None
        if self._is_counted_waiting:
            self._is_counted_waiting = False
            counted.waits_no_more()

    def is_counted_by(self, acquiring: _listening.Acquiring) -> None:
        """The `acquire()` that is told to whoever counts succeeded."""
        acquiring.holds(self)
        if self.is_let_go:  # another thread was faster than we
            self.stop_counting()

    def is_over(self) -> bool:
        """A hold that was lost is still there to be released."""
        return self.is_let_go

    def is_held(self) -> bool:
        """Whether it is still ours, as far as our end of the line knows."""
        return (
            self.session is not None
            and not self.is_let_go
            and self.session.is_alive()
            and self.loss is None
        )

    def error(self) -> exceptions.LockLostError:
        """The loss, to be raised."""
        return exceptions.LockLostError(
            f'lost the lock {self.name!r} while it was held: {self.loss}',
            filename=self.name,
            token=self.token,
        )

    def note_loss(self, reason: str) -> None:
        """Remember it, and have the owner told, once."""
        with _losses:
            if self.loss is not None or self.session is None:
                return
            self.loss = reason
        self.session.endpoint.watch.post(self._tell_owner)

    def _tell_owner(self) -> None:
        failure = self.error()
        logger.warning('%s', failure)
        if self._interrupt_on_lost:
            _interrupt_main_thread()
        if self.on_lost is None:
            return
        try:
            self.on_lost(failure)
        except Exception:
            logger.exception('on_lost of %r failed', self.name)


class Session:
    """A connection that is ours alone: idle | lent to a thread | lost.

    That thread may sleep in the server, waiting for a lock. Others, and its
    own signal handlers, interject what is quick.
    """

    def __init__(
        self, endpoint: _postgres_pool.Endpoint, wire: _postgres_wire.Wire
    ) -> None:
        self.endpoint = endpoint
        self.wire = wire
        # holds, and those that are asked for; guarded by the endpoint's mutex
        self.users: set[object] = set()
        self.claimant: _holdings.Claimant | None = None
        self.idle_since = 0.0
        self.holds: set[Hold] = set()
        self.loss: str | None = None
        # something may be held in it that nobody knows of
        self.is_tainted = False
        # it had an answer after it was opened
        self.has_served = False
        # sequences that are ready to give tokens
        self.sequences: set[str | None] = {None}
        # Held by whoever speaks to the server. `with` and a lock of the
        # interpreter: no signal can come between, and leave it locked
        self._mutex = threading.RLock()
        # the thread that speaks; a signal handler finds itself here
        self._speaker: int | None = None
        # those who want to speak, perhaps while the owner waits in the server
        self._knocking: set[object] = set()
        # the owner lets them
        self._is_aside = False
        self._is_waiting = False
        # a signal handler ended the wait in order to speak
        self._was_disturbed = False
        self._has_stopped_waiting = threading.Condition()

    def run(self, text: str) -> _postgres_wire.Rows:
        """Run statements of one text that take no time."""
        return self._speak(lambda: self.wire.execute(text))

    def ask(
        self, statement: _postgres_sql.Statement, values: Any
    ) -> _postgres_wire.Rows:
        """Ask what is quick; who waits for a lock here steps aside.

        Raises `Refused` or `WireLost`.
        """
        knock = object()
        try:
            # first: who begins to wait looks for it after it says so
            self._knocking.add(knock)
            if self._is_waiting and self._speaker != threading.get_ident():
                self._end_wait()
            return self._speak(lambda: self.wire.ask(statement, values))
        finally:
            self._knocking.discard(knock)
            if self._is_aside:
                with self._has_stopped_waiting:
                    self._has_stopped_waiting.notify_all()

    def _step_aside(self) -> None:
        """Let those speak who knock; the owner waits on after them."""
        if not self._knocking:
            return
        with self._has_stopped_waiting:
            self._is_aside = True
            while self._knocking:  # a signal may have kept them from telling
                self._has_stopped_waiting.wait(
                    _postgres_wire.CANCEL_AGAIN_SECONDS
                )
            self._is_aside = False

    def _end_wait(self) -> None:
        """Have the owner of this session stop waiting for a moment."""
        while self._is_waiting:
            self.wire.cancel()
            with self._has_stopped_waiting:
                self._has_stopped_waiting.wait_for(
                    lambda: not self._is_waiting,
                    _postgres_wire.CANCEL_AGAIN_SECONDS,
                )

    def _speak(
        self, words: Callable[[], _postgres_wire.Rows]
    ) -> _postgres_wire.Rows:
        with self._mutex:
            before = self._speaker
            try:
                if self.loss is not None:
                    raise _postgres_wire.WireLost(self.loss)
                self._speaker = threading.get_ident()
                if before is not None and self.wire.is_busy():
                    return self._interrupt(words)
                return words()
            except _postgres_wire.WireLost as error:
                self.lose(str(error))
                raise
            finally:
                self._speaker = before
                if self.loss is not None and before is None:
                    self._shut()

    def _interrupt(
        self, words: Callable[[], _postgres_wire.Rows]
    ) -> _postgres_wire.Rows:
        """In a signal handler: end what this thread was just saying."""
        if self._is_waiting:
            self._was_disturbed = True
            self.wire.cancel()
        return self.wire.interrupt(words)

    def take(self, hold: Hold, deadline: _deadline.Deadline | None) -> bool:
        """Wait for the lock until the deadline; None: do not wait at all.

        Whether it is held now. Raises `Refused` or `WireLost`.
        """
        try:
            rows = self._ask_for_lock(hold, deadline)
            token = rows[0][0]
            if token is None:
                return False
            hold.token = int(token) or None
            hold.session = self
            self.holds.add(hold)
        except _postgres_wire.Refused as refusal:
            if refusal.sqlstate == _postgres_wire.LOCK_NOT_AVAILABLE:
                return False
            if refusal.sqlstate not in _NOT_GRANTED:
                self._undo(hold)
            raise
        except BaseException:
            self._undo(hold)
            raise
        self.has_served = True
        return True

    def _ask_for_lock(
        self, hold: Hold, deadline: _deadline.Deadline | None
    ) -> _postgres_wire.Rows:
        if deadline is not None and hold.counted_wait is None:
            return self._wait_for_lock(hold, deadline)
        # whoever counts wants to know whether others are before us
        rows = self.ask(hold.verbs.try_lock, hold.key.values)
        if deadline is None or rows[0][0] is not None:
            return rows
        hold.waits()
        return self._wait_for_lock(hold, deadline)

    def _undo(self, hold: Hold) -> None:
        """Nobody knows whether it is held: make sure that it is not."""
        # so that the connection is closed when nothing else is held in it
        self.is_tainted = True
        others = self.holds - {hold}
        if others and all(hold.key != held.key for held in others):
            with contextlib.suppress(
                _postgres_wire.Refused, _postgres_wire.WireLost
            ):
                self.ask(hold.verbs.unlock, hold.key.values)
        self.holds.discard(hold)
        hold.session = None

    def _wait_for_lock(
        self, hold: Hold, deadline: _deadline.Deadline
    ) -> _postgres_wire.Rows:
        while True:
            self._step_aside()
            self._was_disturbed = False
            try:
                return self._speak(
                    lambda: self._wait_in_server(hold, deadline)
                )
            except _postgres_wire.Refused as refusal:
                # without interjections it was an administrator
                if refusal.sqlstate != _postgres_wire.QUERY_CANCELED or not (
                    self._knocking or self._was_disturbed
                ):
                    raise

    def _wait_in_server(
        self, hold: Hold, deadline: _deadline.Deadline
    ) -> _postgres_wire.Rows:
        remaining = max(0.0, deadline.remaining())
        try:
            self._limit_wait(remaining)
            self._is_waiting = True
            self.wire.say(hold.verbs.lock, hold.key.values)
            if self._knocking:  # they may not have seen us wait
                self.wire.cancel_until_heard()
            return self.wire.reply(remaining + GRACE_SECONDS, hold.waker)
        except (_postgres_wire.Refused, _postgres_wire.WireLost):
            raise
        except BaseException:  # Ctrl-C: leave the queue
            self.wire.cancel()
            self.wire.settle()
            raise
        finally:
            self._is_waiting = False
            if self._knocking:
                with self._has_stopped_waiting:
                    self._has_stopped_waiting.notify_all()

    def _limit_wait(self, seconds: float) -> None:
        """Have the server give up waiting after this time."""
        limit = _postgres_wire.milliseconds(seconds)
        if limit != self.wire.lock_timeout:
            self.wire.execute(f'SET lock_timeout = {limit}')
            self.wire.lock_timeout = limit

    def let_go(self, hold: Hold) -> None:
        """Give the lock back; notes a loss where it was not ours any more."""
        try:
            hold.is_let_go = True
            if hold.loss is None:
                rows = self.ask(hold.verbs.unlock, hold.key.values)
                if rows[0][0] != b't':
                    hold.note_loss('the server did not know of it')
        except _postgres_wire.WireLost as error:
            hold.note_loss(str(error))
        except BaseException:
            self._undo(hold)
            raise
        finally:
            self.holds.discard(hold)

    def is_alive(self) -> bool:
        """Whether the connection is open, as far as our socket knows."""
        if self.loss is not None:
            return False
        # whoever speaks to the server will see
        if not self._mutex.acquire(blocking=False):
            return True
        try:
            if self._speaker is None:
                self.wire.listen()
        except _postgres_wire.WireLost as error:
            self.lose(str(error))
            self._shut()
            return False
        finally:
            self._mutex.release()
        return True

    def note_hang_up(self) -> None:
        """The watch saw that the other side ended the connection."""
        # an answer that came just before it is still to be read
        if not self.is_alive() or self.wire.has_hung_up():
            self.lose(self.wire.why() or 'the server ended the connection')
            self.close()

    def lose(self, reason: str) -> None:
        """Nothing can be held here any more; tell every hold."""
        if self.loss is None:
            self.loss = reason or 'the connection is gone'
        self.endpoint.drop(self)
        for hold in list(self.holds):
            hold.note_loss(self.loss)

    def close(self) -> None:
        """End the connection, and with it whatever is held in it."""
        self.lose('the connection was closed')
        # who speaks to the server at this moment closes it
        if self._mutex.acquire(blocking=False):
            try:
                if self._speaker is None:
                    self._shut()
            finally:
                self._mutex.release()

    def _shut(self) -> None:
        self.endpoint.watch.discard(self)
        self.wire.close()


def _interrupt_main_thread() -> None:
    """Ctrl-C, also for a main thread that sleeps in the system."""
    if not callable(signal.getsignal(signal.SIGINT)):
        return  # nobody would hear it
    main_thread = threading.main_thread().ident
    if sys.platform == 'win32' or main_thread is None:
        _thread.interrupt_main()
    else:
        signal.pthread_kill(main_thread, signal.SIGINT)
