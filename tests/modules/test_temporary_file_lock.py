"""`TemporaryFileLock`: a file that is there while somebody holds it."""

from __future__ import annotations

import errno
import gc
import logging
import multiprocessing
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
from portalocker import LockFlags, _removal
from portalocker import portalocker as module
from portalocker.exceptions import AlreadyLocked, LockException, LockLost

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)


SHORT, LONG = 0.05, 30.0  # seconds; LONG is reached by a failure only
SHARED = LockFlags.SHARED | LockFlags.NON_BLOCKING
# argv: path; holds until its input ends, or ends as the next word says
HOLD = """
import os, signal, sys
import portalocker
lock = portalocker.TemporaryFileLock(sys.argv[1])
fh = lock.acquire()
print('in', flush=True)
how = sys.stdin.readline().strip()
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'app.lock'


def test_it_is_a_lock_with_fixed_modes(path: pathlib.Path) -> None:
    lock = portalocker.TemporaryFileLock(path)
    assert isinstance(lock, portalocker.Lock)
    assert lock.fail_when_locked is True
    assert lock.truncate is True
    assert lock.filename == str(path)


def test_what_could_not_be_removed_later_is_not_held(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    lock = portalocker.TemporaryFileLock(path)
    with monkeypatch.context() as patch:
        patch.setattr(_removal, 'Remains', interrupt)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    assert lock.fh is None
    assert not path.exists()


def test_the_file_is_there_exactly_while_it_is_held(
    path: pathlib.Path,
) -> None:
    lock = portalocker.TemporaryFileLock(path)
    assert not path.exists()
    for _ in range(2):
        with lock as fh:
            assert is_locked(path)
            fh.write('content')
        assert not path.exists()
        assert fh.closed
    lock.release()
    assert not path.exists()


def test_the_file_is_unlinked_while_it_is_still_locked(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = portalocker.TemporaryFileLock(path)
    lock.acquire()
    there_when_unlocked: list[bool] = []
    real = module.unlock

    def unlock(file: Any) -> None:
        there_when_unlocked.append(path.exists())
        real(file)

    monkeypatch.setattr(module, 'unlock', unlock)
    lock.release()
    assert there_when_unlocked == [False]


def test_contention_fails_at_once_by_default(path: pathlib.Path) -> None:
    with portalocker.TemporaryFileLock(path):
        other = portalocker.TemporaryFileLock(path, timeout=LONG)
        with pytest.raises(AlreadyLocked) as caught:
            other.acquire()
        assert caught.value.filename == str(path)
        assert caught.value.waited is None
        with pytest.raises(AlreadyLocked):
            other.acquire(SHORT, fail_when_locked=False)
        assert not other.try_acquire()
        assert path.exists()


def test_the_release_of_a_bystander_unlinks_nothing(
    path: pathlib.Path,
) -> None:
    bystander = portalocker.TemporaryFileLock(path)
    with portalocker.TemporaryFileLock(path):
        bystander.release()
        with pytest.raises(AlreadyLocked):
            bystander.acquire()
        bystander.release()
        del bystander
        gc.collect()
        assert is_locked(path)


def test_a_file_that_was_there_before_is_used_and_removed(
    path: pathlib.Path,
) -> None:
    path.write_text('left behind')
    with portalocker.TemporaryFileLock(path) as fh:
        assert path.read_text() == ''
        assert os.path.samestat(os.fstat(fh.fileno()), os.stat(path))
    assert not path.exists()


def test_a_loser_truncates_nothing(path: pathlib.Path) -> None:
    with portalocker.TemporaryFileLock(path) as fh:
        fh.write('mine')
        fh.flush()
        with pytest.raises(AlreadyLocked):
            portalocker.TemporaryFileLock(path).acquire()
        assert path.read_text() == 'mine'


def test_acquire_while_held_changes_nothing(path: pathlib.Path) -> None:
    lock = portalocker.TemporaryFileLock(path)
    with lock as fh:
        assert lock.acquire() is fh
    assert not path.exists()


@pytest.mark.parametrize('is_replaced', [False, True])
def test_a_holder_whose_file_is_gone_is_told_and_leaves_the_new_one_alone(
    is_replaced: bool,
    path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lock = portalocker.TemporaryFileLock(path)
    lock.acquire()
    path.unlink()
    if is_replaced:
        path.write_text('foreign')
    with pytest.raises(LockException, match=r'compromised.*unlink') as caught:
        lock.acquire()
    assert isinstance(caught.value, LockLost)
    with caplog.at_level(logging.WARNING, 'portalocker.utils'):
        lock.release()
    if is_replaced:
        assert 'not unlinking' in caplog.text
        assert path.read_text() == 'foreign'
    else:
        assert not path.exists()
    assert lock.fh is None


def test_waiters_hold_the_file_at_the_path_and_never_together(
    path: pathlib.Path,
) -> None:
    inside: list[int] = []
    most_inside = 0
    failures: list[BaseException] = []

    def contend(n: int) -> None:
        nonlocal most_inside
        try:
            for _ in range(15):
                with portalocker.TemporaryFileLock(
                    path, LONG, fail_when_locked=False
                ) as fh:
                    inside.append(n)
                    most_inside = max(most_inside, len(inside))
                    assert os.path.samestat(
                        os.fstat(fh.fileno()), os.stat(path)
                    )
                    inside.remove(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=contend, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert failures == []
    assert most_inside == 1
    assert not path.exists()


def test_the_last_shared_holder_removes_the_file(path: pathlib.Path) -> None:
    first = portalocker.TemporaryFileLock(path, flags=SHARED)
    second = portalocker.TemporaryFileLock(path, flags=SHARED)
    # 'w' means a descriptor for writing only, which flock does not mind
    first.acquire()
    second.acquire()
    first.release()
    assert path.exists()
    with pytest.raises(AlreadyLocked):
        portalocker.TemporaryFileLock(path).acquire()
    second.release()
    assert not path.exists()


# what must not be followed, truncated or removed


@pytest.mark.parametrize('exists', [True, False])
def test_a_planted_link_is_refused(exists: bool, path: pathlib.Path) -> None:
    victim = path.with_name('victim')
    if exists:
        victim.write_text('precious')
    path.symlink_to(victim)
    lock = portalocker.TemporaryFileLock(path)
    with pytest.raises(OSError, match='symbolic link'):
        lock.acquire()
    assert victim.exists() is exists
    assert not exists or victim.read_text() == 'precious'
    assert path.is_symlink()


def test_a_file_with_another_name_is_not_emptied(
    path: pathlib.Path,
) -> None:
    victim = path.with_name('victim')
    victim.write_text('precious')
    os.link(victim, path)
    with portalocker.TemporaryFileLock(path):
        pass
    assert victim.read_text() == 'precious'
    assert not path.exists()


def test_a_planted_fifo_does_not_block(path: pathlib.Path) -> None:
    os.mkfifo(path)
    with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
        portalocker.TemporaryFileLock(path, timeout=LONG).acquire()


def test_a_directory_that_forbids_unlinking_is_logged(
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def forbid(name: str) -> None:
        raise PermissionError('no')

    lock = portalocker.TemporaryFileLock(path)
    lock.acquire()
    with (
        monkeypatch.context() as patch,
        caplog.at_level(logging.WARNING, 'portalocker.utils'),
    ):
        patch.setattr(os, 'unlink', forbid)
        lock.release()
    assert 'unlink' in caplog.text
    assert lock.fh is None
    assert not is_locked(path)


# how it ends without a release


def test_an_abandoned_lock_is_removed(path: pathlib.Path) -> None:
    def abandon() -> None:
        portalocker.TemporaryFileLock(path).acquire()
        gc.collect()

    with pytest.warns(ResourceWarning):
        abandon()
    assert not path.exists()


def test_a_handle_that_outlives_the_lock_keeps_the_file(
    path: pathlib.Path,
) -> None:
    handles = [portalocker.TemporaryFileLock(path).acquire()]
    gc.collect()
    assert is_locked(path)
    with pytest.warns(ResourceWarning):
        handles.clear()
    gc.collect()
    assert not path.exists()


def test_a_body_that_closes_the_handle_leaves_no_file(
    path: pathlib.Path,
) -> None:
    lock = portalocker.TemporaryFileLock(path)
    with lock as fh:
        fh.close()
    assert not path.exists()
    with lock:
        assert is_locked(path)
    assert not path.exists()


@pytest.mark.parametrize(
    'action',
    [
        '',
        'sys.exit(3)',
        'raise SystemExit',
        'fh.close()',
        'del lock, fh',
        'del lock',
    ],
)
def test_the_end_of_the_process_removes_the_file(
    action: str, path: pathlib.Path
) -> None:
    with children.program(HOLD + action, path) as child:
        assert path.exists()
        child.communicate('\n')
    assert not path.exists()


def test_a_killed_process_leaves_a_file_that_the_next_one_uses(
    path: pathlib.Path,
) -> None:
    with children.program(HOLD, path) as child:
        with pytest.raises(AlreadyLocked) as caught:
            portalocker.TemporaryFileLock(path).acquire()
        if sys.platform == 'linux':
            assert caught.value.holder is not None
            assert caught.value.holder.pid == child.pid
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert path.exists()
    with portalocker.TemporaryFileLock(path):
        assert is_locked(path)
    assert not path.exists()


def test_a_forked_child_that_ends_leaves_its_parents_file(
    path: pathlib.Path,
) -> None:
    action = """
pid = os.fork()
if not pid:
    sys.exit()  # with all exit handlers
os.waitpid(pid, 0)
print(os.path.exists(sys.argv[1]), flush=True)
sys.stdin.read()
"""
    with children.program(HOLD + action, path) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdin.write('\n')
        child.stdin.flush()
        assert child.stdout.readline() == 'True\n'
        assert is_locked(path)
        child.communicate()
    assert not path.exists()


def hold_and_end(path: str) -> None:
    portalocker.TemporaryFileLock(path).acquire()


def hold_abandon_and_end(path: str) -> None:
    lock = portalocker.TemporaryFileLock(path)
    lock.acquire()
    globals()['kept'] = lock


@pytest.mark.parametrize('target', [hold_and_end, hold_abandon_and_end])
@pytest.mark.parametrize('after_use_in_parent', [False, True])
def test_a_forked_worker_that_ends_removes_its_own_file(
    target: Any, after_use_in_parent: bool, path: pathlib.Path
) -> None:
    if after_use_in_parent:
        with portalocker.TemporaryFileLock(path):
            pass
    context = multiprocessing.get_context('fork')
    worker = context.Process(target=target, args=(str(path),))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    assert not path.exists()


def test_what_is_left_is_removed_at_exit_whatever_fails(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = path.with_name('other')
    first = portalocker.TemporaryFileLock(path)
    second = portalocker.TemporaryFileLock(other)
    first.acquire()
    second.acquire()
    real = os.unlink

    def unlink(name: str) -> None:
        if name == str(path):
            raise PermissionError('no')
        real(name)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'unlink', unlink)
        _removal._remove_all_remains()
    assert path.exists()
    assert not other.exists()
    first.release()
    second.release()
