"""Processes and threads of a test: what they say, what they are told.

They are ordered by what they said, never by time; whatever goes wrong in one
of them reaches the test; each is reaped within LONG seconds.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pathlib
import queue
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

from locks import LONG, SHORT

Body = Callable[['Line'], object]


class Ended(BaseException):
    """The test is over: leave."""


class Line:
    """What an actor talks to the test with."""

    def __init__(
        self, say: Callable[[Any], object], hear: Callable[[], Any]
    ) -> None:
        self.say = say
        self._hear = hear

    def hear(self) -> Any:
        """Wait to be told something."""
        word = self._hear()
        if word is Ended:
            raise Ended
        return word


class Actor:
    """A process or a thread as the test sees it."""

    def tell(self, word: Any = 'go') -> None:
        """Let it go on."""
        raise NotImplementedError

    def _next(self) -> Any:
        raise NotImplementedError

    def expect(self, word: Any) -> None:
        """Wait until it says this, and nothing else before it."""
        said = self.listen()
        assert said == word, f'expected {word!r}, it said {said!r}'

    def listen(self) -> Any:
        """Wait for the next thing it says."""
        said = self._next()
        if isinstance(said, Failure):
            raise AssertionError(f'failed in another place:\n{said.text}')
        return said


class Failure:
    """What went wrong in an actor, in words."""

    def __init__(self) -> None:
        self.text = traceback.format_exc()


def die_with_parent() -> None:
    """Have the system kill this process when the test run dies."""
    if sys.platform == 'linux':
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process(Actor):
    """A forked child that runs `body(line)`."""

    def __init__(self, body: Body) -> None:
        self._talk, theirs = multiprocessing.Pipe()
        self.status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            self._talk.close()  # who lives longer than the test hears of it
            _run_in_child(body, theirs)
        theirs.close()

    def tell(self, word: Any = 'go') -> None:
        self._talk.send(word)

    def _next(self) -> Any:
        assert self._talk.poll(LONG), f'process {self.pid} says nothing'
        try:
            return self._talk.recv()
        except (EOFError, ConnectionError):
            raise AssertionError(
                f'process {self.pid} ended; status {self.reap()}'
            ) from None

    def has_said(self) -> bool:
        """Whether there is something to listen to."""
        return self._talk.poll(SHORT)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_until_asleep(self) -> None:
        """Wait until the system has nothing to do for it."""
        state = ''
        while state != 'S':
            stat = pathlib.Path(f'/proc/{self.pid}/stat').read_text('ascii')
            state = stat.rpartition(') ')[2][0]
            assert state not in 'ZX', f'process {self.pid} ended'

    def wait_until_stopped(self) -> None:
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def reap(self) -> int:
        """Wait for its end; return what `os.waitstatus_to_exitcode` says."""
        if self.status is None:
            wait_for_end(self.pid)
            _, status = os.waitpid(self.pid, 0)
            self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def kill(self) -> None:
        """Kill it and reap it."""
        if self.status is None:
            self.signal(signal.SIGKILL)
            self.reap()

    def finish(self) -> None:
        """Expect it to come to a good end."""
        self.expect('done')
        assert self.reap() == 0

    def close(self) -> None:
        self.kill()
        self._talk.close()


def wait_for_end(pid: int) -> None:
    """Wait until a child ended; kill it and fail if it takes too long."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(LONG * 1000):
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f'process {pid} does not end')
    finally:
        os.close(fd)


def leave_child_behind(line: Line) -> int:
    """Fork a child that says so, and lives until it is told to end."""
    pid = os.fork()
    if pid == 0:
        try:
            line.say('child lives')
            line.hear()
        finally:
            os._exit(0)
    return pid


def _run_in_child(
    body: Body, talk: multiprocessing.connection.Connection
) -> None:
    try:
        die_with_parent()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        body(Line(talk.send, talk.recv))
        talk.send('done')
    except BaseException:
        talk.send(Failure())
        os._exit(1)
    os._exit(0)


class Thread(Actor):
    """A thread that runs `body(line)`."""

    def __init__(self, body: Body) -> None:
        self._to_test: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._to_thread: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._line = Line(self._to_test.put, self._to_thread.get)
        self._body: Body | None = body
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        assert self._body is not None
        try:
            self._body(self._line)
        except Ended:
            pass
        except BaseException:
            self._to_test.put(Failure())
        else:
            self._to_test.put('done')
        finally:
            self._body = None  # it may refer to locks
            if 'loops' in sys.modules:
                sys.modules['loops'].close()

    def tell(self, word: Any = 'go') -> None:
        self._to_thread.put(word)

    def _next(self) -> Any:
        try:
            return self._to_test.get(timeout=LONG)
        except queue.Empty:
            raise AssertionError('a thread says nothing') from None

    def finish(self) -> None:
        """Expect it to come to a good end."""
        self.expect('done')
        self._thread.join(LONG)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self._to_thread.put(Ended)
        self._thread.join(LONG)


class Stage:
    """All actors of one test."""

    def __init__(self) -> None:
        self._actors: list[Process | Thread] = []

    def process(self, body: Body) -> Process:
        actor = Process(body)
        self._actors.append(actor)
        return actor

    def thread(self, body: Body) -> Thread:
        actor = Thread(body)
        self._actors.append(actor)
        return actor

    def close(self) -> None:
        # Processes first: a thread may wait for what one of them holds
        for actor in sorted(self._actors, key=lambda a: type(a).__name__):
            actor.close()
