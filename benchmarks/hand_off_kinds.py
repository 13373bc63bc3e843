"""How fast are FileLock and both sides of a ReadWriteLock handed over?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import hand_off
import question

if TYPE_CHECKING:
    from collections.abc import Callable

    import rivals

    Make = Callable[[], rivals.Lockable]

FILE_LOCK = 'FileLock'
#: side of whoever holds, and of whoever waits
SIDES = {
    'writer to writer': (1, 1),
    'writer to reader': (1, 0),
    'reader to writer': (0, 1),
}
PROCESSES = ', between processes'
THREADS = ', between threads'
NAMES = [
    kind + place
    for place in (PROCESSES, THREADS)
    for kind in (FILE_LOCK, *SIDES)
]


class HandOffKinds(question.Question):
    """The measurement of `hand_off`, for more kinds of lock."""

    title = 'hand-off of FileLock and of ReadWriteLock, default settings'
    goals: ClassVar[question.Goals] = {
        (name, column): question.Goal(limit)
        for name in NAMES
        for column, limit in (('median ms', 0.3), ('p95 ms', 2.0))
    }
    rivals = 'flock', 'ours', 'filelock', 'filelock 3.12', 'fasteners'

    def cases(self, quick: bool) -> list[question.Case]:
        """Return whoever follows whom, in processes and in threads."""
        return [question.Case(name) for name in NAMES]

    def rounds(self, quick: bool) -> int:
        """Return how many times ten hand-offs are measured."""
        return 2 if quick else 6

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Hand one kind of lock over, where the library waits for it."""
        kind, place = case.name.split(', ')
        in_threads = place in THREADS
        if kind == FILE_LOCK:
            waits = rival.excludes_threads
            makes = [lambda: rival.file_lock(path, hand_off.TIMEOUT)] * 2
        else:
            waits = rival.sides_exclude_threads
            makes = sides_of(rival, path, SIDES[kind])
        if not makes or (in_threads and not waits):
            return {}
        hand_over = (
            hand_off.between_threads
            if in_threads
            else hand_off.between_processes
        )
        first, second = makes
        return {'ms': hand_over(first(), second)}

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return what `hand_off` does."""
        return hand_off.HandOff().columns(answer, floor)


def sides_of(
    rival: rivals.Rival, path: str, sides: tuple[int, int]
) -> list[Make]:
    """How the two sides are made; empty where there are none."""

    def make(side: int) -> rivals.Lockable:
        both = rival.read_write(path)
        assert both is not None
        return both[side]

    if rival.read_write(path) is None:
        return []
    return [lambda: make(sides[0]), lambda: make(sides[1])]
