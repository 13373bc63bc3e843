"""The table of faults in the documentation names the tests there are."""

from __future__ import annotations

import ast
import collections
import pathlib
import re

HERE = pathlib.Path(__file__).parent
TABLE = HERE.parents[1] / 'docs' / 'explanation' / 'redis_faults.rst'
#: faults that the table has to have
NUMBERS = range(1, 27)


def documented() -> dict[int, list[str]]:
    """Return fault -> its tests, as the table has them."""
    text = TABLE.read_text(encoding='utf-8')
    _, *rows = re.split(r'^   \* - F(\d+)$', text, flags=re.MULTILINE)
    return {
        int(number): re.findall(r'^[ -]+\| ``(\w+)``$', row, re.MULTILINE)
        for number, row in zip(rows[::2], rows[1::2], strict=True)
    }


def existing() -> dict[int, list[str]]:
    """Return fault -> the tests whose names say it."""
    found: dict[int, list[str]] = collections.defaultdict(list)
    for path in sorted(HERE.glob('test_*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if not isinstance(node, ast.FunctionDef):
                continue
            said = re.match(r'test((?:_f\d+)+)_', node.name)
            for number in re.findall(r'\d+', said[1]) if said else ():
                found[int(number)].append(node.name)
    return found


def test_every_fault_is_in_the_table() -> None:
    assert list(documented()) == list(NUMBERS)


def test_every_fault_has_a_test() -> None:
    assert sorted(existing()) == list(NUMBERS)


def test_table_names_all_tests_of_a_fault_and_no_others() -> None:
    there = existing()
    for number, names in documented().items():
        assert names
        assert sorted(names) == sorted(there[number]), f'F{number}'
