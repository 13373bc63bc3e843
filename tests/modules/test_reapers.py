"""What the dead left goes; what lives, or is not ours, stays."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

if sys.platform == 'win32':
    pytest.skip('signals, forks, modes', allow_module_level=True)

import fcntl

import portalocker
from portalocker import _publication_draft, _sweeping, reapers
from portalocker import tempfile as portalocker_tempfile
from portalocker.__main__ import main

is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason='needs root')
needs_linux = pytest.mark.skipif(
    sys.platform != 'linux', reason='who else spares sticky files'
)
NOBODY = 65534
DRAFT = f'.portalocker.{7:016x}.tmp'


def _names(place: pathlib.Path) -> list[str]:
    return sorted(os.listdir(place))


def _kill_inside(hold: Callable[[], object]) -> None:
    """Have a child hold something, and kill it there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            held = hold()  # noqa: F841 - until we are killed
            os.write(writer, b'.')
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b'.'
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextlib.contextmanager
def _alive(hold: Callable[[], object]) -> Iterator[None]:
    """Have a child hold something meanwhile."""
    started_reader, started = os.pipe()
    end, ended = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ended)
            held = hold()  # noqa: F841 - until the block is left
            os.write(started, b'.')
            os.read(end, 1)
        finally:
            os._exit(0)
    os.close(started)
    os.close(end)
    try:
        assert os.read(started_reader, 1) == b'.'
        yield
    finally:
        os.close(started_reader)
        os.close(ended)
        os.waitpid(pid, 0)


def _hold_directory(place: pathlib.Path) -> object:
    directory = portalocker_tempfile.TemporaryDirectory(dir=place, lock=True)
    path = pathlib.Path(directory.name)
    (path / 'below').mkdir()
    (path / 'below' / 'file').write_text('of the dead')
    return directory


def _hold_shared_directory(place: pathlib.Path) -> object:
    return portalocker_tempfile.TemporaryDirectory(dir=place, lock='shared')


def _hold_temporary(place: pathlib.Path) -> object:
    lock = portalocker.TemporaryFileLock(place / 'x.lock')
    return lock, lock.acquire()


def _hold_pid_file(place: pathlib.Path) -> object:
    lock = portalocker.PidFileLock(place / 'x.pid')
    return lock, lock.acquire()


def _hold_semaphore(place: pathlib.Path) -> object:
    semaphore = portalocker.BoundedSemaphore(1, 'x', directory=place)
    return semaphore, semaphore.acquire()


def _hold_draft(place: pathlib.Path) -> object:
    _publication_draft._NAMELESS_FLAG = 0
    writer = portalocker.open_atomic(place / 'target')
    return writer, writer.__enter__().write(b'half of it')


HOLDERS: dict[str, Callable[[pathlib.Path], object]] = {
    'directory': _hold_directory,
    'shared directory': _hold_shared_directory,
    'temporary lock': _hold_temporary,
    'pid file': _hold_pid_file,
    'semaphore': _hold_semaphore,
    'draft': _hold_draft,
}


@pytest.fixture(params=HOLDERS)
def holder(request: pytest.FixtureRequest) -> Callable[[pathlib.Path], object]:
    return HOLDERS[request.param]


Holder = Callable[[pathlib.Path], object]


def test_what_the_dead_left_goes(
    tmp_path: pathlib.Path, holder: Holder
) -> None:
    _kill_inside(lambda: holder(tmp_path))
    left = _names(tmp_path)
    assert left
    removed = reapers.reap(tmp_path)
    assert _names(tmp_path) == []
    assert {os.path.dirname(path) for path in removed} == {str(tmp_path)}
    assert {os.path.basename(path) for path in removed} <= set(left)
    assert reapers.reap(tmp_path) == []


def test_what_lives_stays(tmp_path: pathlib.Path, holder: Holder) -> None:
    with _alive(lambda: holder(tmp_path)):
        before = _names(tmp_path)
        assert before
        assert reapers.reap(tmp_path) == []
        assert _names(tmp_path) == before


def test_what_this_process_holds_stays(
    tmp_path: pathlib.Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_publication_draft, '_NAMELESS_FLAG', 0)
    held: Any = holder(tmp_path)
    try:
        before = _names(tmp_path)
        assert reapers.reap(tmp_path) == []
        assert _names(tmp_path) == before
    finally:
        thing = held[0] if isinstance(held, tuple) else held
        for verb in ('cleanup', 'release', 'discard'):
            getattr(thing, verb, lambda: None)()


def test_dry_run_tells_the_same_and_removes_nothing(
    tmp_path: pathlib.Path, holder: Holder
) -> None:
    _kill_inside(lambda: holder(tmp_path))
    before = _names(tmp_path)
    told = reapers.reap(tmp_path, dry_run=True)
    assert _names(tmp_path) == before
    assert told == reapers.reap(tmp_path)


def test_what_is_younger_than_asked_for_stays(
    tmp_path: pathlib.Path, holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill_inside(lambda: holder(tmp_path))
    assert reapers.reap(tmp_path, min_age=3600) == []
    in_two_hours = time.time() + 7200
    monkeypatch.setattr('time.time', lambda: in_two_hours)
    assert reapers.reap(tmp_path, min_age=3600)
    assert _names(tmp_path) == []


def test_names_of_another_prefix_stay(
    tmp_path: pathlib.Path, holder: Holder
) -> None:
    _kill_inside(lambda: holder(tmp_path))
    assert reapers.reap(tmp_path, prefix='other') == []


def test_lock_file_of_any_name_goes_where_the_prefix_names_it(
    tmp_path: pathlib.Path,
) -> None:
    _kill_inside(
        lambda: portalocker.TemporaryFileLock(tmp_path / 'job-1').acquire()
    )
    assert reapers.reap(tmp_path) == []
    assert reapers.reap(tmp_path, 'job-') == [str(tmp_path / 'job-1')]


def test_negative_age_is_refused(tmp_path: pathlib.Path) -> None:
    for age in (-1, math.nan):
        with pytest.raises(ValueError, match='min_age'):
            reapers.reap(tmp_path, min_age=age)


@pytest.mark.parametrize(
    ('options', 'refusal'),
    [
        ({'min_age': '1'}, TypeError),
        ({'min_age': None}, TypeError),
        ({'prefix': b''}, TypeError),
        ({'prefix': None}, TypeError),
        ({'dir': ''}, FileNotFoundError),
        ({'dir': 5}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused(
    options: dict[str, Any], refusal: type[Exception], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(refusal):
        reapers.reap(**({'dir': tmp_path} | options))


@pytest.mark.parametrize('name', [None, 5, b'name', pathlib.Path('name')])
def test_private_directory_has_a_name_in_text(
    name: Any, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(TypeError, match='cannot call a directory'):
        reapers.private_directory(name, tmp_path)
    with pytest.raises(FileNotFoundError):
        reapers.private_directory('name', '')
    assert os.listdir(tmp_path) == []


def test_missing_directory_is_an_error(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        reapers.reap(tmp_path / 'none')


# -- what others left ------------------------------------------------------


def test_what_bears_no_mark_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'portalocker-plain').mkdir()
    (tmp_path / 'tmpabcdefgh').mkdir(0o700)
    (tmp_path / 'plain.lock').touch()
    portalocker.Lock(tmp_path / 'stays.lock').acquire().close()
    (tmp_path / '.portalocker.0123.tmp').touch()
    (tmp_path / f'.portalocker.{7:016x}.kept').touch()
    (tmp_path / f'x.{7:016x}.tmp').touch()
    (tmp_path / 'sticky and full.lock').write_text('content')
    (tmp_path / 'sticky and full.lock').chmod(0o1600)
    (tmp_path / 'sticky, no lock').touch()
    (tmp_path / 'sticky, no lock').chmod(0o1600)
    (tmp_path / 'linked.lock').touch()
    (tmp_path / 'linked.lock').chmod(0o1600)
    os.link(tmp_path / 'linked.lock', tmp_path / 'twice')
    before = _names(tmp_path)
    assert reapers.reap(tmp_path) == []
    assert _names(tmp_path) == before


def test_links_fifos_and_directories_of_our_names_stay(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / 'precious').mkdir(0o1700)
    (tmp_path / 'precious' / 'file').touch()
    place = tmp_path / 'place'
    place.mkdir()
    (place / 'portalocker-link').symlink_to(tmp_path / 'precious')
    (place / DRAFT).symlink_to(tmp_path / 'precious' / 'file')
    os.mkfifo(place / f'.portalocker.{8:016x}.tmp')
    (place / f'.portalocker.{9:016x}.tmp').mkdir()
    before = _names(place)
    assert reapers.reap(place) == []
    assert _names(place) == before
    assert (tmp_path / 'precious' / 'file').exists()


@needs_root
def test_what_belongs_to_somebody_else_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'portalocker-x').mkdir()
    (tmp_path / 'x.lock').touch()
    (tmp_path / DRAFT).touch()
    for path in tmp_path.iterdir():
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o1700)
    assert reapers.reap(tmp_path) == []
    assert len(_names(tmp_path)) == 3


def test_pid_file_that_says_no_number_stays(tmp_path: pathlib.Path) -> None:
    _kill_inside(lambda: _hold_pid_file(tmp_path))
    (tmp_path / 'x.pid').write_text('something else')
    reapers.reap(tmp_path)
    assert _names(tmp_path) == ['x.pid']


# -- who else is using it --------------------------------------------------


def test_lock_file_that_somebody_waits_for_stays(
    tmp_path: pathlib.Path,
) -> None:
    if not hasattr(fcntl, 'F_OFD_SETLK'):
        pytest.skip('nobody stands in line here')
    _kill_inside(lambda: _hold_temporary(tmp_path))
    with open(tmp_path / 'x.lock', 'r+b') as fh:
        fcntl.lockf(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _alive(lambda: None):
            pass  # a child that does not hold it changes nothing
        pid = os.fork()
        if pid == 0:
            os._exit(len(reapers.reap(tmp_path)))
        assert os.waitpid(pid, 0)[1] == 0
    assert _names(tmp_path) == ['x.lock']
    assert len(reapers.reap(tmp_path)) == 1


def test_record_lockers_lock_files_are_left_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look at one would let go of the lock that this process holds."""
    _kill_inside(lambda: _hold_temporary(tmp_path))
    monkeypatch.setattr(portalocker.portalocker, 'LOCKER', fcntl.lockf)
    assert reapers.reap(tmp_path) == []
    assert _names(tmp_path) == ['x.lock']


@pytest.mark.parametrize('name', ['x.lock', DRAFT])
def test_file_that_was_replaced_meanwhile_stays(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.touch()
    path.chmod(0o1600)
    real_flock = fcntl.flock

    def flock(fd: int, kind: int) -> None:
        path.unlink()
        path.write_text('of somebody who lives')
        real_flock(fd, kind)

    monkeypatch.setattr(fcntl, 'flock', flock)
    assert reapers.reap(tmp_path) == []
    assert path.read_text() == 'of somebody who lives'


def test_file_that_vanished_meanwhile_is_no_error(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / DRAFT
    path.touch()
    real_flock = fcntl.flock

    def flock(fd: int, kind: int) -> None:
        path.unlink()
        real_flock(fd, kind)

    monkeypatch.setattr(fcntl, 'flock', flock)
    assert reapers.reap(tmp_path) == []


def test_lock_file_that_was_freed_meanwhile_stays(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder said in time that it may stay."""
    path = tmp_path / 'x.lock'
    path.touch()
    path.chmod(0o1600)
    real_flock = fcntl.flock

    def flock(fd: int, kind: int) -> None:
        path.chmod(0o600)
        real_flock(fd, kind)

    monkeypatch.setattr(fcntl, 'flock', flock)
    assert reapers.reap(tmp_path) == []
    assert path.exists()


def test_what_cannot_be_removed_is_told_after_all_else_is_done(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        (tmp_path / f'.portalocker.{n:016x}.tmp').touch()
    real_unlink = os.unlink

    def unlink(path: str, **options: Any) -> None:
        if f'{1:016x}' in path or f'{2:016x}' in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        real_unlink(path, **options)

    monkeypatch.setattr(os, 'unlink', unlink)
    with pytest.raises(OSError, match='portalocker') as caught:
        reapers.reap(tmp_path)
    assert caught.value.errno == errno.EIO
    assert str(tmp_path) in caught.value.filename
    assert len(caught.value.__notes__) == 1
    assert len(_names(tmp_path)) == 2


def test_directory_that_was_renamed_meanwhile_is_still_the_one(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who looks into one directory removes nothing from another."""
    for name in ('place', 'trap'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'portalocker-x').mkdir(0o1700)
        (tmp_path / name / 'portalocker-x' / 'file').touch()
    real_flock = fcntl.flock

    def flock(fd: int, kind: int) -> None:
        (tmp_path / 'place').rename(tmp_path / 'moved')
        (tmp_path / 'place').symlink_to('trap')
        real_flock(fd, kind)

    monkeypatch.setattr(fcntl, 'flock', flock)
    assert len(reapers.reap(tmp_path / 'place')) == 1
    assert _names(tmp_path / 'moved') == []
    assert (tmp_path / 'trap' / 'portalocker-x' / 'file').exists()


def test_tree_that_cannot_all_go_is_told_by_its_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill_inside(lambda: _hold_directory(tmp_path))
    (tree,) = tmp_path.iterdir()
    real_unlink = os.unlink

    def unlink(path: str, **options: Any) -> None:
        if path == 'file':
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        real_unlink(path, **options)

    monkeypatch.setattr(os, 'unlink', unlink)
    mode = tmp_path.stat().st_mode
    with pytest.raises(OSError, match='below') as caught:
        reapers.reap(tmp_path)
    assert caught.value.filename == str(tree / 'below' / 'file')
    assert tmp_path.stat().st_mode == mode
    monkeypatch.undo()
    assert reapers.reap(tmp_path) == [str(tree)]


@needs_linux
def test_reaper_leaves_no_descriptor_open(tmp_path: pathlib.Path) -> None:
    fds = pathlib.Path('/proc/self/fd')
    before = _names(fds)
    for hold in HOLDERS.values():
        _kill_inside(lambda hold=hold: hold(tmp_path))
        assert reapers.reap(tmp_path)
    with _alive(lambda: _hold_temporary(tmp_path)):
        reapers.reap(tmp_path, dry_run=True)
        reapers.reap(tmp_path)
    assert _names(fds) == before


# -- private directories ---------------------------------------------------


def test_private_directory_is_made_and_found_again(
    tmp_path: pathlib.Path,
) -> None:
    path = pathlib.Path(reapers.private_directory('jobs', dir=tmp_path))
    assert path == tmp_path / f'jobs-{os.geteuid()}'
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert reapers.private_directory('jobs', dir=tmp_path) == str(path)


def test_private_directory_is_among_temporary_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    assert os.path.dirname(reapers.private_directory()) == str(tmp_path)
    assert reapers.reap() == []


@pytest.mark.parametrize('name', ['', 'a/..', 'a/b', '/a'])
def test_private_directory_has_a_name_of_one_part(
    tmp_path: pathlib.Path, name: str
) -> None:
    with pytest.raises(ValueError, match='cannot call'):
        reapers.private_directory(name, dir=tmp_path)


@pytest.mark.parametrize('kind', ['link', 'file', 'open', 'group', 'stranger'])
def test_private_directory_that_is_not_is_refused(
    tmp_path: pathlib.Path, kind: str
) -> None:
    path = tmp_path / f'jobs-{os.geteuid()}'
    if kind == 'link':
        (tmp_path / 'elsewhere').mkdir(0o700)
        path.symlink_to('elsewhere')
    elif kind == 'file':
        path.touch(0o700)
    else:
        path.mkdir(0o700)
        path.chmod({'open': 0o702, 'group': 0o750}.get(kind, 0o700))
    if kind == 'stranger':
        if not is_root:
            pytest.skip('needs root')
        os.chown(path, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match='private') as caught:
        reapers.private_directory('jobs', dir=tmp_path)
    assert caught.value.filename == str(path)


# -- sweepers --------------------------------------------------------------


def test_lock_file_bears_the_mark_while_it_is_held(
    tmp_path: pathlib.Path,
) -> None:
    semaphore = portalocker.BoundedSemaphore(1, 'x', directory=tmp_path)
    for _ in range(2):  # a new file, and one that is there
        with semaphore:
            assert _sweeping.was_held((tmp_path / 'x.00.lock').stat())
        assert not _sweeping.was_held((tmp_path / 'x.00.lock').stat())
    with portalocker.TemporaryFileLock(tmp_path / 'y.lock'):
        assert _sweeping.was_held((tmp_path / 'y.lock').stat())
    with portalocker.PidFileLock(tmp_path / 'z.pid'):
        assert _sweeping.was_held((tmp_path / 'z.pid.lock').stat())
    with portalocker.Lock(tmp_path / 'stays'):
        assert not _sweeping.was_held((tmp_path / 'stays').stat())


def test_place_closed_by_hand_can_be_given_back(
    tmp_path: pathlib.Path,
) -> None:
    semaphore = portalocker.BoundedSemaphore(1, 'x', directory=tmp_path)
    place = semaphore.acquire()
    assert place is not None
    assert place.fh is not None
    place.fh.close()
    semaphore.release()
    with semaphore:
        pass


@needs_linux
def test_system_sweeps_nothing_that_somebody_holds(
    tmp_path: pathlib.Path,
) -> None:
    sweeper = shutil.which('systemd-tmpfiles')
    if sweeper is None:
        pytest.skip('needs systemd-tmpfiles')
    place = tmp_path / 'place'
    place.mkdir()
    (tmp_path / 'sweep.conf').write_text(f'e {place} - - - 0\n')
    (place / 'old').touch()
    for name in ('old directory', 'pinned'):
        (place / name).mkdir()
        (place / name / 'file').touch()
    with (
        _alive(lambda: _hold_semaphore(place)),
        _alive(lambda: _hold_temporary(place)),
        _alive(lambda: _hold_directory(place)),
        portalocker_tempfile.pin(place / 'pinned'),
    ):
        subprocess.run(
            [sweeper, '--clean', str(tmp_path / 'sweep.conf')], check=True
        )
        left = _names(place)
        assert not {'old', 'old directory'} & set(left)
        assert _names(place / 'pinned') == ['file']
        assert {'x.00.lock', 'x.lock'} <= set(left)
        assert any(name.startswith('portalocker-') for name in left)
        with pytest.raises(portalocker.AlreadyLocked):
            portalocker.BoundedSemaphore(1, 'x', directory=place).acquire(0)


# -- the command -----------------------------------------------------------


def test_command_prints_what_it_removes(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / DRAFT).touch()
    words = ['reap', str(tmp_path), '--prefix', '.port']
    main([*words, '--dry-run'])
    assert (tmp_path / DRAFT).exists()
    main([*words, '--min-age', '1h'])
    assert (tmp_path / DRAFT).exists()
    main(words)
    assert _names(tmp_path) == []
    main(words)
    told = capsys.readouterr()
    assert told.out == f'{tmp_path / DRAFT}\n' * 2
    assert told.err == ''


def test_command_fails_where_it_cannot_look(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / DRAFT).touch()
    with pytest.raises(SystemExit) as caught:
        main(['reap', str(tmp_path / 'none'), str(tmp_path)])
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert 'none' in told.err
    assert DRAFT in told.out


@pytest.mark.parametrize('age', ['x', '5y', 'm', '-1', 'nan', ''])
def test_command_refuses_an_age_that_is_none(
    tmp_path: pathlib.Path, age: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(['reap', str(tmp_path), f'--min-age={age}'])
    assert caught.value.code == 2
