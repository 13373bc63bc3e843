"""ReadWriteLock: its two sides, and the way from one to the other."""

from __future__ import annotations

import contextlib
import copy
import fcntl
import io
import os
import pathlib
import pickle
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import become_nobody, in_child

from portalocker import _acquisition, _owner, portalocker, read_write
from portalocker.exceptions import (
    AlreadyActive,
    AlreadyLocked,
    LockException,
    LockLost,
)
from portalocker.read_write import ReadWriteLock

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

LONG = 15.0
SHORT = 0.05


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file.lock'


@pytest.fixture
def lock(path: pathlib.Path) -> ReadWriteLock:
    return ReadWriteLock(path, timeout=LONG)


def is_free(path: pathlib.Path, kind: int) -> bool:
    """Whether a program that knows flock alone could come in."""
    with open(path, 'a', encoding='ascii') as fh:
        try:
            fcntl.flock(fh, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def may_read(path: pathlib.Path) -> bool:
    return is_free(path, fcntl.LOCK_SH)


def may_write(path: pathlib.Path) -> bool:
    return is_free(path, fcntl.LOCK_EX)


class Waiter:
    """A thread that takes a side, waits inside until told, and leaves."""

    def __init__(self, side: Any) -> None:
        self._side = side
        self._outcome: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._side:
                self._outcome.put('in')
                assert self._leave.wait(LONG)
        except BaseException as failure:
            self._outcome.put(failure)

    def is_in(self) -> bool:
        outcome = self._outcome.get(timeout=LONG)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome == 'in'

    def finish(self) -> None:
        self._leave.set()
        self._thread.join(LONG)
        assert not self._thread.is_alive()


@pytest.fixture
def waiters() -> Iterator[Callable[[Any], Waiter]]:
    started: list[Waiter] = []

    def start(side: Any) -> Waiter:
        started.append(Waiter(side))
        return started[-1]

    yield start
    for waiter in started:
        waiter.finish()


def wait_for_line(path: pathlib.Path, length: int) -> None:
    while len(_owner.waiters_of(str(path))) != length:
        time.sleep(0.001)


linux_only = pytest.mark.skipif(
    sys.platform != 'linux', reason='waiters stand in line on Linux'
)


def test_sides_are_the_same_objects_each_time(lock: ReadWriteLock) -> None:
    assert lock.read() is lock.read()
    assert lock.write() is lock.write()


def test_readers_of_all_threads_are_inside_together(
    path: pathlib.Path,
    lock: ReadWriteLock,
    waiters: Callable[[Any], Waiter],
) -> None:
    with lock.read():
        others = [waiters(lock.read()), waiters(ReadWriteLock(path).read())]
        assert all(other.is_in() for other in others)
        assert not may_write(path)
        assert may_read(path)


def test_handle_is_the_lock_file(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    for side, other in (
        (lock.read(), lock.write()),
        (lock.write(), lock.read()),
    ):
        with side as fh:
            assert os.path.samestat(os.fstat(fh.fileno()), path.stat())
            assert side.fh is fh
            assert other.fh is None
        assert side.fh is None


def test_content_of_the_file_stays(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    path.write_bytes(b'precious')
    with lock.write():
        pass
    with lock.read():
        pass
    assert path.read_bytes() == b'precious'


def test_paths_and_options_reach_both_sides(path: pathlib.Path) -> None:
    lock = ReadWriteLock(path, 1, 2, True)
    assert lock.filename == str(path)
    for side in (lock.read(), lock.write()):
        assert side.filename == str(path)
        assert (side.timeout, side.check_interval) == (1, 2)
        assert side.fail_when_locked is True


@pytest.mark.parametrize(
    'copied',
    [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))],
)
def test_copy_is_a_lock_of_its_own(
    copied: Callable[[Any], Any], path: pathlib.Path
) -> None:
    lock = ReadWriteLock(path, 1, 2, True)
    with lock.write():
        other = copied(lock)
        assert not other.read().try_acquire()
        with pytest.raises(LockException, match='does not write'):
            other.downgrade()
        assert not copied(lock.read()).try_acquire()
    assert other.filename == str(path)
    assert (other.read().timeout, other.write().check_interval) == (1, 2)
    with other.read(), pytest.raises(AlreadyActive):
        other.write().acquire()


# -- one thread on both sides


@pytest.mark.parametrize('verb', ['acquire', 'try_acquire', '__enter__'])
def test_upgrade_is_refused_at_once_and_says_why(
    verb: str, path: pathlib.Path, lock: ReadWriteLock
) -> None:
    with lock.read():
        with pytest.raises(AlreadyActive, match='this thread reads') as caught:
            getattr(lock.write(), verb)()
        assert str(path) in str(caught.value)
        assert caught.value.filename == str(path)
        assert may_read(path)
        assert not may_write(path)
    assert may_write(path)
    with lock.write():
        pass


@pytest.mark.parametrize('verb', ['acquire', 'try_acquire', '__enter__'])
def test_reading_while_writing_is_refused_and_says_what_to_do(
    verb: str, path: pathlib.Path, lock: ReadWriteLock
) -> None:
    with lock.write():
        with pytest.raises(AlreadyActive, match=r'downgrade\(\)'):
            getattr(lock.read(), verb)()
        assert not may_read(path)
    assert may_write(path)


def test_other_threads_are_not_refused_but_wait(
    lock: ReadWriteLock, waiters: Callable[[Any], Waiter]
) -> None:
    lock.read().acquire()
    writer = waiters(lock.write())
    lock.read().release()
    assert writer.is_in()


def test_side_whose_handle_was_closed_refuses_nothing(
    lock: ReadWriteLock,
) -> None:
    lock.read().acquire().close()
    with lock.write():
        pass
    lock.read().release()


# -- downgrade


def test_downgrade_lets_readers_in_and_writers_not(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    with lock.write() as fh:
        lock.downgrade()
        assert lock.write().fh is None
        assert lock.read().fh is fh
        assert may_read(path)
        assert not may_write(path)
    assert lock.read().fh is None
    assert may_write(path)


@pytest.mark.parametrize('side', ['read', 'write'])
def test_either_side_lets_go_of_what_was_downgraded(
    side: str, path: pathlib.Path, lock: ReadWriteLock
) -> None:
    lock.write().acquire()
    lock.downgrade()
    getattr(lock, side)().release()
    assert may_write(path)
    lock.write().release()
    lock.read().release()
    with lock.write():
        assert not may_read(path)


def test_thread_that_downgraded_is_a_reader(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    with lock.write() as fh:
        lock.downgrade()
        assert lock.read().acquire() is fh
        with lock.read() as again:
            assert again is fh
        assert not may_write(path)
        with pytest.raises(AlreadyActive):
            lock.write().acquire()
    assert may_write(path)


def test_end_of_the_block_leaves_a_later_hold_alone(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    with lock.write():
        lock.downgrade()
        lock.read().release()
        lock.read().acquire()
    assert not may_write(path)
    lock.read().release()
    assert may_write(path)


@pytest.mark.parametrize('hold', ['nothing', 'read'])
def test_downgrade_of_what_is_not_written_is_refused(
    hold: str, path: pathlib.Path, lock: ReadWriteLock
) -> None:
    if hold == 'read':
        lock.read().acquire()
    with pytest.raises(LockException, match='does not write it'):
        lock.downgrade()
    lock.read().release()
    assert may_write(path) or not path.exists()


def test_downgrade_by_another_thread_is_refused(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    refused: list[BaseException] = []

    def body() -> None:
        try:
            lock.downgrade()
        except LockException as failure:
            refused.append(failure)

    with lock.write():
        thread = threading.Thread(target=body)
        thread.start()
        thread.join(LONG)
        assert not may_read(path)
    assert refused


def test_gap_that_the_system_made_is_told_and_nothing_held(
    path: pathlib.Path, lock: ReadWriteLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fh: Any, flags: Any) -> None:
        fcntl.flock(fh, fcntl.LOCK_UN)
        raise AlreadyLocked(BlockingIOError())

    lock.write().acquire()
    with monkeypatch.context() as patch:
        patch.setattr(portalocker, 'lock', refuse)
        with pytest.raises(LockLost, match='released'):
            lock.downgrade()
    assert lock.write().fh is None
    assert lock.read().fh is None
    assert may_write(path)


def test_failure_of_the_system_keeps_the_lock(
    path: pathlib.Path, lock: ReadWriteLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fh: Any, flags: Any) -> None:
        raise LockException('odd')

    with lock.write():
        with monkeypatch.context() as patch:
            patch.setattr(portalocker, 'lock', fail)
            with pytest.raises(LockException, match='odd'):
                lock.downgrade()
        assert not may_read(path)
    assert may_write(path)


def test_windows_stacks_and_unlocks_once(
    lock: ReadWriteLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(portalocker, 'lock', lambda *_: calls.append('lock'))
        patch.setattr(portalocker, 'unlock', lambda _: calls.append('unlock'))
        patch.setattr(os, 'name', 'nt')
        read_write._share(io.StringIO())
    assert calls == ['lock', 'unlock']


@linux_only
@pytest.mark.parametrize('had_waited', [False, True])
def test_readers_that_wait_come_in_at_the_downgrade(
    had_waited: bool, path: pathlib.Path, waiters: Callable[[Any], Waiter]
) -> None:
    # Nothing but a wake-up lets them in before the test fails
    options = {'timeout': 10 * LONG, 'check_interval': 2 * LONG}
    lock = ReadWriteLock(path, **options)
    before = waiters(ReadWriteLock(path).read()) if had_waited else None
    if before is not None:
        assert before.is_in()
        ending = threading.Thread(
            target=lambda: (wait_for_line(path, 1), before.finish())
        )
        ending.start()
    with lock.write():
        readers = [
            waiters(ReadWriteLock(path, **options).read()) for _ in range(3)
        ]
        wait_for_line(path, 3)
        lock.downgrade()
        assert all(reader.is_in() for reader in readers)
    if before is not None:
        ending.join(LONG)


@linux_only
def test_writer_that_waits_does_not_come_in_at_the_downgrade(
    path: pathlib.Path,
    lock: ReadWriteLock,
    waiters: Callable[[Any], Waiter],
) -> None:
    with lock.write():
        writer = waiters(ReadWriteLock(path, timeout=LONG).write())
        wait_for_line(path, 1)
        lock.downgrade()
        assert not may_write(path)
    assert writer.is_in()


DOWNGRADES = 20_000


def test_nobody_writes_between_writing_and_reading(
    path: pathlib.Path, lock: ReadWriteLock
) -> None:
    """A process that tries all the time never gets into a gap."""
    path.touch()
    start, done = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(done[1])
        os.set_blocking(done[0], False)
        fd = os.open(path, os.O_RDWR)
        os.read(start[0], 1)  # it is held by now
        entered = 0
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                entered = 1
                break
            with contextlib.suppress(BlockingIOError):
                os.read(done[0], 1)
                break
        os._exit(entered)
    lock.write().acquire()
    os.write(start[1], b'x')
    fh: Any = lock.write().fh
    for _ in range(DOWNGRADES):
        lock.downgrade()
        # Back again while nobody else shares it: atomic as well
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock._writer._holdings.update(lock._reader._holdings)
        lock._reader._holdings.clear()
    os.close(done[1])
    status = os.waitpid(pid, 0)[1]
    for fd in (*start, done[0]):
        os.close(fd)
    lock.write().release()
    assert os.waitstatus_to_exitcode(status) == 0


# -- writers first


def test_reader_that_tries_is_refused_while_a_writer_waits(
    path: pathlib.Path,
    lock: ReadWriteLock,
    waiters: Callable[[Any], Waiter],
) -> None:
    if sys.platform != 'linux':
        pytest.skip('waiters stand in line on Linux')
    other = ReadWriteLock(path, timeout=LONG)
    lock.read().acquire()
    assert other.read().try_acquire()
    other.read().release()
    writer = waiters(other.write())
    wait_for_line(path, 1)
    newcomer = ReadWriteLock(path).read()
    assert not newcomer.try_acquire()
    for options in (
        {'timeout': 0},
        {'timeout': SHORT},
        {'fail_when_locked': True},
    ):
        with pytest.raises(AlreadyLocked):
            newcomer.acquire(**options)  # type: ignore[arg-type]
    # Who is inside already stays inside
    assert lock.read().try_acquire()
    lock.read().release()
    assert writer.is_in()


@linux_only
def test_reader_that_tries_is_not_refused_for_readers_that_wait(
    path: pathlib.Path,
    lock: ReadWriteLock,
    waiters: Callable[[Any], Waiter],
) -> None:
    lock.write().acquire()
    reader = waiters(ReadWriteLock(path, timeout=LONG).read())
    wait_for_line(path, 1)
    fd = os.open(path, os.O_RDWR)
    opened = os.fstat(fd)
    assert not _acquisition.writer_waits(fd, opened)
    os.close(fd)
    lock.write().release()
    assert reader.is_in()


@pytest.fixture
def open_directory() -> Iterator[pathlib.Path]:
    """A directory that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.mark.parametrize(
    ('mode', 'is_enough'), [(0o444, True), (0o222, False)]
)
def test_lock_needs_no_more_than_a_file_it_may_read(
    mode: int, is_enough: bool, open_directory: pathlib.Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip('the child becomes nobody')
    path = open_directory / 'lock'
    path.touch()
    path.chmod(mode)
    lock = ReadWriteLock(path)

    def enter() -> None:
        lock.read().acquire()
        lock.read().release()
        lock.write().acquire()

    def be_refused() -> None:
        with pytest.raises(PermissionError):
            enter()

    in_child(enter if is_enough else be_refused, become_nobody)
