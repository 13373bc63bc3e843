"""Whoever drops a lock, ends or dies lets go."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import signal
import subprocess
import sys
import warnings

import pytest
from locks import LONG, SHORT, announce_wait, hold, law, wait_and_leave

import portalocker

HERE = pathlib.Path(__file__).parent
ROOT = pathlib.Path(portalocker.__file__).parents[1]
ENDS = ('return', 'fail', '_exit', 'SIGKILL', 'SIGTERM')
FILE_STAYS = 'its file stays'
POLLS = 'closing what it would watch drops its locks: it looks now and then'


@contextlib.contextmanager
def dropping():
    """What is dropped without being closed is dropped on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        yield
        gc.collect()


class Program:
    """The program `program.py`."""

    def __init__(self, kind, path, *verbs: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / 'program.py', kind.name, path, *verbs],
            env={**os.environ, 'PYTHONPATH': f'{ROOT}:{HERE}'},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def expect(self, verb: str) -> None:
        line = self._process.stdout.readline()
        assert line == f'{verb}\n', line + self._process.stderr.read()

    def run(self) -> list[str]:
        """Let it go on to its end; return what it said."""
        said, _ = self._process.communicate('x', timeout=LONG)
        return said.splitlines()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def program(kind, path):
    started = []

    def start(*verbs: str) -> Program:
        started.append(Program(kind, path, *verbs))
        return started[-1]

    yield start
    for process in started:
        process.close()


@law()
def test_lock_that_nobody_refers_to_is_free(kind, path, can_enter) -> None:
    lock = kind.make(path)
    with dropping():
        lock.acquire()
        assert not can_enter(path)
        del lock
    assert can_enter(path)


@law(file_locks='a lock that is dropped lets go: its descriptor is its own')
def test_handle_that_outlives_its_lock_keeps_it(kind, path, can_enter) -> None:
    lock = kind.make(path)
    with dropping():
        fh = hold(lock)
        del lock
        gc.collect()
        assert not fh.closed
        assert not can_enter(path)
        del fh
    assert can_enter(path)


@law(
    lockf_semaphore=POLLS,
    file_locks='a lock that is dropped lets go: its descriptor is its own',
)
def test_handle_that_outlives_its_lock_is_woken_for_at_its_close(
    kind, path, stage
) -> None:
    lock = kind.make(path)
    with dropping():
        fh = hold(lock)
        del lock

    def body(line) -> None:
        waiter = announce_wait(
            kind.rival(path, check_interval=LONG), lambda: line.say('waits')
        )
        waiter.acquire()
        waiter.release()

    waiting = stage.process(body)
    waiting.expect('waits')
    fh.close()
    waiting.finish()


@law()
def test_lock_that_waited_in_vain_is_free_as_soon_as_it_is_dropped(
    kind, path, stage, can_enter
) -> None:
    # No collection is needed: nothing keeps the lock but who refers to it
    def body(line) -> None:
        gc.disable()
        lock = kind.make(path, timeout=SHORT)
        with contextlib.suppress(portalocker.AlreadyLocked):
            lock.acquire()
        line.say('waited')
        line.hear()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            lock.acquire()
            del lock
        line.say('dropped')
        line.hear()

    lock = kind.rival(path)
    lock.acquire()
    process = stage.process(body)
    process.expect('waited')
    lock.release()
    process.tell()
    process.expect('dropped')
    assert can_enter(path)
    process.tell()
    process.finish()


@law()
def test_lock_in_a_cycle_is_free_after_collection(
    kind, path, can_enter
) -> None:
    with dropping():
        lock = kind.make(path)
        lock.acquire()
        lock.itself = lock
        del lock
    assert can_enter(path)


@law(staying=FILE_STAYS)
def test_file_of_an_abandoned_lock_is_removed(kind, path) -> None:
    with dropping():
        lock = kind.make(path)
        lock.acquire()
        del lock
    assert not list(path.parent.glob(f'{path.name}*'))


@law()
@pytest.mark.parametrize('end', ENDS)
def test_lock_is_free_after_the_end_of_its_process(
    kind, path, program, can_enter, end
) -> None:
    holder = program('acquire', 'hear', end)
    holder.expect('acquire')
    assert not can_enter(path)
    assert holder.run()[-1] == end
    assert can_enter(path)


@law(staying=FILE_STAYS)
@pytest.mark.parametrize('end', ['return', 'fail'])
def test_file_is_removed_at_the_end_of_its_process(
    kind, path, program, end
) -> None:
    holder = program('acquire', end)
    assert holder.run()[-1] == end
    assert not list(path.parent.glob(f'{path.name}*'))


@law(staying=FILE_STAYS)
def test_file_of_a_killed_process_is_used_and_removed(
    kind, path, program
) -> None:
    program('acquire', 'SIGKILL').run()
    assert kind.locked_path(path).exists()
    with kind.make(path):
        assert kind.locked_path(path).exists()
    assert not list(path.parent.glob(f'{path.name}*'))


@law()
@pytest.mark.parametrize('end', ['child exits', 'child ends'])
def test_end_of_a_forked_child_disturbs_nothing(
    kind, path, program, can_enter, end
) -> None:
    holder = program('acquire', end, 'hear', 'return')
    holder.expect('acquire')
    holder.expect(end)
    assert not can_enter(path)
    assert kind.locked_path(path).exists()
    holder.run()
    assert can_enter(path)


@law()
@pytest.mark.parametrize('end', [signal.SIGKILL, signal.SIGTERM])
def test_waiter_enters_when_the_holder_is_killed(
    kind, path, stage, end
) -> None:
    def holder(line) -> None:
        lock = kind.rival(path)
        lock.acquire()
        line.say('in')
        line.hear()

    waiter = wait_and_leave(lambda: kind.make(path))

    holding = stage.process(holder)
    holding.expect('in')
    waiting = stage.process(waiter)
    waiting.expect('waits')
    holding.signal(end)
    assert holding.reap() == -end
    waiting.finish()


@law()
def test_second_in_line_enters_when_the_first_is_killed(
    kind, path, stage
) -> None:
    waiter = wait_and_leave(lambda: kind.make(path))

    lock = kind.rival(path)
    lock.acquire()
    waiting = []
    for _ in range(3):
        waiting.append(stage.process(waiter))
        waiting[-1].expect('waits')
    waiting[1].kill()
    waiting[0].kill()
    lock.release()
    waiting[2].finish()


@law()
@pytest.mark.parametrize('free', [0, 1, 2, 3, 8])
def test_descriptor_limit_is_told_or_does_no_harm(
    kind, path, program, free
) -> None:
    lock = kind.rival(path)
    lock.acquire()
    outcome, _ = program(str(free)).run()
    lock.release()
    # EMFILE, or it waited as long as it was to
    assert outcome in {'OSError 24', 'AlreadyLocked None'}
    assert free or outcome == 'OSError 24'
    assert free < 8 or outcome == 'AlreadyLocked None'
