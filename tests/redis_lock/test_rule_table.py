"""The table of rules in the documentation names tests that exist."""

from __future__ import annotations

import ast
import pathlib
import re

HERE = pathlib.Path(__file__).parent
PAGE = HERE.parents[1] / 'docs' / 'explanation' / 'redis.rst'


def rows() -> dict[str, list[str]]:
    """Return rule -> its tests."""
    text = PAGE.read_text(encoding='utf-8')
    _, *found = re.split(r'^   \* - (R\d+)$', text, flags=re.MULTILINE)
    return {
        rule: re.findall(r'^[ -]+\| ``(\w+)``$', row, re.MULTILINE)
        for rule, row in zip(found[::2], found[1::2], strict=True)
    }


def test_every_rule_has_tests() -> None:
    assert list(rows()) == [f'R{n}' for n in range(1, 13)]
    assert all(rows().values())


def test_tests_of_the_rules_exist() -> None:
    there = {
        node.name
        for path in HERE.glob('test_*.py')
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.FunctionDef)
    }
    named = {name for names in rows().values() for name in names}
    assert not named - there
