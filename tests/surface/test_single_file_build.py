"""`python -m portalocker combine` builds one file that is the library."""

from __future__ import annotations

import ast
import pathlib
import subprocess
import sys
import tomllib

import pytest
from package_source import ROOT, asks_for_type_checking, listed, run_bare
from single_file import single_file

VERSION = tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))[
    'project'
]['version']

LOCK_AND_TELL = """
import os, portalocker
assert portalocker.__file__.startswith({folder!r}), portalocker.__file__
with portalocker.Lock('file.lock', timeout=0):
    try:
        portalocker.Lock('file.lock', fail_when_locked=True).acquire()
    except portalocker.AlreadyLocked as error:
        print('second refused:', os.path.basename(error.filename))
with open('data', 'w') as fh:
    portalocker.lock(fh, portalocker.LOCK_EX | portalocker.LOCK_NB)
    portalocker.unlock(fh)
with portalocker.open_atomic('new', binary=False) as fh:
    fh.write('whole')
print('written:', open('new').read())
print('version:', portalocker.__version__)
"""


@pytest.fixture(name='build')
def the_build() -> pathlib.Path:
    """Return the single file, alone in its folder."""
    return single_file()


def test_combine_makes_the_folder_and_one_file(build: pathlib.Path) -> None:
    names = {p.name for p in build.parent.iterdir()} - {'__pycache__'}
    assert names == {'portalocker.py'}


def test_build_works_alone_in_an_empty_folder(
    build: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    code = LOCK_AND_TELL.format(folder=str(build.parent))
    said = run_bare(code, build.parent, cwd=tmp_path).splitlines()
    assert said == [
        'second refused: file.lock',
        'written: whole',
        f'version: {VERSION}',
    ]


def test_build_offers_what_the_package_offers(build: pathlib.Path) -> None:
    ask = 'import portalocker; print(sorted(portalocker.__all__))'
    of_build = ast.literal_eval(run_bare(ask, build.parent))
    of_package = ast.literal_eval(run_bare(ask, ROOT))
    assert of_build == of_package
    missing = ast.literal_eval(
        run_bare(
            'import portalocker\n'
            'print([n for n in portalocker.__all__ '
            "if n != 'RedisLock' and not hasattr(portalocker, n)])",
            build.parent,
        )
    )
    assert not missing, listed(missing)


def test_build_has_the_lock_on_a_server(
    build: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    pytest.importorskip('redis')
    code = (
        f'import sys; sys.path.insert(0, {str(build.parent)!r})\n'
        'import portalocker\n'
        "assert 'redis' not in sys.modules\n"
        "lock = portalocker.RedisLock('channel', lease=3)\n"
        'print(portalocker.__file__, lock.client_name, lock.locked)\n'
    )
    done = subprocess.run(
        [sys.executable, '-I', '-W', 'error', '-c', code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f'{build} channel-lock False\n', done


def test_build_without_the_client_says_what_to_install(
    build: pathlib.Path,
) -> None:
    code = """
import portalocker
try:
    portalocker.RedisLock('channel')
except ImportError as error:
    print(error)
"""
    assert 'portalocker[redis]' in run_bare(code, build.parent)


def test_build_starts_with_the_future_then_readme_and_license(
    build: pathlib.Path,
) -> None:
    text = build.read_text(encoding='ascii')
    first, *rest = ast.parse(text).body
    assert ast.unparse(first) == 'from __future__ import annotations'
    strings = [
        node.value.value
        for node in rest[:2]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    assert len(strings) == 2
    readme, license_text = map(str, strings)
    assert 'portalocker' in readme
    assert 'BSD 3-Clause License' in license_text


def test_build_imports_nothing_of_the_package(build: pathlib.Path) -> None:
    tree = ast.parse(build.read_text(encoding='utf-8'))
    relative = [
        f'{node.lineno}: {ast.unparse(node)}'
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.level or node.module == 'portalocker')
        and node not in _seen_by_type_checkers_only(tree)
    ]
    assert not relative, listed(relative)


def _seen_by_type_checkers_only(tree: ast.Module) -> list[ast.AST]:
    return [
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and asks_for_type_checking(block.test)
        for node in ast.walk(block)
    ]
