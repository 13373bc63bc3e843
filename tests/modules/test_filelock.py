"""FileLock: what programs written for `filelock` rely on, and what is ours."""

from __future__ import annotations

import asyncio
import copy
import errno
import itertools
import logging
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from children import in_child

import portalocker
from portalocker import (
    _filelock_waiting,
    _hold,
    exceptions,
    filelock,
    wait_counters,
)
from portalocker.filelock import (
    AcquireReturnProxy,
    BaseFileLock,
    Cancelled,
    Deadlock,
    FileLock,
    SoftFileLock,
    Timeout,
)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / 'the.lock')


@pytest.fixture
def held_elsewhere(path: str):
    """The lock is held by another thread until this event is set."""
    is_held, is_enough = threading.Event(), threading.Event()

    def body() -> None:
        with FileLock(path):
            is_held.set()
            is_enough.wait()

    thread = threading.Thread(target=body)
    thread.start()
    is_held.wait()
    yield is_enough
    is_enough.set()
    thread.join()


@pytest.fixture(autouse=True)
def _nothing_stays_held():
    yield
    assert not _hold.held


def test_block_holds_and_lets_go(path) -> None:
    lock = FileLock(path)
    assert isinstance(lock, BaseFileLock)
    with lock as entered:
        assert entered is lock
        assert lock.is_locked
        assert not FileLock(path).try_acquire()
    assert not lock.is_locked
    assert os.path.exists(path)


def test_acquire_gives_a_proxy_that_releases_once(path) -> None:
    lock = FileLock(path)
    with lock.acquire() as entered:
        assert entered is lock
        assert lock.lock_counter == 1
        assert type(lock.acquire()) is AcquireReturnProxy
    assert lock.lock_counter == 1
    lock.release()
    assert lock.lock_counter == 0


def test_levels_are_counted_and_force_undoes_all(path) -> None:
    lock = FileLock(path)
    with lock, lock:
        assert lock.lock_counter == 2
        lock.release(force=True)
        assert not lock.is_locked
        assert FileLock(path).try_acquire()
    lock.release()


def test_timeout_says_what_it_was_about(path) -> None:
    with FileLock(path), pytest.raises(Timeout) as caught:
        FileLock(path).acquire(timeout=0.01)
    failure = caught.value
    assert isinstance(failure, TimeoutError)
    assert isinstance(failure, exceptions.AlreadyLocked)
    assert failure.lock_file == path
    assert failure.args == ()
    assert failure.errno is None
    assert repr(failure) == f'Timeout({path!r})'
    assert str(failure).startswith(
        f"The file lock '{path}' could not be acquired."
    )
    again = pickle.loads(pickle.dumps(failure))
    assert str(again) == str(failure)
    assert again.holder == failure.holder


def test_one_thread_that_waits_for_itself_is_told(path) -> None:
    with FileLock(path), pytest.raises(RuntimeError, match='Deadlock: lock'):
        FileLock(path).acquire()


def test_circle_of_threads_is_found_and_told(tmp_path) -> None:
    first, second = (str(tmp_path / name) for name in 'ab')
    holds = threading.Event()
    told: list[Deadlock] = []

    def enter(path: str) -> None:
        try:
            with FileLock(path):
                pass
        except Deadlock as failure:
            told.append(failure)

    def body() -> None:
        with FileLock(second):
            holds.set()
            enter(first)

    thread = threading.Thread(target=body, name='the other')
    with FileLock(first):
        thread.start()
        holds.wait()
        enter(second)
    thread.join()
    assert len(told) == 1
    assert len(told[0].circle) == 2
    assert "thread 'the other' waits for" in str(told[0])


def test_tasks_of_one_thread_exclude_each_other(path) -> None:
    lock = FileLock(path)

    async def other() -> None:
        assert not lock.is_locked
        lock.release()
        with pytest.raises(Timeout):
            lock.acquire(blocking=False)
        with pytest.raises(Deadlock):
            lock.acquire()

    async def main() -> None:
        with lock:
            await asyncio.create_task(other())
            assert lock.lock_counter == 1

    asyncio.run(main())


def test_cancel_check_ends_the_wait(path, held_elsewhere, caplog) -> None:
    caplog.set_level('DEBUG', logger='filelock')
    with pytest.raises(Cancelled):
        FileLock(path).acquire(cancel_check=lambda: True)
    assert 'Cancellation requested' in caplog.text
    assert (
        'not acquired' not in caplog.text
    )  # it is asked before the first pause
    for timeout in (None, 0):
        with pytest.raises(ZeroDivisionError):
            FileLock(path).acquire(timeout, cancel_check=lambda: 1 / 0)
    with pytest.raises(Cancelled):
        FileLock(path).acquire(0, cancel_check=lambda: True)
    with pytest.raises(Timeout):  # it is not asked where nobody waits
        FileLock(path).acquire(blocking=False, cancel_check=lambda: 1 / 0)
    held_elsewhere.set()
    lock = FileLock(path)
    lock.acquire()
    lock.acquire(cancel_check=lambda: 1 / 0)
    lock.release(force=True)


def test_thread_that_waits_for_itself_is_told_also_if_it_may_be_cancelled(
    path,
) -> None:
    with FileLock(path), pytest.raises(Deadlock):
        FileLock(path).acquire(cancel_check=lambda: False)


def test_circle_that_somebody_may_cancel_is_none(tmp_path) -> None:
    first, second = FileLock(tmp_path / '1'), FileLock(tmp_path / '2')
    asked = threading.Event()
    is_enough = threading.Event()
    failures = []

    def check() -> bool:
        asked.set()
        return is_enough.is_set()

    def body() -> None:
        with second:
            try:
                first.acquire(cancel_check=check)
            except Timeout as failure:
                failures.append(failure)

    with first:
        thread = threading.Thread(target=body)
        thread.start()
        asked.wait()
        is_enough.set()
        second.acquire()  # no Deadlock: the other one gives up
        second.release()
    thread.join()
    assert isinstance(failures[0], Cancelled)


@pytest.mark.parametrize(
    'copied',
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],
)
def test_copy_is_a_lock_of_its_own(path, copied) -> None:
    lock = FileLock(path, timeout=3)
    with lock:
        other = copied(lock)
        assert not other.is_locked
        assert other.timeout == 3
        assert not other.try_acquire()
    with other:
        assert not lock.is_locked


def test_decorated_function_runs_with_the_lock_held(path) -> None:
    lock = FileLock(path)

    @lock
    def body() -> int:
        return lock.lock_counter

    assert body() == 1
    assert not lock.is_locked


def test_decorated_generator_holds_while_it_runs(path) -> None:
    lock = FileLock(path)

    @lock
    def numbers():
        yield lock.lock_counter
        yield lock.lock_counter

    running = numbers()
    assert not lock.is_locked
    assert next(running) == 1
    assert not FileLock(path).try_acquire()
    assert list(running) == [1]
    assert not lock.is_locked


def test_decorated_coroutine_holds_while_it_runs(path) -> None:
    lock = FileLock(path)
    inside = []

    @lock
    async def body() -> None:
        assert not inside
        inside.append(1)
        with lock:  # again, by the task that holds it
            assert lock.lock_counter == 2
        await asyncio.sleep(0)
        assert not FileLock(path).try_acquire()
        inside.pop()

    @lock
    async def items():
        yield lock.lock_counter

    async def main() -> None:
        await asyncio.gather(*(body() for _ in range(5)))
        assert [item async for item in items()] == [1]

    asyncio.run(main())
    assert not lock.is_locked
    assert pickle.loads(pickle.dumps(lock)).lock_file == path


def test_coroutine_without_anyio_is_refused_in_words(path) -> None:
    program = (
        'import sys; sys.modules["anyio"] = None\n'
        'from portalocker.filelock import FileLock\n'
        'async def body(): pass\n'
        'FileLock(sys.argv[1])(body)'
    )
    done = subprocess.run(
        [sys.executable, '-c', program, path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert 'ModuleNotFoundError: cannot lock in an event loop' in done.stderr
    assert 'pip install "portalocker[aio]"' in done.stderr


def test_child_starts_released_and_parent_keeps_its_lock(path) -> None:
    lock = FileLock(path)

    def start_released() -> None:
        assert not lock.is_locked
        assert not lock.try_acquire()
        lock.release()

    with lock:
        in_child(start_released)
        assert not FileLock(path).try_acquire()


def test_refused_unlock_keeps_the_lock(path, monkeypatch) -> None:
    lock = FileLock(path)
    lock.acquire()

    def refuse(fd: int) -> None:
        raise exceptions.LockException('no') from OSError(5, 'refused')

    monkeypatch.setattr(lock, '_unlock', refuse)
    with pytest.raises(OSError, match='refused'):
        lock.release()
    assert lock.is_locked
    monkeypatch.undo()
    lock.release()
    assert FileLock(path).try_acquire()


def test_file_system_without_locks_is_told_and_the_class_stays(
    path, monkeypatch
) -> None:
    def no_locks(fd: int, flags: int) -> None:
        raise OSError(errno.ENOSYS, 'not implemented')

    monkeypatch.setattr(portalocker.portalocker, '_flock', no_locks)
    monkeypatch.setattr(portalocker.portalocker, 'LOCKER', no_locks)
    lock = FileLock(path)
    with pytest.raises(NotImplementedError, match='use SoftFileLock instead'):
        lock.acquire()
    assert type(lock) is FileLock
    assert not lock.is_locked


def test_on_acquired_that_raises_lets_go(path) -> None:
    calls = []

    def fail(fd: int) -> None:
        calls.append(os.fstat(fd))
        raise ZeroDivisionError

    lock = FileLock(path, on_acquired=fail)
    with pytest.raises(ZeroDivisionError):
        lock.acquire()
    assert len(calls) == 1
    assert not lock.is_locked
    assert FileLock(path).try_acquire()


def test_long_wait_is_told_once_with_the_holder(
    path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(_filelock_waiting, 'WARN_AFTER_SECONDS', 0.0)
    with FileLock(path), pytest.raises(Timeout):
        FileLock(path, poll_interval=0.01).acquire(timeout=0.1)
    told = [r for r in caplog.records if r.levelname == 'WARNING']
    assert len(told) == 1
    assert f'pid {os.getpid()}' in told[0].getMessage()


def test_log_has_the_lines_that_programs_look_for(path, caplog) -> None:
    caplog.set_level('DEBUG', logger='filelock')
    lock = FileLock(path)
    with lock, pytest.raises(Timeout):
        FileLock(path).acquire(timeout=0.01)
    with lock, pytest.raises(Timeout):
        FileLock(path).acquire(blocking=False)
    text = caplog.text
    for line in (
        f'Attempting to acquire lock {id(lock)} on {path}',
        f'Lock {id(lock)} acquired on {path}',
        f'not acquired on {path}, waiting 0.05 seconds ...',
        f'Attempting to release lock {id(lock)} on {path}',
        f'Lock {id(lock)} released on {path}',
        'Timeout on acquiring lock',
        'Failed to immediately acquire lock',
    ):
        assert line in text


def test_singletons_of_one_path_are_one_object(tmp_path, path) -> None:
    link = tmp_path / 'link'
    link.symlink_to(tmp_path)
    lock = FileLock(path, is_singleton=True)
    same = FileLock(str(link / 'the.lock'), is_singleton=True)
    assert same is lock
    assert pickle.loads(pickle.dumps(lock)) is lock
    with pytest.raises(ValueError, match=r'has -1\.0 but 3\.0'):
        FileLock(path, 3, is_singleton=True)
    assert FileLock(path) is not lock


@pytest.mark.parametrize(
    ('options', 'failure'),
    [
        ({'lifetime': 3}, TypeError),
        ({'fallback_to_soft': True}, TypeError),
        ({'nonsense': 1}, TypeError),
        ({'poll_interval': -1}, ValueError),
        ({'poll_interval': 'a'}, TypeError),
        ({'timeout': 'a'}, TypeError),
        ({'timeout': True}, TypeError),
        ({'timeout': float('nan')}, ValueError),
        ({'timeout': 10**400}, ValueError),
        ({'blocking': 1}, TypeError),
        ({'mode': 0o1777}, ValueError),
        ({'mode': 0o444}, ValueError),
        ({'mode': 'a'}, TypeError),
        ({'close_error_policy': 'x'}, ValueError),
        ({'context_error_policy': 'x'}, ValueError),
    ],
)
def test_bad_options_are_refused(path, options, failure) -> None:
    with pytest.raises(failure):
        FileLock(path, **options)


def test_options_are_told_as_they_were_given(path) -> None:
    lock = FileLock(path, close_error_policy='raise', on_acquired=print)
    assert lock.close_error_policy == 'raise'
    assert lock.context_error_policy == 'chain'
    assert lock.on_acquired is print
    assert lock.lifetime is None
    assert not lock.fallback_to_soft
    assert not lock.preserve_lock_file


def test_names_of_either_system_are_there_on_both(path) -> None:
    here, there = filelock.UnixFileLock, filelock.WindowsFileLock
    if os.name == 'nt':
        here, there = there, here
    assert here is FileLock
    assert issubclass(there, BaseFileLock)
    assert not issubclass(FileLock, there)
    with pytest.raises(NotImplementedError, match='another system'):
        there(path).acquire()
    with pytest.raises(NotImplementedError, match='derive from FileLock'):
        BaseFileLock(path).acquire()
    assert filelock.__version__ == portalocker.__version__
    with pytest.raises(AttributeError, match='nonsense'):
        filelock.nonsense  # noqa: B018


def test_failing_try_asks_for_no_holder(path, monkeypatch) -> None:
    def asked(*about: object) -> None:
        raise AssertionError

    monkeypatch.setattr(portalocker._owner, 'holders_of', asked)
    with FileLock(path):
        assert not FileLock(path).try_acquire()


def test_explicit_mode_is_that_of_a_file_that_is_made(path) -> None:
    with FileLock(path, mode=0o666):
        assert os.stat(path).st_mode & 0o777 == 0o666
    with FileLock(path, mode=0o600):
        assert os.stat(path).st_mode & 0o777 == 0o666


def test_missing_parents_are_made(tmp_path) -> None:
    with FileLock(tmp_path / 'a' / 'b' / 'lock'):
        assert (tmp_path / 'a' / 'b' / 'lock').exists()


def test_relative_path_is_where_it_was_when_it_was_taken(
    tmp_path, monkeypatch
) -> None:
    for name in ('one', 'two'):
        (tmp_path / name).mkdir()
    lock = FileLock('lock')
    for name in ('one', 'two'):
        monkeypatch.chdir(tmp_path / name)
        with lock:
            monkeypatch.chdir(tmp_path)
            assert not FileLock(tmp_path / name / 'lock').try_acquire()


@pytest.mark.parametrize('kind', [FileLock, SoftFileLock])
def test_who_holds_a_relative_path_keeps_out_those_who_moved(
    tmp_path, monkeypatch, kind
) -> None:
    there, elsewhere = tmp_path / 'there', tmp_path / 'elsewhere'
    there.mkdir()
    elsewhere.mkdir()
    lock = kind('lock')
    monkeypatch.chdir(there)
    taken = []
    with lock:
        monkeypatch.chdir(elsewhere)
        thread = threading.Thread(
            target=lambda: taken.append(lock.try_acquire())
        )
        thread.start()
        thread.join()
        assert not kind(there / 'lock').try_acquire()
    assert taken == [False]
    assert kind(there / 'lock').try_acquire()
    with lock:
        assert (elsewhere / 'lock').exists()


def test_settings_are_those_of_each_thread(path) -> None:
    lock = FileLock(path, timeout=3)
    lock.timeout = 5
    seen = []
    thread = threading.Thread(target=lambda: seen.append(lock.timeout))
    thread.start()
    thread.join()
    assert (lock.timeout, seen) == (5, [3])


def test_lock_of_all_threads_lets_one_in_and_anybody_release(path) -> None:
    lock = FileLock(path, thread_local=False, blocking=False)
    lock.acquire()
    refused = []

    def body() -> None:
        try:
            lock.acquire()
        except Timeout:
            refused.append(True)
        lock.release()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert refused == [True]
    assert not lock.is_locked


def test_two_who_release_at_once_close_one_descriptor(path, caplog) -> None:
    lock = FileLock(path, thread_local=False)
    strangers: list[int] = []

    def let_another_be_faster(record: logging.LogRecord) -> bool:
        if 'to release' in record.msg and not strangers:
            strangers.append(-1)
            thread = threading.Thread(target=lock.release)
            thread.start()
            thread.join()
            # It has the number that was ours
            strangers[0] = os.open(os.devnull, os.O_RDONLY)
        return True

    logger = logging.getLogger('filelock')
    with caplog.at_level(logging.DEBUG, 'filelock'):
        lock.acquire()
        number = lock._hold.fd
        logger.addFilter(let_another_be_faster)
        try:
            lock.release()
        finally:
            logger.removeFilter(let_another_be_faster)
    assert strangers == [number]
    os.close(strangers[0])  # nobody else did
    assert FileLock(path).try_acquire()


def test_force_lets_go_what_an_ended_thread_left(path) -> None:
    lock = FileLock(path)
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    assert not lock.is_locked
    lock.release()
    assert not FileLock(path).try_acquire()
    lock.release(force=True)
    assert FileLock(path).try_acquire()


def test_holder_that_had_waited_tells_since_when(path) -> None:
    first, second = FileLock(path), FileLock(path)
    waits = threading.Event()
    enough = threading.Event()

    def body() -> None:
        with second:
            enough.wait()

    usual = second._attempts

    def attempts(*about):
        waits.set()
        return usual(*about)

    second._attempts = attempts
    thread = threading.Thread(target=body)
    before = time.time()
    with first:
        thread.start()
        waits.wait()
    while not _hold.held:
        pass
    with pytest.raises(Timeout) as caught:
        first.acquire(timeout=0.2)
    enough.set()
    thread.join()
    holder = caught.value.holder
    assert holder.pid == os.getpid()
    assert before - 1 < holder.since <= time.time()


class Unheard(Exception):
    """What a handler of the log raises."""


class RaisingHandler(logging.Handler):
    """Raises at the n-th line that it is to write, and at no other."""

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.left = nth

    def emit(self, record: logging.LogRecord) -> None:
        self.left -= 1
        if self.left == -1:
            raise Unheard(record.getMessage())


def in_passing(path: str, lock: Any) -> None:
    with lock:
        pass


def refused(path: str, lock: Any) -> None:
    with type(lock)(path), pytest.raises(Timeout):
        lock.acquire(timeout=0.01)


def cancelled(path: str, lock: Any) -> None:
    with type(lock)(path), pytest.raises(Cancelled):
        lock.acquire(timeout=60, cancel_check=lambda: True)


def warned(path: str, lock: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_filelock_waiting, 'WARN_AFTER_SECONDS', 0)
        refused(path, lock)


@pytest.mark.parametrize('kind', [FileLock, SoftFileLock])
@pytest.mark.parametrize(
    'act', [in_passing, refused, cancelled, warned], ids=lambda a: a.__name__
)
@pytest.mark.parametrize('is_counted', [False, True])
def test_log_handler_that_raises_leaves_nothing_held(
    path, kind, act, is_counted
) -> None:
    logger = logging.getLogger('filelock')
    usual = logger.level
    logger.setLevel('DEBUG')
    if is_counted:
        wait_counters.enable()
    try:
        for nth in itertools.count():
            handler = RaisingHandler(nth)
            logger.addHandler(handler)
            lock = kind(path)
            try:
                act(path, lock)
                assert handler.left >= 0
                break
            except Unheard:
                pass
            finally:
                logger.removeHandler(handler)
            assert not lock.is_locked
            assert not _hold.held
            assert kind(path).try_acquire()
            assert not active_waits()
        assert nth > 3
    finally:
        logger.setLevel(usual)
        wait_counters.disable()


def active_waits() -> dict[str, int]:
    return {
        name: waits.active
        for name, waits in wait_counters.snapshot().items()
        if waits.active
    }


# -- SoftFileLock


def test_soft_lock_is_held_by_who_made_the_file(path) -> None:
    lock = SoftFileLock(path)
    with lock, lock:
        assert lock.pid == os.getpid()
        assert lock.is_lock_held_by_us
        assert lock.lock_counter == 2
        with pytest.raises(Timeout, match=f'pid {os.getpid()}'):
            SoftFileLock(path).acquire(blocking=False)
        with pytest.raises(Timeout):
            SoftFileLock(path).acquire(timeout=0.02)
        with pytest.raises(Deadlock):
            SoftFileLock(path).acquire()
    assert not os.path.exists(path)
    assert os.listdir(os.path.dirname(path)) == []


def test_soft_lock_lets_one_thread_in_at_a_time(path) -> None:
    inside = []
    failures = []

    def body() -> None:
        for _ in range(20):
            with SoftFileLock(path):
                inside.append(1)
                if len(inside) > 1:
                    failures.append(True)
                inside.pop()

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_soft_lock_of_a_dead_process_is_taken_over_by_one(path) -> None:
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            dying = SoftFileLock(path)
            dying.acquire()
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.path.exists(path)
        locks = [SoftFileLock(path) for _ in range(4)]
        barrier = threading.Barrier(len(locks))
        taken = []

        def take(lock, barrier=barrier, taken=taken) -> None:
            barrier.wait()
            if lock.try_acquire():
                taken.append(lock)

        threads = [threading.Thread(target=take, args=[x]) for x in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) <= 1
        for lock in taken:
            lock.release(force=True)
        with SoftFileLock(path):
            pass


def test_soft_lock_of_elsewhere_stays_until_it_is_broken(path) -> None:
    pathlib.Path(path).write_text('1\nanother host\ntoken\n', 'ascii')
    lock = SoftFileLock(path)
    assert not lock.try_acquire()
    assert lock.pid == 1
    lock.break_lock()
    with lock:
        pass


def test_soft_lock_that_was_broken_is_told_at_release(path) -> None:
    lock = SoftFileLock(path)
    lock.acquire()
    lock.break_lock()
    with pytest.raises(exceptions.LockLost):
        lock.release()
    assert not lock.is_locked


def test_soft_lock_that_cannot_be_removed_is_still_held(
    path, monkeypatch
) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    lock = SoftFileLock(path)
    lock.acquire()
    monkeypatch.setattr(os, 'unlink', refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)) as caught:
        lock.release()
    assert caught.value.filename == path
    assert lock.is_lock_held_by_us
    assert lock.lock_counter == 1
    monkeypatch.undo()
    lock.release()
    assert not os.path.exists(path)


def test_child_leaves_the_soft_lock_of_its_parent_alone(path) -> None:
    lock = SoftFileLock(path)

    def leave_alone() -> None:
        assert not lock.is_locked
        assert not lock.is_lock_held_by_us
        lock.release()
        assert not lock.try_acquire()

    with lock:
        in_child(leave_alone)
        assert os.path.exists(path)


@pytest.mark.parametrize('moment', ['before', 'after'])
def test_interrupted_release_leaves_no_soft_lock(
    path, monkeypatch, moment
) -> None:
    real = portalocker._soft_marker.remove

    def remove(*about: object) -> bool:
        monkeypatch.undo()
        if moment == 'after':
            real(*about)
        raise KeyboardInterrupt

    lock = SoftFileLock(path)
    lock.acquire()
    monkeypatch.setattr(portalocker._soft_marker, 'remove', remove)
    with pytest.raises(KeyboardInterrupt):
        lock.release()
    assert not lock.is_locked
    assert not os.path.exists(path)


HELD_AT_THE_END = """
import builtins, logging, sys
logging.basicConfig(level='DEBUG', filename=sys.argv[1] + '.log')
from portalocker import filelock, wait_counters
wait_counters.enable()
lock = getattr(filelock, sys.argv[2])(sys.argv[1])
lock.acquire()
"""


@pytest.mark.parametrize('name', ['FileLock', 'SoftFileLock'])
@pytest.mark.parametrize(
    'kept', ['', 'builtins.kept = lock', 'logging.kept = [lock]']
)
def test_end_of_a_process_lets_go_without_a_word(path, name, kept) -> None:
    done = subprocess.run(
        [sys.executable, '-c', HELD_AT_THE_END + kept, path, name],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ''
    with getattr(filelock, name)(path, timeout=0):
        pass
