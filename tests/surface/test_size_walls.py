"""No file, function or class of the package outgrows its wall."""

from __future__ import annotations

import ast
import io
import pathlib
import tokenize
from collections.abc import Iterator

import pytest
from package_source import PACKAGE, listed, package_files, parsed

FILE_LINES = 400
FILE_LINES_OF = {'utils.py': 600, 'tempfile.py': 600, 'redis.py': 600}
FUNCTION_LINES = 40
CLASS_LINES = 300
CLASS_METHODS = 20
PRIVATE_DOCSTRING_LINES = 3

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.ClassDef | Function
NO_CODE = {
    tokenize.COMMENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
    tokenize.INDENT,
    tokenize.NEWLINE,
    tokenize.NL,
}


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines that are code: no comment, no prose."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for prose in _prose(ast.parse(text)):
        assert prose.end_lineno is not None
        lines.difference_update(range(prose.lineno, prose.end_lineno + 1))
    return lines


def _prose(tree: ast.Module) -> Iterator[ast.Expr]:
    """Yield docstrings and other strings that nobody uses."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node


def lines_of(node: ast.stmt, lines: set[int]) -> int:
    """Return how many code lines a definition has."""
    assert node.end_lineno is not None
    return len(lines.intersection(range(node.lineno, node.end_lineno + 1)))


def definitions() -> Iterator[tuple[str, Definition, int]]:
    """Yield (where, node, code lines) of every class and function."""
    for path in package_files():
        lines = code_lines(path.read_text(encoding='utf-8'))
        for node in ast.walk(parsed(path)):
            if isinstance(node, Definition):
                where = f'{_short(path)}:{node.lineno} {node.name}'
                yield where, node, lines_of(node, lines)


def _short(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_files_stay_below_their_wall() -> None:
    counts = {
        _short(path): len(code_lines(path.read_text(encoding='utf-8')))
        for path in package_files()
    }
    assert counts
    too_long = [
        f'{name}: {count} code lines'
        for name, count in counts.items()
        if count > FILE_LINES_OF.get(name, FILE_LINES)
    ]
    assert not too_long, listed(too_long)


def test_functions_stay_below_their_wall() -> None:
    too_long = [
        f'{where}: {count} code lines'
        for where, node, count in definitions()
        if isinstance(node, Function) and count > FUNCTION_LINES
    ]
    assert not too_long, listed(too_long)


def test_classes_stay_below_their_wall() -> None:
    too_big = []
    for where, node, count in definitions():
        if not isinstance(node, ast.ClassDef):
            continue
        methods = {n.name for n in node.body if isinstance(n, Function)}
        if count > CLASS_LINES or len(methods) > CLASS_METHODS:
            too_big.append(f'{where}: {len(methods)} methods, {count} lines')
    assert not too_big, listed(too_big)


def test_private_functions_explain_themselves_by_their_names() -> None:
    talkative = []
    for where, node, _ in definitions():
        if not isinstance(node, Function):
            continue
        docstring = ast.get_docstring(node) or ''
        count = len(docstring.splitlines())
        private = node.name.startswith('_') and not node.name.endswith('__')
        if private and count > PRIVATE_DOCSTRING_LINES:
            talkative.append(f'{where}: {count} lines of docstring')
    assert not talkative, listed(talkative)


def test_package_lines_fit_79_columns() -> None:
    too_wide = [
        f'{_short(path)}:{number}'
        for path in package_files()
        for number, line in enumerate(
            path.read_text(encoding='utf-8').splitlines(), 1
        )
        if len(line) > 79
    ]
    assert not too_wide, listed(too_wide)


@pytest.mark.parametrize(
    ('text', 'count'),
    [
        ('"""Prose\nof a module."""\n\n# a comment\nx = 1\n', 1),
        ('x = """\nvalue\n"""\n', 3),
        ('def f(\n    a,\n):\n    """Prose."""\n    return a\n', 4),
        ('x = [\n    # why\n    1,\n\n]\n', 3),
    ],
)
def test_only_code_is_counted(text: str, count: int) -> None:
    assert len(code_lines(text)) == count
