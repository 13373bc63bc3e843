"""Draw the page of the newest results: `python benchmarks/report.py`.

It reads benchmarks/results/ and writes docs/benchmarks/: a plot and the table
of each question, also where we lose.
"""

from __future__ import annotations

import json
import pathlib
import re
from typing import Any

import matplotlib as mpl
import table

mpl.use('svg')
mpl.rcParams['svg.hashsalt'] = 'portalocker'  # the same numbers, the same file
from matplotlib import pyplot as plt  # noqa: E402 - after the choice above

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / 'results'
PAGES = HERE.parent / 'docs' / 'benchmarks'

#: what is drawn of a question: its column, and what that means
COLUMNS = {
    'uncontended': ('median us', 'microseconds, less is better'),
    'hand_off': ('median ms', 'milliseconds, less is better'),
    'file_lock': ('median us', 'microseconds, less is better'),
    'hand_off_kinds': ('median ms', 'milliseconds, less is better'),
    'waiter_cpu': ('% of a core', 'percent of a core, less is better'),
    'contention': ('sections/s', 'sections a second, more is better'),
    'threads': ('sections/s', 'sections a second, more is better'),
    'import_time': ('ms', 'milliseconds, less is better'),
    'waiters': ('ms/hand-off', 'milliseconds a hand-off, less is better'),
    'held': ('one more us', 'microseconds, less is better'),
    'read_write': ('median us', 'microseconds, less is better'),
    'publication': ('median us', 'microseconds, less is better'),
}
#: what a column means where a case has one of its own
MEANINGS = {
    'us': 'microseconds, less is better',
    'median us': 'microseconds, less is better',
    'ms': 'milliseconds, less is better',
    'sections/s': 'sections a second, more is better',
    'commands/s': 'commands a second, less is better',
    'ns': 'nanoseconds, less is better',
    'per second': 'sections a second, more is better',
    'releases': 'releases until the waiter has it, less is better',
    'worst wait ms': 'milliseconds, less is better',
}
OURS = 'ours'
COLOURS = {True: '#2b6cb0', False: '#a0aec0'}
WIDE_RANGE = 30.0  # of numbers: beyond it they are drawn on a log scale

HEAD = """\
Benchmarks
==========

How this library does beside the kernel's own calls and the libraries that are
in use, each question in one run on a machine of two cores. ``python
benchmarks/run.py --report`` measures all of it again and writes this page.
Read ratios rather than absolute numbers. Blue is us. Where we lose the number
stands here as well.

At a glance
-----------

The first situation of each question. ``best other`` is the best of the other
libraries, the floor (what the bare calls of the system or the server cost)
apart, and those that lost updates.

"""
#: not a library: what is compared with
FLOORS = ('flock', 'system calls', 'by hand', 'bare')


def newest_results() -> dict[str, dict[str, Any]]:
    """Return the last saved answer to each question, in the plots' order."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(RESULTS.glob('*.json')):
        kept = json.loads(path.read_text())
        found[kept['question']] = kept
    known = [name for name in COLUMNS if name in found]
    return {name: found[name] for name in [*known, *(found.keys() - known)]}


def draw(kept: dict[str, Any], target: pathlib.Path) -> None:
    """Draw the plot of one question."""
    figure = DRAWERS.get(kept['question'], bars)(kept)
    figure.savefig(target, metadata={'Date': None})
    plt.close(figure)


def spread(kept: dict[str, Any]) -> Any:
    """Draw how the single measurements are spread: a box a rival."""
    answers = kept['answers'][::-1]
    figure, axis = plt.subplots(layout='constrained', figsize=(8, 3))
    boxes = axis.boxplot(
        [next(iter(numbers.values())) for _, _, numbers in answers],
        orientation='horizontal', whis=(5, 95), widths=0.6, patch_artist=True,
    )  # fmt: skip
    names = [rival for _, rival, _ in answers]
    axis.set_yticks(range(1, len(names) + 1), names)
    for name, box in zip(names, boxes['boxes'], strict=True):
        box.set_facecolor(COLOURS[name == OURS])
    axis.set_xscale('log')
    axis.set_title(kept['title'], loc='left', fontsize='medium')
    axis.set_xlabel(
        'milliseconds, less is better; box: half of all, whiskers: 5 to 95 %'
    )
    axis.spines[['top', 'right']].set_visible(False)
    return figure


def crowds(kept: dict[str, Any]) -> Any:
    """Draw a line a rival over the number of contenders."""
    column, meaning = COLUMNS[kept['question']]
    figure, axis = plt.subplots(layout='constrained', figsize=(8, 4))
    for rival in dict.fromkeys(rival for _, rival, _ in kept['rows']):
        points = [
            (int(case.split()[0]), columns[column])
            for case, name, columns in kept['rows']
            if name == rival
        ]
        width = 3 if rival == OURS else 1.2
        axis.plot(*zip(*points, strict=True), 'o-', label=rival, lw=width)
    axis.set_xscale('log', base=2)
    axis.set_xticks(sizes := [4, 16, 64, 256], sizes)
    axis.set_ylim(bottom=0)
    axis.set_title(kept['title'], loc='left', fontsize='medium')
    axis.set_xlabel('processes that contend for one lock')
    axis.set_ylabel(meaning)
    axis.legend()
    axis.spines[['top', 'right']].set_visible(False)
    return figure


def bars(kept: dict[str, Any]) -> Any:
    """Draw a group a case, and in it a bar a rival."""
    rows = kept['rows']
    cases = list(dict.fromkeys(case for case, _, _ in rows))
    figure, axes = plt.subplots(
        len(cases), 1, squeeze=False, layout='constrained',
        figsize=(8, 0.6 + sum(0.5 + 0.24 * count(rows, c) for c in cases)),
        height_ratios=[1 + count(rows, case) for case in cases],
    )  # fmt: skip
    for axis, case in zip(axes[:, 0], cases, strict=True):
        asked = [row for row in reversed(rows) if row[0] == case]
        column = column_of(kept['question'], asked)
        numbers = [
            (rival, columns[column])
            for _, rival, columns in asked
            if column in columns
        ]
        draw_case(axis, case, numbers)
        axis.set_xlabel(MEANINGS.get(column, ''), fontsize='small')
    if kept['question'] in COLUMNS:
        for axis in axes[:, 0]:
            axis.set_xlabel('')
        axes[-1, 0].set_xlabel(COLUMNS[kept['question']][1])
    return figure


def column_of(name: str, asked: list[Any]) -> str:
    """Return what is drawn of a case: the first column of its rows."""
    column, _ = COLUMNS.get(name, ('', ''))
    if any(column in columns for _, _, columns in asked):
        return column
    return next(column for _, _, columns in asked for column in columns)


def count(rows: list[Any], case: str) -> int:
    """Return how many rivals the case has."""
    return sum(name == case for name, _, _ in rows)


def draw_case(axis: Any, case: str, pairs: list[tuple[str, float]]) -> None:
    """Draw the bars of one case, each with its number."""
    names = [rival for rival, _ in pairs]
    numbers = [number for _, number in pairs]
    colours = [COLOURS[rival == OURS] for rival in names]
    drawn_bars = axis.barh(names, numbers, color=colours, height=0.7)
    axis.bar_label(
        drawn_bars, [table.written(number) for number in numbers], padding=3
    )
    positive = [number for number in numbers if number > 0]
    if positive and max(positive) > WIDE_RANGE * min(positive):
        axis.set_xscale('log')
    axis.margins(x=0.12)
    axis.set_title(case, loc='left', fontsize='medium')
    axis.spines[['top', 'right']].set_visible(False)


#: how a question is drawn that is not drawn as bars
DRAWERS = {'hand_off': spread, 'contention': crowds}


def glance(results: dict[str, dict[str, Any]]) -> str:
    """Return a table with one row a question: ours, the floor, the best."""
    lines = [('question', 'unit', 'ours', 'floor', 'best other', 'times')]
    for name, kept in results.items():
        case = kept['rows'][0][0]
        asked = [row for row in kept['rows'] if row[0] == case]
        column = column_of(name, asked)
        found = {who: row[column] for _, who, row in asked if column in row}
        broken = {who for _, who, row in asked if row.get('lost updates')}
        others = {
            who: number
            for who, number in found.items()
            if who not in FLOORS
            and not who.startswith((OURS, 'pure'))
            and who not in broken
        }
        if OURS not in found:
            continue
        is_more_better = 'more' in COLUMNS.get(name, ('', ''))[1]
        choose = max if is_more_better else min
        best = choose(others, key=others.__getitem__, default='')
        floor = next((found[each] for each in FLOORS if each in found), None)
        lines.append(
            (
                f'``{name}``: {case}',
                column,
                table.written(found[OURS]),
                '' if floor is None else table.written(floor),
                f'{table.written(others[best])} ({best})' if best else '',
                f'{found[OURS] / others[best]:.2g}' if best else '',
            )
        )
    rows = [
        '\n'.join(
            f'{"   * -" if n == 0 else "     -"} {cell}'.rstrip()
            for n, cell in enumerate(line)
        )
        for line in lines
    ]
    return '.. list-table::\n   :header-rows: 1\n\n' + '\n'.join(rows) + '\n'


def page_of(results: dict[str, dict[str, Any]]) -> str:
    """Return the page, in reStructuredText."""
    parts = [HEAD + glance(results)]
    for name, kept in results.items():
        title = kept['title'][:1].upper() + kept['title'][1:]
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
        draw(kept, PAGES / f'{name}.svg')
    (PAGES / 'report.rst').write_text(page_of(results))
    print(f'{PAGES / "report.rst"}: {len(results)} questions')


if __name__ == '__main__':
    main()
