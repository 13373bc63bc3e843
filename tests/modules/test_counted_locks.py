"""Every lock for threads reports its waits and holds to the wait counters."""

from __future__ import annotations

import os
import pathlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

import portalocker
from portalocker import read_write, wait_counters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = 60  # seconds; reached by a failure only

KINDS: dict[str, Callable[[str], Any]] = {
    'Lock': portalocker.Lock,
    'RLock': portalocker.RLock,
    'TemporaryFileLock': portalocker.TemporaryFileLock,
    'PidFileLock': portalocker.PidFileLock,
    'ReadSide': lambda path: read_write.ReadWriteLock(path).read(),
    'WriteSide': lambda path: read_write.ReadWriteLock(path).write(),
    'BoundedSemaphore': lambda path: portalocker.BoundedSemaphore(
        1, os.path.basename(path), directory=os.path.dirname(path)
    ),
}
EXCLUSIVE = [name for name in KINDS if name != 'ReadSide']


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    wait_counters.enable()
    yield
    wait_counters.disable()


class Counters:
    """What the counters of one kind said more since it was made."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._before = {phase: self._read(phase) for phase in self.PHASES}

    PHASES = ('enter', 'region', 'exit')

    def _read(self, phase: str) -> wait_counters.Waits | None:
        name = f'portalocker.{self._kind}.{phase}'
        return wait_counters.snapshot().get(name)

    def more(self, phase: str, field: str) -> int:
        before, now = self._before[phase], self._read(phase)
        assert now is not None
        number: int = getattr(now, field)
        return number - (getattr(before, field) if before else 0)

    def active(self, phase: str) -> int:
        now = self._read(phase)
        return now.active if now else 0


@pytest.mark.parametrize('kind', KINDS)
def test_hold_is_counted_from_acquire_to_release(
    kind: str, tmp_path: pathlib.Path
) -> None:
    lock, counters = KINDS[kind](str(tmp_path / 'lock')), Counters(kind)
    lock.acquire()
    assert counters.more('enter', 'started') == 1
    assert counters.active('region') == 1
    lock.release()
    assert counters.active('region') == 0
    assert counters.more('region', 'started') == 1
    assert counters.more('exit', 'started') == 1


@pytest.mark.parametrize('kind', EXCLUSIVE)
def test_timeout_is_counted(kind: str, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / 'lock')
    holder = KINDS[kind](path)
    holder.acquire()
    counters = Counters(kind)
    with pytest.raises(portalocker.AlreadyLocked):
        KINDS[kind](path).acquire(timeout=0)
    assert counters.more('enter', 'timeouts') == 1
    assert counters.active('region') == 1
    holder.release()


@pytest.mark.parametrize('kind', KINDS)
def test_try_is_counted_as_acquire_is(
    kind: str, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / 'lock')
    lock, counters = KINDS[kind](path), Counters(kind)
    of_places = Counters('Lock')
    assert lock.try_acquire()
    assert counters.more('enter', 'started') == 1
    assert counters.active('region') == 1
    if kind in EXCLUSIVE:
        assert not KINDS[kind](path).try_acquire()
        assert counters.more('enter', 'timeouts') == 1
        assert counters.more('enter', 'contended') == 1
    lock.release()
    assert counters.active('region') == 0
    assert counters.more('region', 'started') == 1
    assert kind == 'Lock' or of_places.active('region') == 0


@pytest.mark.parametrize('kind', EXCLUSIVE)
def test_waiter_is_counted_while_it_waits(
    kind: str, tmp_path: pathlib.Path, parked: threading.Semaphore
) -> None:
    path = str(tmp_path / 'lock')
    holder = KINDS[kind](path)
    holder.acquire()
    counters = Counters(kind)

    def wait() -> None:
        lock = KINDS[kind](path)
        lock.acquire(timeout=LONG, fail_when_locked=False)
        lock.release()

    thread = threading.Thread(target=wait)
    thread.start()
    assert parked.acquire(timeout=LONG)
    assert counters.active('enter') == 1
    holder.release()
    thread.join(LONG)
    assert counters.active('enter') == 0
    assert counters.more('enter', 'contended') == 1
    assert counters.more('region', 'started') == 1


def test_handle_closed_by_hand_ends_the_hold(tmp_path: pathlib.Path) -> None:
    lock, counters = portalocker.Lock(tmp_path / 'lock'), Counters('Lock')
    lock.acquire().close()
    lock.release()
    assert counters.active('region') == 0
    assert counters.more('exit', 'started') == 1


def test_nested_hold_is_one_region(tmp_path: pathlib.Path) -> None:
    lock, counters = portalocker.RLock(tmp_path / 'lock'), Counters('RLock')
    with lock, lock:
        assert counters.active('region') == 1
    assert counters.more('region', 'started') == 1


def test_lock_of_another_name_reports_under_it(tmp_path: pathlib.Path) -> None:
    lock = portalocker.Lock(tmp_path / 'lock')
    lock.counter_name = 'example.cache'
    with lock:
        pass
    assert wait_counters.snapshot()['example.cache.region'].started >= 1


def test_hold_that_began_before_ends_uncounted(tmp_path: pathlib.Path) -> None:
    wait_counters.disable()
    lock, counters = portalocker.Lock(tmp_path / 'lock'), None
    lock.acquire()
    wait_counters.enable()
    counters = Counters('Lock')
    lock.release()
    assert counters.active('region') == 0


def test_counting_may_be_switched_off_at_any_moment(
    tmp_path: pathlib.Path,
) -> None:
    class Meddled(portalocker.Lock):
        @property
        def _is_counted(self) -> bool:  # type: ignore[override]
            wait_counters.disable()
            return True

    with Meddled(tmp_path / 'lock') as fh:
        assert not fh.closed


def test_hold_that_another_thread_ended_at_once_is_over(
    tmp_path: pathlib.Path,
) -> None:
    class HandedOver(portalocker.Lock):
        def _take(self, *wish: Any) -> Any:
            fh = super()._take(*wish)
            thread = threading.Thread(target=self.release)
            thread.start()
            thread.join(LONG)
            return fh

    counters = Counters('HandedOver')
    assert HandedOver(tmp_path / 'lock').acquire().closed
    assert counters.more('enter', 'started') == 1
    assert counters.active('region') == 0


def test_hold_of_a_dropped_lock_is_counted_no_more(
    tmp_path: pathlib.Path,
) -> None:
    counters = Counters('Lock')
    fh = portalocker.Lock(tmp_path / 'lock').acquire()
    assert not fh.closed
    assert counters.active('region') == 0
    assert counters.more('region', 'started') == 1
    fh.close()
