"""Readers and writers, a killer, and handlers that raise: nobody is torn.

What a writer leaves are two numbers that are the same; whoever reads looks at
both. The counter of writers is as in `test_stress`, and so is the rest.
"""

from __future__ import annotations

import os
import pathlib
import random
import signal
import sys
import threading
import time
from typing import Any

import pytest

if sys.platform != 'linux':
    pytest.skip('it kills as POSIX does', allow_module_level=True)

from journal import ENTER, LEAVE, STAY, Record, lost_updates
from test_stress import (
    PATIENCE_SECONDS,
    SECONDS,
    Killer,
    Worker,
    contend,
)

import portalocker
from portalocker import read_write

#: added to the verbs of those who do not read alone
READING = 10


class Struck(Exception):
    """What the handler raises."""


def make(path: pathlib.Path, number: int) -> read_write.ReadWriteLock:
    return read_write.ReadWriteLock(path, timeout=PATIENCE_SECONDS)


class ReaderWriter(Worker):
    """Reads and writes, in the main thread as well, where signals raise."""

    _is_armed = False

    def run(self) -> None:
        signal.signal(signal.SIGUSR1, self._strike)
        self._pair = os.open(self._directory / 'counter', os.O_RDWR)
        lock = make(self._directory / 'lock', self._number)
        thread = threading.Thread(
            target=self._come_and_go,
            args=(lock, self._number * 2, self._pair),
        )
        thread.start()
        self._come_and_go(lock, self._number * 2 + 1, self._pair)
        thread.join()
        if self._failures:
            raise self._failures[0]

    def _strike(self, *_: object) -> None:
        if self._is_armed:
            self._is_armed = False
            raise Struck

    def _visit(
        self, lock: Any, record: Record, counter: int, choices: random.Random
    ) -> None:
        reads = choices.random() < 0.6
        side = lock.read() if reads else lock.write()
        hurry = choices.random() / 500 if choices.random() < 0.2 else None
        try:
            self._arm(True)
            side.acquire(timeout=hurry)
            self._arm(False)
        except portalocker.AlreadyLocked:
            self._arm(False)
            return
        except Struck:
            _release_all(lock)
            return
        if reads:
            self._read(record)
        else:
            self._write(lock, record, choices)
        try:
            self._arm(True)
            side.release()
            self._arm(False)
        except Struck:
            _release_all(lock)

    def _arm(self, arm: bool) -> None:
        """Whether the handler raises from here on, where it runs."""
        if threading.current_thread() is threading.main_thread():
            self._is_armed = arm

    def _read(self, record: Record) -> None:
        value = self._look()
        record = record._replace(value=value)
        for verb in ENTER, STAY, LEAVE:
            self._journal.write(record._replace(verb=verb + READING))
            os.sched_yield()
            assert self._look() == value, 'somebody writes while we read'

    def _look(self) -> int:
        """The number; both of them."""
        pair = os.pread(self._pair, 40, 0).split() or [b'0', b'0']
        assert pair[0] == pair[1] or self._was_torn(pair)
        return int(pair[0])

    def _was_torn(self, pair: list[bytes]) -> bool:
        """Whether a writer was killed between the two, and nobody else is."""
        return [int(pair[0])] == [int(pair[1]) + 1]

    def _write(self, lock: Any, record: Record, choices: Any) -> None:
        value = self._look() + 1
        record = record._replace(value=value)
        self._journal.write(record)
        os.pwrite(self._pair, b'%19d ' % value, 0)
        for _ in range(choices.randrange(3)):
            os.sched_yield()
            self._journal.write(record._replace(verb=STAY))
        os.pwrite(self._pair, b'%19d ' % value, 20)
        self._journal.write(record._replace(verb=LEAVE))
        if choices.random() < 0.2:
            lock.downgrade()
            assert self._look() == value, 'somebody wrote in the gap'


def _release_all(lock: read_write.ReadWriteLock) -> None:
    """Give back what this thread got before it was told of it."""
    for side in lock.read(), lock.write():
        if side._holdings.own() is not None:
            side.release()


class Striker(Killer):
    """Sends signals whose handlers raise, as well."""

    strikes = 0
    _worker = ReaderWriter

    def start(self) -> None:
        """Start one worker; until it has a handler a strike does nothing."""
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            super().start()
        finally:
            signal.signal(signal.SIGUSR1, before)

    def strike(self) -> None:
        for _ in range(3):
            time.sleep(self._choices.random() / 100)
            os.kill(self._choices.choice(self._running), signal.SIGUSR1)
            self.strikes += 1
        super().strike()


def writers_in_company(records: list[Record]) -> list[Record]:
    """The writers that were certainly inside together with anybody else."""
    last = {}
    for n, record in enumerate(records):
        last[record.worker, record.visit] = n
    inside: dict[tuple[int, int], bool] = {}
    found = []
    for n, record in enumerate(records):
        visit = record.worker, record.visit
        inside[visit] = record.verb < READING
        if any(inside.values()) and len(inside) > 1:
            found.append(record)
        if last[visit] == n:
            del inside[visit]
    return found


def test_writer_that_is_not_alone_is_seen() -> None:
    reader = [Record(1, 1, verb + READING, 0) for verb in (ENTER, LEAVE)]
    writer = [Record(2, 1, verb, 1) for verb in (ENTER, LEAVE)]
    assert not writers_in_company(reader + writer)
    assert writers_in_company([*writer[:1], *reader, *writer[1:]])
    assert writers_in_company([*reader[:1], *writer, *reader[1:]])
    other = [record._replace(worker=3) for record in reader]
    assert not writers_in_company([*reader[:1], *other, *reader[1:]])


def run(directory: pathlib.Path, seconds: float) -> None:
    """Let them contend for some seconds; prove that nothing was torn."""
    killer = Striker(make, directory)
    records = contend(killer, directory, seconds)
    left = sum(record.verb % READING == LEAVE for record in records)
    print(
        f'{left} visits, {killer.kills} kills, {killer.stops} stops, '
        f'{killer.strikes} raising signals'
    )
    assert not writers_in_company(records)
    writes = [record for record in records if record.verb < READING]
    assert writes
    assert not lost_updates(writes)
    last = make(directory / 'lock', 0).write()
    assert last.acquire(timeout=PATIENCE_SECONDS) is not None
    last.release()


def test_few_seconds_of_reading_and_writing_tear_nothing(
    tmp_path: pathlib.Path,
) -> None:
    run(tmp_path, 1)


@pytest.mark.stress
@pytest.mark.timeout(SECONDS + 2 * PATIENCE_SECONDS)
def test_minutes_of_reading_and_writing_tear_nothing(
    tmp_path: pathlib.Path,
) -> None:
    run(tmp_path, SECONDS)
