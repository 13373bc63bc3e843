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
}
OURS = 'ours'
COLOURS = {True: '#2b6cb0', False: '#a0aec0'}
WIDE_RANGE = 30.0  # of numbers: beyond it they are drawn on a log scale

HEAD = """\
Benchmarks
==========

How this library does beside the kernel's own calls and the libraries that are
in use, measured in one run on a machine of two cores. ``python
benchmarks/run.py --report`` measures all of it again and writes this page.
Read ratios rather than absolute numbers. Blue is us.
"""


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
    default = next(iter(rows[0][2])), ''
    column, meaning = COLUMNS.get(kept['question'], default)
    cases = list(dict.fromkeys(case for case, _, _ in rows))
    figure, axes = plt.subplots(
        len(cases), 1, squeeze=False, layout='constrained',
        figsize=(8, 0.6 + sum(0.5 + 0.24 * count(rows, c) for c in cases)),
        height_ratios=[1 + count(rows, case) for case in cases],
    )  # fmt: skip
    for axis, case in zip(axes[:, 0], cases, strict=True):
        numbers = [
            (rival, columns[column])
            for name, rival, columns in reversed(rows)
            if name == case and column in columns
        ]
        draw_case(axis, case, numbers)
    axes[-1, 0].set_xlabel(meaning)
    return figure


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
        drawn_bars, [f'{number:.3g}' for number in numbers], padding=3
    )
    positive = [number for number in numbers if number > 0]
    if positive and max(positive) > WIDE_RANGE * min(positive):
        axis.set_xscale('log')
    axis.margins(x=0.12)
    axis.set_title(case, loc='left', fontsize='medium')
    axis.spines[['top', 'right']].set_visible(False)


#: how a question is drawn that is not drawn as bars
DRAWERS = {'hand_off': spread, 'contention': crowds}


def page_of(results: dict[str, dict[str, Any]]) -> str:
    """Return the page, in reStructuredText."""
    parts = [HEAD]
    for name, kept in results.items():
        title = kept['title'][:1].upper() + kept['title'][1:]
        body = (RESULTS / f'{kept["day"]}-{name}.txt').read_text()
        table = re.sub(r'^(?=.)', '   ', body, flags=re.MULTILINE)
        parts.append(
            f'{title}\n{"-" * len(title)}\n\n'
            f'.. image:: {name}.svg\n   :alt: {title}\n\n'
            f'.. code-block:: text\n\n{table}'
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
