"""What a forked child must forget."""

from __future__ import annotations

import errno
import gc
import os
import pathlib
import sys
import threading
from typing import Any

import pytest
from children import in_child
from states import is_locked

import portalocker
from portalocker import _after_fork, _wakeup, _wakeup_inotify
from portalocker.exceptions import AlreadyLocked, LockException

if sys.platform == 'win32':
    pytest.skip('Windows has no fork', allow_module_level=True)

import fcntl

LONG = 30.0  # seconds, reached by a failure only

LOCKS: list[Any] = [
    portalocker.Lock,
    portalocker.RLock,
    portalocker.TemporaryFileLock,
    portalocker.PidFileLock,
]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file.lock'


def locked_file(lock: Any, path: pathlib.Path) -> pathlib.Path:
    if isinstance(lock, portalocker.PidFileLock):
        return path.with_name(path.name + '.lock')
    return path


@pytest.mark.parametrize('kind', LOCKS)
def test_the_child_starts_released(kind: Any, path: pathlib.Path) -> None:
    lock = kind(path)
    lock.acquire()

    def task() -> None:
        assert lock.fh is None
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0)

    in_child(task)
    assert is_locked(locked_file(lock, path))
    lock.release()


@pytest.mark.parametrize('kind', LOCKS)
def test_what_the_child_releases_stays_locked_by_the_parent(
    kind: Any, path: pathlib.Path
) -> None:
    lock = kind(path)
    lock.acquire()

    def task() -> None:
        try:
            lock.release()
        except LockException:
            assert kind is portalocker.RLock
        lock.__exit__(None, None, None)
        lock.__del__()
        gc.collect()

    in_child(task)
    target = locked_file(lock, path)
    assert target.exists()
    assert is_locked(target)
    lock.release()


@pytest.mark.parametrize('kind', LOCKS)
def test_a_child_does_not_keep_what_its_parent_releases(
    kind: Any, path: pathlib.Path
) -> None:
    lock = kind(path)
    lock.acquire()
    parent_is_done, child_may_end = os.pipe()
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(ready_write, b'.')
        os.close(child_may_end)
        os.read(parent_is_done, 1)
        os._exit(0)
    os.read(ready_read, 1)
    if kind is portalocker.Lock:
        assert lock.fh is not None
        lock.fh.close()  # without LOCK_UN: only the description counts
    else:
        lock.release()
    is_free = not is_locked(locked_file(lock, path))
    for fd in (parent_is_done, child_may_end, ready_read, ready_write):
        os.close(fd)
    os.waitpid(pid, 0)
    assert is_free


@pytest.mark.parametrize('kind', LOCKS)
def test_the_child_can_use_the_object_as_its_own(
    kind: Any, path: pathlib.Path
) -> None:
    lock = kind(path)
    with lock:
        pass

    def task() -> None:
        with lock:
            assert is_locked(locked_file(lock, path))
        assert not is_locked(locked_file(lock, path))

    in_child(task)


@pytest.mark.parametrize('kind', LOCKS)
def test_a_child_may_leave_the_block_of_its_parent(
    kind: Any, path: pathlib.Path
) -> None:
    lock = kind(path)
    with lock:

        def task() -> None:
            lock.__exit__(None, None, None)

        in_child(task)
        assert is_locked(locked_file(lock, path))


def test_what_the_child_writes_through_the_parents_handle_fails(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path, 'wb', buffering=0)
    fh = lock.acquire()
    fh.write(b'mine')

    def task() -> None:
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            fh.write(b'harm')

    in_child(task)
    lock.release()
    assert path.read_bytes() == b'mine'


def test_buffered_text_of_the_parent_is_written_once(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path, 'w')
    lock.acquire().write('once')
    in_child(gc.collect)
    lock.release()
    assert path.read_text() == 'once'


def test_a_handle_that_outlived_its_lock_stays_the_parents(
    path: pathlib.Path,
) -> None:
    fh = portalocker.Lock(path).acquire()
    gc.collect()

    def task() -> None:
        fcntl.flock(fh, fcntl.LOCK_UN)

    in_child(task)
    assert is_locked(path)
    fh.close()


def test_a_semaphore_starts_released_in_the_child(
    tmp_path: pathlib.Path,
) -> None:
    semaphore = portalocker.BoundedSemaphore(
        1, 'jobs', directory=tmp_path, timeout=0
    )
    slot = semaphore.acquire()
    assert slot is not None

    def task() -> None:
        assert semaphore.lock is None
        semaphore.release()
        with pytest.raises(AlreadyLocked):
            semaphore.acquire()

    in_child(task)
    assert is_locked(semaphore.get_filename(0))
    semaphore.release()
    in_child(semaphore.acquire)


@pytest.mark.skipif(sys.platform != 'linux', reason='tickets, inotify')
def test_the_child_of_a_waiter_does_not_wait(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked = threading.Semaphore(0)
    real = _wakeup.Place.wait

    def wait(self: Any, seconds: float) -> None:
        parked.release()
        real(self, seconds)

    monkeypatch.setattr(_wakeup.Place, 'wait', wait)
    holder = portalocker.Lock(path)
    waiters = [
        portalocker.Lock(path, timeout=LONG, check_interval=3600)
        for _ in range(2)
    ]

    def come_and_go(lock: portalocker.Lock) -> None:
        with lock:
            pass

    holder.acquire()
    threads = [
        threading.Thread(target=come_and_go, args=(lock,)) for lock in waiters
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert parked.acquire(timeout=LONG)
    parent_is_done, child_may_end = os.pipe()
    pid = os.fork()
    if not pid:
        # It lives on while the parent's waiters get in one after the other
        os.close(child_may_end)
        has_instance = bool(_wakeup_inotify._instances)
        os.read(parent_is_done, 1)
        os._exit(int(has_instance))
    holder.release()
    for thread in threads:
        thread.join(LONG)
    is_free = not is_locked(path)
    alive = [thread for thread in threads if thread.is_alive()]
    os.close(child_may_end)
    _, status = os.waitpid(pid, 0)
    os.close(parent_is_done)
    assert not alive
    assert is_free
    assert os.waitstatus_to_exitcode(status) == 0


# the mechanism


class Thing:
    forgets = 0

    def _forget_parent(self) -> None:
        self.forgets += 1


def test_what_lives_is_told_in_every_child() -> None:
    thing = Thing()
    _after_fork.forget_in_child(thing)

    def task() -> None:
        assert thing.forgets == 1

        def grandchild() -> None:
            assert thing.forgets == 2

        in_child(grandchild)

    in_child(task)
    in_child(task)
    assert thing.forgets == 0


def test_what_is_gone_is_not_remembered() -> None:
    gc.collect()
    before = set(_after_fork._forgetful)
    things = [Thing() for _ in range(5)]
    for thing in things:
        _after_fork.forget_in_child(thing)
    added = set(_after_fork._forgetful) - before
    assert len(added) == 5
    del thing, things
    gc.collect()
    assert not added & set(_after_fork._forgetful)


def test_a_handle_is_not_remembered_longer_than_it_lives(
    path: pathlib.Path,
) -> None:
    gc.collect()
    known = len(_after_fork._orphans)
    fh = open(path, 'a')  # noqa: SIM115
    _after_fork.forget_handle_in_child(fh)
    assert len(_after_fork._orphans) == known + 1
    fh.close()
    del fh
    gc.collect()
    assert len(_after_fork._orphans) == known


def test_a_handle_that_cannot_be_referenced_weakly_is_left() -> None:
    known = len(_after_fork._orphans)
    _after_fork.forget_handle_in_child(7)
    assert len(_after_fork._orphans) == known


def test_a_parted_descriptor_is_another_open_file_of_the_same_file(
    path: pathlib.Path,
) -> None:
    path.write_text('content')
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    keeper = os.dup(fd)  # like the parent
    _after_fork.part_with(fd)
    with pytest.raises(BlockingIOError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.write(fd, b'harm')
    assert not os.get_inheritable(fd)
    assert _after_fork._parted.pop() == fd
    if sys.platform == 'linux':
        assert os.read(fd, 7) == b'content'
    os.close(fd)
    os.close(keeper)


def test_without_proc_a_parted_descriptor_leads_nowhere(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def no_proc(name: Any, *args: Any) -> int:
        if str(name).startswith('/proc'):
            raise FileNotFoundError(name)
        return real(name, *args)

    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'open', no_proc)
        _after_fork.part_with(fd)
    assert os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    _after_fork._parted.remove(fd)
    os.close(fd)


def test_a_closed_handle_is_left_alone(path: pathlib.Path) -> None:
    fh = open(path, 'a')  # noqa: SIM115
    fh.close()
    _after_fork.part_with(fh)
    assert fh not in _after_fork._parted


def test_where_no_descriptor_is_left_the_parents_is_taken(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    with monkeypatch.context() as patch:
        patch.setattr(_after_fork, '_reopen', refuse)
        _after_fork.part_with(fd)
    assert os.path.samestat(os.fstat(fd), os.stat(os.devnull))
    _after_fork._parted.remove(fd)
    os.close(fd)
