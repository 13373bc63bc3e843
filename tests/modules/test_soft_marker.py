"""A file that is the lock: who is dead, and who takes that place."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import pytest

from portalocker import _soft_marker
from portalocker.filelock import SoftFileLock, Timeout

pytestmark = pytest.mark.skipif(
    not hasattr(os, 'fork') or not os.path.exists('/proc/self/stat'),
    reason='nobody is provably dead here',
)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> Iterator[str]:
    yield str(tmp_path / 'lock')
    left = {entry.name for entry in tmp_path.iterdir()} - {'lock'}
    assert not left, 'what is made beside is removed'


@pytest.fixture
def of_the_dead(path: str) -> Callable[[], None]:
    """A process takes the lock and is killed."""

    def made() -> None:
        pid = os.fork()
        if pid == 0:
            dying = SoftFileLock(path)
            dying.acquire()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        assert os.path.exists(path)

    return made


def rewrite(path: str, line: int, text: str) -> None:
    """Change one line of a marker."""
    marker = pathlib.Path(path)
    lines = marker.read_text('utf-8').splitlines()
    lines[line] = text
    marker.write_text('\n'.join(lines) + '\n', 'utf-8')


def test_place_of_the_dead_is_taken(path, of_the_dead) -> None:
    of_the_dead()
    with SoftFileLock(path, timeout=0) as lock:
        assert lock.pid == os.getpid()


def test_number_that_passed_to_another_process_is_seen(
    path, of_the_dead
) -> None:
    of_the_dead()
    rewrite(path, 0, str(os.getpid()))  # which lives, but was born later
    with SoftFileLock(path, timeout=0):
        pass


def test_process_that_we_may_not_look_at_lives(path, monkeypatch) -> None:
    birth_of = _soft_marker.birth_of
    with SoftFileLock(path):
        monkeypatch.setattr(
            _soft_marker,
            'birth_of',
            lambda pid: '' if pid == os.getpid() else birth_of(pid),
        )
        marker = _soft_marker.read(path)
        assert marker is not None
        assert not marker.is_of_the_dead()


def test_nobody_is_dead_by_the_proc_of_another_namespace(
    path, of_the_dead, monkeypatch
) -> None:
    of_the_dead()
    readlink = os.readlink

    def elsewhere(link: str) -> str:
        return '1' if link == '/proc/self' else readlink(link)

    monkeypatch.setattr(os, 'readlink', elsewhere)
    assert not SoftFileLock(path).try_acquire()


@pytest.mark.parametrize('line', [1, 3])
def test_dead_of_another_place_are_not_provably_dead(
    path, of_the_dead, line
) -> None:
    of_the_dead()
    rewrite(path, line, 'elsewhere 1')
    assert not SoftFileLock(path).try_acquire()


def test_record_that_is_cut_short_proves_nothing(path, of_the_dead) -> None:
    of_the_dead()
    whole = pathlib.Path(path).read_bytes()
    for length in range(len(whole)):
        pathlib.Path(path).write_bytes(whole[:length])
        assert not SoftFileLock(path).try_acquire()


def test_breaker_that_was_overtaken_breaks_nothing(
    path, of_the_dead, monkeypatch
) -> None:
    of_the_dead()
    faster, slower = SoftFileLock(path), SoftFileLock(path)
    read = _soft_marker.read
    seen = []

    def read_and_be_overtaken(where: str) -> _soft_marker.Marker | None:
        marker = read(where)
        if not seen:
            seen.append(marker)
            assert faster.try_acquire()
        return marker

    monkeypatch.setattr(_soft_marker, 'read', read_and_be_overtaken)
    assert not slower.try_acquire()
    monkeypatch.undo()
    assert seen[0].is_of_the_dead()
    assert faster.is_lock_held_by_us
    faster.release()


def test_place_of_a_breaker_that_died_is_taken(
    path, of_the_dead, monkeypatch
) -> None:
    def die(*about: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    of_the_dead()
    monkeypatch.setattr(os, 'replace', die)
    for _ in range(3):  # each dies with the claim of the one before
        pid = os.fork()
        if pid == 0:
            SoftFileLock(path).try_acquire()
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    monkeypatch.undo()
    with SoftFileLock(path, timeout=0):
        assert not SoftFileLock(path).try_acquire()
    directory = pathlib.Path(path).parent
    for left in directory.iterdir():  # what the dead wrote beside
        assert left.name.count('.') in (1, 3), left
        left.unlink()


def test_lock_with_the_longest_name_is_inherited(path, of_the_dead) -> None:
    path += 'x' * (222 - len(os.path.basename(path)))
    pid = os.fork()
    if pid == 0:
        SoftFileLock(path).acquire()
        os._exit(0)
    os.waitpid(pid, 0)
    with SoftFileLock(path, timeout=0):
        pass


def test_token_that_leads_elsewhere_names_nothing(path, of_the_dead) -> None:
    of_the_dead()
    rewrite(path, 2, 'x/../elsewhere')
    assert not SoftFileLock(path).try_acquire()


def test_file_system_without_links_will_do(
    path, of_the_dead, monkeypatch
) -> None:
    def refuse(*about: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, 'link', refuse)
    for _ in range(2):
        with SoftFileLock(path):
            assert not SoftFileLock(path).try_acquire()
        assert not os.path.exists(path)
        of_the_dead()


def test_disk_that_is_full_leaves_nothing(path, monkeypatch) -> None:
    def refuse(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, 'write', refuse)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        SoftFileLock(path).acquire()
    monkeypatch.undo()
    assert not os.path.exists(path)


@pytest.mark.parametrize('call', ['link', 'unlink', 'open', 'close'])
def test_interrupt_after_any_call_leaves_nothing(
    path, monkeypatch, call
) -> None:
    usual = getattr(os, call)
    rung = []

    def interrupted(*about, **options):
        result = usual(*about, **options)
        if not rung:
            rung.append(True)
            if call == 'open':
                os.close(result)
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(os, call, interrupted)
    with pytest.raises(KeyboardInterrupt):
        SoftFileLock(path).acquire()
    monkeypatch.undo()
    assert rung
    assert not os.path.exists(path)
    for left in os.listdir(os.path.dirname(path)):
        assert call == 'open'  # which nobody was told the result of
        os.unlink(os.path.join(os.path.dirname(path), left))


def test_planted_link_or_pipe_is_somebody_elses(path, tmp_path) -> None:
    os.symlink('nowhere', path)
    with pytest.raises(Timeout):
        SoftFileLock(path).acquire(blocking=False)
    os.unlink(path)
    os.mkfifo(path)
    with pytest.raises(Timeout):  # and does not wait for a writer
        SoftFileLock(path).acquire(blocking=False)
    os.unlink(path)


def test_marker_that_is_hidden_from_us_is_somebody_elses(
    path, monkeypatch
) -> None:
    def refuse(*about: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with SoftFileLock(path):
        monkeypatch.setattr(_soft_marker, '_look', refuse)
        with pytest.raises(Timeout) as caught:
            SoftFileLock(path).acquire(timeout=0)
        assert caught.value.holder is None
        monkeypatch.undo()


def test_directory_that_cannot_be_written_is_told(path, monkeypatch) -> None:
    usual = os.open

    def refuse(name, flags, *mode):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return usual(name, flags, *mode)

    monkeypatch.setattr(os, 'open', refuse)
    with pytest.raises(PermissionError):
        SoftFileLock(path).acquire()
