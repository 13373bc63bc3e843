"""Write the page of the newest results: `python benchmarks/report.py`.

It reads benchmarks/results/ and writes docs/benchmarks/: a plot and the table
of each question, also where we lose.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any, NamedTuple

import plots

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results'
PAGES = HERE.parent / 'docs' / 'benchmarks'

#: the order of the page; what is not named comes last
ORDER = (
    'hand_off', 'contention', 'threads', 'waiter_cpu', 'waiters',
    'uncontended', 'held', 'import_time', 'file_lock', 'hand_off_kinds',
    'read_write', 'publication', 'temporary_files', 'primitives',
    'event_loop', 'redis_locks', 'postgres_lock',
)  # fmt: skip
EQUAL = 1.05  # of two numbers: less than that apart is noise

HEAD = """\
Benchmarks
==========

How this library does beside the bare calls of the system (the *floor*) and the
libraries that are in use, each question in one run on a machine of two cores.
``python benchmarks/run.py --report`` measures all of it again and writes this
page. These numbers are {days}. Read ratios rather than absolute
numbers: other work on the host moves them. Blue is us; who is hatched in red
let two in at once. ``!`` in a table marks a number of ours that misses its
goal. How each question is asked: ``benchmarks/README.rst``.

At a glance
-----------

The first situation of each question. The best other is the best of the
libraries that we are measured against.

"""
LOSSES = """
Where others are better
-----------------------

Each situation in which another library is better than ours by more than a
twentieth; {won} others are won or even.

"""


class Answer(NamedTuple):
    """What one situation of a question says, in one column."""

    question: str
    case: str
    column: str
    ours: float
    floor: float | None
    best: str
    of_best: float

    def factor(self) -> float:
        """How many times better we are than the best of the others."""
        if plots.is_rate(self.column):
            return self.ours / self.of_best
        return self.of_best / max(self.ours, 1e-12)

    def verdict(self) -> str:
        """Say so in words."""
        factor = self.factor()
        if not self.best:
            return ''
        if 1 / EQUAL < factor < EQUAL:
            return f'as good as {self.best}'
        times = f'{max(factor, 1 / factor):.2g} times'
        return f'{times} {"better" if factor > 1 else "worse"} ({self.best})'

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        numbers = [self.ours, self.of_best, self.floor or self.ours]
        ours, best, floor = plots.texts(self.column, numbers)
        return (
            f'``{self.question}``: {self.case}',
            ours,
            '' if self.floor is None else floor,
            best if self.best else '',
            self.verdict(),
        )


def answer_of(name: str, asked: list[Any]) -> Answer | None:
    """Return what one case says, None where we were not asked."""
    column = plots.column_of(name, asked)
    found = {who: row[column] for _, who, row in asked if column in row}
    if plots.OURS not in found:
        return None
    broken = {who for _, who, row in asked if row.get('lost updates')}
    others = {
        who: number
        for who, number in found.items()
        if who not in plots.FLOORS
        and not who.startswith((plots.OURS, 'pure'))
        and who not in broken
    }
    choose = max if plots.is_rate(column) else min
    best = choose(others, key=others.__getitem__, default='')
    floor = next((found[each] for each in plots.FLOORS if each in found), None)
    ours = found[plots.OURS]
    return Answer(
        name, asked[0][0], column, ours, floor, best, others.get(best, ours)
    )


def answers_of(results: dict[str, dict[str, Any]]) -> list[Answer]:
    """Return an answer for each case of each question."""
    answers = (
        answer_of(name, asked)
        for name, kept in results.items()
        for asked in plots.cases_of(kept).values()
    )
    return [answer for answer in answers if answer is not None]


def newest_results() -> dict[str, dict[str, Any]]:
    """Return the last saved answer to each question, in the page's order."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob('*.json')):
        kept = json.loads(path.read_text())
        found[kept['question']] = kept
    names = [name for name in ORDER if name in found]
    return {
        name: found[name] for name in [*names, *sorted({*found} - {*names})]
    }


def listed(rows: list[tuple[str, ...]]) -> str:
    """Return a table; the first row is its head."""
    lines = [
        f'{"     -" if n else "   * -"} {cell}'.rstrip()
        for row in rows
        for n, cell in enumerate(row)
    ]
    head = '.. list-table::\n   :header-rows: 1\n\n'
    return head + '\n'.join(lines) + '\n'


def glance(results: dict[str, dict[str, Any]]) -> str:
    """Return the first answer of each question, and all that we lose."""
    answers = answers_of(results)
    firsts = {answer.question: answer for answer in reversed(answers)}
    head = 'question', 'ours', 'floor', 'best other', 'we are'
    told = [firsts[name] for name in results if name in firsts]
    lost = [
        answer
        for answer in answers
        if answer.best and answer.factor() < 1 / EQUAL
    ]
    compared = sum(bool(answer.best) for answer in answers)
    return (
        listed([head, *(answer.row() for answer in told)])
        + LOSSES.format(won=compared - len(lost))
        + listed([head, *(answer.row() for answer in lost)])
    )


def page_of(results: dict[str, dict[str, Any]]) -> str:
    """Return the page, in reStructuredText."""
    days = sorted({kept['day'] for kept in results.values()})
    said = 'of ' + (days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}')
    parts = [HEAD.format(days=said) + glance(results)]
    for name, kept in results.items():
        title = plots.capital(kept['title'])
        body = (RESULTS / f'{kept["day"]}-{name}.txt').read_text()
        indented = re.sub(r'^(?=.)', '   ', body, flags=re.MULTILINE)
        parts.append(
            f'{title}\n{"-" * len(title)}\n\n'
            f'.. image:: {name}.svg\n   :alt: {title}\n\n'
            f'.. code-block:: text\n\n{indented}'
        )
    return '\n'.join(parts)


def main() -> None:
    """Draw every plot and write the page."""
    results = newest_results()
    PAGES.mkdir(exist_ok=True)
    for name, kept in results.items():
        plots.draw(kept, PAGES / f'{name}.svg')
    (PAGES / 'report.rst').write_text(page_of(results))
    print(f'{PAGES / "report.rst"}: {len(results)} questions')


if __name__ == '__main__':
    main()
