"""Temporary files and directories on Windows, where what is open stays."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import pathlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import portalocker
from portalocker import exceptions, reapers, tempfile

ACCESS_DENIED, SHARING_VIOLATION = 5, 32


@pytest.fixture(autouse=True)
def folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
    """The directory for temporary files, which every test leaves empty."""
    path = tmp_path / 'temporary'
    path.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(path))
    yield path
    gc.collect()
    assert list(path.iterdir()) == []


def run(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Windows Python of its own."""
    head = f'import sys; sys.path[:0] = {sys.path!r}\n'
    return subprocess.run(
        [sys.executable, '-c', head + program, *args],
        capture_output=True,
        text=True,
        check=False,
    )


# -- files that are removed when they are closed ----------------------------


@pytest.mark.parametrize('mode', ['w+b', 'w+'])
@pytest.mark.parametrize('use', [False, True])
def test_file_goes_when_it_is_closed(
    folder: pathlib.Path, mode: str, use: bool
) -> None:
    with tempfile.NamedTemporaryFile(mode) as file:
        assert [str(path) for path in folder.iterdir()] == [file.name]
        if use:
            file.write('x' if mode == 'w+' else b'x')
    assert list(folder.iterdir()) == []


def test_system_itself_removes_the_file_of_a_process_that_is_killed(
    folder: pathlib.Path,
) -> None:
    done = run(
        'import os\n'
        'from portalocker import tempfile\n'
        'file = tempfile.NamedTemporaryFile(dir=sys.argv[1])\n'
        'print(len(os.listdir(sys.argv[1])), flush=True)\n'
        'os.kill(os.getpid(), 9)\n',
        str(folder),
    )
    assert (done.stdout, done.stderr) == ('1\n', '')
    assert list(folder.iterdir()) == []


def test_open_file_can_be_opened_again_only_by_who_lets_it_be_deleted() -> (
    None
):
    with tempfile.NamedTemporaryFile() as file:
        with pytest.raises(PermissionError):
            pathlib.Path(file.name).read_bytes()
        file.write(b'shared')
        file.flush()
        fd = os.open(file.name, os.O_RDONLY | os.O_BINARY | os.O_TEMPORARY)
        assert os.read(fd, 100) == b'shared'
        os.close(fd)


def test_file_that_stays_when_closed_can_be_opened_by_others() -> None:
    with tempfile.NamedTemporaryFile('w', delete_on_close=False) as file:
        file.write('for others')
        file.close()
        assert pathlib.Path(file.name).read_text() == 'for others'
    assert not os.path.exists(file.name)


@pytest.mark.parametrize('delete_on_close', [False, True])
def test_file_that_is_not_deleted_stays(delete_on_close: bool) -> None:
    with tempfile.NamedTemporaryFile(
        delete=False, delete_on_close=delete_on_close
    ) as file:
        file.write(b'x')
    assert pathlib.Path(file.name).read_bytes() == b'x'
    os.unlink(file.name)


@pytest.mark.parametrize('delete_on_close', [False, True])
def test_file_that_nobody_has_is_removed_with_a_warning(
    folder: pathlib.Path, delete_on_close: bool
) -> None:
    holder: list[Any] = [
        tempfile.NamedTemporaryFile(delete_on_close=delete_on_close)
    ]
    with pytest.warns(ResourceWarning, match='Implicitly cleaning up'):
        holder.clear()
    assert list(folder.iterdir()) == []


def test_temporary_file_has_a_name_here_and_goes_too(
    folder: pathlib.Path,
) -> None:
    assert tempfile.TemporaryFile is tempfile.NamedTemporaryFile
    with tempfile.TemporaryFile('w+') as file:
        file.write('text')
        file.seek(0)
        assert file.read() == 'text'
    assert list(folder.iterdir()) == []


def test_spooled_file_moves_and_goes(folder: pathlib.Path) -> None:
    with tempfile.SpooledTemporaryFile(max_size=3) as file:
        file.write(b'abc')
        assert list(folder.iterdir()) == []
        file.write(b'def')
        assert len(list(folder.iterdir())) == 1
        file.seek(0)
        assert file.read() == b'abcdef'
    assert list(folder.iterdir()) == []


def test_descriptor_is_not_inherited() -> None:
    fd, path = tempfile.mkstemp()
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
        os.unlink(path)


def test_refusal_ends_soon_with_the_systems_error(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory of the name is refused as denied; by Wine, as existing."""
    (folder / 'tmpsame').mkdir()
    monkeypatch.setattr(
        tempfile, '_get_candidate_names', lambda: iter(['same'] * 1000)
    )
    with pytest.raises((PermissionError, FileExistsError)):
        tempfile.mkstemp()
    (folder / 'tmpsame').rmdir()


# -- directories --------------------------------------------------------------


@pytest.mark.parametrize('lock', [False, True, 'shared'])
def test_directory_goes_with_all_in_it(lock: Any) -> None:
    with tempfile.TemporaryDirectory(lock=lock) as name:
        path = pathlib.Path(name, 'below', 'deeper')
        path.mkdir(parents=True)
        (path / 'file').touch()
    assert not os.path.exists(name)


def test_read_only_files_and_directories_go() -> None:
    with tempfile.TemporaryDirectory() as name:
        below = pathlib.Path(name, 'below')
        below.mkdir()
        (below / 'file').touch()
        os.chmod(below / 'file', stat.S_IREAD)
        os.chmod(below, stat.S_IREAD)
    assert not os.path.exists(name)


def test_open_file_stays_is_told_and_can_go_later() -> None:
    directory = tempfile.TemporaryDirectory()
    for name in 'abc':
        pathlib.Path(directory.name, name).touch()
    busy = os.path.join(directory.name, 'b')
    with open(busy, 'rb'):
        with pytest.raises(PermissionError) as caught:
            directory.cleanup()
        assert caught.value.filename == busy
        assert caught.value.winerror in {ACCESS_DENIED, SHARING_VIOLATION}
        assert os.listdir(directory.name) == ['b'], 'the others are gone'
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_error_of_an_open_file_can_be_ignored() -> None:
    directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    for name in 'abc':
        pathlib.Path(directory.name, name).touch()
    with open(os.path.join(directory.name, 'b'), 'rb'):
        directory.cleanup()
        assert os.listdir(directory.name) == ['b']
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_current_directory_of_a_process_stays_until_it_leaves(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tempfile.TemporaryDirectory()
    monkeypatch.chdir(directory.name)
    with contextlib.suppress(PermissionError):  # Wine lets it go
        directory.cleanup()
    monkeypatch.chdir(tmp_path)
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_path_longer_than_260_characters_goes() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = '\\\\?\\' + name
        for _ in range(5):
            path = os.path.join(path, 'x' * 80)
            os.mkdir(path)
        os.close(os.open(os.path.join(path, 'file'), os.O_CREAT, 0o600))
        assert len(path) > 400
    assert not os.path.exists(name)


def test_link_is_removed_and_not_followed(tmp_path: pathlib.Path) -> None:
    precious = tmp_path / 'precious'
    precious.mkdir()
    (precious / 'file').write_text('stays')
    with tempfile.TemporaryDirectory() as name:
        try:
            os.symlink(precious, os.path.join(name, 'link'), True)
        except OSError:
            pytest.skip('this user may not make links')
    assert not os.path.exists(name)
    assert (precious / 'file').read_text() == 'stays'


def test_what_nobody_has_goes_at_the_end_of_the_process(
    folder: pathlib.Path,
) -> None:
    done = run(
        'from portalocker import tempfile\n'
        'for lock in (False, True):\n'
        '    keep = tempfile.TemporaryDirectory(dir=sys.argv[1], lock=lock)\n'
        '    globals()[str(lock)] = keep\n',
        str(folder),
    )
    assert (done.returncode, done.stderr) == (0, '')
    assert list(folder.iterdir()) == []


def test_locked_directory_cannot_be_taken_for_dead(
    folder: pathlib.Path,
) -> None:
    with tempfile.TemporaryDirectory(lock=True) as name:
        pathlib.Path(name, 'file').touch()
        assert reapers.reap(folder) == []
        assert os.path.exists(os.path.join(name, 'file'))


def test_locked_directory_persists(tmp_path: pathlib.Path) -> None:
    directory = tempfile.TemporaryDirectory(lock=True)
    pathlib.Path(directory.name, 'file').touch()
    target = directory.persist(tmp_path / 'published')
    assert os.listdir(target) == ['file']
    directory.cleanup()
    assert os.listdir(target) == ['file']
    other = tempfile.TemporaryDirectory(lock=True)
    with pytest.raises(FileExistsError):
        other.persist(target)
    other.cleanup()
    assert os.listdir(target) == ['file']


def test_pinned_directory_is_spared(folder: pathlib.Path) -> None:
    directory = tempfile.TemporaryDirectory(lock='shared')
    with tempfile.pin(directory.name):
        assert reapers.reap(folder) == []
    directory.cleanup()


# -- files that are replaced while somebody reads them ------------------------


def held(path: pathlib.Path) -> Any:
    """Open a file so that nobody may delete or rename it."""
    return open(path, 'rb')


def test_replace_is_tried_again_until_the_reader_has_gone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / 'target'
    target.write_bytes(b'old')
    reader = held(target)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            reader.close()

    monkeypatch.setattr('time.sleep', pause)
    portalocker.write_bytes_atomic(target, b'new', overwrite=True)
    assert target.read_bytes() == b'new'
    assert len(pauses) == 3


@pytest.mark.parametrize('code', [5, 32, 33])
def test_errors_by_number_are_tried_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    target = tmp_path / 'target'
    target.write_bytes(b'old')
    real, left = os.replace, [code, code]

    def replace(*args: Any, **options: Any) -> None:
        if left:
            raise ctypes.WinError(left.pop())
        real(*args, **options)

    monkeypatch.setattr(os, 'replace', replace)
    monkeypatch.setattr('time.sleep', lambda _: None)
    portalocker.write_bytes_atomic(target, b'new', overwrite=True)
    assert (target.read_bytes(), left) == (b'new', [])


def test_another_error_is_told_at_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / 'target'
    target.write_bytes(b'old')
    disk_full = 112
    monkeypatch.setattr(
        os, 'replace', lambda *_, **__: (_ for _ in ()).throw(full())
    )
    monkeypatch.setattr('time.sleep', lambda _: pytest.fail('waited'))

    def full() -> OSError:
        return ctypes.WinError(disk_full)

    with pytest.raises(OSError, match='target') as caught:
        portalocker.write_bytes_atomic(target, b'new', overwrite=True)
    assert caught.value.filename == str(target)
    assert caught.value.winerror == disk_full
    kept = pathlib.Path(caught.value.filename2)
    assert kept.read_bytes() == b'new'
    assert target.read_bytes() == b'old'


def test_read_only_file_is_refused(tmp_path: pathlib.Path) -> None:
    target = tmp_path / 'target'
    target.write_bytes(b'old')
    os.chmod(target, stat.S_IREAD)
    with pytest.raises(PermissionError):
        portalocker.write_bytes_atomic(target, b'new', overwrite=True)
    os.chmod(target, stat.S_IREAD | stat.S_IWRITE)
    assert os.listdir(tmp_path) == ['target', 'temporary']


def test_of_many_that_write_a_new_file_one_wins(
    tmp_path: pathlib.Path,
) -> None:
    program = (
        'import portalocker\n'
        'from portalocker import exceptions\n'
        'sys.stdin.readline()\n'
        'won = 0\n'
        'for n in range(10):\n'
        '    try:\n'
        '        portalocker.write_bytes_atomic(\n'
        '            f"{sys.argv[1]}/{n}", sys.argv[2].encode())\n'
        '    except exceptions.DestinationExists as error:\n'
        '        pass\n'
        '    else:\n'
        '        won += 1\n'
        'print(won)\n'
    )
    head = f'import sys; sys.path[:0] = {sys.path!r}\n'
    writers = [
        subprocess.Popen(
            [sys.executable, '-c', head + program, str(tmp_path), str(who)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(3)
    ]
    won = [int(writer.communicate('go\n')[0]) for writer in writers]
    assert sum(won) == 10
    assert issubclass(exceptions.DestinationExists, FileExistsError)
