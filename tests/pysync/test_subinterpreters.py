"""Several interpreters in one process, each with a GIL of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap

import loading
import pytest

MODULE = next(
    (
        name
        for name in ('_interpreters', '_xxsubinterpreters')
        if importlib.util.find_spec(name)
    ),
    None,
)
pytestmark = pytest.mark.skipif(
    MODULE is None or sys.implementation.name != 'cpython',
    reason='no interpreters within the interpreter',
)
needs_threads = pytest.mark.skipif(
    sys.version_info < (3, 12),
    reason='there an interpreter within another has no threads',
)

MAIN = f"""
import sys, threading
import {MODULE} as interpreters
from portalocker import pysync

def run_in_another(program):
    other = interpreters.create()
    program = f'import sys; sys.path[:] = {{sys.path!r}}\\n' + program
    run = getattr(interpreters, 'exec', None) or interpreters.run_string
    failure = run(other, program)
    assert failure is None, failure.formatted
    interpreters.destroy(other)
"""

# what each interpreter does
USE = """
import threading
from portalocker import pysync

def use():
    with pysync.Mutex(), pysync.RecursiveMutex(), pysync.RWMutex().reader:
        with pysync.CriticalSection(pysync.Mutex()), pysync.SeqLock().write():
            pass
    assert pysync.OnceFlag().do(int)
    assert not pysync.Event().wait(0.001)
    assert pysync.park(None, object, 0.001) is pysync.ParkStatus.TIMEOUT
    word, event = pysync.AtomicInt(), pysync.Event()
    def count():
        event.wait()
        for _ in range(200):
            with mutex:
                word.store(word.load() + 1)
    mutex = pysync.Mutex()
    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join()
    assert word.load() == 800, word
use()
"""

TOLD = "assert pysync.IMPLEMENTATION == '{}', pysync.IMPLEMENTATION"


def run(program: str, implementation: str) -> None:
    if loading.load(implementation) is None:
        pytest.skip('the native implementation is not built')
    switch = '1' if implementation == 'pure' else '0'
    result = subprocess.run(
        [
            sys.executable,
            '-W',
            'ignore',
            '-c',
            MAIN + textwrap.dedent(program),
        ],
        env={**os.environ, loading.SWITCH: switch},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(params=loading.IMPLEMENTATIONS)
def implementation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@needs_threads
def test_each_has_the_same_implementation(implementation: str) -> None:
    """It is loaded in all, and works where they come and go."""
    run(
        f"""
        program, told = {USE!r}, {TOLD.format(implementation)!r}
        for _ in range(3):
            exec(program)
            run_in_another(program + told)
        exec(program)
        """,
        implementation,
    )


@needs_threads
def test_they_run_at_once(implementation: str) -> None:
    run(
        f"""
        errors = []
        def other():
            try:
                run_in_another({USE!r})
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=other) for _ in range(3)]
        for thread in threads:
            thread.start()
        exec({USE!r})
        for thread in threads:
            thread.join()
        assert not errors, errors
        """,
        implementation,
    )


def test_waiters_are_of_one_interpreter(implementation: str) -> None:
    """Also where the key is one object in all of them, as None is."""
    run(
        """
        parked = threading.Thread(
            target=pysync.park, args=(None, object, 30), daemon=True)
        parked.start()
        while not pysync.parked_count(None):
            pass
        run_in_another('''if True:
            from portalocker import pysync
            assert pysync.parked_count(None) == 0
            assert pysync._waits() == []
            assert pysync.deadlocks() == []
            assert pysync.unpark(None) is False
            assert pysync.unpark_all(None) == 0
        ''')
        assert pysync.parked_count(None) == 1
        assert pysync.unpark(None)
        parked.join()
        """,
        implementation,
    )


SECTIONS = """
from portalocker import pysync
assert pysync.CSThread.current().top() is None
mutex = pysync.Mutex()
with pysync.CriticalSection(mutex):
    assert not pysync.Event().wait(0.001)
    assert mutex.is_locked()
assert pysync.CSThread.current().top() is None
"""


def test_sections_are_of_one_interpreter(implementation: str) -> None:
    """One thread has a stack of sections in each."""
    run(
        f"""
        mutex = pysync.Mutex()
        with pysync.CriticalSection(mutex) as section:
            run_in_another({SECTIONS!r})
            assert pysync.CSThread.current().top() is section
            assert mutex.is_locked()
        """,
        implementation,
    )
