"""Lay out the answers to one question as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import question

if TYPE_CHECKING:
    import interview

MISSED = '!'
NOTHING = '-'


def laid_out(held: interview.Interview) -> str:
    """Return title, one block of rows a case, goals, and failures."""
    rows = held.rows()
    names = list(dict.fromkeys(name for row in rows for name in row[2]))
    cells = [['', *names]]
    for case in dict.fromkeys(row[0] for row in rows):
        cells.append([case, *[''] * len(names)])
        for row_case, rival, columns in rows:
            if row_case == case:
                row = numbers(held, case, rival, columns, names)
                cells.append([f'  {rival}', *row])
        goals = [held.asked.goals.get((case, name)) for name in names]
        if any(goals):
            cells.append(['  goal', *(str(goal or '') for goal in goals)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [f'{held.name}: {held.asked.title}', '']
    lines += [
        '  '.join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines += [
        f'failed: {case}: {reason}'
        for (case, _), reason in held.failures.items()
    ]
    return '\n'.join(lines) + '\n'


def numbers(
    held: interview.Interview,
    case: str,
    rival: str,
    columns: question.Columns,
    names: list[str],
) -> list[str]:
    """Return the cells of one row; ours are marked where a goal is missed."""
    cells = []
    for name in names:
        if name not in columns:
            cells.append(NOTHING)
            continue
        number = columns[name]
        goal = held.asked.goal(rival, case, name)
        is_missed = goal is not None and not goal.is_met(number)
        cells.append((MISSED if is_missed else '') + written(number))
    return cells


def written(number: float) -> str:
    """Return three significant digits, without an exponent."""
    if number == int(number):
        return str(int(number))
    if abs(number) >= 100:
        return f'{number:.0f}'
    return f'{number:.3g}' if abs(number) >= 0.001 else f'{number:.4f}'
