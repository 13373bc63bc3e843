"""Files that appear whole, and what the dead leave behind, on Windows."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import portalocker
from portalocker import atomic, exceptions, reapers
from portalocker import tempfile as portalocker_tempfile

DRAFT = f'.portalocker.{7:016x}.tmp'

DIES_IN_A_DIRECTORY = """
import os, sys
sys.path[:0] = {path!r}
from portalocker import tempfile
directory = tempfile.TemporaryDirectory(dir={place!r}, lock=True)
open(os.path.join(directory.name, 'file'), 'w').close()
os._exit(0)
"""


def _names(place: pathlib.Path) -> list[str]:
    return sorted(os.listdir(place))


def test_new_file_appears_whole(tmp_path: pathlib.Path) -> None:
    with portalocker.open_atomic(tmp_path / 'new', durable='full') as fh:
        fh.write(b'x' * 5000)
        assert 'new' not in _names(tmp_path)
    assert (tmp_path / 'new').read_bytes() == b'x' * 5000
    assert _names(tmp_path) == ['new']


def test_file_that_exists_is_replaced_only_if_asked_for(
    tmp_path: pathlib.Path,
) -> None:
    portalocker.write_bytes_atomic(tmp_path / 'old', b'old')
    with pytest.raises(exceptions.DestinationExists):
        portalocker.write_bytes_atomic(tmp_path / 'old', b'new')
    portalocker.write_bytes_atomic(tmp_path / 'old', b'new', overwrite=True)
    assert (tmp_path / 'old').read_bytes() == b'new'


def test_name_that_appears_meanwhile_is_never_replaced(
    tmp_path: pathlib.Path,
) -> None:
    with (  # noqa: PT012
        pytest.raises(exceptions.DestinationExists) as caught,
        portalocker.open_atomic(tmp_path / 'new') as fh,
    ):
        fh.write(b'ours')
        (tmp_path / 'new').write_bytes(b'theirs')
    assert (tmp_path / 'new').read_bytes() == b'theirs'
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'ours'


def test_file_that_somebody_reads_is_given_back_after_a_while(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr('time.sleep', pauses.append)
    (tmp_path / 'old').write_bytes(b'old')
    with (
        open(tmp_path / 'old', 'rb'),
        pytest.raises(PermissionError) as caught,
        portalocker.open_atomic(tmp_path / 'old', overwrite=True) as fh,
    ):
        fh.write(b'new')
    assert 2 < sum(pauses) < 3
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'new'
    assert (tmp_path / 'old').read_bytes() == b'old'


def test_updates_take_turns_beside_the_file(tmp_path: pathlib.Path) -> None:
    def one_more(old: bytes) -> bytes:
        return b'%d' % (int(old) + 1)

    for expected in (b'1', b'2'):
        written = atomic.update_atomic(
            tmp_path / 'count', one_more, default=b'0'
        )
        assert written == expected
    assert _names(tmp_path) == ['count', 'count.lock']


def test_directory_is_replaced_with_a_gap(tmp_path: pathlib.Path) -> None:
    for version in '12':
        new = tmp_path / 'new'
        new.mkdir()
        (new / version).touch()
        atomic.replace_directory(new, tmp_path / 'site', allow_gap=True)
        assert _names(tmp_path / 'site') == [version]
    (tmp_path / 'new').mkdir()
    with pytest.raises(OSError, match='no gap is allowed'):
        atomic.replace_directory(tmp_path / 'new', tmp_path / 'site')
    assert _names(tmp_path) == ['new', 'site']


def test_draft_goes_when_its_writer_has_died(tmp_path: pathlib.Path) -> None:
    (tmp_path / DRAFT).touch()
    with portalocker.open_atomic(tmp_path / 'new') as fh:
        assert reapers.reap(tmp_path, dry_run=True) == [str(tmp_path / DRAFT)]
        assert reapers.reap(tmp_path) == [str(tmp_path / DRAFT)]
        assert reapers.reap(tmp_path) == []
        fh.write(b'lives')
    assert (tmp_path / 'new').read_bytes() == b'lives'


def test_directory_goes_when_its_holder_has_died(
    tmp_path: pathlib.Path,
) -> None:
    program = DIES_IN_A_DIRECTORY.format(path=sys.path, place=str(tmp_path))
    subprocess.run([sys.executable, '-c', program], check=True)
    (dead,) = tmp_path.iterdir()
    (tmp_path / 'plain').mkdir()
    assert reapers.reap(tmp_path, dry_run=True) == [str(dead)]
    assert reapers.reap(tmp_path) == [str(dead)]
    assert _names(tmp_path) == ['plain']


def test_directory_that_is_held_stays(tmp_path: pathlib.Path) -> None:
    held = portalocker_tempfile.TemporaryDirectory(
        dir=tmp_path, lock=True, delete=False
    )
    (pathlib.Path(held.name) / 'file').touch()
    assert reapers.reap(tmp_path) == []
    assert (pathlib.Path(held.name) / 'file').exists()


def test_lock_files_are_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'x.lock').touch()
    assert reapers.reap(tmp_path, prefix='x') == []


def test_private_directory_is_made_once(tmp_path: pathlib.Path) -> None:
    path = reapers.private_directory('jobs', dir=tmp_path)
    assert path == str(tmp_path / 'jobs')
    assert reapers.private_directory('jobs', dir=tmp_path) == path
