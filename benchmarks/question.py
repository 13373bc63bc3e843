"""What a question is: cases, rounds, one measurement, and columns."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    import rivals

#: numbers by name, as one measurement gathers them; empty where the rival
#: does not offer what the case is about
Answer = dict[str, list[float]]

#: what a table shows: number by column
Columns = dict[str, float]

FLOOR = 'flock'
OURS = 'ours'


class Case(NamedTuple):
    """One situation that every rival is put into."""

    name: str
    size: int = 0
    #: on the directory in memory instead of the one on disk
    in_memory: bool = False


class Goal(NamedTuple):
    """What our own number has to be: at most, or at least, `limit`."""

    limit: float
    at_least: bool = False

    def is_met(self, number: float) -> bool:
        """Say whether `number` is good enough."""
        return number >= self.limit if self.at_least else number <= self.limit

    def __str__(self) -> str:
        return ('>= ' if self.at_least else '<= ') + f'{self.limit:g}'


#: (case, column) -> goal
Goals = dict[tuple[str, str], Goal]


class Question:
    """Base of the questions; one subclass in each file of this folder."""

    title = ''
    goals: ClassVar[Goals] = {}
    #: who is asked, in the order of the table
    rivals: tuple[str, ...] = (
        FLOOR, OURS, 'portalocker', 'filelock', 'fasteners', 'oslo',
    )  # fmt: skip

    def goal(self, rival: str, case: str, column: str) -> Goal | None:
        """Return what that number of that rival has to be, if anything."""
        return self.goals.get((case, column)) if rival == OURS else None

    def cases(self, quick: bool) -> list[Case]:
        """Every situation to measure."""
        raise NotImplementedError

    def rounds(self, quick: bool) -> int:
        """How often every rival is asked; they take turns."""
        raise NotImplementedError

    def measure(
        self, rival: rivals.Rival, case: Case, path: str, quick: bool
    ) -> Answer:
        """Measure once, with a lock file at `path`; runs in a worker."""
        raise NotImplementedError

    def columns(self, answer: Answer, floor: Answer) -> Columns:
        """Boil down the numbers of all rounds; `floor` may be empty."""
        raise NotImplementedError

    def compared(self, answer: Answer, answers: dict[str, Answer]) -> Columns:
        """Boil them down beside the answers of all rivals to the case."""
        return self.columns(answer, answers.get(FLOOR, {}))


class Survey(Question):
    """Base of questions that need a server, or more than one rival at once.

    It gathers all answers itself, in the driver, where the tree around this
    folder is imported.
    """

    rivals = ()
    #: whom the others are compared with
    base = ''

    def answers(
        self, quick: bool, disk: str, memory: str
    ) -> Iterator[tuple[str, str, Answer]]:
        """Yield (case, rival, numbers by unit), each once.

        RuntimeError where something is missing.
        """
        raise NotImplementedError

    def versions(self) -> str:
        """What was measured."""
        raise NotImplementedError

    def columns(self, answer: Answer, floor: Answer) -> Columns:
        """Median and 95th percentile, and how often the floor's median."""
        columns: Columns = {}
        for unit, numbers in answer.items():
            columns[unit] = statistics.median(numbers)
            if len(numbers) >= 20:
                columns[f'p95 {unit}'] = percentile(numbers, 95)
            if unit in floor and unit == next(iter(answer)):
                base = statistics.median(floor[unit])
                columns[f'x {self.base}'] = columns[unit] / base
        return columns

    def compared(self, answer: Answer, answers: dict[str, Answer]) -> Columns:
        """Compare with `base`."""
        return self.columns(answer, answers.get(self.base, {}))


def ratio(name: str, answer: Answer, floor: Answer) -> Columns:
    """Column that compares the medians of `name` with the floor's."""
    if not floor:
        return {}
    base = statistics.median(floor[name])
    if not base:
        return {}
    return {f'x {FLOOR}': statistics.median(answer[name]) / base}


def percentile(numbers: list[float], percent: int) -> float:
    """Smallest number that `percent` of the numbers do not exceed."""
    ordered = sorted(numbers)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
