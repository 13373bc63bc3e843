"""Makers are killed at random, reapers go round: no living thing is removed.

A small storm in every run of the tests; where PORTALOCKER_STRESS=1 at least
10,000 creations, 500 kills and three reapers.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import random
import signal
import struct
import sys
import traceback
from collections.abc import Callable

import pytest

if sys.platform != 'linux':
    pytest.skip('it kills as POSIX does', allow_module_level=True)

import portalocker
from portalocker import _publication_draft, reapers, tempfile

MAKERS = 4
REAPERS = 3
SEED = int(os.environ.get('PORTALOCKER_STRESS_SEED', '0')) or (
    random.SystemRandom().randrange(1 << 32)
)
_COUNT = struct.Struct('=Q')


class Died(Exception):
    """A living thing was removed."""


def check(is_there: bool, what: object) -> None:
    if not is_there:
        raise Died(f'{what} was removed while it was held')


def make_directory(place: pathlib.Path, name: str) -> None:
    lock = (True, 'shared')[int(name, 16) % 2]
    with tempfile.TemporaryDirectory(dir=place, lock=lock) as held:
        path = pathlib.Path(held, 'below')
        path.mkdir()
        (path / 'file').write_text(name)
        os.sched_yield()
        check((path / 'file').read_text() == name, path)


def make_temporary(place: pathlib.Path, name: str) -> None:
    path = place / f'{name[0]}.lock'  # few names: makers and reapers meet
    lock = portalocker.TemporaryFileLock(
        path, timeout=60, fail_when_locked=False
    )
    with lock as fh:
        held = os.fstat(fh.fileno())
        os.sched_yield()
        check(os.path.samestat(os.stat(path), held), path)


def make_pid_file(place: pathlib.Path, name: str) -> None:
    path = place / f'{name[0]}.pid'
    lock = portalocker.PidFileLock(path, timeout=60, fail_when_locked=False)
    with lock.fail_closed():
        os.sched_yield()
        check(lock.read_pid() == os.getpid(), path)


def make_semaphore(place: pathlib.Path, name: str) -> None:
    semaphore = portalocker.BoundedSemaphore(
        2, f'shared{int(name, 16) % 2}', directory=place, timeout=60
    )
    with semaphore as slot:
        assert slot.fh is not None
        held = os.fstat(slot.fh.fileno())
        os.sched_yield()
        check(os.path.samestat(os.stat(slot.filename), held), slot.filename)


def make_draft(place: pathlib.Path, name: str) -> None:
    _publication_draft._NAMELESS_FLAG = 0
    path = place / name
    with portalocker.open_atomic(path, durable=False) as fh:
        fh.write(name.encode())
        os.sched_yield()
    check(path.read_bytes() == name.encode(), path)
    path.unlink()


KINDS: tuple[Callable[[pathlib.Path, str], None], ...] = (
    make_directory,
    make_temporary,
    make_pid_file,
    make_semaphore,
    make_draft,
)


class Storm:
    """Makers and reapers in one directory, and who kills them."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.place = directory / 'place'
        self.place.mkdir()
        self._notes = directory
        # creations of each maker that ever was, and of each reaper
        self._counts = mmap.mmap(-1, 1 << 16)
        self._choices = random.Random(SEED)
        self._started = 0
        self._makers: list[int] = []
        self._reapers: list[int] = []
        self.kills = 0

    def creations(self) -> int:
        return sum(n for (n,) in _COUNT.iter_unpack(self._counts[:]))

    def _start(self, work: Callable[[], None]) -> int:
        self._started += 1
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    work()
            except BaseException:
                note = self._notes / f'failure {os.getpid()}'
                note.write_text(traceback.format_exc())
            finally:
                os._exit(1)
        return pid

    def start_maker(self) -> None:
        own = self._started % 8000 * _COUNT.size
        choices = random.Random(f'{SEED} {self._started}')

        def work() -> None:
            choices.choice(KINDS)(self.place, f'{choices.getrandbits(64):x}')
            (count,) = _COUNT.unpack_from(self._counts, own)
            _COUNT.pack_into(self._counts, own, count + 1)

        self._makers.append(self._start(work))

    def start_reaper(self) -> None:
        self._reapers.append(
            self._start(lambda: print(end=str(reapers.reap(self.place))[:0]))
        )

    def strike(self) -> None:
        """Kill a maker, and start another one."""
        signal.sigtimedwait([], self._choices.random() / 50)
        victim = self._makers.pop(self._choices.randrange(len(self._makers)))
        self._kill(victim)
        self.kills += 1
        self.start_maker()
        self.fail_if_one_failed()

    def _kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def fail_if_one_failed(self) -> None:
        for failure in self._notes.glob('failure *'):
            raise AssertionError(failure.read_text())

    def end(self) -> None:
        for pid in (*self._makers, *self._reapers):
            self._kill(pid)
        self._makers = self._reapers = []
        self.fail_if_one_failed()


def _is_free_slot(name: str) -> bool:
    return name.startswith('shared')


def run(directory: pathlib.Path, creations: int, kills: int) -> None:
    print(f'PORTALOCKER_STRESS_SEED={SEED}')
    storm = Storm(directory)
    try:
        for _ in range(MAKERS):
            storm.start_maker()
        for _ in range(REAPERS):
            storm.start_reaper()
        while storm.creations() < creations or storm.kills < kills:
            storm.strike()
    finally:
        storm.end()
    print(f'{storm.creations()} creations, {storm.kills} kills')
    reapers.reap(storm.place)
    left = {
        name
        for name in os.listdir(storm.place)
        # appeared, and its maker was killed before it could unlink it; free
        # places of a semaphore, and the number of a process without a lock
        if not _is_free_slot(name)
    }
    whole = {name for name in left if (storm.place / name).read_text() == name}
    assert not left - whole


@pytest.mark.timeout(120)
def test_small_storm_kills_nothing_that_lives(tmp_path: pathlib.Path) -> None:
    run(tmp_path, 300, 20)


@pytest.mark.stress
@pytest.mark.timeout(600)
def test_storm_kills_nothing_that_lives(tmp_path: pathlib.Path) -> None:
    run(tmp_path, 10_000, 500)
