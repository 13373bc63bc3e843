"""Every example runs: of the README, the docs, the docstrings, examples/.

In README.rst and docs/ a `.. code-block:: python` is a program; those of one
file run in one process, one after the other, as a reader would type them.
What starts with `>>>` says what it prints, and is held to it.
"""

from __future__ import annotations

import doctest
import importlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap
import types

import pytest
from package_source import (
    PACKAGE,
    ROOT,
    imports,
    listed,
    modules,
    tracked_files,
)

from portalocker import tempfile as portalocker_tempfile

EXAMPLES = sorted((ROOT / 'examples').glob('*.py'))
PAGES = [ROOT / 'README.rst', *sorted((ROOT / 'docs').rglob('*.rst'))]
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
    assert example.name == 'demo.py' or len(lines) < 40


def test_demo_shows_handoffs_a_death_and_exclusion(
    tmp_path: pathlib.Path,
) -> None:
    done = run_file(ROOT / 'examples' / 'demo.py', tmp_path)
    *log, _, verdict = done.stdout.splitlines()
    assert verdict.startswith('exclusion held: counter is '), done.stdout
    death = next(n for n, line in enumerate(log) if 'KILLED' in line)
    assert 'holds; waiting:' in log[death + 1]
    assert re.search(r'\d ms  holds; waiting:', done.stdout)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Return (line number, program) of each `code-block:: python`."""
    blocks = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.strip() == '.. code-block:: python':
            blocks.append((number + 2, _indented_below(lines[number + 1 :])))
    return blocks


def _indented_below(lines: list[str]) -> str:
    """Return the indented lines that come first."""
    inside = []
    for line in lines:
        if line.strip() and not line.startswith(' '):
            break
        inside.append(line)
    return textwrap.dedent('\n'.join(inside)).rstrip()


def as_one_program(blocks: list[tuple[int, str]]) -> str:
    """Put the blocks where they stand, so that errors name their lines."""
    program: list[str] = []
    for line, block in blocks:
        program += [''] * (line - 1 - len(program))
        program += block.splitlines()
    return '\n'.join([*program, ''])


@pytest.mark.parametrize('page', PAGES, ids=_short)
def test_programs_on_the_page_run(
    page: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    blocks = python_blocks(page.read_text(encoding='utf-8'))
    program = tmp_path / 'program' / (page.stem + '.py')
    program.parent.mkdir()
    program.write_text(as_one_program(blocks), encoding='utf-8')
    done = run_file(program, tmp_path)
    assert done.returncode == 0, done.stderr


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
        and python_blocks(path.read_text(encoding='utf-8'))
    ]
    assert not strangers, listed(strangers)


def test_blocks_keep_their_lines() -> None:
    page = 'x\n\n.. code-block:: python\n\n    a = 1\n\n    b = a\n\nend\n'
    assert as_one_program(python_blocks(page)).splitlines() == [
        *([''] * 4),
        'a = 1',
        '',
        'b = a',
    ]
