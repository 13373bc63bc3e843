"""The single file, built once for all tests that look at it."""

from __future__ import annotations

import functools
import os
import pathlib
import subprocess
import sys
import tempfile

from package_source import ROOT

# removed when this process ends
_folder = tempfile.TemporaryDirectory(prefix='single_file_')


@functools.cache
def single_file() -> pathlib.Path:
    """Return the single file, alone in its folder."""
    path = pathlib.Path(_folder.name, 'not', 'there', 'portalocker.py')
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
