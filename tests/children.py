"""Processes that do one thing for a test: forked children, and programs."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from states import LONG

ROOT = str(pathlib.Path(__file__).parent.parent)
NOBODY = 65534


def in_child(
    work: Callable[[], object], before: Callable[[], object] = lambda: None
) -> None:
    """Do both in a forked child; what fails there fails the test."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            # Who waits for ever dies of it
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONG)
            before()
            work()
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, 'rb') as report:
        text = report.read().decode()
    _, status = os.waitpid(pid, 0)
    assert status == 0, text or f'the child ended with status {status}'


def become_nobody() -> None:
    """Be an ordinary user from now on, where we are root."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop it, and wait until it stands still.

    A signal is on its way when `kill` returns; other threads still run.
    """
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


@contextlib.contextmanager
def program(code: str, *words: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program that has said 'in', until the block is left.

    It should end when its input does.
    """
    with subprocess.Popen(
        [sys.executable, '-P', '-c', code, *map(str, words)],
        env={**os.environ, 'PYTHONPATH': ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        said = running.stdout.readline()  # also where python -O runs the tests
        assert said == 'in\n', said
        yield running
        running.stdin.close()


def record_locker(path: object, request: str) -> Any:
    """A program that holds a record lock, see `fcntl.lockf`."""
    return program(
        'import fcntl, sys; fh = open(sys.argv[1], "r+"); '
        f'fcntl.lockf(fh, {request}); print("in", flush=True); '
        'sys.stdin.read()',
        path,
    )
