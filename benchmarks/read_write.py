"""What does a read-write lock cost that nobody else wants?"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, ClassVar

import question
import uncontended

if TYPE_CHECKING:
    import rivals

SIDES = ('read', 'write')


class ReadWrite(question.Question):
    """Acquire + release of either side."""

    title = 'acquire + release of a read-write lock that is free'
    goals: ClassVar[question.Goals] = {
        (side, 'median us'): question.Goal(8) for side in SIDES
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """The two sides."""
        return [question.Case(side) for side in SIDES]

    def rounds(self, quick: bool) -> int:
        """How often each library is asked."""
        return 5 if quick else 20

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Time some batches."""
        sides = rival.read_write(path)
        if sides is None:
            return {}
        cycle = uncontended.lock_cycle(sides[SIDES.index(case.name)])
        uncontended.seconds_each(cycle, 3)
        return {
            'us': [
                1e6 * uncontended.seconds_each(cycle, 200) for _ in range(4)
            ]
        }

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return median, minimum, and the ratio to the floor."""
        return {
            'median us': statistics.median(answer['us']),
            'min us': min(answer['us']),
            **question.ratio('us', answer, floor),
        }
