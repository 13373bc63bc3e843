"""Laws of directories that are alive while somebody holds them."""

from __future__ import annotations

import errno
import os
import pathlib
import stat
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from states import is_locked

from portalocker import (
    AlreadyLocked,
    _living_directory,
    _tree_removal,
    tempfile,
)

if sys.platform == 'win32':
    pytest.skip('directories cannot be locked', allow_module_level=True)

import fcntl

needs_fork = pytest.mark.skipif(
    not hasattr(os, 'fork'), reason='needs os.fork'
)
LOCKS = [True, 'shared']


@pytest.fixture(autouse=True)
def folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
    place = tmp_path / 'temporary'
    place.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(place))
    yield place
    assert not list(place.iterdir())


@pytest.mark.parametrize('lock', LOCKS)
def test_it_is_locked_until_it_is_gone(lock: Any) -> None:
    directory = tempfile.TemporaryDirectory(lock=lock)
    assert os.path.samestat(os.fstat(directory.fd), os.stat(directory.name))
    assert not os.get_inheritable(directory.fd)
    assert is_locked(directory.name)
    assert _living_directory.seize_dead(directory.name) is None
    fd = directory.fd
    directory.cleanup()
    assert directory.fd is None
    with pytest.raises(OSError, match='Bad file descriptor'):
        os.fstat(fd)


def test_it_is_marked_and_named_as_one_that_may_be_reaped() -> None:
    with tempfile.TemporaryDirectory(lock=True) as name:
        assert os.path.basename(name).startswith(_living_directory.PREFIX)
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o1700
        assert _living_directory.may_be_dead(os.stat(name))
    with tempfile.TemporaryDirectory(lock=True, prefix='own-') as name:
        assert os.path.basename(name).startswith('own-')
    with tempfile.TemporaryDirectory(
        lock=True, dir=os.fsencode(str(tempfile.tempdir))
    ) as raw:
        assert isinstance(raw, bytes)
    with tempfile.TemporaryDirectory() as name:
        assert not _living_directory.may_be_dead(os.stat(name))


def test_without_a_lock_there_is_no_descriptor() -> None:
    directory = tempfile.TemporaryDirectory()
    assert directory.fd is None
    directory.cleanup()


@pytest.mark.parametrize('lock', [None, 'exclusive', 2, ''])
def test_a_lock_that_is_none_is_refused(lock: Any) -> None:
    with pytest.raises(ValueError, match='cannot lock a directory with lock='):
        tempfile.TemporaryDirectory(lock=lock)


def test_what_is_not_deleted_is_not_marked() -> None:
    directory = tempfile.TemporaryDirectory(lock=True, delete=False)
    with directory as name:
        assert is_locked(name)
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o700
    assert not is_locked(name)
    assert _living_directory.seize_dead(name) is None
    directory.cleanup()


@pytest.mark.parametrize('lock', LOCKS)
def test_what_is_kept_is_neither_locked_nor_marked(lock: Any) -> None:
    directory = tempfile.TemporaryDirectory(lock=lock)
    name = directory.keep()
    assert not is_locked(name)
    assert stat.S_IMODE(os.stat(name).st_mode) == 0o700
    assert _living_directory.seize_dead(name) is None
    os.rmdir(name)


def test_what_persists_is_neither_locked_nor_marked(
    tmp_path: pathlib.Path,
) -> None:
    target = tmp_path / 'final'
    tempfile.TemporaryDirectory(lock=True).persist(target)
    assert not is_locked(target)
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o700


def test_one_may_take_the_place_of_another(tmp_path: pathlib.Path) -> None:
    target = tmp_path / 'final'
    for version in ('1', '2'):
        directory = tempfile.TemporaryDirectory(lock=True)
        (pathlib.Path(directory.name) / version).touch()
        directory.persist(target, replace=True)
        assert [path.name for path in target.iterdir()] == [version]
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o700


# who is dead


KILLED = """
import os, signal
from portalocker import tempfile
directory = tempfile.TemporaryDirectory(lock={lock!r})
open(directory.name + '/file', 'w').close()
print(directory.name, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize('lock', LOCKS)
def test_what_a_killed_process_leaves_can_be_seized(
    lock: Any, folder: pathlib.Path
) -> None:
    done = subprocess.run(
        [sys.executable, '-c', KILLED.format(lock=lock)],
        env={**os.environ, 'TMPDIR': str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    name = done.stdout.strip()
    fd = _living_directory.seize_dead(name)
    assert fd is not None
    assert _living_directory.seize_dead(name) is None, 'by two at once'
    assert _tree_removal.remove_tree(name) == []
    os.close(fd)
    assert _living_directory.seize_dead(name) is None


def test_what_is_no_directory_of_ours_is_never_seized(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    marked = tmp_path / 'marked'
    marked.mkdir()
    marked.chmod(0o1700)
    link = folder / 'link'
    link.symlink_to(marked)
    assert _living_directory.seize_dead(link) is None
    link.unlink()
    link.touch(0o1600)
    assert _living_directory.seize_dead(link) is None
    link.unlink()
    if os.geteuid() == 0:
        os.chown(marked, 65534, 65534)
        assert _living_directory.seize_dead(marked) is None


@needs_fork
def test_a_child_keeps_it_alive() -> None:
    """The lock goes with the last process that has the descriptor."""
    directory = tempfile.TemporaryDirectory(lock=True)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    name = directory.name
    os.close(directory.fd)
    directory._finalizer.fd = None
    assert is_locked(name)
    os.close(writer)
    os.waitpid(pid, 0)
    assert not is_locked(name)
    directory.cleanup()


def test_a_descriptor_that_is_passed_on_keeps_it_alive() -> None:
    directory = tempfile.TemporaryDirectory(lock=True)
    child = subprocess.Popen(
        [sys.executable, '-c', 'import sys; sys.stdin.read()'],
        stdin=subprocess.PIPE,
        pass_fds=[directory.fd],
    )
    os.close(directory.fd)
    directory._finalizer.fd = None
    assert is_locked(directory.name)
    child.communicate()
    assert not is_locked(directory.name)
    directory.cleanup()


# made while others reap


def test_one_that_was_taken_for_dead_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reaper comes between mkdir and the lock, or the lock and the look."""
    for step in ('open', 'flock'):
        module: Any = os if step == 'open' else fcntl
        real, taken = getattr(module, step), []

        def take(
            *args: Any,
            real: Any = real,
            step: str = step,
            taken: list[str] = taken,
            **options: Any,
        ) -> Any:
            if not taken and (step == 'flock' or 'portalocker-' in args[0]):
                (path,) = pathlib.Path(str(tempfile.tempdir)).iterdir()
                taken.append(str(path))
                path.rmdir()
            return real(*args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(module, step, take)
            directory = tempfile.TemporaryDirectory(lock=True)
        assert taken
        assert directory.name not in taken
        assert is_locked(directory.name)
        directory.cleanup()


@pytest.mark.parametrize('kind', ['link', 'file'])
def test_one_that_something_else_replaced_is_made_again(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path, kind: str
) -> None:
    real, replaced = os.open, []

    def open_(path: Any, *args: Any, **options: Any) -> int:
        if not replaced and 'portalocker-' in path:
            replaced.append(path)
            os.rmdir(path)
            if kind == 'link':
                os.symlink('nowhere', path)
            else:
                pathlib.Path(path).touch()
        return real(path, *args, **options)

    monkeypatch.setattr(os, 'open', open_)
    with tempfile.TemporaryDirectory(lock=True) as name:
        assert replaced not in ([], [name])
    assert [str(path) for path in folder.iterdir()] == replaced, 'not ours'
    os.unlink(replaced[0])


def test_one_that_a_reaper_holds_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    real, seized = os.open, []

    def open_(path: Any, *args: Any, **options: Any) -> int:
        if not seized and 'portalocker-' in path:
            seized.append(path)
            seized.append(_living_directory.seize_dead(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, 'open', open_)
    with tempfile.TemporaryDirectory(lock=True) as name:
        path, fd = seized
        assert path != name
        assert fd is not None
    assert list(folder.iterdir()) == [pathlib.Path(path)]
    os.rmdir(path)
    os.close(fd)


def test_where_directories_cannot_be_locked_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on NFS, which wants a descriptor that can write."""

    def flock(*_: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, 'flock', flock)
    with pytest.raises(OSError, match='cannot lock a directory here'):
        tempfile.TemporaryDirectory(lock=True)


# pin


def test_a_pinned_directory_is_spared_until_the_last_pin_goes(
    folder: pathlib.Path,
) -> None:
    place = folder / 'place'
    place.mkdir()
    with tempfile.pin(place) as first:
        second = tempfile.pin(os.fsencode(str(place)))
        assert is_locked(place)
        assert os.path.samestat(os.fstat(first.fd), place.stat())
    assert is_locked(place)
    second.close()
    second.close()
    assert not is_locked(place)
    place.rmdir()


def test_a_pin_that_nobody_has_lets_go(folder: pathlib.Path) -> None:
    tempfile.pin(folder)
    assert not is_locked(folder)


def test_a_shared_lock_can_be_joined_and_an_exclusive_one_not() -> None:
    with tempfile.TemporaryDirectory(lock='shared') as name:
        tempfile.pin(name).close()
    with tempfile.TemporaryDirectory(lock=True) as name:
        with pytest.raises(AlreadyLocked, match='cannot lock') as failure:
            tempfile.pin(name)
        assert failure.value.filename == name


def test_nothing_cannot_be_pinned(folder: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        tempfile.pin(folder / 'nothing')
    link = folder / 'link'
    link.symlink_to(folder)
    with pytest.raises(OSError, match=r'link|directory'):
        tempfile.pin(link)
    link.unlink()


def test_one_that_is_replaced_meanwhile_is_not_pinned(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / 'place'
    place.mkdir()
    real = fcntl.flock

    def flock(fd: int, operation: int) -> None:
        place.rename(folder / 'aside')
        place.mkdir()
        real(fd, operation)

    monkeypatch.setattr(fcntl, 'flock', flock)
    with pytest.raises(FileNotFoundError, match='replaced'):
        tempfile.pin(place)
    for path in (place, folder / 'aside'):
        path.rmdir()
