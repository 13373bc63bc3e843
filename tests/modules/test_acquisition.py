"""Open, lock, verify: how the file at a path comes to be held."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from portalocker import (
    _acquisition,
    _pacing,
    _wakeup,
    _wakeup_inotify,
    filelock,
)
from portalocker import portalocker as module
from portalocker.exceptions import AlreadyLocked, LockException

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

import fcntl

EX_NB = fcntl.LOCK_EX | fcntl.LOCK_NB
SHORT = 0.05


class Door:
    """A lock file that counts what is done with it."""

    _gives_way = False

    def __init__(self, path: pathlib.Path) -> None:
        self._path = str(path)
        self.opened: list[Any] = []
        self.tries = 0
        self.turns: list[Any] = []

    def _get_fh(self) -> Any:
        fh = open(self._path, 'ab', buffering=0)  # noqa: SIM115
        self.opened.append(fh)
        return fh

    def _get_lock(self, fh: Any) -> None:
        self.tries += 1
        try:
            fcntl.flock(fh, EX_NB)
        except BlockingIOError as error:
            raise AlreadyLocked(error) from error

    def contender(self) -> _acquisition.Contender:
        fh = self._get_fh()
        return _acquisition.Contender(
            self, fh, os.fstat(fh.fileno()), is_shared=False
        )

    def hold(self, contender: _acquisition.Contender, ticks: Any) -> Any:
        fh, turn = _acquisition.wait_for(contender, self, ticks)
        self.turns.append(turn)
        return fh

    def close(self) -> None:
        for turn in filter(None, self.turns):
            turn.close()
            turn.clean_up()
        for fh in self.opened:
            fh.close()


@pytest.fixture
def door(tmp_path: pathlib.Path) -> Iterator[Door]:
    with contextlib.closing(Door(tmp_path / 'file.lock')) as door:
        yield door


@pytest.fixture(autouse=True)
def no_crowd() -> Iterator[None]:
    _wakeup.crowded.clear()
    yield
    _wakeup.crowded.clear()


def ticking(seconds: float, interval: float = SHORT) -> Any:
    def ticks(pause: Any) -> Iterator[int]:
        return _pacing.ticks(seconds, interval, pause)

    return ticks


def test_a_free_file_is_held_at_once(door: Door) -> None:
    fh, opened = _acquisition.open_and_try(door, may_wait=True)
    assert opened is None
    assert door.tries == 1
    fh.close()


def test_a_held_file_is_left_open_for_whoever_waits(door: Door) -> None:
    holder, _ = _acquisition.open_and_try(door, may_wait=False)
    fh, opened = _acquisition.open_and_try(door, may_wait=True)
    assert opened is not None
    assert os.path.samestat(opened, os.fstat(fh.fileno()))
    with pytest.raises(AlreadyLocked):
        _acquisition.open_and_try(door, may_wait=False)
    assert door.opened[-1].closed
    fh.close()
    holder.close()


def test_a_stale_file_is_closed_and_opened_anew(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = door._get_lock

    def _get_lock(fh: Any) -> None:
        real(fh)
        if door.tries < 3:
            os.unlink(door._path)

    monkeypatch.setattr(door, '_get_lock', _get_lock)
    fh, _ = _acquisition.open_and_try(door, may_wait=False)
    assert len(door.opened) == 3
    assert os.path.samestat(os.fstat(fh.fileno()), os.stat(door._path))
    fh.close()


def test_a_file_that_is_replaced_at_every_try_ends_the_wait_in_time(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = door._get_lock

    def _get_lock(fh: Any) -> None:
        real(fh)
        os.unlink(door._path)
        pathlib.Path(door._path).touch()

    monkeypatch.setattr(door, '_get_lock', _get_lock)
    with pytest.raises(AlreadyLocked):
        _acquisition.open_and_try(door, may_wait=False)
    assert all(fh.closed for fh in door.opened)
    fh, opened = _acquisition.open_and_try(door, may_wait=True)
    assert opened is not None
    contender = _acquisition.Contender(door, fh, opened, is_shared=False)
    with pytest.raises(AlreadyLocked):
        _acquisition.follow(
            contender.attempts(ticking(SHORT)), contender.pause
        )
    assert all(fh.closed for fh in door.opened)


@pytest.mark.parametrize('timeout', [0, SHORT])
def test_the_same_with_bare_descriptors(
    timeout: float, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'lock'

    def lock_and_replace(fd: int, flags: int) -> None:
        fcntl.flock(fd, flags)
        if flags & fcntl.LOCK_EX:
            path.unlink()
            path.touch()

    monkeypatch.setattr(module, 'LOCKER', lock_and_replace)
    _wakeup_inotify.process_instance()  # it stays
    before = len(os.listdir('/dev/fd'))
    with pytest.raises(filelock.Timeout):
        filelock.FileLock(path, timeout=timeout).acquire()
    assert len(os.listdir('/dev/fd')) == before


@pytest.mark.parametrize(
    'raised',
    [
        ValueError('odd'),
        OSError(errno.EIO, 'io'),
        LockException('ours'),
        RuntimeError('flags'),
        TypeError('locker'),
        KeyboardInterrupt(),
    ],
)
def test_whatever_fails_closes_the_file_and_rises_as_it_is(
    raised: BaseException,
    door: Door,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def _get_lock(fh: Any) -> None:
        raise raised

    monkeypatch.setattr(door, '_get_lock', _get_lock)
    with pytest.raises(type(raised)) as caught:
        _acquisition.open_and_try(door, may_wait=True)
    assert caught.value is raised
    with pytest.raises(type(raised)) as caught:
        door.hold(door.contender(), ticking(SHORT))
    assert caught.value is raised
    assert all(fh.closed for fh in door.opened)


def test_a_contender_holds_what_becomes_free(door: Door) -> None:
    holder, _ = _acquisition.open_and_try(door, may_wait=False)
    contender = door.contender()
    pauses: list[float] = []

    def ticks(pause: Any) -> Iterator[int]:
        yield 0
        holder.close()
        pause(3600)
        pauses.append(3600)
        yield 1

    door.hold(contender, ticks)
    assert pauses == [3600]
    with pytest.raises(AlreadyLocked):
        door._get_lock(door._get_fh())
    door.opened[-1].close()


@pytest.mark.parametrize('seconds', [0, SHORT])
def test_a_contender_that_gives_up_leaves_nothing(
    seconds: float, door: Door
) -> None:
    holder, _ = _acquisition.open_and_try(door, may_wait=False)
    contender = door.contender()
    with pytest.raises(AlreadyLocked) as caught:
        door.hold(contender, ticking(seconds))
    assert door.opened[-1].closed
    assert caught.value.filename == door._path
    assert caught.value.waited is not None
    assert caught.value.args[0].errno == errno.EAGAIN
    holder.close()


def test_a_contender_without_a_tick_tries_once(door: Door) -> None:
    contender = door.contender()
    door.hold(contender, lambda pause: iter(()))
    assert door.tries == 1


def test_a_contender_moves_to_the_file_that_replaces_its_own(
    door: Door,
) -> None:
    holder, _ = _acquisition.open_and_try(door, may_wait=False)
    contender = door.contender()
    os.unlink(door._path)
    fh = door.hold(contender, ticking(math.inf, 0.001))
    assert os.path.samestat(os.fstat(fh.fileno()), os.stat(door._path))
    holder.close()


def test_a_contender_tries_the_new_file_before_it_sleeps(
    door: Door,
) -> None:
    holder, _ = _acquisition.open_and_try(door, may_wait=False)
    contender = door.contender()
    slept: list[float] = []

    def ticks(pause: Any) -> Iterator[int]:
        yield 0
        yield 1
        os.unlink(door._path)
        pause(0.01)
        yield 2  # finds that the path leads elsewhere
        started = time.perf_counter()
        pause(1.0)
        slept.append(time.perf_counter() - started)
        yield 3

    door.hold(contender, ticks)
    assert not any(seconds >= 1.0 for seconds in slept)
    holder.close()


def test_a_contender_whose_file_is_always_replaced_fails_like_any_other(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    contender = door.contender()
    real = door._get_lock

    def _get_lock(fh: Any) -> None:
        real(fh)
        os.unlink(door._path)
        if door.tries > 1000:
            pytest.fail('it goes on beyond its deadline')

    monkeypatch.setattr(door, '_get_lock', _get_lock)
    with pytest.raises(AlreadyLocked) as caught:
        door.hold(contender, ticking(0))
    assert caught.value.args[0].errno == errno.EAGAIN
    assert caught.value.filename == door._path
    assert all(fh.closed for fh in door.opened)


# who gets in line at once


@pytest.mark.parametrize('colour', ['thread', 'task'])
@pytest.mark.parametrize('waits', [False, True])
def test_whoever_waited_at_a_path_remembers_the_crowd(
    waits: bool, colour: str, door: Door
) -> None:
    def pause(seconds: float) -> None:
        if colour == 'thread':
            contender.pause(seconds)
        else:
            naps = contender.naps(seconds)
            with contextlib.suppress(StopIteration):
                next(naps)
                naps.send(True)  # it is woken at once

    other = os.open(door._path, os.O_RDWR | os.O_CREAT)
    if waits:
        fcntl.flock(other, fcntl.LOCK_EX)
    contender = door.contender()
    plan = contender.attempts(ticking(math.inf))
    while True:
        try:
            seconds = next(plan)
        except StopIteration as end:
            fh, turn = end.value
            break
        pause(min(seconds, SHORT))
        fcntl.flock(other, fcntl.LOCK_UN)
    os.close(other)
    door.turns.append(turn)
    assert (door._path in _wakeup.crowded) is waits
    assert not fh.closed


def test_a_crowd_is_forgotten_after_a_while_without_waiting() -> None:
    _wakeup.note_crowd('path')
    times = 0
    while 'path' in _wakeup.crowded:
        _wakeup.note_quiet('path')
        times += 1
        assert times <= 100
    assert times > 1


def test_few_crowded_paths_are_remembered() -> None:
    for n in range(_wakeup._MOST_CROWDED + 10):
        _wakeup.note_crowd(n)
    assert len(_wakeup.crowded) <= _wakeup._MOST_CROWDED
    assert 0 not in _wakeup.crowded
    _wakeup.note_quiet('never seen')
    assert 'never seen' not in _wakeup.crowded


def test_the_explanation_names_the_first_path_and_all_holders(
    door: Door,
) -> None:
    holder, _ = _acquisition.open_and_try(door, may_wait=False)
    failure = AlreadyLocked()
    other = pathlib.Path(door._path + '.other')
    _acquisition.explain(failure, [door._path, other], 1.5)
    assert failure.filename == door._path
    assert failure.waited == 1.5
    if sys.platform == 'linux':
        assert [one.pid for one in failure.holders] == [os.getpid()]
    holder.close()
