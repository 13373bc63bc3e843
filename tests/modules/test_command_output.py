"""What the commands say when nobody reads it, or it cannot be written."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

PROGRAM = [sys.executable, '-m', 'portalocker']
# asked of a lock file that is there, and free
ASKED = [['who'], ['who', '--json']]


@pytest.mark.parametrize('words', ASKED)
def test_who_reads_no_more_is_left_in_silence(
    words: list[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'lock').touch()
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'wb') as nobody:
        done = subprocess.run(
            [*PROGRAM, *words, str(tmp_path / 'lock')],
            check=False,
            stdout=nobody,
            stderr=subprocess.PIPE,
        )
    assert done.stderr == b''
    assert done.returncode == 128 + 13


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no full device')
@pytest.mark.parametrize('words', ASKED)
def test_output_that_cannot_be_written_is_an_error(
    words: list[str], tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'lock').touch()
    with open('/dev/full', 'wb') as full:
        done = subprocess.run(
            [*PROGRAM, *words, str(tmp_path / 'lock')],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.stderr == (
        'portalocker: cannot write the output: No space left on device\n'
    )
    assert done.returncode == 2


def test_what_the_terminal_cannot_show_is_escaped(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / 'schlo\N{LATIN SMALL LETTER SHARP S}').touch()
    done = subprocess.run(
        [*PROGRAM, 'who', *map(str, tmp_path.iterdir())],
        check=False,
        stdout=subprocess.PIPE,
        env={**os.environ, 'PYTHONIOENCODING': 'ascii'},
    )
    assert b'schlo\\xdf' in done.stdout
    assert done.returncode == 1
