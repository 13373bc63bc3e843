"""The last steps of a thread, and of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import loading
import pytest

START = """
import gc, os, sys, threading, time
from portalocker import pysync
"""


def run(program: str, implementation: str) -> str:
    switch = '1' if implementation == 'pure' else '0'
    result = subprocess.run(
        [sys.executable, '-c', START + textwrap.dedent(program)],
        env={**os.environ, loading.SWITCH: switch},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert not result.stderr
    return result.stdout


@pytest.fixture(params=loading.IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    if loading.load(request.param) is None:
        pytest.skip('the native implementation is not built')
    return str(request.param)


def test_the_destructors_of_a_thread_begin_sections(
    implementation: str,
) -> None:
    """After the thread's own sections have gone with its other data."""
    program = """
    class Last:
        def __del__(self):
            overwritten = [b'\\xff' * size for size in range(16, 200)]
            with pysync.CriticalSection(mutex) as section:
                seen.append(pysync.CSThread.current().top() is section)
                pysync.Event().wait(0.001)

    def use():
        pysync.CSThread.current()
        data.last = Last()

    mutex, data, seen = pysync.Mutex(), threading.local(), []
    for _ in range(5):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    assert seen == [True] * 5, seen
    """
    run(program, implementation)


@pytest.mark.parametrize(
    ('make', 'held', 'waiting'),
    [
        ('Mutex', 'lock', 'lock'),
        ('RWMutex', 'lock.writer', 'lock.writer'),
        ('RWMutex', 'lock.writer', 'lock.reader'),
        ('RWMutex', 'lock.reader', 'lock.writer'),
    ],
)
def test_nothing_is_handed_to_a_thread_that_never_runs_again(
    implementation: str, make: str, held: str, waiting: str
) -> None:
    """A daemon thread that waits when the interpreter ends is one."""
    if implementation == 'pure' and make == 'Mutex':
        pytest.skip('there the interpreter keeps the waiters')
    program = f"""
    class Last:
        # its names are gone when the interpreter ends
        def __init__(self):
            self.lock = {held}
            self.write = os.write
            self.circle = self

        def __del__(self):
            self.lock.release()
            for _ in range(3):
                with self.lock:
                    pass
            self.write(1, b'released and locked again')

    def wait():
        with {waiting}:
            os.write(1, b'the other one got it')
            time.sleep(60)

    lock = pysync.{make}()
    {held}.acquire()
    gc.disable()
    threading.Thread(target=wait, daemon=True).start()
    while not pysync.parked_count({waiting}):
        time.sleep(0.001)
    time.sleep(0.01)  # so that it is its turn
    Last()
    """
    assert run(program, implementation) == 'released and locked again'
