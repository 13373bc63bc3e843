"""RWMutex: many readers or one writer, and neither side starves."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
from crew import LONG, SHORT, Crew, in_thread, until, until_parked

PATIENCE = 0.0001  # seconds after which a lock is handed over


@pytest.fixture
def rw(sync: Any) -> Any:
    return sync.RWMutex()


class Line:
    """Readers and writers that stand in line, one behind the other."""

    def __init__(self, sync: Any, rw: Any, crew: Crew) -> None:
        self.sync, self.rw, self.crew = sync, rw, crew
        self.entered: list[str] = []
        self._doors: dict[str, Any] = {}

    def join(self, *names: str) -> None:
        """Add `r...` or `w...` behind who is parked, and let it wait."""
        for name in names:
            self._doors[name] = self.sync.Event()
            parked = self.sync.parked_count(self.rw)
            side = self.rw.reader if name[0] == 'r' else self.rw.writer
            self.crew.start(self._visit, name, side)
            until_parked(self.sync, self.rw, parked + 1)

    def _visit(self, name: str, side: Any) -> None:
        with side:
            self.entered.append(name)
            self._doors[name].wait()

    def leave(self, *names: str) -> None:
        for name in names:
            self._doors[name].set()

    def lose_patience(self) -> None:
        """Let time pass: all in line have waited long enough."""
        time.sleep(PATIENCE * 2)

    def until_entered(self, *names: str) -> None:
        until(lambda: sorted(self.entered) == sorted(names))


def test_readers_share(rw: Any) -> None:
    with rw.reader:
        assert in_thread(rw.acquire_read, False)
        assert in_thread(rw.acquire_read, True, 60)
        assert not in_thread(rw.acquire_write, False)
        rw.release_read()
        rw.release_read()
        assert rw.reader.locked()
    assert not rw.reader.locked()
    assert in_thread(rw.acquire_write, False)


def test_a_writer_is_alone(rw: Any) -> None:
    with rw.writer:
        for acquire in (rw.acquire_read, rw.acquire_write):
            assert not in_thread(acquire, False)
            assert not in_thread(acquire, True, 0)
            assert not in_thread(acquire, True, SHORT)
        assert rw.writer.locked()
        assert not rw.reader.locked()
    with rw.reader:
        pass


def test_seed_shaped_methods(rw: Any) -> None:
    assert rw.r_lock() is None
    assert rw.r_lock() is None
    assert rw.reader.locked()
    assert rw.r_unlock() is None
    assert rw.r_unlock() is None
    assert rw.lock() is None
    assert rw.writer.locked()
    assert rw.unlock() is None
    assert not rw.writer.locked()


def test_misuse_changes_nothing(rw: Any) -> None:
    with rw.writer:
        for release in (rw.release_read, rw.r_unlock, rw.reader.release):
            with pytest.raises(RuntimeError, match='release unlocked lock'):
                release()
        assert rw.writer.locked()
        assert not rw.reader.locked()
        assert not in_thread(rw.acquire_read, False)
    with rw.reader:
        for release in (rw.release_write, rw.unlock, rw.writer.release):
            with pytest.raises(RuntimeError, match='release unlocked lock'):
                release()
        with pytest.raises(RuntimeError):
            rw.downgrade()
        assert rw.reader.locked()
        assert not in_thread(rw.acquire_write, False)
    for release in (rw.release_read, rw.release_write, rw.downgrade):
        with pytest.raises(RuntimeError):
            release()
    with rw.writer:
        pass


def test_misuse_is_seen_before_anything_changes(sync: Any, rw: Any) -> None:
    """No reader slips in while a release is refused."""
    stop = []
    slipped_in = []

    def try_to_read() -> None:
        while not stop:
            if rw.acquire_read(blocking=False):
                slipped_in.append(1)

    rw.lock()
    with Crew() as crew:
        for _ in range(2):
            crew.start(try_to_read)
        for _ in range(3000):
            with contextlib.suppress(RuntimeError):
                rw.release_read()
        stop.append(1)
    assert not slipped_in
    rw.unlock()


def test_another_thread_may_release(rw: Any) -> None:
    rw.lock()
    in_thread(rw.unlock)
    rw.r_lock()
    in_thread(rw.r_unlock)
    assert rw.acquire_write(False)


def test_a_newcomer_reader_stands_behind_a_waiting_writer(
    sync: Any, rw: Any
) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        with rw.reader:
            line.join('w')
            assert not in_thread(rw.acquire_read, False)
            assert not in_thread(rw.acquire_read, True, SHORT)
        line.until_entered('w')
        line.leave('w')


def test_its_sides_have_the_same_line(sync: Any, rw: Any) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        with rw.writer:
            line.join('r', 'w')
            for key in (rw, rw.reader, rw.writer):
                assert sync.parked_count(key) == 2
        line.leave('r', 'w')
        line.until_entered('r', 'w')


def test_a_writer_that_gives_up_leaves_the_lock_open(
    sync: Any, rw: Any
) -> None:
    with rw.reader:
        assert not in_thread(rw.acquire_write, True, SHORT)
        assert in_thread(rw.acquire_read, False)
        rw.release_read()
    assert rw.acquire_write(blocking=False)


def test_a_writer_that_gives_up_lets_the_readers_in(
    sync: Any, rw: Any
) -> None:
    timeout = SHORT * 5
    while not readers_were_in_line(sync, rw, timeout):
        # the writer had given up before they came
        timeout *= 4
    assert rw.acquire_write(blocking=False)


def readers_were_in_line(sync: Any, rw: Any, timeout: float) -> bool:
    """Two readers behind a writer go in when it gives up."""
    gave_up: list[bool] = []

    def read() -> None:
        with rw.reader:
            pass

    with Crew() as crew, rw.reader:
        crew.start(
            lambda: gave_up.append(not rw.acquire_write(timeout=timeout))
        )
        until(lambda: gave_up or sync.parked_count(rw) == 1)
        readers = [crew.start(read) for _ in range(2)]
        in_line = until(lambda: gave_up or sync.parked_count(rw) == 3) is True
        for reader in readers:
            reader.join(LONG)
            assert not reader.is_alive()
    assert gave_up == [True]
    return in_line


def test_a_writer_that_gives_up_leaves_the_other_writers_in_line(
    sync: Any, rw: Any
) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        with rw.reader:
            line.join('w')
            assert not in_thread(rw.acquire_write, True, SHORT)
            assert not in_thread(rw.acquire_read, False)
            assert sync.parked_count(rw) == 1
        line.until_entered('w')
        line.leave('w')


def test_a_reader_that_gives_up_leaves_the_line(sync: Any, rw: Any) -> None:
    with rw.writer:
        assert not in_thread(rw.acquire_read, True, SHORT)
        assert sync.parked_count(rw) == 0
    assert rw.acquire_write(blocking=False)


def test_a_writer_lets_in_all_readers_in_line_who_lost_patience(
    sync: Any, rw: Any
) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        rw.lock()
        line.join('w1', 'r1', 'w2', 'r2')
        line.lose_patience()
        rw.unlock()
        line.until_entered('r1', 'r2')
        assert sync.parked_count(rw) == 2
        assert not rw.acquire_read(blocking=False)
        line.leave('r1')
        assert not rw.writer.locked()
        line.leave('r2')
        line.until_entered('r1', 'r2', 'w1')
        line.lose_patience()
        line.leave('w1')
        line.until_entered('r1', 'r2', 'w1', 'w2')
        line.leave('w2')
    assert line.entered[2:] == ['w1', 'w2']


def test_phases_alternate_for_those_who_lost_patience(
    sync: Any, rw: Any
) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        rw.lock()
        line.join('w1')
        line.join('r1')
        line.lose_patience()
        rw.unlock()
        line.until_entered('r1')
        line.join('r2')
        line.lose_patience()
        line.leave('r1')
        line.until_entered('r1', 'w1')
        line.leave('w1')
        line.until_entered('r1', 'w1', 'r2')
        line.leave('r2')
    assert line.entered == ['r1', 'w1', 'r2']


def test_the_lock_is_handed_over_past_newcomers(sync: Any, rw: Any) -> None:
    """Who lost patience holds from the release on, awake or not."""
    with Crew() as crew:
        line = Line(sync, rw, crew)
        rw.lock()
        line.join('w')
        line.lose_patience()
        rw.unlock()
        assert not rw.acquire_write(blocking=False)
        assert not rw.acquire_read(blocking=False)
        line.until_entered('w')
        line.leave('w')


def test_downgrade_keeps_writers_out_and_lets_readers_in(
    sync: Any, rw: Any
) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        rw.lock()
        line.join('w', 'r')
        rw.downgrade()
        line.until_entered('r')
        assert rw.reader.locked()
        assert not rw.writer.locked()
        assert not rw.acquire_read(blocking=False), 'a writer waits'
        line.leave('r')
        until_parked(sync, rw, 1)
        rw.release_read()
        line.until_entered('r', 'w')
        line.leave('w')
    with pytest.raises(RuntimeError):
        rw.release_read()


def test_downgrade_where_only_a_writer_is_in_line(sync: Any, rw: Any) -> None:
    with Crew() as crew:
        line = Line(sync, rw, crew)
        rw.lock()
        line.join('w')
        line.lose_patience()
        rw.downgrade()
        assert rw.reader.locked()
        assert not rw.writer.locked()
        assert line.entered == []
        rw.release_read()
        line.until_entered('w')
        line.leave('w')


def test_downgrade_with_nobody_in_line(rw: Any) -> None:
    rw.lock()
    rw.downgrade()
    assert in_thread(rw.acquire_read, False)
    rw.release_read()
    rw.release_read()
    assert rw.acquire_write(blocking=False)


def test_sides_live_without_their_mutex(sync: Any) -> None:
    reader = sync.RWMutex().reader
    with reader:
        assert reader.locked()
    assert not reader.locked()


def test_repr(sync: Any, rw: Any) -> None:
    shape = f' portalocker.pysync.RWMutex object at {id(rw):#x}>'
    assert repr(rw) == '<unlocked' + shape
    with rw.reader:
        assert repr(rw) == '<read-locked' + shape
    with rw.writer:
        assert repr(rw) == '<write-locked' + shape
        assert repr(rw.writer).startswith(
            '<locked portalocker.pysync.RWMutex.writer object at 0x'
        )
        assert repr(rw.reader).startswith(
            '<unlocked portalocker.pysync.RWMutex.reader object at 0x'
        )
