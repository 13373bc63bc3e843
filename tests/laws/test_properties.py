"""Random histories of a few objects on one path, against a model.

The model knows which generation of the file each object holds: whatever
takes the file away from the path begins a new one. It says what every call
gives; the system, asked by raw flock, says whether the model is right.
"""

from __future__ import annotations

import fcntl
import gc
import os
import pathlib
import shutil
import tempfile
import warnings

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from locks import GROUPS, KIND_OF, handle, is_semaphore, try_to_hold

import portalocker

OBJECTS = 3
#: what is told about by the laws alone
NOT_MODELLED = {
    **{
        name: 'it differs from that of asyncio in its loop only'
        for name in GROUPS['tasks']
        if name.startswith('trio_')
    },
    **{
        name: 'what `filelock` is, in an event loop or by a marker'
        for name in GROUPS['file_locks']
        if name != 'filelock'
    },
    'lockf': 'objects of one process do not exclude each other',
    'lockf_semaphore': 'objects of one process do not exclude each other',
    'blocking': 'it differs from `lock` only while it waits',
    'named_semaphore': 'it differs from `semaphore` only in its name',
}
WHICH = st.integers(0, OBJECTS - 1)


class Model:
    """What one object ought to hold."""

    def __init__(self) -> None:
        # place -> generation; one place but for a semaphore of two
        self.held: tuple[int, int] | None = None
        self.depth = 0
        self.is_closed = False


class Histories(RuleBasedStateMachine):
    """All that may be done with objects of one kind."""

    kind = KIND_OF['lock']

    def __init__(self) -> None:
        super().__init__()
        self.directory = pathlib.Path(tempfile.mkdtemp())
        path = self.directory / 'lock'
        first = self.kind.locked_path(path)
        self.paths = [
            first.with_name(first.name.replace('00', f'{n:02}'))
            for n in range(self.kind.capacity)
        ]
        self.locks = [self.kind.make(path) for _ in range(OBJECTS)]
        self.models = [Model() for _ in range(OBJECTS)]
        self.generations = [0] * self.kind.capacity
        self.is_file_lock = self.kind.name == 'filelock'
        self.counts = self.is_file_lock or self.kind.name in GROUPS['counting']
        self.is_removed = isinstance(
            self.locks[0], portalocker.TemporaryFileLock
        )

    # -- what the model says

    def holders(self, place: int) -> list[Model]:
        here = place, self.generations[place]
        return [
            model
            for model in self.models
            if model.held == here and not model.is_closed
        ]

    def free_place(self) -> int | None:
        for place in range(self.kind.capacity):
            if self.kind.is_shared or not self.holders(place):
                return place
        return None

    def has(self, which: int) -> bool:
        model = self.models[which]
        return model.held is not None and not model.is_closed

    def is_lost(self, which: int) -> bool:
        """Whether a temporary lock's file was taken away."""
        held = self.models[which].held
        return held is not None and (
            self.generations[held[0]] != held[1]
            or not self.paths[held[0]].exists()
        )

    def took(self, which: int, place: int) -> None:
        model = self.models[which]
        model.held = place, self.generations[place]
        model.is_closed = False
        model.depth = 1

    def let_go(self, which: int) -> None:
        model = self.models[which]
        if self.has(which) and self.is_removed and not self.is_lost(which):
            assert model.held is not None
            others = self.holders(model.held[0])
            if others == [model]:
                self.generations[model.held[0]] += 1
        model.held, model.is_closed, model.depth = None, False, 0

    # -- what is done

    @rule(which=WHICH)
    def try_it(self, which: int) -> None:
        lock, place = self.locks[which], self.free_place()
        if is_semaphore(lock) and self.has(which):
            return  # the laws say: refused
        if self.has(which):
            assert try_to_hold(lock)
            self.models[which].depth += self.counts
            return
        assert try_to_hold(lock) is (place is not None)
        if place is not None:
            self.took(which, place)

    @rule(which=WHICH)
    def acquire_at_once(self, which: int) -> None:
        lock, place = self.locks[which], self.free_place()
        if is_semaphore(lock) and self.has(which):
            with pytest.raises(portalocker.AlreadyActive):
                lock.acquire(timeout=0)
        elif self.has(which) and self.is_removed and self.is_lost(which):
            with pytest.raises(portalocker.LockLost):
                lock.acquire(timeout=0)
        elif self.has(which):
            assert lock.acquire(timeout=0) is handle(lock)
            self.models[which].depth += self.counts
        elif place is None:
            with pytest.raises(portalocker.AlreadyLocked):
                lock.acquire(timeout=0)
        else:
            assert lock.acquire(timeout=0) is not None
            self.took(which, place)

    @rule(which=WHICH)
    def release(self, which: int) -> None:
        lock, model = self.locks[which], self.models[which]
        if not self.counts:
            lock.release()
            self.let_go(which)
        elif model.depth == 0 and self.is_file_lock:
            lock.release()  # of what is not held: nothing
        elif model.depth == 0:
            with pytest.raises(portalocker.LockException):
                lock.release()
        else:
            lock.release()
            model.depth -= 1
            if model.depth == 0:
                self.let_go(which)

    @precondition(lambda self: not is_semaphore(self.locks[0]))
    @rule(which=WHICH, depth=st.integers(1, 3))
    def nest_blocks(self, which: int, depth: int) -> None:
        if self.models[which].held is not None or self.free_place() is None:
            return
        place = self.free_place()
        assert place is not None
        lock = self.locks[which]
        self.took(which, place)
        for _ in range(depth):
            lock.__enter__()
        for left in range(depth, 0, -1):
            assert not handle(lock).closed
            self.agrees_with_the_system()
            lock.__exit__(None, None, None)
            assert (handle(lock) is None) is (left == 1)
        self.let_go(which)

    @precondition(lambda self: not self.is_file_lock)  # it is its own
    @rule(which=WHICH)
    def close_the_handle(self, which: int) -> None:
        if self.has(which):
            handle(self.locks[which]).close()
            self.models[which].is_closed = True

    @rule(place=st.integers(0, 1))
    def unlink_the_file(self, place: int) -> None:
        place %= self.kind.capacity
        if self.paths[place].exists():
            self.paths[place].unlink()
            self.generations[place] += 1

    @rule(place=st.integers(0, 1))
    def replace_the_file(self, place: int) -> None:
        place %= self.kind.capacity
        beside = self.directory / 'beside'
        beside.touch()
        beside.rename(self.paths[place])
        self.generations[place] += 1

    @precondition(lambda self: self.is_file_lock)
    @rule(which=WHICH)
    def release_by_force(self, which: int) -> None:
        self.locks[which].release(force=True)
        self.let_go(which)

    @rule(which=WHICH)
    def abandon(self, which: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.locks[which] = self.kind.make(self.directory / 'lock')
            gc.collect()
        self.let_go(which)

    # -- what is always so

    @invariant()
    def agrees_with_the_system(self) -> None:
        for place, path in enumerate(self.paths):
            assert is_locked(path, self.kind.locker) is bool(
                self.holders(place)
            )

    @invariant()
    def says_what_it_holds(self) -> None:
        for which, lock in enumerate(self.locks):
            fh = handle(lock)
            assert (fh is not None and not fh.closed) is self.has(which)

    def teardown(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            self.locks.clear()
            gc.collect()
        shutil.rmtree(self.directory)


def is_locked(path: pathlib.Path, locker: str | None) -> bool:
    """Ask the system, with no lock of ours."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if locker == 'OfdLocker':
            probe = portalocker.portalocker.OfdLocker()
            probe.lock(fd, portalocker.LOCK_EX | portalocker.LOCK_NB)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, portalocker.AlreadyLocked):
        return True
    else:
        return False
    finally:
        os.close(fd)


@pytest.mark.parametrize('name', sorted(KIND_OF.keys() - NOT_MODELLED.keys()))
@pytest.mark.usefixtures('_usual_locker', 'stranger')
def test_every_history_agrees_with_the_model(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level('CRITICAL', 'portalocker.utils')
    kind = KIND_OF[name]
    if kind.locker is not None:
        engine = portalocker.portalocker
        engine.LOCKER = getattr(engine, kind.locker)
    machine = type(f'HistoriesOf_{name}', (Histories,), {'kind': kind})
    gc.collect()
    gc.freeze()  # the machine collects often, and its own things only
    run_state_machine_as_test(
        machine, settings=settings(max_examples=20, stateful_step_count=25)
    )


def test_every_lock_is_modelled_or_excused() -> None:
    assert NOT_MODELLED.keys() <= KIND_OF.keys()
    assert all(NOT_MODELLED.values())
