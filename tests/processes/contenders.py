"""Processes that wait for a lock, and say what they do."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import subprocess
import sys

import children

import portalocker

LONG = 20.0  # seconds, reached by a failure only
_ROOT = str(pathlib.Path(portalocker.__file__).parent.parent)

# argv: path, then what is run once before the lock is made.
# Says 'parked on <what>' before it sleeps, the first time for each what.
_PROGRAM = f"""
LONG = {LONG}
import signal, sys, time
import portalocker
from portalocker import LockFlags, _pacing, _wakeup_inotify, _wakeup_queue

def interrupt_once(number, frame):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt_once)
said = set()

def say(words):
    if words not in said:
        said.add(words)
        print(words, flush=True)

def announced(words, function):
    def replacement(*args):
        say(words)
        return function(*args)
    return replacement

ticket = _wakeup_queue.Ticket
ticket.outlive_predecessor = announced(
    'parked on predecessor', ticket.outlive_predecessor
)
instance = _wakeup_inotify.Instance
instance.wait = announced('parked on file', instance.wait)
backoff = _pacing.Backoff
backoff.next_pause = announced('parked on clock', backoff.next_pause)

options = dict(timeout=LONG, check_interval=3600)
exec(sys.argv[2])
lock = portalocker.Lock(sys.argv[1], **options)
started = time.perf_counter()
try:
    lock.acquire()
except portalocker.AlreadyLocked as failure:
    print('gave up', flush=True)
except KeyboardInterrupt:
    print('interrupted', flush=True)
else:
    # the last try, at the deadline, is no wake-up
    was_woken = time.perf_counter() - started < LONG
    print('in' if was_woken else 'in, but only at the deadline', flush=True)
    sys.stdin.readline()
    lock.release()
    print('out', flush=True)
sys.stdin.readline()
"""

SHARED = (
    "options['flags'] = LockFlags.SHARED | LockFlags.NON_BLOCKING; "
    "options['mode'] = 'r'"
)


class Contender:
    """A process that acquires the lock at `path` and holds it until told.

    Nothing but a wake-up ends its wait before LONG: its check interval is an
    hour. `around` is a command that runs it in another place.
    """

    def __init__(
        self,
        path: object,
        prepare: str = '',
        around: tuple[str, ...] = (),
    ) -> None:
        program = [sys.executable, '-P', '-c', _PROGRAM, str(path), prepare]
        self.process = subprocess.Popen(
            [*around, *program],
            env={**os.environ, 'PYTHONPATH': _ROOT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid

    def said(self) -> str:
        """The next line it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def said_at_last(self) -> str:
        """The next line that is not about its sleep."""
        line = self.said()
        while line.startswith('parked'):
            line = self.said()
        return line

    def go_on(self) -> None:
        """Let it release, or end."""
        assert self.process.stdin is not None
        self.process.stdin.write('\n')
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Interrupt its wait."""
        assert self.process.stdout is not None
        # A signal just before it sleeps would be noticed when it wakes up
        while not select.select([self.process.stdout], [], [], 0.02)[0]:
            self.process.send_signal(signal.SIGINT)

    def stop(self) -> None:
        """Stop it; it does nothing more until `resume()`."""
        children.stop(self.process)

    def resume(self) -> None:
        """Let it go on where it was stopped."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it without any chance to clean up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self.process:  # closes the pipes and reaps it
            self.process.kill()
