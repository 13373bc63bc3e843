"""The command line; `combine`, the single-file build.

`combine` writes the package as one module that can be dropped into another
project: every module that the face reaches is inlined where it is first
imported, or before the function that imports it when it is called, so all of
them share one namespace. What must stay out is asked of `importlib`.
"""

from __future__ import annotations

import argparse
import errno
import os
import pathlib
import re
import shutil
import subprocess
import sys

from . import __about__
from .commands import _one_namespace, counters, reap, run, who
from .commands._one_namespace import CombineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: where README and LICENSE are
base_path: pathlib.Path = pathlib.Path(__file__).resolve().parent.parent
#: the package
src_path: pathlib.Path = base_path / 'portalocker'
#: where the single file goes unless told otherwise
dist_path: pathlib.Path = base_path / 'dist'

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
        ('reap', reap.SUMMARY, reap.add_arguments, reap.main),
        (
            'counters',
            counters.SUMMARY,
            counters.add_arguments,
            counters.main,
        ),
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
    output_file = pathlib.Path(args.output_file).resolve()
    if output_file.exists() and not output_file.is_file():
        told = 'cannot replace: not a regular file'
        raise OSError(errno.EINVAL, told, str(args.output_file))
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
    print(f'wrote {args.output_file}')


def _combined_text() -> str:
    """The whole module; reads everything and writes nothing."""
    version = __about__.get_version()
    if version == __about__.UNKNOWN_VERSION:
        raise CombineError(
            'cannot stamp the version: there is no pyproject.toml, and the '
            'package is not installed'
        )
    # loaded by the first who asks for RedisLock
    room_path = src_path / 'redis.py'
    seen_files = {room_path}
    code = ''.join(_read_file(src_path / '__init__.py', seen_files))
    seen_files.remove(room_path)
    room = ''
    if room_path.is_file():
        room = ''.join(_read_file(room_path, seen_files))
    _one_namespace.check_bindings(seen_files)
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
        f'{_stamped(code, version)}\n\n{_attribute_getter(code)}\n\n'
        f'_ROOM_OF_REDIS = {room!r}\n'
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
    # Not F822: some of __all__ is made when it is asked for
    rules = ['--select', 'E9,F63,F7,F821,F823']
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
    module = _one_namespace.Module(path)
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


if __name__ == '__main__':
    main()
