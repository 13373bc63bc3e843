"""What workers write down while they are inside, and what it proves.

A worker appends a record when it enters, some while it is inside, and one
when it leaves. Of a worker that was killed only the time between its first
and its last record is certain; that time must not overlap with others'.
"""

from __future__ import annotations

import os
import pathlib
import struct
from typing import NamedTuple

ENTER, STAY, LEAVE = range(3)
_RECORD = struct.Struct('=IIIQ')


class Record(NamedTuple):
    """One line of the journal: `value` is what the counter is set to."""

    worker: int
    visit: int
    verb: int
    value: int


class Journal:
    """Records of fixed size, each appended by one write."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._fd = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        )

    def write(self, record: Record) -> None:
        os.write(self._fd, _RECORD.pack(*record))

    def close(self) -> None:
        os.close(self._fd)

    def read(self) -> list[Record]:
        content = self._path.read_bytes()
        assert len(content) % _RECORD.size == 0
        return [Record(*fields) for fields in _RECORD.iter_unpack(content)]


def most_inside_at_once(records: list[Record]) -> int:
    """Return how many were certainly inside at the same time, at most."""
    last = {}
    for n, record in enumerate(records):
        last[record.worker, record.visit] = n
    inside: set[tuple[int, int]] = set()
    most = 0
    for n, record in enumerate(records):
        visit = record.worker, record.visit
        inside.add(visit)
        most = max(most, len(inside))
        if last[visit] == n:
            inside.discard(visit)
    return most


def lost_updates(records: list[Record]) -> list[tuple[Record, Record]]:
    """Return the visits whose value does not follow from the one before.

    A visit that came to its end added exactly one; of one that was killed
    nobody knows whether it did.
    """
    lost = []
    before: Record | None = None
    for record in records:
        if record.verb == ENTER:
            if before is not None:
                follows = {before.value + 1}
                if before.verb != LEAVE:
                    follows.add(before.value)
                if record.value not in follows:
                    lost.append((before, record))
            elif record.value != 1:
                lost.append((record, record))
        elif before is None or (record.worker, record.visit) != before[:2]:
            lost.append((before or record, record))
        before = record
    return lost
