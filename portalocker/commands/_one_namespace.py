"""Whether modules can share one namespace, and where they say so."""

from __future__ import annotations

import ast
import functools
import tokenize

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterable, Iterator, Sequence

# What has local names
_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


class CombineError(Exception):
    """The package cannot be written as one module; the text says why."""


class Module:
    """One file of the package, taken apart.

    Raises `CombineError` where it cannot be.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        source = path.read_bytes()
        for number, line in enumerate(source.splitlines(), start=1):
            if not line.isascii():
                raise self._error(number, 'it is not ASCII')
        text = source.decode('ascii').rstrip() + '\n'
        self.lines = text.splitlines(keepends=True)
        tree = self._parsed()
        if path.stem == '__init__':
            self._load_at_once(tree)
            tree = self._parsed()
        #: local name -> file, for `from . import module`
        self.modules: dict[str, pathlib.Path] = {}
        #: line of a relative import -> the files it imports
        self.imports: dict[int, list[pathlib.Path]] = {}
        #: the same -> the assignments that stand for its `as`
        self.renamed: dict[int, list[str]] = {}
        self.dropped: set[int] = set()
        self.verbatim = set(_lines_inside_strings(self.lines))
        #: what functions import from us, gone when they run
        self.lazy: set[ast.AST] = set()
        #: what is neither ours by import nor for type checkers only
        self.code: list[ast.stmt] = []
        for node in tree.body:
            self._sort_in(node)

    def _error(self, number: int, cause: str) -> CombineError:
        return CombineError(f'cannot combine {self.path}:{number}: {cause}')

    def _parsed(self) -> ast.Module:
        try:
            return ast.parse(''.join(self.lines), str(self.path))
        except SyntaxError as error:
            raise self._error(error.lineno or 0, error.msg) from error

    def _load_at_once(self, face: ast.Module) -> None:
        """What the face shows to type checkers, it is to have."""
        for block in filter(_is_type_checking, face.body):
            self.lines[block.lineno - 1] = '\n'
            for number in _lines_of(block)[1:]:
                line = self.lines[number - 1]
                self.lines[number - 1] = line.removeprefix('    ')

    def _sort_in(self, node: ast.stmt) -> None:
        lines = _lines_of(node)
        if isinstance(node, ast.ImportFrom) and node.module == '__future__':
            self.dropped.update(lines)
        elif isinstance(node, ast.ImportFrom) and node.level:
            self.dropped.update(lines)
            self._sort_in_import(node, node)
        elif _is_type_checking(node):
            self.verbatim.update(lines)
        else:
            self.code.append(node)
            self._sort_in_lazy_imports(node)

    def _sort_in_lazy_imports(self, outer: ast.stmt) -> None:
        for node in ast.walk(outer):
            if isinstance(node, ast.ImportFrom) and node.level:
                self.lazy.update(node.names)
                self.dropped.update(_lines_of(node))
                self._sort_in_import(node, outer)
                if not isinstance(outer, _SCOPES) or self.renamed[node.lineno]:
                    raise self._error(
                        node.lineno,
                        'a relative import must be at column 0, or plain and '
                        'in a function',
                    )
                self.renamed[node.lineno] = [' ' * node.col_offset + 'pass\n']

    def _sort_in_import(self, node: ast.ImportFrom, outer: ast.stmt) -> None:
        if node.level != 1:
            raise self._error(node.lineno, 'it imports from outside')
        # a decorator stands before its function
        decorators = getattr(outer, 'decorator_list', [])
        first_line = min(line.lineno for line in (outer, *decorators))
        files = self.imports.setdefault(first_line, [])
        renamed = self.renamed[node.lineno] = []
        for alias in node.names:
            local_name = alias.asname or alias.name
            files.append(self._file_of(node, node.module or alias.name))
            if node.module is None:
                self.modules[local_name] = files[-1]
            elif local_name != alias.name:
                renamed.append(f'{local_name} = {alias.name}\n')

    def _file_of(self, node: ast.stmt, name: str) -> pathlib.Path:
        file = self.path.parent / f'{name}.py'
        if not file.is_file():
            raise self._error(node.lineno, f'there is no module {name!r}')
        return file

    def check(self) -> None:
        """Raise `CombineError` where one namespace would change the code."""
        for outer in self.code:
            for name, _ in _bindings(outer, ''):
                if name in self.modules:
                    raise self._error(
                        outer.lineno, f'it binds {name!r}, a module of ours'
                    )
            for node in ast.walk(outer):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    self._check_function(node)
            for attribute in self._qualified_in(outer):
                self._check_qualified(attribute)

    def _qualified_in(self, outer: ast.AST) -> Iterator[ast.Attribute]:
        """Every `module.name` in it."""
        for node in ast.walk(outer):
            if isinstance(node, ast.Attribute):
                value = node.value
                if isinstance(value, ast.Name) and value.id in self.modules:
                    yield node

    def _check_function(self, function: ast.AST) -> None:
        local_names = {
            _bound_name(node)
            for node in ast.walk(function)
            if node is not function and node not in self.lazy
        }
        for node in self._qualified_in(function):
            assert isinstance(node.value, ast.Name)
            hidden = {node.attr, node.value.id} & local_names
            if hidden:
                raise self._error(
                    node.lineno, f'a local name hides {hidden.pop()!r}'
                )

    def _check_qualified(self, node: ast.Attribute) -> None:
        assert isinstance(node.value, ast.Name)
        if not isinstance(node.ctx, ast.Load):
            raise self._error(
                node.lineno, f'it assigns {node.attr!r} in another module'
            )
        owner = self.modules[node.value.id]
        defined = {name for name, _ in bindings_of(owner)}
        # the version is stamped into every single file
        if node.attr not in {*defined, '__version__'}:
            raise self._error(
                node.lineno, f'{owner.name} does not define {node.attr!r}'
            )


def _lines_of(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _is_type_checking(node: ast.stmt) -> bool:
    """Whether it is `if TYPE_CHECKING:` or `if typing.TYPE_CHECKING:`."""
    test = getattr(node, 'test', None) if isinstance(node, ast.If) else None
    return 'TYPE_CHECKING' in (
        getattr(test, 'id', None),
        getattr(test, 'attr', None),
    )


def _lines_inside_strings(lines: Sequence[str]) -> Iterator[int]:
    """Numbers of the lines that begin within a string."""
    for token in tokenize.generate_tokens(iter(lines).__next__):
        yield from range(token.start[0] + 1, token.end[0] + 1)


def _bound_name(node: ast.AST) -> str | None:
    """The name that a node of the syntax tree binds, if it binds one."""
    if isinstance(node, ast.Name):
        return None if isinstance(node.ctx, ast.Load) else node.id
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.alias):
        return node.asname or node.name.partition('.')[0]
    if isinstance(
        node,
        (
            ast.FunctionDef,
            ast.AsyncFunctionDef,
            ast.ClassDef,
            ast.ExceptHandler,
        ),
    ):
        return node.name
    return None


@functools.cache
def bindings_of(path: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """The names that a file of ours binds, each with what it means there."""
    definition = f'defined in {path.name}'
    found = [
        binding
        for node in Module(path).code
        for binding in _bindings(node, definition)
    ]
    imported = {name for name, what in found if what.startswith('import ')}
    # `fcntl = None` beside `import fcntl` says that this system has none
    return tuple(
        (name, what)
        for name, what in found
        if name not in imported or not what.endswith('= None')
    )


def _bindings(node: ast.AST, meaning: str) -> Iterator[tuple[str, str]]:
    """The names that a piece of code binds outside of its functions."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        source = getattr(node, 'module', '')
        for alias in node.names:
            what = f'import {source}.{alias.name}'
            yield _bound_name(alias) or alias.name, what
        return
    name = _bound_name(node)
    if name is not None:
        yield name, meaning
    if isinstance(node, _SCOPES):
        return
    if isinstance(node, ast.stmt):
        meaning = ast.unparse(node)
    for child in ast.iter_child_nodes(node):
        yield from _bindings(child, meaning)


def check_bindings(paths: Iterable[pathlib.Path]) -> None:
    """Raise `CombineError` where a name means two things in two modules."""
    known: dict[str, tuple[pathlib.Path, str]] = {}
    for path in sorted(paths):
        is_face = path.stem == '__init__'
        for name, meaning in bindings_of(path):
            if name.startswith('__') or (is_face and name[0] != '_'):
                continue  # the face gives names to the public
            other, other_meaning = known.setdefault(name, (path, meaning))
            if other != path and other_meaning != meaning:
                raise CombineError(
                    f'cannot combine {other} and {path}: both bind {name!r}'
                )
