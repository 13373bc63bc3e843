"""The single file, for every test that looks at it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest
from package_source import ROOT


@pytest.fixture(scope='session')
def build(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Return the single file, alone in its folder."""
    path = (
        tmp_path_factory.mktemp('build') / 'not' / 'there' / 'portalocker.py'
    )
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'portalocker'),
            *('combine', '--output-file', str(path)),
        ],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path
