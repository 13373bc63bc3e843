"""`PidFileLock`: a lock whose file names its holder."""

from __future__ import annotations

import gc
import os
import pathlib
import signal
import sys
import threading
from typing import Any

import children
import pytest
from states import is_locked

import portalocker
from portalocker import Holder, LockFlags, _owner, _pid_record
from portalocker.exceptions import AlreadyLocked

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)


SHORT, LONG = 0.05, 30.0  # seconds; LONG is reached by a failure only
HOLD = """
import sys
import portalocker
lock = portalocker.PidFileLock(sys.argv[1])
lock.acquire()
print('in', flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'daemon.pid'


@pytest.fixture
def sidecar(path: pathlib.Path) -> pathlib.Path:
    return path.with_name('daemon.pid.lock')


@pytest.fixture
def nobody_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that does not tell who holds a lock."""
    monkeypatch.setattr(_owner, 'holders_of', lambda *args, **kwargs: ())


def test_it_is_a_temporary_file_lock(path: pathlib.Path) -> None:
    lock = portalocker.PidFileLock(path)
    assert isinstance(lock, portalocker.TemporaryFileLock)
    assert lock.filename == str(path)
    assert lock.fail_when_locked is True
    assert lock.flags == LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING


def test_a_try_that_succeeds_is_a_hold(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    lock = portalocker.PidFileLock(path)
    assert lock.try_acquire()
    assert lock.fh is not None
    assert lock.fh.name == str(sidecar)
    assert lock.read_pid() == os.getpid()
    assert lock.acquire() is lock.fh
    lock.release()
    assert lock.fh is None
    assert not path.exists()


def test_the_pid_is_in_the_file_and_the_lock_beside_it(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    lock = portalocker.PidFileLock(path)
    fh = lock.acquire()
    assert fh.name == str(sidecar)
    assert lock.fh is fh
    assert path.read_bytes() == str(os.getpid()).encode('ascii')
    assert is_locked(sidecar)
    assert not is_locked(path)
    assert lock.read_pid() == os.getpid()
    assert sorted(os.listdir(path.parent)) == [path.name, sidecar.name]
    lock.release()
    assert lock.fh is None
    assert os.listdir(path.parent) == []
    lock.release()


def test_a_block_gets_none_where_it_holds_the_lock(
    path: pathlib.Path,
) -> None:
    lock = portalocker.PidFileLock(path)
    for _ in range(2):
        with lock as other_pid:
            assert other_pid is None
            assert lock.read_pid() == os.getpid()
        assert os.listdir(path.parent) == []


def test_a_block_gets_the_holders_pid_where_it_does_not(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    with children.program(HOLD, path) as child:
        has_run = False
        with portalocker.PidFileLock(path) as other_pid:
            has_run = True
            assert other_pid == child.pid
        assert has_run
        assert portalocker.PidFileLock(path).read_pid() == child.pid
        assert is_locked(sidecar)
        child.communicate()
    assert os.listdir(path.parent) == []


def test_a_block_of_another_object_in_this_process_does_not_own_it(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    with portalocker.PidFileLock(path):
        with portalocker.PidFileLock(path) as other_pid:
            assert other_pid == os.getpid()
        assert path.exists()
        assert is_locked(sidecar)


def test_acquire_raises_and_names_the_holder(path: pathlib.Path) -> None:
    with children.program(HOLD, path) as child:
        for lock, waits in (
            (portalocker.PidFileLock(path, timeout=LONG), False),
            (
                portalocker.PidFileLock(
                    path, timeout=SHORT, fail_when_locked=False
                ),
                True,
            ),
        ):
            with pytest.raises(AlreadyLocked) as caught:
                lock.acquire()
            assert caught.value.filename == str(path)
            assert caught.value.holder is not None
            assert caught.value.holder.pid == child.pid
            assert (caught.value.waited is not None) is waits
            assert not lock.try_acquire()
        child.communicate()


@pytest.mark.usefixtures('nobody_known')
def test_where_the_system_does_not_tell_the_record_does(
    path: pathlib.Path,
) -> None:
    with children.program(HOLD, path) as child:
        with pytest.raises(AlreadyLocked) as caught:
            portalocker.PidFileLock(path).acquire()
        assert caught.value.holder == Holder(child.pid, recorded=True)
        assert 'as recorded' in str(caught.value)
        with portalocker.PidFileLock(path) as other_pid:
            assert other_pid == child.pid
        child.communicate()


@pytest.mark.usefixtures('nobody_known')
@pytest.mark.parametrize('text', [None, '', 'garbage', '-1', '0'])
def test_a_block_does_not_run_where_nobody_can_be_named(
    text: str | None, path: pathlib.Path
) -> None:
    with portalocker.PidFileLock(path):
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        has_run = False
        lock = portalocker.PidFileLock(path)
        assert lock.read_pid() is None
        with pytest.raises(AlreadyLocked), lock:
            has_run = True
        assert not has_run


def test_fail_closed_never_runs_its_block_unlocked(
    path: pathlib.Path,
) -> None:
    lock = portalocker.PidFileLock(path)
    with lock.fail_closed() as entered:
        assert entered is lock
        assert lock.read_pid() == os.getpid()
        with lock:
            pass
        assert path.exists()
        has_run = False
        with (
            pytest.raises(AlreadyLocked) as caught,
            portalocker.PidFileLock(path).fail_closed(),
        ):
            has_run = True
        assert not has_run
        assert caught.value.holder is not None
        assert caught.value.holder.pid == os.getpid()
    assert os.listdir(path.parent) == []


def test_the_release_of_a_bystander_removes_nothing(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    with children.program(HOLD, path) as child:
        bystander = portalocker.PidFileLock(path)
        bystander.release()
        with bystander:
            pass
        bystander.release()
        del bystander
        gc.collect()
        assert path.read_text() == str(child.pid)
        assert is_locked(sidecar)
        child.communicate()


def test_after_a_kill_the_record_is_stale_until_the_next_acquire(
    path: pathlib.Path,
) -> None:
    with children.program(HOLD, path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
    lock = portalocker.PidFileLock(path)
    assert lock.read_pid() == child.pid
    with lock as other_pid:
        assert other_pid is None
        assert lock.read_pid() == os.getpid()
    assert os.listdir(path.parent) == []


def test_the_end_of_the_process_removes_both_files(
    path: pathlib.Path,
) -> None:
    with children.program(HOLD, path) as child:
        assert path.exists()
        child.communicate()
    assert os.listdir(path.parent) == []


def test_an_abandoned_lock_removes_both_files(path: pathlib.Path) -> None:
    def abandon() -> None:
        portalocker.PidFileLock(path).acquire()
        gc.collect()

    with pytest.warns(ResourceWarning):
        abandon()
    assert os.listdir(path.parent) == []


def test_a_waiter_gets_in_with_its_own_pid(path: pathlib.Path) -> None:
    with children.program(HOLD, path) as child:
        lock = portalocker.PidFileLock(
            path, timeout=LONG, fail_when_locked=False
        )
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        child.communicate()
        thread.join(LONG)
    assert lock.read_pid() == os.getpid()
    lock.release()


def test_a_pid_that_cannot_be_written_gives_the_lock_back(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    path.mkdir()
    lock = portalocker.PidFileLock(path)
    for attempt in (lock.acquire, lock.try_acquire):
        with pytest.raises(IsADirectoryError):
            attempt()
        assert lock.fh is None
        assert not sidecar.exists() or not is_locked(sidecar)


def test_the_record_is_written_once_a_hold(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    real = _pid_record.write_pid

    def write_pid(name: str, pid: int) -> None:
        written.append(pid)
        real(name, pid)

    monkeypatch.setattr(_pid_record, 'write_pid', write_pid)
    lock = portalocker.PidFileLock(path)
    with lock:
        lock.acquire()
        assert lock.try_acquire()
    assert lock.try_acquire()
    lock.release()
    assert written == [os.getpid()] * 2


def test_a_shared_pid_file_is_refused(path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match='share'):
        portalocker.PidFileLock(
            path, flags=LockFlags.SHARED | LockFlags.NON_BLOCKING
        )


def test_blocking_flags_wait(path: pathlib.Path) -> None:
    with children.program(HOLD, path) as child:
        lock = portalocker.PidFileLock(
            path, None, fail_when_locked=False, flags=LockFlags.EXCLUSIVE
        )
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        child.communicate()
        thread.join(LONG)
    assert lock.fh is not None
    lock.release()


def test_planted_links_are_not_followed(
    path: pathlib.Path, sidecar: pathlib.Path
) -> None:
    victim = path.with_name('victim')
    victim.write_text('precious')
    path.symlink_to(victim)
    with portalocker.PidFileLock(path) as other_pid:
        assert other_pid is None
    assert victim.read_text() == 'precious'
    sidecar.symlink_to(victim)
    with pytest.raises(OSError, match='symbolic link'):
        portalocker.PidFileLock(path).acquire()
    assert victim.read_text() == 'precious'


def test_a_subclass_may_hook_the_opening_of_the_sidecar(
    path: pathlib.Path,
    sidecar: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    real = portalocker.Lock._get_fh

    def _get_fh(self: Any) -> Any:
        fh = real(self)
        opened.append(fh.name)
        return fh

    monkeypatch.setattr(portalocker.utils.Lock, '_get_fh', _get_fh)
    with portalocker.PidFileLock(path):
        pass
    assert opened == [str(sidecar)]


def test_the_longest_name_that_leaves_room_for_the_sidecar(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / ('p' * 250)
    with portalocker.PidFileLock(path) as other_pid:
        assert other_pid is None
        assert path.read_text() == str(os.getpid())
    assert os.listdir(tmp_path) == []
