"""Workers contend, a killer strikes at random: no update is lost.

A few seconds in every run of the tests; minutes where PORTALOCKER_STRESS=1,
as many seconds as PORTALOCKER_STRESS_SECONDS says (120). The seed is printed;
PORTALOCKER_STRESS_SEED repeats the killer's choices.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

if sys.platform != 'linux':
    pytest.skip('it kills as POSIX does', allow_module_level=True)

from journal import (
    ENTER,
    LEAVE,
    STAY,
    Journal,
    Record,
    lost_updates,
    most_inside_at_once,
)

import portalocker
from portalocker import filelock

PROCESSES = 6
THREADS = 2
PLACES = 3
PATIENCE_SECONDS = 60  # only ever reached by a failure
SECONDS = float(os.environ.get('PORTALOCKER_STRESS_SECONDS', '120'))
SEED = int(os.environ.get('PORTALOCKER_STRESS_SEED', '0')) or (
    random.SystemRandom().randrange(1 << 32)
)

Maker = Callable[[pathlib.Path, int], Any]


def make_lock(path: pathlib.Path, number: int) -> Any:
    return portalocker.Lock(path, timeout=PATIENCE_SECONDS)


def make_temporary(path: pathlib.Path, number: int) -> Any:
    return portalocker.TemporaryFileLock(
        path, timeout=PATIENCE_SECONDS, fail_when_locked=False
    )


def make_pid_file(path: pathlib.Path, number: int) -> Any:
    return portalocker.PidFileLock(
        path, timeout=PATIENCE_SECONDS, fail_when_locked=False
    )


def make_semaphore(path: pathlib.Path, number: int) -> Any:
    return portalocker.BoundedSemaphore(
        PLACES, path.name, directory=path.parent, timeout=PATIENCE_SECONDS
    )


def make_file_lock(path: pathlib.Path, number: int) -> Any:
    return filelock.FileLock(path, timeout=PATIENCE_SECONDS)


def make_soft(path: pathlib.Path, number: int) -> Any:
    return filelock.SoftFileLock(path, timeout=PATIENCE_SECONDS)


def make_mixed(path: pathlib.Path, number: int) -> Any:
    """Locks of all kinds on one file."""
    if number % 5 == 0:
        return portalocker.RLock(path, timeout=PATIENCE_SECONDS)
    if number % 5 == 1:
        return portalocker.Lock(path, 'w', timeout=PATIENCE_SECONDS)
    if number % 5 == 2:
        return portalocker.BoundedSemaphore(
            1,
            path.name,
            '{name}',
            path.parent,
            timeout=PATIENCE_SECONDS,
        )
    return (make_lock, make_temporary)[number % 5 == 3](path, number)


KINDS: dict[str, tuple[Maker, int]] = {
    'lock': (make_lock, 1),
    'temporary': (make_temporary, 1),
    'pid_file': (make_pid_file, 1),
    'semaphore': (make_semaphore, PLACES),
    'filelock': (make_file_lock, 1),
    'soft': (make_soft, 1),
    'mixed': (make_mixed, 1),
}


class Worker:
    """A process whose threads come and go until there is a file `stop`."""

    def __init__(
        self, make: Maker, directory: pathlib.Path, number: int
    ) -> None:
        self._make = make
        self._directory = directory
        self._number = number
        self._journal = Journal(directory / 'journal')
        self._failures: list[BaseException] = []

    def run(self) -> None:
        """Come and go until told to stop; raise what went wrong."""
        counter = os.open(self._directory / 'counter', os.O_RDWR)
        path = self._directory / 'lock'
        common = self._make(path, self._number)
        threads = [
            threading.Thread(
                target=self._come_and_go,
                args=(
                    # A semaphore object has one place
                    common
                    if not isinstance(common, portalocker.BoundedSemaphore)
                    else self._make(path, self._number),
                    self._number * THREADS + n,
                    counter,
                ),
            )
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _come_and_go(self, lock: Any, worker: int, counter: int) -> None:
        choices = random.Random(f'{SEED} {worker}')
        visit = 0
        try:
            while not (self._directory / 'stop').exists():
                visit += 1
                self._visit(lock, Record(worker, visit, ENTER, 0), counter,
                            choices)  # fmt: skip
        except BaseException as error:
            self._failures.append(error)

    def _visit(
        self, lock: Any, record: Record, counter: int, choices: random.Random
    ) -> None:
        if choices.random() < 0.2:
            # In a hurry: it may give up
            try:
                held = lock.acquire(timeout=choices.random() / 500)
            except portalocker.AlreadyLocked:
                return
        else:
            held = lock.acquire()
        value = int(os.pread(counter, 20, 0) or b'0') + 1
        record = record._replace(value=value)
        self._journal.write(record)
        for _ in range(choices.randrange(3)):
            os.sched_yield()
            self._journal.write(record._replace(verb=STAY))
        os.pwrite(counter, b'%d' % value, 0)
        self._journal.write(record._replace(verb=LEAVE))
        self._leave(lock, held, choices)

    def _leave(self, lock: Any, held: Any, choices: random.Random) -> None:
        if choices.random() < 0.02:
            # What a forked child inherits neither holds nor frees anything
            child = os.fork()
            if child == 0:
                with contextlib.suppress(portalocker.LockException):
                    lock.release()
                time.sleep(choices.random() / 20)
                os._exit(0)
            lock.release()
            os.waitpid(child, 0)
            return
        handle = getattr(held, 'fh', held)
        if (
            choices.random() < 0.05
            and not isinstance(lock, portalocker.RLock)
            and hasattr(handle, 'close')
        ):
            handle.close()
        lock.release()


class Killer:
    """Starts workers, strikes some, and starts others in their place."""

    _worker = Worker

    def __init__(self, make: Maker, directory: pathlib.Path) -> None:
        self._make = make
        self._directory = directory
        self._choices = random.Random(SEED)
        self._started = 0
        self._running: list[int] = []
        self.kills = self.stops = 0

    def start(self) -> None:
        """Start one worker."""
        self._started += 1
        pid = os.fork()
        if pid == 0:
            self._be_a_worker()
        self._running.append(pid)

    def _be_a_worker(self) -> None:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            warnings.simplefilter('ignore')
            self._worker(self._make, self._directory, self._started).run()
            status = 0
        except BaseException:
            import traceback

            text = traceback.format_exc()
            (self._directory / f'failure {os.getpid()}').write_text(text)
        finally:
            os._exit(status)

    def strike(self) -> None:
        """Kill one of them, or stop one for a moment."""
        time.sleep(self._choices.random() / 20)
        pid = self._choices.choice(self._running)
        if self._choices.random() < 0.5:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._running.remove(pid)
            self.kills += 1
            self.start()
        else:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(self._choices.random() / 20)
            os.kill(pid, signal.SIGCONT)
            self.stops += 1

    def stop(self) -> None:
        """Have all come to an end; fail if one does not."""
        (self._directory / 'stop').touch()
        while self._running:
            pid = self._running[0]
            assert ends_in_time(pid), f'worker {pid} is stuck'
            _, status = os.waitpid(pid, 0)
            self._running.remove(pid)
            self.fail_if_one_failed()
            assert status == 0

    def fail_if_one_failed(self) -> None:
        for failure in self._directory.glob('failure *'):
            raise AssertionError(failure.read_text())

    def close(self) -> None:
        """Leave nobody behind."""
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def ends_in_time(pid: int) -> bool:
    """Wait for the end of a child."""
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(PATIENCE_SECONDS * 1000))
    finally:
        os.close(fd)


def contend(
    killer: Killer, directory: pathlib.Path, seconds: float
) -> list[Record]:
    """Let them contend for some seconds; what they wrote down."""
    print(f'PORTALOCKER_STRESS_SEED={SEED}')
    (directory / 'counter').touch()
    journal = Journal(directory / 'journal')
    until = time.monotonic() + seconds
    try:
        for _ in range(PROCESSES):
            killer.start()
        # On a busy machine it may take longer until somebody came through
        while (
            time.monotonic() < until
            or not killer.kills
            or not (directory / 'counter').stat().st_size
        ):
            killer.strike()
            killer.fail_if_one_failed()
        killer.stop()
    finally:
        killer.close()
        journal.close()
    return journal.read()


def run(name: str, directory: pathlib.Path, seconds: float) -> None:
    """Let them contend for some seconds; prove that nothing was lost."""
    make, places = KINDS[name]
    killer = Killer(make, directory)
    records = contend(killer, directory, seconds)
    left = sum(record.verb == LEAVE for record in records)
    counter = int((directory / 'counter').read_text(encoding='ascii'))
    print(f'{name}: {left} visits, {killer.kills} kills, {killer.stops} stops')
    assert left > 0
    assert most_inside_at_once(records) <= places
    if places == 1:
        assert not lost_updates(records)
        assert records[-1].verb == LEAVE
        assert counter == records[-1].value
    # Nobody was the last one, and took the lock along
    last = make(directory / 'lock', 0)
    assert last.acquire() is not None
    last.release()


@pytest.mark.parametrize('name', KINDS)
def test_few_seconds_of_kills_lose_no_update(
    name: str, tmp_path: pathlib.Path
) -> None:
    run(name, tmp_path, 1)


@pytest.mark.stress
@pytest.mark.timeout(SECONDS + 2 * PATIENCE_SECONDS)
@pytest.mark.parametrize('name', KINDS)
def test_minutes_of_kills_lose_no_update(
    name: str, tmp_path: pathlib.Path
) -> None:
    run(name, tmp_path, SECONDS / len(KINDS))
