"""The tests notice what is wrong in the extension: as test_mutants.py.

Each mutant is compiled, and some hang; so these run under
PORTALOCKER_STRESS=1 only.
"""

from __future__ import annotations

import pathlib
import shutil
import sys

import loading
import native_mutants
import pytest

pytestmark = [
    pytest.mark.stress,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        sys.platform == 'win32'
        or loading.load('native') is None
        or shutil.which(native_mutants.compiler()[0]) is None,
        reason='nothing that could be compiled',
    ),
]


@pytest.fixture(scope='session')
def objects(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """What is compiled of the extension as it is."""
    folder = tmp_path_factory.mktemp('objects')
    native_mutants.build(None, tmp_path_factory.mktemp('package'), folder)
    return folder


def test_nothing_is_caught_where_nothing_is_wrong(
    tmp_path: pathlib.Path, objects: pathlib.Path
) -> None:
    native_mutants.build(None, tmp_path, objects)
    tests = sorted({mutant.caught_by for mutant in native_mutants.MUTANTS})
    assert not native_mutants.notices(tests, tmp_path)


@pytest.mark.parametrize(
    'mutant', native_mutants.MUTANTS, ids=lambda mutant: mutant.name
)
def test_a_mutant_is_caught(
    mutant: native_mutants.Mutant,
    tmp_path: pathlib.Path,
    objects: pathlib.Path,
) -> None:
    native_mutants.build(mutant, tmp_path, objects)
    assert native_mutants.notices([mutant.caught_by], tmp_path), 'nobody did'
