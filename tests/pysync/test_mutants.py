"""The tests notice what is wrong: each mutant is caught by the test it names.

Some mutants hang, which takes its time; so these run under
PORTALOCKER_STRESS=1 only.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import mutants
import pytest

pytestmark = pytest.mark.stress


def run(name: str, scratch: pathlib.Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-W', 'ignore', mutants.__file__, name],
        # one that is stopped leaves there what it made
        env={**os.environ, 'TMPDIR': str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_caught_where_nothing_is_wrong(
    tmp_path: pathlib.Path,
) -> None:
    result = run('none', tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize('name', [mutant.name for mutant in mutants.MUTANTS])
def test_a_mutant_is_caught(name: str, tmp_path: pathlib.Path) -> None:
    result = run(name, tmp_path)
    assert 'the text has changed' not in result.stderr, result.stderr
    assert result.returncode != 0, 'nobody noticed'
