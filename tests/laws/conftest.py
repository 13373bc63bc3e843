"""What every law relies on: a clean place, a witness, a stranger."""

from __future__ import annotations

import gc
import multiprocessing.resource_tracker
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from states import wait_until
from witness import Witness

collect_ignore_glob = [] if sys.platform == 'linux' else ['*.py']

if sys.platform == 'linux':
    import actors
    import locks
    import loops


@pytest.fixture(scope='session')
def stranger() -> Iterator[Any]:
    """A process that shares nothing with the test but the file system."""

    def body(line: Any) -> None:
        usual = locks.set_locker(None)
        while True:
            name, path, make = line.hear()
            if name is None:
                return
            kind = locks.KIND_OF[name]
            locks.set_locker(kind.locker)
            lock = getattr(kind, make)(path)
            held = locks.try_to_hold(lock)
            if held:
                lock.release()
            locks.portalocker.portalocker.LOCKER = usual
            line.say(held)

    # Its descriptor is opened once, for all that are spawned
    multiprocessing.resource_tracker.ensure_running()
    process = actors.Process(body)
    yield process
    gc.unfreeze()
    process.tell((None, None, None))
    process.finish()
    process.close()


@pytest.fixture
def can_enter(stranger: Any, kind: Any) -> Callable[..., bool]:
    """Ask whether another process could take the lock just now."""

    def ask(path: pathlib.Path, make: str = 'rival') -> bool:
        stranger.tell((kind.name, path, make))
        answer = stranger.listen()
        assert isinstance(answer, bool)
        return answer

    return ask


@pytest.fixture
def _usual_locker() -> Iterator[None]:
    engine = locks.portalocker.portalocker
    usual = engine.LOCKER
    yield
    engine.LOCKER = usual


@pytest.fixture
def path(
    stranger: Any,
    _nothing_left_running: None,
    _usual_locker: None,
    kind: Any,
    tmp_path: pathlib.Path,
) -> Iterator[pathlib.Path]:
    """A path where exactly one lock of the kind can be held.

    At the end nothing of the law is left: no descriptor, no lock.
    """
    with warnings.catch_warnings():
        # of what a failed test left: it failed already
        warnings.simplefilter('ignore', ResourceWarning)
        if kind.backend is not None:
            loops.runner(kind.backend)
        before = _belongings()
    gc.freeze()  # what the law collects is its own
    path = tmp_path / 'the lock'
    with crowded(kind, path):
        yield path
    # Whoever looks into our part of /proc keeps a file open for a moment
    wait_until(lambda: _belongings()[1] <= before[1], 'locks are left behind')
    assert _belongings()[0] <= before[0], 'descriptors are left behind'
    assert _inotify_instances() <= 1, 'one instance a process is enough'


class crowded:  # noqa: N801 - reads as what it does
    """Take all places of a semaphore but one."""

    def __init__(self, kind: Any, path: pathlib.Path) -> None:
        locks.set_locker(kind.locker)
        self._fillers = [kind.make(path) for _ in range(1, kind.capacity)]
        # The last places: the first file is the one laws look at
        for n, filler in enumerate(self._fillers, 1):
            assert filler.try_lock([filler.get_filename(n)])

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        for filler in self._fillers:
            filler.release()


def _belongings() -> tuple[int, int]:
    """How many descriptors this process has, and how many locks."""
    gc.collect()
    table = pathlib.Path('/proc/locks').read_text(encoding='ascii')
    # Without the number: what is listed while others lock may come twice
    mine = {
        row.partition(':')[2]
        for row in table.splitlines()
        if row.split()[-4:-3] == [str(os.getpid())]
    }
    descriptors = locks.open_descriptors().values()
    return sum(name != locks.INOTIFY for name in descriptors), len(mine)


def _inotify_instances() -> int:
    names = locks.open_descriptors().values()
    return sum(name == locks.INOTIFY for name in names)


@pytest.fixture
def stage(path: pathlib.Path) -> Iterator[Any]:
    """Starts processes and threads, and ends them."""
    stage = actors.Stage()
    yield stage
    stage.close()


@pytest.fixture
def witness(tmp_path: pathlib.Path) -> Witness:
    return Witness(tmp_path)
