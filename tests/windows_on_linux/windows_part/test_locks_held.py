"""What the package builds on the lockers, on Windows."""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import pathlib
import threading
import time

import pytest
import windows_holder_process as holders

from portalocker import exceptions, utils
from portalocker import portalocker as engine
from portalocker.constants import LockFlags

NB = LockFlags.NON_BLOCKING
# waits that a test lets run out, and waits that only a failure runs out
SHORT, LONG = 0.05, 60

CLASSES = ['Lock', 'RLock', 'TemporaryFileLock', 'PidFileLock']


@pytest.fixture
def lock_path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'a.lock'


@pytest.fixture
def sleeps(monkeypatch) -> threading.Event:
    """Set once somebody waits for a lock."""
    begun = threading.Event()
    sleep = time.sleep

    def sleep_and_tell(seconds: float) -> None:
        begun.set()
        sleep(seconds)

    monkeypatch.setattr(time, 'sleep', sleep_and_tell)
    return begun


def waiting(class_name: str, path: pathlib.Path, **options):
    """A lock that waits as long as it must."""
    return holders.made(
        class_name,
        str(path),
        timeout=LONG,
        fail_when_locked=False,
        **options,
    )


def test_the_default_locker_is_msvcrt():
    assert engine.LOCKER is engine.MsvcrtLocker


@pytest.mark.parametrize('kind', [LockFlags.EXCLUSIVE, LockFlags.SHARED])
@pytest.mark.parametrize(
    'form', ['class', 'instance', 'pair', 'another class']
)
def test_every_form_of_locker_locks(form, kind, lock_path, monkeypatch):
    locker = engine.Win32Locker()
    forms = {
        'class': engine.MsvcrtLocker,
        'another class': engine.Win32Locker,
        'instance': locker,
        'pair': (locker.lock, locker.unlock),
    }
    monkeypatch.setattr(engine, 'LOCKER', forms[form])
    with open(lock_path, 'w+') as file, open(lock_path, 'r+') as other:
        engine.lock(file, kind | NB)
        with pytest.raises(exceptions.AlreadyLocked):
            engine.lock(other, LockFlags.EXCLUSIVE | NB)
        engine.unlock(file)
        engine.lock(other, LockFlags.EXCLUSIVE | NB)
    with (
        utils.Lock(lock_path, timeout=0),
        open(lock_path) as other,
        pytest.raises(exceptions.AlreadyLocked),
    ):
        engine.lock(other, LockFlags.SHARED | NB)


@pytest.mark.parametrize('bad', [lambda fd, flags: None, 'flock', None])
def test_no_other_form_of_locker_is_taken(bad, lock_path, monkeypatch):
    monkeypatch.setattr(engine, 'LOCKER', bad)
    with open(lock_path, 'w') as file:
        with pytest.raises(TypeError):
            engine.lock(file, LockFlags.EXCLUSIVE | NB)
        with pytest.raises(TypeError):
            engine.unlock(file)


def test_a_locker_class_is_made_once(lock_path, monkeypatch):
    made = []

    class Counted(engine.Win32Locker):
        def __init__(self) -> None:
            made.append(self)

    monkeypatch.setattr(engine, 'LOCKER', Counted)
    with open(lock_path, 'w') as file:
        for _ in range(3):
            engine.lock(file, LockFlags.EXCLUSIVE | NB)
            engine.unlock(file)
    assert len(made) == 1


def test_no_flock_on_windows():
    for name in ('FlockLocker', 'LockfLocker', 'PosixLocker'):
        assert not hasattr(engine, name)


@pytest.mark.parametrize('class_name', CLASSES)
def test_another_process_is_kept_out_until_release(class_name, lock_path):
    lock = holders.made(class_name, str(lock_path), timeout=0)
    lock.acquire()
    with holders.holding(class_name, lock_path, timeout=SHORT) as other:
        assert other.said() == 'refused'
        other.leave()
    lock.release()
    with holders.holding(class_name, lock_path, timeout=LONG) as other:
        assert other.said() == 'held'
        with pytest.raises(exceptions.AlreadyLocked):
            holders.made(class_name, str(lock_path), timeout=0).acquire()
        other.leave()


@pytest.mark.parametrize('end', ['leave', 'kill'])
@pytest.mark.parametrize('class_name', CLASSES)
def test_a_waiter_gets_in_when_the_holder_goes(
    class_name, end, lock_path, sleeps
):
    lock = waiting(class_name, lock_path)
    entered = threading.Event()

    def enter() -> None:
        lock.acquire()
        entered.set()
        lock.release()

    with holders.holding(class_name, lock_path) as holder:
        assert holder.said() == 'held'
        waiter = threading.Thread(target=enter)
        waiter.start()
        assert sleeps.wait(LONG)
        assert not entered.is_set()
        getattr(holder, end)()
        waiter.join(LONG)
    assert entered.is_set()


@pytest.mark.parametrize('class_name', CLASSES)
def test_the_timeout_ends_the_wait(class_name, lock_path):
    with holders.holding(class_name, lock_path) as holder:
        assert holder.said() == 'held'
        lock = holders.made(
            class_name,
            str(lock_path),
            timeout=SHORT,
            fail_when_locked=False,
        )
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            lock.acquire()
        assert 'a.lock' in str(caught.value)
        holder.leave()
        lock.acquire()
        lock.release()


def test_readers_hold_together_and_keep_a_writer_out(lock_path):
    lock_path.write_bytes(b'content')
    shared = int(LockFlags.SHARED | NB)
    with holders.holding('Lock', lock_path, mode='r', flags=shared) as reader:
        assert reader.said() == 'held'
        mine = utils.Lock(
            lock_path, 'r', timeout=0, flags=LockFlags.SHARED | NB
        )
        with mine as file:
            assert file.read() == 'content'
            with pytest.raises(exceptions.AlreadyLocked):
                utils.Lock(lock_path, timeout=0).acquire()
        reader.leave()
    with utils.Lock(lock_path, timeout=0):
        pass


def test_a_blocking_lock_waits_for_the_holder(lock_path, sleeps):
    lock = utils.Lock(lock_path, flags=LockFlags.EXCLUSIVE)
    entered = threading.Event()

    def enter() -> None:
        with lock:
            entered.set()

    with holders.holding('Lock', lock_path) as holder:
        assert holder.said() == 'held'
        waiter = threading.Thread(target=enter)
        waiter.start()
        assert sleeps.wait(LONG)
        assert not entered.is_set()
        holder.leave()
        waiter.join(LONG)
    assert entered.is_set()


def test_an_infinite_timeout_waits_for_the_holder(lock_path, sleeps):
    lock = utils.Lock(lock_path, timeout=math.inf)
    entered = threading.Event()

    def enter() -> None:
        with lock:
            entered.set()

    with holders.holding('Lock', lock_path) as holder:
        assert holder.said() == 'held'
        waiter = threading.Thread(target=enter)
        waiter.start()
        assert sleeps.wait(LONG)
        holder.leave()
        waiter.join(LONG)
    assert entered.is_set()


def test_threads_that_share_one_lock_exclude_each_other(lock_path):
    lock = waiting('Lock', lock_path, check_interval=0.01)
    inside: list[int] = []
    most_inside: list[int] = []

    def enter() -> None:
        for _ in range(5):
            with lock:
                inside.append(1)
                most_inside.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert most_inside == [1] * 20


def add_one(path: pathlib.Path) -> None:
    with utils.Lock(path, 'r+', timeout=LONG, check_interval=0.01) as fh:
        number = int(fh.read())
        fh.seek(0)
        fh.write(str(number + 1))


def test_no_update_of_several_processes_is_lost(tmp_path):
    counter = tmp_path / 'counter'
    counter.write_text('0')
    with multiprocessing.Pool(3) as pool:
        pool.map(add_one, [counter] * 60)
        pool.close()
        pool.join()
    assert counter.read_text() == '60'


def test_a_loser_does_not_truncate(lock_path):
    lock_path.write_bytes(b'content')
    with open(lock_path, 'r+b') as holder:
        engine.lock(holder, LockFlags.EXCLUSIVE | NB)
        with pytest.raises(exceptions.AlreadyLocked):
            utils.Lock(lock_path, 'w', timeout=0).acquire()
        assert lock_path.stat().st_size == 7
        engine.unlock(holder)
    with utils.Lock(lock_path, 'w', timeout=0) as file:
        assert lock_path.stat().st_size == 0
        file.write('xyz')
        file.seek(0)
        file.write('X')
    assert lock_path.read_bytes() == b'Xyz'


def test_text_and_bytes_are_opened_as_asked(lock_path):
    with utils.Lock(lock_path, 'w', newline='') as file:
        file.write('a\n')
    assert lock_path.read_bytes() == b'a\n'
    with utils.Lock(lock_path, 'ab') as file:
        file.write(b'b\n')
    assert lock_path.read_bytes() == b'a\nb\n'


def test_a_closed_handle_holds_nothing(lock_path):
    lock = utils.Lock(lock_path, timeout=0)
    lock.acquire().close()
    with utils.Lock(lock_path, timeout=0):
        pass
    assert not lock.acquire().closed
    lock.release()


def test_rlock_is_let_go_by_the_last_release(lock_path):
    lock = utils.RLock(lock_path, timeout=0)
    other = utils.RLock(lock_path, timeout=0)
    assert lock.acquire() is lock.acquire()
    lock.release()
    with pytest.raises(exceptions.AlreadyLocked):
        other.acquire()
    lock.release()
    with other:
        pass
    with pytest.raises(exceptions.LockException):
        lock.release()


def test_the_temporary_file_exists_while_held(lock_path):
    lock = utils.TemporaryFileLock(str(lock_path), timeout=0)
    for _ in range(3):
        with lock:
            assert lock_path.exists()
        assert not lock_path.exists()
    lock.release()


def test_a_loser_does_not_remove_the_temporary_file(lock_path):
    with utils.TemporaryFileLock(str(lock_path), timeout=0):
        loser = utils.TemporaryFileLock(str(lock_path), timeout=0)
        with pytest.raises(exceptions.AlreadyLocked):
            loser.acquire()
        loser.release()
        assert lock_path.exists()
    assert not lock_path.exists()


def test_the_temporary_file_is_removed_at_exit(lock_path):
    with holders.holding('TemporaryFileLock', lock_path) as holder:
        assert holder.said() == 'held'
        assert lock_path.exists()
        holder.leave()
    assert not lock_path.exists()


def test_removal_is_tried_again_while_somebody_has_the_file_open(
    lock_path, monkeypatch
):
    """A file that is open anywhere cannot be removed on Windows."""
    lock = utils.TemporaryFileLock(str(lock_path), timeout=0)
    lock.acquire()
    visitor = open(lock_path, 'rb')  # noqa: SIM115 - closed by the sleep
    sleep, pauses = time.sleep, []

    def visitor_leaves(seconds: float) -> None:
        pauses.append(seconds)
        visitor.close()
        sleep(0)

    monkeypatch.setattr(time, 'sleep', visitor_leaves)
    lock.release()
    assert pauses
    assert not lock_path.exists()


def test_release_lets_go_even_if_the_file_cannot_be_removed(
    lock_path, monkeypatch
):
    lock = utils.TemporaryFileLock(str(lock_path), timeout=0)
    lock.acquire()
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)
    with open(lock_path, 'rb'):
        lock.release()
        assert lock_path.exists()
        with utils.Lock(lock_path, timeout=0):
            pass
    with utils.TemporaryFileLock(str(lock_path), timeout=0):
        pass
    assert not lock_path.exists()


def test_temporary_locks_of_many_threads_exclude_each_other(lock_path):
    """Each removes the file that the others are about to open."""
    inside: list[int] = []
    most_inside: list[int] = []
    failures: list[BaseException] = []

    def enter() -> None:
        try:
            for _ in range(5):
                with waiting(
                    'TemporaryFileLock', lock_path, check_interval=0.01
                ):
                    inside.append(1)
                    most_inside.append(len(inside))
                    time.sleep(0)
                    inside.pop()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not failures
    assert most_inside == [1] * 20


def test_the_pid_can_be_read_while_the_lock_is_held(lock_path):
    with holders.holding('PidFileLock', lock_path) as holder:
        assert holder.said() == 'held'
        mine = utils.PidFileLock(str(lock_path), timeout=0)
        pid = mine.read_pid()
        assert pid == int(lock_path.read_text())
        assert pid not in (None, os.getpid())
        with mine as found:
            assert found == pid
        assert lock_path.exists()
        holder.leave()
    assert not lock_path.exists()
    with mine as found:
        assert found is None
        assert mine.read_pid() == os.getpid()
    assert not lock_path.exists()
    assert not lock_path.with_name('a.lock.lock').exists()


def test_a_pid_that_is_being_read_is_replaced_all_the_same(
    lock_path, monkeypatch
):
    """A file that is open anywhere cannot be replaced on Windows."""
    lock_path.write_bytes(b'1')
    reader = open(lock_path, 'rb')  # noqa: SIM115 - closed by the sleep
    sleep = time.sleep

    def reader_leaves(seconds: float) -> None:
        reader.close()
        sleep(0)

    monkeypatch.setattr(time, 'sleep', reader_leaves)
    lock = utils.PidFileLock(str(lock_path), timeout=0)
    try:
        with lock as found:
            assert found is None
            assert lock.read_pid() == os.getpid()
    finally:
        reader.close()


def test_a_semaphore_has_its_number_of_places(tmp_path):
    def place():
        return holders.made('BoundedSemaphore', str(tmp_path), timeout=SHORT)

    with holders.holding('BoundedSemaphore', tmp_path) as other:
        assert other.said() == 'held'
        mine = place()
        assert mine.acquire() is not None
        with pytest.raises(exceptions.AlreadyLocked):
            place().acquire()
        other.kill()
        mine_too = place()
        assert mine_too.acquire() is not None
        mine.release()
        mine_too.release()


@pytest.mark.parametrize('binary', [True, False])
def test_an_atomic_file_appears_whole(binary, tmp_path):
    target = tmp_path / 'new' / 'target'
    with utils.open_atomic(target, binary=binary) as file:
        file.write(b'content' if binary else 'content')
        assert not target.exists()
    assert target.read_bytes() == b'content'
    assert os.listdir(target.parent) == ['target']


def test_an_atomic_file_replaces_nothing_unasked(tmp_path):
    target = tmp_path / 'target'
    target.write_bytes(b'old')
    with pytest.raises(FileExistsError), utils.open_atomic(target) as file:
        file.write(b'new')
    assert target.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['target']


def test_an_atomic_file_does_not_replace_one_that_came_meanwhile(tmp_path):
    target = tmp_path / 'target'
    with (  # noqa: PT012 - leaving the block is what raises
        pytest.raises(FileExistsError),
        utils.open_atomic(target) as file,
    ):
        file.write(b'new')
        target.write_bytes(b'meanwhile')
    assert target.read_bytes() == b'meanwhile'


def test_an_atomic_file_replaces_what_it_is_asked_to(tmp_path):
    target = tmp_path / 'target'
    target.write_bytes(b'old')
    with utils.open_atomic(target, overwrite=True) as file:
        file.write(b'new')
        assert target.read_bytes() == b'old'
    assert target.read_bytes() == b'new'
    assert os.listdir(tmp_path) == ['target']


def test_an_atomic_file_that_fails_leaves_nothing(tmp_path):
    with (  # noqa: PT012 - the block is what fails
        pytest.raises(ZeroDivisionError),
        utils.open_atomic(tmp_path / 'target') as file,
    ):
        file.write(b'half')
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_what_is_no_real_file_cannot_be_locked():
    with pytest.raises(exceptions.LockException):
        engine.lock(io.BytesIO(), LockFlags.EXCLUSIVE | NB)
    with pytest.raises(TypeError):
        engine.lock('a.lock', LockFlags.EXCLUSIVE | NB)


def test_try_acquire_never_waits(lock_path, sleeps):
    with holders.holding('Lock', lock_path) as holder:
        assert holder.said() == 'held'
        lock = utils.Lock(lock_path, timeout=LONG)
        assert lock.try_acquire() is False
        holder.leave()
        assert lock.try_acquire() is True
        lock.release()
    assert not sleeps.is_set()
