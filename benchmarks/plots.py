"""Draw the answers to one question as a picture."""

from __future__ import annotations

import pathlib
import statistics
from typing import Any

import matplotlib as mpl

mpl.use('svg')
mpl.rcParams['svg.hashsalt'] = 'portalocker'  # the same numbers, the same file
from matplotlib import pyplot as plt  # noqa: E402 - after the choice above

OURS = 'ours'
#: not a library: what is compared with
FLOORS = ('flock', 'system calls', 'by hand', 'bare')
#: what the floor is called where it is another than `flock`
FLOOR_NAMES = {
    'import of temporary files': 'the standard library',
    'import': 'Python alone',
    'import, and a first lock held': 'Python and fcntl',
    'new file, in RAM': 'system calls',
    'new file, on disk': 'system calls',
    'replaced file, in RAM': 'system calls',
    'replaced file, on disk': 'system calls',
}
#: the column of a question that is drawn, where it is not the first one
COLUMNS = {'contention': 'sections/s', 'threads': 'sections/s'}
#: columns of which more is better, and what they count
RATES = {'sections/s': 'sections a second', 'per second': 'sections a second'}
#: what other columns count
COUNTS = {
    'commands/s': 'commands a second',
    '% of a core': 'percent of a core',
    'releases': 'releases until the waiter has it',
    'worst wait ms': 'worst wait',
    'ms/hand-off': 'a hand-off',
    'one more us': 'one more lock',
    'median us': 'median',
    'median ms': 'median',
}
TIMES = {'ns': 1e-9, 'us': 1e-6, 'ms': 1e-3}
WRITTEN_TIMES = [(1e-3, 'ms'), (1e-6, 'us'), (1e-9, 'ns')]

BLUE, LIGHT_BLUE, DARK, GREY, RED = (
    '#2b6cb0', '#90cdf4', '#4a5568', '#cbd5e0', '#e53e3e',
)  # fmt: skip
LINES = {
    'portalocker': ('#dd6b20', 's'),
    'filelock': ('#805ad5', '^'),
    'fasteners': ('#38a169', 'v'),
    'oslo': ('#b7791f', 'D'),
}
WIDTH = 8.0  # inches
ROW, HEADING = 0.23, 0.36  # inches: a bar, what is said above a group


def draw(kept: dict[str, Any], target: pathlib.Path) -> None:
    """Draw the plot of one question."""
    figure = DRAWERS.get(kept['question'], bars)(kept)
    figure.savefig(target, metadata={'Date': None})
    plt.close(figure)


def is_rate(column: str) -> bool:
    """Whether more of it is better."""
    return column in RATES


def column_of(name: str, asked: list[Any]) -> str:
    """Return what is drawn of a case."""
    column = COLUMNS.get(name, '')
    if any(column in columns for _, _, columns in asked):
        return column
    return next(column for _, _, columns in asked for column in columns)


def cases_of(kept: dict[str, Any]) -> dict[str, list[Any]]:
    """Return the rows of each case, in order."""
    cases: dict[str, list[Any]] = {}
    for row in kept['rows']:
        cases.setdefault(row[0], []).append(row)
    return cases


def name_of(rival: str, case: str = '') -> str:
    """Return what a rival is called beside its bar."""
    if rival not in FLOORS:
        return {'pure': 'ours, pure Python'}.get(rival, rival)
    return f'{FLOOR_NAMES.get(case, rival)} (floor)'


def texts(column: str, numbers: list[float]) -> list[str]:
    """Write numbers of one column, in the unit that suits the smallest."""
    unit = next((word for word in TIMES if word in column.split()), '')
    if column == 'ms/hand-off':
        unit = 'ms'
    if not unit:
        behind = ' %' if column.startswith('%') else ''
        behind = '/s' if is_rate(column) else behind
        return [short(number) + behind for number in numbers]
    seconds = [number * TIMES[unit] for number in numbers]
    sizes = [abs(each) for each in seconds if each] or [1.0]
    least = 0.1 if max(sizes) < 1000 * min(sizes) else 0.01
    size, word = next(
        (each for each in WRITTEN_TIMES if min(sizes) >= each[0] * least),
        WRITTEN_TIMES[-1],
    )
    return [f'{short(each / size)} {word}' for each in seconds]


def short(number: float) -> str:
    """Write three significant digits, thousands apart."""
    if abs(number) >= 100 or number == int(number):
        return f'{number:,.0f}'
    return f'{number:.3g}' if abs(number) >= 0.001 else f'{number:.4f}'


def colour_of(rival: str) -> str:
    """Return the colour of a bar."""
    if rival == OURS:
        return BLUE
    if rival in FLOORS:
        return DARK
    is_akin = rival == 'pure' or rival.startswith(OURS)
    return LIGHT_BLUE if is_akin else GREY


def bars(kept: dict[str, Any]) -> Any:
    """Draw a group a case, each to its own scale, and in it a bar a rival."""
    cases = cases_of(kept)
    rows = sum(len(asked) for asked in cases.values())
    height = 0.1 + ROW * rows + HEADING * len(cases)
    figure, axis = plt.subplots(figsize=(WIDTH, height))
    top = height
    for case, asked in cases.items():
        column = column_of(kept['question'], asked)
        found = [row for row in asked if column in row[2]]
        draw_heading(axis, case, column, top)
        draw_group(axis, found, column, top - HEADING)
        top -= HEADING + ROW * len(asked)
    axis.set_xlim(-0.36, 1.24)
    axis.set_ylim(0, height)
    axis.axis('off')
    figure.subplots_adjust(0, 0, 1, 1)
    return figure


def draw_heading(axis: Any, case: str, column: str, top: float) -> None:
    """Say what is measured, and what of it is good."""
    counted = RATES.get(column) or COUNTS.get(column)
    better = 'more is better' if is_rate(column) else 'less is better'
    said = f'{counted}, {better}' if counted else better
    place = top - 0.62 * HEADING
    axis.text(-0.34, place, case, weight='bold', va='center')
    axis.text(1.22, place, said, ha='right', va='center', color=DARK)


def draw_group(axis: Any, rows: list[Any], column: str, top: float) -> None:
    """Draw the bars of one case, each with its number."""
    numbers = [columns[column] for _, _, columns in rows]
    widest = max([*numbers, 1e-12])
    for n, ((case, rival, columns), number, text) in enumerate(
        zip(rows, numbers, texts(column, numbers), strict=True)
    ):
        place = top - ROW * (n + 0.5)
        lost = columns.get('lost updates')
        style = {'color': colour_of(rival)}
        if lost:
            style = {'facecolor': 'white', 'edgecolor': RED, 'hatch': '////'}
            text += ': not exclusive'
        width = max(number, 0) / widest
        axis.barh(place, width, height=0.74 * ROW, **style)
        weight = 'bold' if rival == OURS else 'normal'
        axis.text(
            *(-0.01, place, name_of(rival, case)),
            ha='right', va='center', size='small', weight=weight,
        )  # fmt: skip
        inside = lost and width > 0.5
        axis.text(
            *((0.01 if inside else width + 0.01), place, text),
            va='center', size='small', weight=weight,
            color=RED if lost else 'black',
            bbox={'facecolor': 'white', 'lw': 0, 'pad': 1} if inside else None,
        )  # fmt: skip


def spread(kept: dict[str, Any]) -> Any:
    """Draw how the single measurements are spread: a box a rival."""
    answers = kept['answers'][::-1]
    figure, axis = plt.subplots(layout='constrained', figsize=(WIDTH, 3))
    boxes = axis.boxplot(
        [next(iter(numbers.values())) for _, _, numbers in answers],
        orientation='horizontal', whis=(5, 95), widths=0.6,
        patch_artist=True, medianprops={'color': 'k'},
        flierprops={'marker': '.', 'markersize': 4},
    )  # fmt: skip
    names = [rival for _, rival, _ in answers]
    axis.set_yticks(range(1, len(names) + 1), map(name_of, names))
    for name, box in zip(names, boxes['boxes'], strict=True):
        box.set_facecolor(colour_of(name))
    medians = [
        statistics.median(next(iter(numbers.values())))
        for _, _, numbers in answers
    ]
    axis.set_xscale('log')
    axis.xaxis.set_major_formatter(lambda value, _: f'{value:g} ms')
    for n, median in enumerate(medians, 1):
        axis.annotate(
            f'{median:.3g} ms', (median, n), (0, 13), size='small',
            textcoords='offset points', ha='center', va='center',
        )  # fmt: skip
    axis.set_ylim(0.5, len(names) + 0.75)
    axis.set_title(capital(kept['title']), loc='left', fontsize='medium')
    axis.set_xlabel(
        'less is better; logarithmic. Line: median, box: half of all, '
        'whiskers: 5 to 95 %'
    )
    axis.spines[['top', 'right']].set_visible(False)
    return figure


def crowds(kept: dict[str, Any]) -> Any:
    """Draw a line a rival over the number of contenders, twice."""
    figure, axes = plt.subplots(
        1, 2, layout='constrained', figsize=(WIDTH, 3.6)
    )
    for axis, column, said in (
        (axes[0], 'sections/s', 'sections a second, more is better'),
        (axes[1], 'worst wait ms', 'worst wait in ms, less is better'),
    ):
        sizes = draw_lines(axis, kept['rows'], column)
        axis.set_xscale('log', base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
        axis.set_title(said, loc='left', fontsize='medium')
        axis.set_xlabel('processes that contend for one lock')
        axis.spines[['top', 'right']].set_visible(False)
    axes[0].set_ylim(bottom=0)
    axes[1].set_yscale('log')
    axes[1].yaxis.set_major_formatter(lambda value, _: f'{value:g}')
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc='outside lower center', ncols=6, frameon=False
    )
    figure.suptitle(
        capital(kept['title']), x=0.01, ha='left', fontsize='medium'
    )
    return figure


def draw_lines(axis: Any, rows: list[Any], column: str) -> list[int]:
    """Draw a column of each rival over the size of the crowd."""
    for rival in dict.fromkeys(rival for _, rival, _ in rows):
        points = [
            (int(case.split()[0]), columns[column])
            for case, name, columns in rows
            if name == rival
        ]
        colour, marker = LINES.get(rival, (colour_of(rival), 'o'))
        axis.plot(
            *zip(*points, strict=True), marker=marker, color=colour, ms=5,
            label=name_of(rival), lw=3 if rival == OURS else 1.2,
            ls='--' if rival in FLOORS else '-', zorder=3 - (rival != OURS),
        )  # fmt: skip
    return sorted({int(case.split()[0]) for case, _, _ in rows})


def capital(text: str) -> str:
    """Return it as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


#: how a question is drawn that is not drawn as bars
DRAWERS = {'hand_off': spread, 'contention': crowds}
