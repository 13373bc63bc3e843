"""Which implementation is in use, and that both offer the same."""

from __future__ import annotations

import ast
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
from typing import Any

import loading
import pytest

from portalocker import pysync

STUB = loading.FOLDER / '_native.pyi'


def run(program: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


def compiler() -> str | None:
    """The compiler that an installation would have used."""
    headers = pathlib.Path(sysconfig.get_path('include'), 'Python.h')
    command = os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc'
    if sys.implementation.name != 'cpython' or not headers.exists():
        return None
    return shutil.which(command.split()[0])


def test_native_where_it_could_be_built() -> None:
    if os.environ.get(loading.SWITCH, '0') not in {'', '0'}:
        pytest.skip('the environment asks for pure Python')
    if compiler() is None:
        pytest.skip('no compiler')
    assert pysync.IMPLEMENTATION == 'native', 'reinstall: pip install -e .'


@pytest.mark.parametrize('value', ['1', 'yes'])
def test_the_environment_chooses_pure_python(value: str) -> None:
    program = (
        'import sys; from portalocker import pysync as p;'
        'print(p.IMPLEMENTATION, p.FAIR, any("_native" in m for m in'
        ' sys.modules))'
    )
    fair = sys.version_info >= (3, 14)
    assert run(program, **{loading.SWITCH: value}) == f'pure {fair} False'


@pytest.mark.parametrize('value', ['', '0'])
def test_the_switch_can_be_off(value: str) -> None:
    program = 'from portalocker import pysync as p; print(p.IMPLEMENTATION)'
    chosen = run(program, **{loading.SWITCH: value})
    assert chosen == ('native' if loading.load('native') else 'pure')


@pytest.mark.parametrize('error', ['ImportError', 'SystemError'])
def test_an_extension_that_cannot_be_loaded_is_left_out(error: str) -> None:
    program = f"""
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name.endswith('pysync._native'):
            raise {error}(name)
sys.meta_path.insert(0, Broken())
from portalocker import pysync
print(pysync.IMPLEMENTATION, pysync.Mutex().try_lock())
"""
    assert run(program, **{loading.SWITCH: '0'}) == 'pure True'


def test_the_face_does_not_load_it() -> None:
    program = (
        'import sys, portalocker;'
        'print([m for m in sys.modules if "pysync" in m])'
    )
    assert run(program) == '[]'


def test_fair_says_whether_a_mutex_is_handed_over() -> None:
    native = pysync.IMPLEMENTATION == 'native'
    assert pysync.FAIR is (native or sys.version_info >= (3, 14))


def test_public_names(sync: Any) -> None:
    assert sync.__all__ == pysync.__all__
    assert len(set(sync.__all__)) == len(sync.__all__)
    for name in sync.__all__:
        assert hasattr(sync, name), name


def stub_classes() -> dict[str, ast.ClassDef]:
    tree = ast.parse(STUB.read_text(encoding='utf-8'))
    return {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}


def stub_names(name: str) -> set[str]:
    """Methods that the stub promises for a class, inherited ones too."""
    node = stub_classes()[name]
    names = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in stub_classes():
            names |= stub_names(base.id)
    return names


@pytest.mark.parametrize(
    'name', [name for name in stub_classes() if name[0] != '_']
)
def test_types_have_the_methods_of_the_stub(sync: Any, name: str) -> None:
    kind = getattr(sync, name)
    missing = {n for n in stub_names(name) if not hasattr(kind, n)}
    assert not missing
    public = {n for n in dir(kind) if n[0] != '_'}
    inside = {'abandon'} if name == 'SeqLockWrite' else set()
    extra = {
        'SeqLock': {'read', 'reads'},
    }.get(name, inside)
    assert public <= stub_names(name) | extra


def test_sides_of_an_rw_mutex_have_the_methods_of_the_stub(sync: Any) -> None:
    for side in (sync.RWMutex().reader, sync.RWMutex().writer):
        missing = {
            n for n in stub_names('_LockShaped') if not hasattr(side, n)
        }
        assert not missing


def test_everything_is_documented(sync: Any) -> None:
    for name in sync.__all__:
        thing = getattr(sync, name)
        if not callable(thing) or name in {'OnceFn', 'UnparkFn'}:
            continue
        assert thing.__doc__, name
        if not isinstance(thing, type) or name in {'LockFlags', 'Blocked'}:
            continue
        for member in vars(thing):
            if member[0] != '_' and callable(getattr(thing, member)):
                assert getattr(thing, member).__doc__, (name, member)


def test_types_say_where_they_are_found(sync: Any) -> None:
    for name in ('Mutex', 'RWMutex', 'Event', 'OnceFlag', 'AtomicInt'):
        assert getattr(sync, name).__name__ == name
