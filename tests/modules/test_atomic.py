"""Whole files written at once, files changed in turn, directories swapped."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import portalocker
from portalocker import (
    _living_directory,
    _publication_renaming,
    _tree_removal,
    atomic,
    exceptions,
    reapers,
    utils,
)
from portalocker import tempfile as portalocker_tempfile

needs_posix = pytest.mark.skipif(os.name == 'nt', reason='forks, modes, links')
needs_linux = pytest.mark.skipif(sys.platform != 'linux', reason='Linux')

LONG = 60  # seconds; reached by a failure only
KILLS = 150 if os.environ.get('PORTALOCKER_STRESS') == '1' else 15


def _names(place: pathlib.Path) -> list[str]:
    return sorted(os.listdir(place))


# -- whole files at once ---------------------------------------------------


def test_names_of_the_face_are_those_of_the_room() -> None:
    assert portalocker.write_bytes_atomic is atomic.write_bytes_atomic
    assert portalocker.write_text_atomic is atomic.write_text_atomic
    assert portalocker.open_atomic is atomic.open_atomic


@pytest.mark.parametrize('size', [0, 1, 5_000, 3_000_000])
def test_bytes_are_written_whole(place: pathlib.Path, size: int) -> None:
    content = os.urandom(size)
    atomic.write_bytes_atomic(place / 'new', content)
    assert (place / 'new').read_bytes() == content
    atomic.write_bytes_atomic(place / 'new', memoryview(b'2'), overwrite=True)
    assert (place / 'new').read_bytes() == b'2'
    assert _names(place) == ['new']


def test_text_is_written_whole(place: pathlib.Path) -> None:
    atomic.write_text_atomic(
        place / 'new', 'caf\xe9\n', encoding='latin-1', newline='\r\n'
    )
    assert (place / 'new').read_bytes() == b'caf\xe9\r\n'


def test_file_that_exists_is_not_touched(place: pathlib.Path) -> None:
    (place / 'old').write_text('old')
    with pytest.raises(exceptions.DestinationExists):
        atomic.write_bytes_atomic(place / 'old', b'new')
    with pytest.raises(exceptions.DestinationExists):
        atomic.write_text_atomic(place / 'old', 'new')
    assert (place / 'old').read_text() == 'old'


@needs_posix
def test_options_are_those_of_open_atomic(place: pathlib.Path) -> None:
    atomic.write_bytes_atomic(place / 'a' / 'new', b'', mode=0o642)
    status = (place / 'a' / 'new').stat()
    assert stat.S_IMODE(status.st_mode) == 0o642
    with pytest.raises(ValueError, match='durable'):
        atomic.write_text_atomic(place / 'b', '', durable='no')


def test_what_cannot_be_written_leaves_nothing(place: pathlib.Path) -> None:
    with pytest.raises(TypeError):
        atomic.write_bytes_atomic(place / 'new', 'text')  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        atomic.write_text_atomic(place / 'new', '\xe9', encoding='ascii')
    assert _names(place) == []


# -- a file that is changed in turn ----------------------------------------


def _one_more(old: bytes) -> bytes:
    return b'%d' % (int(old) + 1)


def _fork(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


@needs_posix
def test_no_update_of_many_processes_is_lost(place: pathlib.Path) -> None:
    path = place / 'count'

    def count() -> None:
        for _ in range(25):
            atomic.update_atomic(
                path, _one_more, default=b'0', durable=False, timeout=LONG
            )

    children = [_fork(count) for _ in range(4)]
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    assert path.read_bytes() == b'100'
    assert _names(place) == ['count']


def test_no_update_of_many_threads_is_lost(place: pathlib.Path) -> None:
    path = place / 'count'
    failures: list[BaseException] = []

    def count() -> None:
        try:
            for _ in range(10):
                atomic.update_atomic(
                    path, _one_more, default=b'0', durable=False, timeout=LONG
                )
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not failures
    assert path.read_bytes() == b'40'


@needs_posix
def test_no_update_is_lost_with_record_locks(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To replace a file means to close it, which would let go of the lock."""
    import fcntl

    monkeypatch.setattr(portalocker.portalocker, 'LOCKER', fcntl.lockf)
    self = test_no_update_of_many_processes_is_lost
    with pytest.raises(AssertionError, match=r'count\.lock'):
        self(place)
    assert _names(place) == ['count', 'count.lock']
    assert (place / 'count').read_bytes() == b'100'


def test_text_is_changed_as_text(place: pathlib.Path) -> None:
    path = place / 'text'
    path.write_bytes(b'caf\xe9\r\n')
    written = atomic.update_atomic(
        path,
        lambda old: old + 'more\n',
        binary=False,
        encoding='latin-1',
        newline='',
    )
    assert written == 'caf\xe9\r\nmore\n'
    assert path.read_bytes() == b'caf\xe9\r\nmore\n'


def test_file_that_is_missing_needs_a_default(place: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic.update_atomic(place / 'none', bytes)
    assert _names(place) == []
    assert atomic.update_atomic(place / 'none', bytes, default=b'') == b''
    assert (place / 'none').read_bytes() == b''


def test_change_that_fails_leaves_the_file_and_the_lock(
    place: pathlib.Path,
) -> None:
    path = place / 'count'
    path.write_bytes(b'no number')
    with pytest.raises(ValueError, match='no number'):
        atomic.update_atomic(path, _one_more)
    assert path.read_bytes() == b'no number'
    atomic.update_atomic(path, lambda _: b'1', timeout=0)
    assert path.read_bytes() == b'1'


def test_who_does_not_want_to_wait_is_told(place: pathlib.Path) -> None:
    path = place / 'count'
    path.write_bytes(b'1')
    with (
        utils.Lock(path, 'r+b'),
        pytest.raises(portalocker.AlreadyLocked),
    ):
        atomic.update_atomic(path, _one_more, timeout=0)
    assert path.read_bytes() == b'1'


def test_default_timeout_is_read_when_it_is_called(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place / 'count'
    path.write_bytes(b'1')
    monkeypatch.setattr(utils, 'DEFAULT_TIMEOUT', 0)
    with (
        utils.Lock(path, 'r+b'),
        pytest.raises(portalocker.AlreadyLocked),
    ):
        atomic.update_atomic(path, _one_more)


def test_who_was_slower_in_making_the_file_changes_the_other_ones(
    place: pathlib.Path,
) -> None:
    path = place / 'count'
    seen: list[bytes] = []

    def change(old: bytes) -> bytes:
        if not seen:
            path.write_bytes(b'41')
        seen.append(old)
        return _one_more(old)

    assert atomic.update_atomic(path, change, default=b'0') == b'42'
    assert seen == [b'0', b'41']
    assert _names(place) == ['count']


def test_holder_of_a_lock_on_the_file_and_updates_exclude_each_other(
    place: pathlib.Path,
) -> None:
    """An update is what `Lock` and `open_atomic` do, and mixes with them."""
    path = place / 'count'
    path.write_bytes(b'1')
    before = path.stat().st_ino
    atomic.update_atomic(path, _one_more)
    if os.name != 'nt':
        assert path.stat().st_ino != before
    with utils.Lock(path, 'rb', timeout=0) as fh:
        assert fh.read() == b'2'


# -- directories -----------------------------------------------------------


def _tree(path: pathlib.Path, version: str) -> pathlib.Path:
    (path / 'below').mkdir(parents=True)
    (path / 'version').write_text(version)
    (path / 'below' / 'version').write_text(version)
    (path / 'below' / 'link').symlink_to('nowhere')
    return path


def _version(path: pathlib.Path) -> str:
    above = (path / 'version').read_text()
    assert (path / 'below' / 'version').read_text() == above
    return above


def _without_exchange(patch: pytest.MonkeyPatch) -> None:
    def exchange(*_: object) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    patch.setattr(_publication_renaming, 'exchange', exchange)


@pytest.fixture(params=['one step', 'with a gap'])
def options(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Both ways to change places."""
    if request.param == 'one step' and sys.platform in {'linux', 'darwin'}:
        return {}
    _without_exchange(monkeypatch)
    return {'allow_gap': True}


@needs_posix
class TestReplaceDirectory:
    def test_new_name_is_taken(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        new = _tree(place / 'new', '1')
        assert atomic.replace_directory(new, place / 'site', **options) is None
        assert _version(place / 'site') == '1'
        assert _names(place) == ['site']

    def test_old_one_is_replaced_and_removed(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        _tree(place / 'site', '1')
        (place / 'elsewhere').mkdir()
        new = _tree(place / 'elsewhere' / 'new', '2')
        assert atomic.replace_directory(new, place / 'site', **options) is None
        assert _version(place / 'site') == '2'
        assert _names(place / 'elsewhere') == []
        assert _names(place) == ['elsewhere', 'site']

    def test_link_is_replaced_itself(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        _tree(place / 'first', '1')
        (place / 'site').symlink_to('first')
        new = _tree(place / 'new', '2')
        atomic.replace_directory(new, place / 'site', **options)
        assert not (place / 'site').is_symlink()
        assert _version(place / 'site') == '2'
        assert _version(place / 'first') == '1'
        assert _names(place) == ['first', 'site']

    @pytest.mark.parametrize('kind', ['file', 'link', 'missing'])
    def test_only_a_directory_takes_a_place(
        self, place: pathlib.Path, kind: str, options: dict[str, Any]
    ) -> None:
        _tree(place / 'site', '1')
        if kind == 'file':
            (place / 'new').touch()
        elif kind == 'link':
            (place / 'new').symlink_to('site')
        with pytest.raises(OSError, match='new') as caught:
            atomic.replace_directory(place / 'new', place / 'site', **options)
        assert caught.value.errno in {errno.ENOTDIR, errno.ENOENT}
        assert _version(place / 'site') == '1'

    def test_file_keeps_its_place(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        (place / 'site').write_text('precious')
        new = _tree(place / 'new', '2')
        with pytest.raises(NotADirectoryError, match='site'):
            atomic.replace_directory(new, place / 'site', **options)
        assert (place / 'site').read_text() == 'precious'
        assert _version(new) == '2'

    def test_failure_leaves_both_as_they_were(
        self,
        place: pathlib.Path,
        options: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _tree(place / 'site', '1')
        new = _tree(place / 'new', '2')
        if not options:
            pytest.skip('there is nothing between the steps')
        real_rename = os.rename

        def rename(old: str, name: str, **fds: Any) -> None:
            if old == 'new':
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real_rename(old, name, **fds)

        monkeypatch.setattr(os, 'rename', rename)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            atomic.replace_directory(new, place / 'site', **options)
        assert _version(place / 'site') == '1'
        assert _version(new) == '2'
        assert _names(place) == ['new', 'site']

    def test_gap_must_be_allowed(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _without_exchange(monkeypatch)
        _tree(place / 'site', '1')
        new = _tree(place / 'new', '2')
        with pytest.raises(OSError, match='one step') as caught:
            atomic.replace_directory(new, place / 'site')
        assert caught.value.errno == errno.ENOTSUP
        assert caught.value.filename == str(place / 'site')
        assert _version(place / 'site') == '1'
        assert _version(new) == '2'

    def test_name_that_appears_meanwhile_is_replaced(
        self,
        place: pathlib.Path,
        options: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        new = _tree(place / 'new', '2')
        real = _publication_renaming.rename_to_new_name

        def rename(*args: Any) -> None:
            _tree(place / 'site', '1')
            real(*args)

        monkeypatch.setattr(
            _publication_renaming, 'rename_to_new_name', rename
        )
        atomic.replace_directory(new, place / 'site', **options)
        assert _version(place / 'site') == '2'
        assert _names(place) == ['site']

    def test_readers_find_one_version_or_the_other(
        self, place: pathlib.Path
    ) -> None:
        if sys.platform != 'linux':
            pytest.skip('Linux')
        _tree(place / 'site', '0')

        def replace() -> None:
            for version in range(200):
                new = _tree(place / 'new', str(version))
                atomic.replace_directory(new, place / 'site', durable=False)

        pid = _fork(replace)
        status = None
        while status is None:
            # through the descriptor of a version, all is of that version
            fd = os.open(place / 'site', os.O_RDONLY | os.O_DIRECTORY)
            os.close(fd)
            found, code = os.waitpid(pid, os.WNOHANG)
            status = code if found else None
        assert status == 0
        assert _version(place / 'site') == '199'

    def test_kill_leaves_a_whole_version(self, place: pathlib.Path) -> None:
        if sys.platform != 'linux':
            pytest.skip('Linux')
        _tree(place / 'site', '0')
        for kill in range(KILLS):
            reader, writer = os.pipe()

            def replace(kill: int = kill, writer: int = writer) -> None:
                number = 0
                while True:
                    number += 1
                    new = _tree(place / f'{kill}.{number}', f'{kill}.{number}')
                    atomic.replace_directory(
                        new, place / 'site', durable=False
                    )
                    if number == 1:
                        os.write(writer, b'.')

            pid = _fork(replace)
            assert os.read(reader, 1) == b'.'
            threading.Event().wait(kill % 10 / 1000)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reader)
            os.close(writer)
            assert _version(place / 'site').startswith(f'{kill}.')

    def test_old_one_that_somebody_holds_stays_until_then(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        _tree(place / 'site', '1')
        new = _tree(place / 'new', '2')
        fd = _living_directory.hold(place / 'site', shared=True)
        left = atomic.replace_directory(new, place / 'site', **options)
        assert left == str(new)
        assert _version(new) == '1'
        assert reapers.reap(place) == []
        os.close(fd)
        assert reapers.reap(place) == [left]
        assert _names(place) == ['site']

    def test_directory_under_a_lock_stays_once_it_is_published(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        with portalocker_tempfile.TemporaryDirectory(
            dir=place, lock=True
        ) as above:
            new = pathlib.Path(above, 'new')
            new.mkdir(0o1700)
            atomic.replace_directory(new, place / 'site', **options)
        assert reapers.reap(place) == []
        assert stat.S_IMODE((place / 'site').stat().st_mode) == 0o700
        assert _names(place) == ['site']

    def test_old_one_that_cannot_be_removed_is_told(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sys.platform != 'linux':
            pytest.skip('Linux')
        _tree(place / 'site', '1')
        new = _tree(place / 'new', '2')
        failure = OSError(errno.EIO, os.strerror(errno.EIO), 'version')
        monkeypatch.setattr(_tree_removal, 'remove_tree', lambda *_: [failure])
        with pytest.raises(OSError, match='version') as caught:
            atomic.replace_directory(new, place / 'site')
        assert any('all the same' in n for n in caught.value.__notes__)
        assert _version(place / 'site') == '2'

    def test_durable_says_what_is_synced(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sys.platform != 'linux':
            pytest.skip('Linux')
        synced: list[str] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            synced.append(os.path.basename(os.readlink(f'/proc/self/fd/{fd}')))
            real(fd)

        monkeypatch.setattr(os, 'fsync', fsync)
        atomic.replace_directory(
            _tree(place / 'a', '1'), place / 'site', durable=False
        )
        assert synced == []
        atomic.replace_directory(_tree(place / 'b', '2'), place / 'site')
        assert sorted(synced) == ['b', 'below', 'version', 'version']
        assert synced[-1] == 'b'
        synced.clear()
        atomic.replace_directory(
            _tree(place / 'c', '3'), place / 'site', durable='full'
        )
        assert synced[-2:] == [place.name] * 2

    @needs_linux
    def test_no_descriptor_is_left_open(
        self, place: pathlib.Path, options: dict[str, Any]
    ) -> None:
        fds = pathlib.Path('/proc/self/fd')
        before = _names(fds)
        for version in range(3):
            new = _tree(place / 'new', str(version))
            atomic.replace_directory(new, place / 'site', **options)
        with pytest.raises(FileNotFoundError):
            atomic.replace_directory(place / 'new', place / 'site')
        with pytest.raises(FileNotFoundError):
            atomic.replace_directory(place / 'site', place / 'no' / 'site')
        assert _names(fds) == before


# -- what makes no sense ---------------------------------------------------


@pytest.mark.parametrize(
    ('options', 'refusal'),
    [
        ({'durable': 'always'}, ValueError),
        ({'mode': -1}, ValueError),
        ({'encoding': 'utf-8'}, ValueError),
        ({'overwrite': True}, TypeError),
        ({'unknown': True}, TypeError),
    ],
)
def test_bad_option_is_refused_before_the_change_is_made(
    options: dict[str, Any], refusal: type[Exception], place: pathlib.Path
) -> None:
    def change(old: bytes) -> bytes:
        raise AssertionError('was called')

    (place / 'file').write_bytes(b'old')
    for name in ('file', 'missing'):
        with pytest.raises(refusal):
            atomic.update_atomic(place / name, change, default=b'', **options)
    assert _names(place) == ['file']


@pytest.mark.parametrize('name', ['', 'missing/', 'file/'])
def test_what_names_no_file_is_not_updated(
    name: str, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / 'file').write_bytes(b'old')
    with pytest.raises(OSError):  # noqa: PT011 - each system has its own
        atomic.update_atomic(name, lambda _: b'new', default=b'')
    assert _names(place) == ['file']
    assert (place / 'file').read_bytes() == b'old'


@pytest.mark.parametrize('allow_gap', [False, True])
@pytest.mark.parametrize(
    ('source', 'destination'),
    [
        ('old', 'old'),
        ('old', 'old/'),
        ('old', './old'),
        ('old', 'link/old'),
        ('link/old', 'old'),
        ('old', 'old/below'),
        ('old', 'old/missing'),
        ('old/below', 'old'),
        ('old/below', 'link/old'),
        ('.', 'old'),
        ('old', '.'),
    ],
)
def test_directory_is_not_replaced_by_itself_nor_by_what_is_in_it(
    source: str,
    destination: str,
    allow_gap: bool,
    place: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    (place / 'old' / 'below').mkdir(parents=True)
    (place / 'old' / 'below' / 'file').write_bytes(b'content')
    try:
        (place / 'link').symlink_to('.', target_is_directory=True)
    except OSError:
        pytest.skip('needs symbolic links')
    with pytest.raises(OSError, match='cannot replace a directory by') as info:
        atomic.replace_directory(source, destination, allow_gap=allow_gap)
    assert info.value.errno == errno.EINVAL
    assert (place / 'old' / 'below' / 'file').read_bytes() == b'content'
    assert _names(place) == ['link', 'old']


@pytest.mark.parametrize('name', ['', 'na\0me'])
@pytest.mark.parametrize('durable', ['file', 'always', True])
def test_what_is_no_name_replaces_nothing(
    name: str,
    durable: Any,
    place: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(place)
    (place / 'new').mkdir()
    for source, destination in (('new', name), (name, 'new')):
        with pytest.raises((ValueError, FileNotFoundError)):
            atomic.replace_directory(source, destination, durable=durable)
    assert _names(place) == ['new']
