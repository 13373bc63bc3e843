"""No law forgets a lock, no lock escapes a law."""

from __future__ import annotations

import ast
import importlib
import pathlib

import pytest
from locks import KIND_OF, LAWS

HERE = pathlib.Path(__file__).parent
#: tests of one lock, or of none; each says so in its own text
NOT_LAWS = {'test_matrix', 'test_properties'}
MODULES = sorted(
    file.stem for file in HERE.glob('test_*.py') if file.stem not in NOT_LAWS
)


@pytest.mark.parametrize('module', MODULES)
def test_every_test_of_a_law_states_one(module: str) -> None:
    importlib.import_module(module)
    text = (HERE / f'{module}.py').read_text(encoding='ascii')
    named = [
        node.name
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')
    ]
    assert named
    for name in named:
        assert f'{module}.{name}' in LAWS, f'{name} is not decorated with @law'


@pytest.mark.parametrize('module', MODULES)
def test_every_lock_is_under_every_law_or_excused(module: str) -> None:
    importlib.import_module(module)
    laws = {key: LAWS[key] for key in LAWS if key.startswith(f'{module}.')}
    for key, (covered, excused) in laws.items():
        assert covered, f'{key} runs against no lock'
        assert not covered & excused.keys()
        assert covered | excused.keys() == KIND_OF.keys(), key
        assert all(excused.values()), f'{key}: no reason is given'


@pytest.mark.parametrize('name', KIND_OF)
def test_every_lock_is_under_most_laws(name: str) -> None:
    for module in MODULES:
        importlib.import_module(module)
    under = sum(name in covered for covered, _ in LAWS.values())
    assert under > len(LAWS) / 2
