"""One number in one file: writing it, reading it, doubting it."""

from __future__ import annotations

import os
import pathlib
import time

import pytest

from portalocker import _pid_record


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'daemon.pid'


def test_what_is_written_is_digits_alone_and_read_back(
    path: pathlib.Path,
) -> None:
    _pid_record.write_pid(str(path), 4121)
    assert path.read_bytes() == b'4121'
    assert _pid_record.read_pid(str(path)) == 4121
    assert os.listdir(path.parent) == ['daemon.pid']


def test_a_reader_with_the_old_file_open_sees_the_old_text_whole(
    path: pathlib.Path,
) -> None:
    _pid_record.write_pid(str(path), 12345)
    with open(path) as reader:
        _pid_record.write_pid(str(path), 7)
        assert reader.read() == '12345'
    assert path.read_text() == '7'


@pytest.mark.parametrize(
    'text',
    [
        b'',
        b'0',
        b'-1',
        b'+1',
        b'1.5',
        b'0x10',
        b'1_000',
        b'12 34',
        b'\xff\xfe',
        '\N{ARABIC-INDIC DIGIT ONE}'.encode(),
        b'1' * 21,
        b'pid',
    ],
)
def test_what_is_no_process_id_is_none(
    text: bytes, path: pathlib.Path
) -> None:
    path.write_bytes(text)
    assert _pid_record.read_pid(str(path)) is None


def test_the_longest_number_is_read(path: pathlib.Path) -> None:
    path.write_bytes(b'1' * 20)
    assert _pid_record.read_pid(str(path)) == int('1' * 20)


def test_what_cannot_be_read_is_none(path: pathlib.Path) -> None:
    assert _pid_record.read_pid(str(path)) is None
    assert _pid_record.read_pid(str(path.parent)) is None


@pytest.mark.timeout(3)  # it would wait for ever
@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs FIFOs')
def test_reading_does_not_wait_for_a_writer(path: pathlib.Path) -> None:
    os.mkfifo(path)
    assert _pid_record.read_pid(str(path)) is None


def test_a_failed_write_leaves_nothing_beside(path: pathlib.Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        _pid_record.write_pid(str(path), 7)
    assert os.listdir(path.parent) == ['daemon.pid']


def test_where_readers_forbid_replacing_it_is_tried_again(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [PermissionError('open')] * 2
    pauses: list[float] = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        if refusals:
            raise refusals.pop()
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', replace)
        patch.setattr(os, 'name', 'nt')
        patch.setattr(time, 'sleep', pauses.append)
        _pid_record.write_pid(str(path), 7)
    assert path.read_bytes() == b'7'
    assert len(pauses) == 2


def test_a_planted_link_is_replaced_not_followed(path: pathlib.Path) -> None:
    victim = path.with_name('victim')
    victim.write_text('precious')
    path.symlink_to(victim)
    _pid_record.write_pid(str(path), 7)
    assert victim.read_text() == 'precious'
    assert not path.is_symlink()


def test_a_link_planted_beside_is_refused(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = path.with_name('victim')
    victim.write_text('precious')
    with monkeypatch.context() as patch:
        patch.setattr(os, 'urandom', lambda n: b'\0' * n)
        planted = path.with_name('.portalocker.' + '00' * 8 + '.tmp')
        planted.symlink_to(victim)
        with pytest.raises(FileExistsError):
            _pid_record.write_pid(str(path), 7)
    assert victim.read_text() == 'precious'


def test_a_file_beside_that_is_cleaned_up_is_written_again(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_replace = os.replace
    cleaned: list[str] = []

    def replace(beside: str, target: str) -> None:
        if len(cleaned) < 3:
            cleaned.append(beside)
            os.unlink(beside)
        real_replace(beside, target)

    monkeypatch.setattr(os, 'replace', replace)
    _pid_record.write_pid(str(path), 7)
    assert path.read_bytes() == b'7'
    assert len(set(cleaned)) == 3
    assert os.listdir(path.parent) == [path.name]


def test_a_directory_that_is_gone_is_an_error(path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        _pid_record.write_pid(str(path / 'below'), 7)


def test_the_longest_file_name_can_be_written(path: pathlib.Path) -> None:
    longest = path.with_name('p' * 255)
    _pid_record.write_pid(str(longest), 7)
    assert longest.read_text() == '7'
    assert os.listdir(path.parent) == ['p' * 255]
