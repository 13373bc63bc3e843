"""Runs `windows_part` with a Windows Python, where there is one."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PART = 'tests/windows_on_linux/windows_part'


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    'WINDOWS_PYTHON' not in os.environ,
    reason='WINDOWS_PYTHON names no command that runs a Windows Python',
)
def test_the_windows_part_passes_under_a_windows_python(
    tmp_path: pathlib.Path,
) -> None:
    command = shlex.split(os.environ['WINDOWS_PYTHON'])
    options = ['-p', 'no:cacheprovider', '-p', 'no:asyncio', '-q']
    # apart from other runs, which clean up where they all keep their files
    options += ['--basetemp', str(tmp_path / 'w')]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {'TMPDIR', 'TEMP', 'TMP'}  # paths of this system
    }
    run = subprocess.run(
        [*command, '-m', 'pytest', PART, *options],
        cwd=ROOT,
        env={**environment, 'PYTHONPATH': str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0, run.stdout
    passed = re.search(r'(\d+) passed', run.stdout)
    assert passed is not None, run.stdout
    assert int(passed[1]) > 0
