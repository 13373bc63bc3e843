"""The repository as the surface tests see it: files, modules, imports."""

from __future__ import annotations

import ast
import functools
import os
import pathlib
import subprocess
import sys
import typing
from collections.abc import Iterable, Iterator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'portalocker'

#: a module by its dotted name inside the package; '' is the face
ModuleName = str


class Import(typing.NamedTuple):
    """One thing that an import statement brings in."""

    line: int
    column: int
    #: dotted name inside the package, or None where it comes from outside
    inside: ModuleName | None
    #: dotted name of what comes from outside, or None
    outside: str | None
    for_types_only: bool


def package_files() -> list[pathlib.Path]:
    """Every Python file of the package."""
    return sorted(PACKAGE.rglob('*.py'))


def module_name(path: pathlib.Path) -> ModuleName:
    """`commands/run.py` is `commands.run`, `__init__.py` is the face."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    if parts[-1] == '__init__':
        parts = parts[:-1]
    return '.'.join(parts)


@functools.cache
def modules() -> dict[ModuleName, pathlib.Path]:
    """Every module of the package and where it is."""
    return {module_name(path): path for path in package_files()}


@functools.cache
def parsed(path: pathlib.Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding='utf-8'), str(path))


def imports(path: pathlib.Path) -> list[Import]:
    """Everything a file of the package imports, wherever it does."""
    return list(_imports_below(parsed(path), path, for_types_only=False))


def _imports_below(
    node: ast.AST, path: pathlib.Path, *, for_types_only: bool
) -> Iterator[Import]:
    if isinstance(node, ast.If) and asks_for_type_checking(node.test):
        for statement in node.body:
            yield from _imports_below(statement, path, for_types_only=True)
        for statement in node.orelse:
            yield from _imports_below(
                statement, path, for_types_only=for_types_only
            )
        return
    for inside, outside in _imported_names(node, path):
        assert isinstance(node, ast.stmt | ast.expr)
        yield Import(
            node.lineno, node.col_offset, inside, outside, for_types_only
        )
    for child in ast.iter_child_nodes(node):
        yield from _imports_below(child, path, for_types_only=for_types_only)


def asks_for_type_checking(test: ast.expr) -> bool:
    """Whether an `if` is for type checkers only."""
    return ast.unparse(test) in {'TYPE_CHECKING', 'typing.TYPE_CHECKING'}


def _imported_names(
    node: ast.AST, path: pathlib.Path
) -> Iterator[tuple[ModuleName | None, str | None]]:
    """Yield (inside, outside) of each name an import brings in."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _absolute(alias.name)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        assert node.module is not None
        yield _absolute(node.module)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield _relative(node, alias.name, path), None
    elif isinstance(node, ast.Call) and _imports_by_call(node):
        assert isinstance(node.args[0], ast.Constant)
        yield _absolute(str(node.args[0].value))


def _imports_by_call(node: ast.Call) -> bool:
    return (
        ast.unparse(node.func)
        in {'__import__', 'import_module', 'importlib.import_module'}
        and bool(node.args)
        and isinstance(node.args[0], ast.Constant)
    )


def _absolute(name: str) -> tuple[ModuleName | None, str | None]:
    if name == PACKAGE.name or name.startswith(PACKAGE.name + '.'):
        return name.partition('.')[2], None
    return None, name


def _relative(
    node: ast.ImportFrom, name: str, path: pathlib.Path
) -> ModuleName:
    """The module that `from ..x import name` reads."""
    folder = path.relative_to(PACKAGE).parent.parts
    base = list(folder[: len(folder) - node.level + 1])
    if node.module:
        base += node.module.split('.')
    below = '.'.join([*base, name])
    return below if below in modules() else '.'.join(base)


@functools.cache
def reached_by_face() -> frozenset[ModuleName]:
    """What the names of the face load, at once or later; not the face.

    Without the lock on a server: what needs a client is kept apart.
    """
    reached: set[ModuleName] = set()
    waiting = ['']
    while waiting:
        importer = waiting.pop()
        for found in imports(modules()[importer]):
            name = found.inside
            if not name or name in reached or name == 'redis':
                continue
            # the face tells type checkers what it loads when asked
            if found.for_types_only and importer != '':
                continue
            reached.add(name)
            waiting.append(name)
    return frozenset(reached)


@functools.cache
def tracked_files() -> list[pathlib.Path]:
    """Every file that belongs to the repository."""
    try:
        listing = subprocess.run(
            ['git', 'ls-files', '-z', '-co', '--exclude-standard'],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return sorted(_files_below(ROOT))  # unpacked from an archive
    names = os.fsdecode(listing).split('\0')
    paths = (ROOT / name for name in names if name)
    return sorted(path for path in paths if path.is_file())


def _files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    for path in folder.iterdir():
        hidden = path.name.startswith('.') and path.name != '.ci'
        if hidden or path.name in {'__pycache__', 'build', 'dist'}:
            continue
        if path.is_dir():
            yield from _files_below(path)
        elif path.suffix != '.pyc':
            yield path


def run_bare(
    code: str, *paths: pathlib.Path | str, cwd: pathlib.Path | None = None
) -> str:
    """Run code in a Python that has only its own library and `paths`."""
    head = f'import sys; sys.path[:0] = {[str(path) for path in paths]!r}\n'
    done = subprocess.run(
        [sys.executable, '-I', '-S', '-c', head + code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def listed(problems: Iterable[str]) -> str:
    """Problems under each other, as a failure shows them."""
    return '\n'.join(['', *problems])
