"""The command line: `run`, `who`, and `combine`, the single-file build.

`combine` writes the package as one module that can be dropped into another
project: every module that the face reaches is inlined where it is first
imported, so all of them share one namespace.
"""

from __future__ import annotations

import argparse
import ast
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tokenize

from . import __about__
from .commands import run, who

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

#: where README and LICENSE are
base_path = pathlib.Path(__file__).resolve().parent.parent
#: the package
src_path = base_path / 'portalocker'
#: where the single file goes unless told otherwise
dist_path = base_path / 'dist'

# A string literal or a comment, told apart from code on one line
_LITERAL_OR_COMMENT = (
    r'(?P<comment>#.*)|(?P<prefix>(?<!\w)[A-Za-z]{0,2})(?P<literal>'
    r'"""(?:\\.|[^\\])*?(?:"""|$)|'
    r'\'\'\'(?:\\.|[^\\])*?(?:\'\'\'|$)|'
    r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')'
)
# `spam = spam` and `spam: Any = spam`, alone at column 0
_SELF_ASSIGNMENT = re.compile(
    r'(\w+)(?:[ ]*:[^=]+)?[ ]*=[ ]*\1[ ]*(?:#.*)?\n?'
)


# What has local names
_SCOPES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


class CombineError(Exception):
    """The package cannot be written as one module; the text says why."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command of `python -m portalocker`, as `argv` says.

    None means the arguments of this process. Returns where the command
    succeeded and raises `SystemExit` with its status otherwise. `run` blocks
    while the lock is held by others and while its command lives.

    >>> main(['--version'])  # doctest: +ELLIPSIS
    portalocker ...
    """
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(run.without_command(words))
    if args.version:
        print(__about__.__package_name__, __about__.get_version())
    elif args.function is None:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    else:
        args.command = run.command_in(words)
        status = args.function(args)
        if status:
            raise SystemExit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=__about__.__package_name__,
        description=__about__.__description__,
    )
    parser.add_argument(
        '--version', action='store_true', help='print the version'
    )
    parser.set_defaults(function=None)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND')
    for name, summary, add_arguments, function in (
        ('run', run.SUMMARY, run.add_arguments, run.main),
        ('who', who.SUMMARY, who.add_arguments, who.main),
        ('combine', 'write the package as one file', _add_arguments, _combine),
    ):
        command = commands.add_parser(name, help=summary, description=summary)
        add_arguments(command)
        command.set_defaults(function=function)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `combine`."""
    parser.add_argument(
        '-o',
        '--output-file',
        metavar='FILE',
        type=pathlib.Path,
        default=dist_path / 'portalocker.py',
        help='the file to write (default: %(default)s)',
    )


def _combine(args: argparse.Namespace) -> int:
    """`combine` for people: failures become one line."""
    try:
        combine(args)
    except (CombineError, OSError) as error:
        print(f'portalocker combine: {error}', file=sys.stderr)
        return 1
    return 0


def combine(args: argparse.Namespace) -> None:
    """Write the package to `args.output_file` as one importable module.

    README and LICENSE come first, as strings. The file appears in one step,
    with its parent directories, after it was run once by this Python (and
    formatted and checked, where `ruff` is installed); if anything fails
    nothing is written.

    Raises `CombineError` where the package cannot be one module and
    `OSError` where a file cannot be read or written.

    >>> combine(argparse.Namespace(output_file='one.py'))  # doctest: +SKIP
    """
    output_file = pathlib.Path(args.output_file)
    text = _combined_text()
    output_file.parent.mkdir(parents=True, exist_ok=True)
    draft = output_file.parent / f'.combine_{os.urandom(8).hex()}.py'
    try:
        with open(draft, 'x', encoding='ascii', newline='\n') as fh:
            fh.write(text)
        _format_and_check(draft)
        _run_quietly('run', [sys.executable, str(draft)])
        os.replace(draft, output_file)
    finally:
        draft.unlink(missing_ok=True)
    print(f'wrote {output_file}')


def _combined_text() -> str:
    """The whole module; reads everything and writes nothing."""
    version = __about__.get_version()
    if version == __about__.UNKNOWN_VERSION:
        raise CombineError(
            'cannot stamp the version: there is no pyproject.toml, and the '
            'package is not installed'
        )
    seen_files: set[pathlib.Path] = set()
    code = ''.join(_read_file(src_path / '__init__.py', seen_files))
    _check_bindings(seen_files)
    modules = sorted(
        path.stem for path in seen_files if path.stem != '__init__'
    )
    aliases = ''.join(f'{name} = ' for name in modules)
    return (
        'from __future__ import annotations\n\n'
        f'# portalocker {version} as one module. Made by\n'
        '# `python -m portalocker combine`: change the package, not this.\n\n'
        f'{_as_literal(_read_readme())}\n\n{_as_literal(_read_license())}\n\n'
        'import sys\n\n'
        '# every module of the package is this one\n'
        f'{aliases}sys.modules.get(__name__)\n\n'
        f'{_stamped(code, version)}\n\n{_attribute_getter(code)}'
    )


def _stamped(code: str, version: str) -> str:
    """The code with the version written into it."""
    stamped, count = re.subn(
        r'(?m)^_STAMPED_VERSION\b.*$',
        f'_STAMPED_VERSION: str | None = {version!r}\n'
        f'__version__ = {version!r}',
        code,
    )
    if count != 1:
        raise CombineError('cannot stamp the version: the face lost __about__')
    return stamped


def _attribute_getter(code: str) -> str:
    """One `__getattr__` that asks those of the modules, the face first."""
    getters = re.findall(r'(?m)^def (_getattr_of_\w+)\(', code)
    if not getters:
        return ''
    return (
        'def __getattr__(name: str) -> object:\n'
        f'    for getter in ({", ".join(reversed(getters))},):\n'
        '        try:\n'
        '            return getter(name)\n'
        '        except AttributeError:\n'
        '            pass\n'
        '    raise AttributeError(\n'
        "        f'module {__name__!r} has no attribute {name!r}'\n"
        '    )\n'
    )


def _format_and_check(path: pathlib.Path) -> None:
    """Let ruff format the file and look for undefined names, if it is here."""
    ruff = shutil.which('ruff')
    if ruff is None:
        return
    options = ['--isolated', '--no-cache', '--line-length', '79', str(path)]
    rules = ['--select', 'E9,F63,F7,F82']
    quotes = ['--config', "format.quote-style = 'single'"]
    _run_quietly('check', [ruff, 'check', *rules, *options])
    _run_quietly('format', [ruff, 'format', *quotes, *options])


def _run_quietly(verb: str, command: list[str]) -> None:
    """Run a command that must succeed; its output is shown if it fails."""
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    if done.returncode:
        output = (done.stdout + done.stderr).decode('utf-8', 'replace')
        raise CombineError(f'cannot {verb} the single file:\n{output.strip()}')


def _as_literal(text: str) -> str:
    """A string literal of several lines, in ASCII."""
    escaped = text.replace('\\', '\\\\').replace('"', '\\"')
    ascii_text = escaped.encode('ascii', 'backslashreplace').decode()
    return f'"""\n{ascii_text.strip()}\n"""'


def _read_readme() -> str:
    """The README of the checkout, else the one in the metadata."""
    for name in ('README.rst', 'README.md'):
        if (base_path / name).is_file():
            return (base_path / name).read_text(encoding='utf-8')
    import importlib.metadata

    try:
        metadata = importlib.metadata.metadata(__about__.__package_name__)
    except importlib.metadata.PackageNotFoundError:
        text = None
    else:  # the long description is a field, or the body
        text = metadata.json.get('description')
    if not text:
        raise CombineError(f'cannot find README.rst: not in {base_path}')
    return str(text)


def _read_license() -> str:
    """The LICENSE of the checkout, else the installed one."""
    if (base_path / 'LICENSE').is_file():
        return (base_path / 'LICENSE').read_text(encoding='utf-8')
    import importlib.metadata

    try:
        files = importlib.metadata.files(__about__.__package_name__)
    except importlib.metadata.PackageNotFoundError:
        files = None
    for file in files or ():
        if file.name == 'LICENSE':
            return file.read_text(encoding='utf-8')
    raise CombineError(f'cannot find LICENSE: not in {base_path}')


def _read_file(
    path: pathlib.Path, seen_files: set[pathlib.Path]
) -> Iterator[str]:
    """The lines of a module, its relative imports replaced by their files.

    A file in `seen_files` was read already and yields nothing.
    """
    if path in seen_files:
        return
    seen_files.add(path)
    module = _Module(path)
    module.check()
    getter = f'def _getattr_of_{path.stem.strip("_")}('
    for number, line in enumerate(module.lines, start=1):
        for imported in module.imports.get(number, ()):
            yield from _read_file(imported, seen_files)
        yield from module.renamed.get(number, ())
        if number in module.verbatim:
            yield line
        elif number not in module.dropped:
            line = re.sub(r'^def __getattr__\(', getter, line)
            yield _clean_line(line, set(module.modules))


def _clean_line(line: str, names: set[str]) -> str:
    """Make a line flat: `some_import.spam` becomes `spam`, `spam = spam` goes.

    `names` are the imported modules; strings and comments stay as they are.
    """
    if names:
        alternatives = '|'.join(map(re.escape, sorted(names)))
        qualified = rf'(?<![\w.])(?:{alternatives})\.(?=[A-Za-z_])'

        def cleaned(match: re.Match[str]) -> str:
            literal = match['literal']
            if literal is None:
                return match['comment'] or ''
            if 'f' in match['prefix'].lower():
                literal = re.sub(
                    r'\{[^{}]+\}',
                    lambda field: re.sub(qualified, '', field[0]),
                    literal,
                )
            return match['prefix'] + literal

        line = re.sub(f'{_LITERAL_OR_COMMENT}|{qualified}', cleaned, line)
    return '' if _SELF_ASSIGNMENT.fullmatch(line) else line


class _Module:
    """One file of the package, taken apart."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        source = path.read_bytes()
        for number, line in enumerate(source.splitlines(), start=1):
            if not line.isascii():
                raise self._error(number, 'it is not ASCII')
        text = source.decode('ascii').rstrip() + '\n'
        self.lines = text.splitlines(keepends=True)
        try:
            tree = ast.parse(text, str(path))
        except SyntaxError as error:
            raise self._error(error.lineno or 0, error.msg) from error
        #: local name -> file, for `from . import module`
        self.modules: dict[str, pathlib.Path] = {}
        #: line of a relative import -> the files it imports
        self.imports: dict[int, list[pathlib.Path]] = {}
        #: the same -> the assignments that stand for its `as`
        self.renamed: dict[int, list[str]] = {}
        self.dropped: set[int] = set()
        self.verbatim = set(_lines_inside_strings(self.lines))
        #: what is neither ours by import nor for type checkers only
        self.code: list[ast.stmt] = []
        for node in tree.body:
            self._sort_in(node)

    def _error(self, number: int, cause: str) -> CombineError:
        return CombineError(f'cannot combine {self.path}:{number}: {cause}')

    def _sort_in(self, node: ast.stmt) -> None:
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if isinstance(node, ast.ImportFrom) and node.module == '__future__':
            self.dropped.update(lines)
        elif isinstance(node, ast.ImportFrom) and node.level:
            self.dropped.update(lines)
            self._sort_in_import(node)
        elif _is_type_checking(node):
            self.verbatim.update(lines)
        else:
            self.code.append(node)

    def _sort_in_import(self, node: ast.ImportFrom) -> None:
        if node.level != 1:
            raise self._error(node.lineno, 'it imports from outside')
        files = self.imports[node.lineno] = []
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
                if isinstance(node, ast.ImportFrom) and node.level:
                    raise self._error(
                        node.lineno, 'a relative import must be at column 0'
                    )
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
            if node is not function
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
        defined = {name for name, _ in _bindings_of(owner)}
        # the version is stamped into every single file
        if node.attr not in {*defined, '__version__'}:
            raise self._error(
                node.lineno, f'{owner.name} does not define {node.attr!r}'
            )


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
def _bindings_of(path: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """The names that a file of ours binds, each with what it means there."""
    definition = f'defined in {path.name}'
    found = [
        binding
        for node in _Module(path).code
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


def _check_bindings(paths: Iterable[pathlib.Path]) -> None:
    """Raise `CombineError` where a name means two things in two modules."""
    known: dict[str, tuple[pathlib.Path, str]] = {}
    for path in sorted(paths):
        is_face = path.stem == '__init__'
        for name, meaning in _bindings_of(path):
            if name.startswith('__') or (is_face and name[0] != '_'):
                continue  # the face gives names to the public
            other, other_meaning = known.setdefault(name, (path, meaning))
            if other != path and other_meaning != meaning:
                raise CombineError(
                    f'cannot combine {other} and {path}: both bind {name!r}'
                )


if __name__ == '__main__':
    main()
