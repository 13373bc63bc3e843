"""`Lock`: the file at a path, held."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import logging
import math
import os
import pathlib
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from states import is_locked

import portalocker
from portalocker import Holder, LockFlags, _holdings, utils
from portalocker import portalocker as module
from portalocker.exceptions import AlreadyLocked, LockException

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

import fcntl

SHORT, LONG = 0.05, 30.0  # seconds; LONG is reached by a failure only
SHARED = LockFlags.SHARED | LockFlags.NON_BLOCKING


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file.lock'


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The file arguments of all calls of `portalocker.lock`."""
    seen: list[Any] = []
    real = module.lock

    def lock(file: Any, flags: LockFlags) -> None:
        seen.append(file)
        real(file, flags)

    monkeypatch.setattr(module, 'lock', lock)
    return seen


def open_descriptors() -> set[str]:
    return set(os.listdir('/dev/fd'))


@contextlib.contextmanager
def held(path: pathlib.Path) -> Iterator[None]:
    with open(path, 'a') as fh:
        fcntl.flock(fh, fcntl.LOCK_EX)
        yield


class Thread(threading.Thread):
    """A thread whose failure reaches the test."""

    def __init__(self, task: Callable[[], object]) -> None:
        super().__init__()
        self.task = task
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.task()
        except BaseException as failure:
            self.failure = failure

    def finish(self) -> None:
        self.join(LONG)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure


def in_another_thread(task: Callable[[], object]) -> None:
    Thread(task).finish()


# the constructor


class HasFspath:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


class HasStr:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)


def test_the_constructor_opens_nothing(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    assert lock.fh is None
    assert not path.exists()


@pytest.mark.parametrize(
    'form',
    [
        str,
        pathlib.Path,
        os.fsencode,
        HasFspath,
        HasStr,
    ],
    ids=['str', 'Path', 'bytes', 'fspath', 'str()'],
)
def test_whatever_names_a_path_is_kept_as_text(
    form: Callable[[pathlib.Path], Any], path: pathlib.Path
) -> None:
    lock = portalocker.Lock(form(path))
    assert lock.filename == str(path)
    assert type(lock.filename) is str
    with lock:
        assert is_locked(path)


@pytest.mark.parametrize(
    'mistake', [None, 5, 1.5, True, [], object(), bytearray(b'file')]
)
def test_what_names_no_path_is_refused(mistake: Any) -> None:
    with pytest.raises(TypeError, match=r'cannot lock .*: a path is'):
        portalocker.Lock(mistake)


@pytest.mark.parametrize('nothing', ['', b''])
def test_an_empty_path_leads_nowhere(nothing: Any) -> None:
    with pytest.raises(FileNotFoundError, match="''"):
        portalocker.Lock(nothing).acquire()


def test_the_filename_is_what_the_user_passed(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    assert portalocker.Lock('file.lock').filename == 'file.lock'


def test_a_later_chdir_changes_nothing(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = path.parent / 'elsewhere'
    elsewhere.mkdir()
    monkeypatch.chdir(path.parent)
    lock = portalocker.Lock('file.lock')
    os.chdir(elsewhere)
    with lock:
        assert is_locked(path)
    assert os.listdir(elsewhere) == []


def test_a_lock_can_be_made_where_the_current_directory_is_gone(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = path.parent / 'gone'
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with portalocker.Lock(path):
        assert is_locked(path)
    lock = portalocker.Lock('relative')
    with pytest.raises(FileNotFoundError):
        lock.acquire()


# what open() says


@pytest.mark.parametrize(
    ('prepare', 'mode', 'error'),
    [
        (lambda path: None, 'r', FileNotFoundError),
        (lambda path: path.touch(), 'x', FileExistsError),
        (lambda path: path.mkdir(), 'a', IsADirectoryError),
        (lambda path: None, 'nonsense', ValueError),
        (
            lambda path: path.symlink_to(path),
            'a',
            OSError,
        ),
    ],
)
def test_what_open_raises_is_raised_as_it_is(
    prepare: Callable[[pathlib.Path], object],
    mode: str,
    error: type[Exception],
    path: pathlib.Path,
) -> None:
    prepare(path)
    lock = portalocker.Lock(path, mode, timeout=LONG)
    with pytest.raises(error) as caught:
        lock.acquire()
    assert not isinstance(caught.value, LockException)
    with pytest.raises(error):
        lock.try_acquire()
    assert lock.fh is None


def test_a_missing_directory_is_not_made(path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        portalocker.Lock(path / 'below').acquire()


def test_mode_x_makes_the_file_once(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path, 'x')
    with lock as fh:
        fh.write('mine')
    with pytest.raises(FileExistsError):
        lock.acquire()
    assert path.read_text() == 'mine'


def test_mode_r_reads_what_is_there(path: pathlib.Path) -> None:
    path.write_text('content')
    with portalocker.Lock(path, 'r') as fh:
        assert fh.read() == 'content'
        assert is_locked(path)


def test_open_arguments_are_passed_on(path: pathlib.Path) -> None:
    with portalocker.Lock(
        path, 'w', encoding='utf-16-le', newline='\r\n'
    ) as fh:
        fh.write('a\n')
    assert path.read_bytes() == 'a\r\n'.encode('utf-16-le')


@pytest.mark.parametrize('mode', ['ab', 'wb', 'r+b'])
def test_a_binary_file_may_be_unbuffered(
    mode: str, path: pathlib.Path
) -> None:
    path.touch()
    with portalocker.Lock(path, mode, buffering=0) as fh:
        assert isinstance(fh, io.RawIOBase)
        fh.write(b'x')
        assert path.read_bytes() == b'x'


@pytest.mark.parametrize('mode', ['a', 'w', 'w+b'])
def test_the_users_opener_opens_and_never_truncates(
    mode: str, path: pathlib.Path
) -> None:
    path.write_text('precious')
    calls: list[tuple[str, int]] = []

    def opener(name: str, flags: int) -> int:
        calls.append((name, flags))
        fd = os.open(name, flags)
        assert os.fstat(fd).st_size == len('precious')
        return fd

    lock = portalocker.Lock(path, mode, opener=opener)
    assert lock.file_open_kwargs == {'opener': opener}
    with lock:
        pass
    assert [name for name, _ in calls] == [str(path)]
    assert not calls[0][1] & os.O_TRUNC


@pytest.mark.parametrize('mode', ['a', 'w'])
def test_the_handle_is_not_inherited_by_programs(
    mode: str, path: pathlib.Path
) -> None:
    with portalocker.Lock(path, mode) as fh:
        assert not os.get_inheritable(fh.fileno())


# mode 'w'


@pytest.mark.parametrize(
    ('mode', 'shown', 'truncates'),
    [
        ('w', 'a', True),
        ('w+', 'a+', True),
        ('wb', 'ab', True),
        ('b+w', 'b+a', True),
        ('a', 'a', False),
        ('r+', 'r+', False),
        ('x', 'x', False),
    ],
)
def test_modes_with_w_are_shown_as_a_and_truncate(
    mode: str, shown: str, truncates: bool
) -> None:
    lock = portalocker.Lock('path', mode)
    assert lock.mode == shown
    assert lock.truncate is truncates


def test_the_holder_gets_an_empty_file(path: pathlib.Path) -> None:
    path.write_text('old')
    with portalocker.Lock(path, 'w') as fh:
        assert path.read_text() == ''
        fh.write('new')
    assert path.read_text() == 'new'


def test_a_loser_truncates_nothing(path: pathlib.Path) -> None:
    with portalocker.Lock(path, 'w') as fh:
        fh.write('precious')
        fh.flush()
        for lock in (
            portalocker.Lock(path, 'w', timeout=0),
            portalocker.Lock(path, 'w', timeout=SHORT),
            portalocker.Lock(path, 'w', fail_when_locked=True),
        ):
            with pytest.raises(AlreadyLocked):
                lock.acquire()
            assert not lock.try_acquire()
        assert path.read_text() == 'precious'


@pytest.mark.parametrize('mode', ['w', 'w+'])
def test_what_is_written_goes_where_the_position_is(
    mode: str, path: pathlib.Path
) -> None:
    with portalocker.Lock(path, mode) as fh:
        fh.write('x')
        fh.seek(0)
        fh.write('y')
    assert path.read_text() == 'y'


def test_mode_a_appends(path: pathlib.Path) -> None:
    for _ in range(2):
        with portalocker.Lock(path, 'a') as fh:
            fh.write('x')
    assert path.read_text() == 'xx'


# acquire


def test_acquire_returns_the_open_locked_file(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    fh = lock.acquire()
    assert lock.fh is fh
    assert is_locked(path)
    lock.release()
    assert fh.closed
    assert lock.fh is None
    assert not is_locked(path)
    assert path.exists()


def test_acquire_while_held_gives_the_same_handle_whatever_it_is_asked(
    path: pathlib.Path, attempts: list[Any]
) -> None:
    lock = portalocker.Lock(path)
    fh = lock.acquire()
    assert lock.acquire() is fh
    assert lock.acquire(timeout=0, fail_when_locked=True) is fh
    assert lock.try_acquire()
    assert len(attempts) == 1
    lock.release()
    assert not is_locked(path)


def test_release_may_be_repeated(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    with held(path):
        lock.release()
        assert is_locked(path)


def test_a_released_lock_can_be_taken_again(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    for _ in range(3):
        with lock:
            assert is_locked(path)
        assert not is_locked(path)


@pytest.mark.parametrize('timeout', [0, -1])
def test_without_time_there_is_one_attempt(
    timeout: float, path: pathlib.Path, attempts: list[Any]
) -> None:
    with held(path), pytest.raises(AlreadyLocked):
        portalocker.Lock(path, timeout=timeout).acquire()
    assert len(attempts) == 1
    assert attempts[0].closed


@pytest.mark.parametrize('timeout', [LONG, math.inf, None])
def test_fail_when_locked_makes_one_attempt_whatever_the_timeout(
    timeout: float | None, path: pathlib.Path, attempts: list[Any]
) -> None:
    before = open_descriptors()
    with held(path):
        with pytest.raises(AlreadyLocked) as caught:
            portalocker.Lock(
                path, timeout=timeout, fail_when_locked=True
            ).acquire()
        with pytest.raises(AlreadyLocked):
            portalocker.Lock(path, timeout=timeout).acquire(
                fail_when_locked=True
            )
    assert len(attempts) == 2
    assert all(fh.closed for fh in attempts)
    assert open_descriptors() == before
    assert caught.value.waited is None


def test_arguments_of_acquire_replace_those_of_the_lock(
    path: pathlib.Path, attempts: list[Any]
) -> None:
    lock = portalocker.Lock(path, timeout=LONG, fail_when_locked=True)
    with held(path):
        with pytest.raises(AlreadyLocked):
            lock.acquire(timeout=0, fail_when_locked=False)
        assert len(attempts) == 1
        with pytest.raises(AlreadyLocked):
            lock.acquire(SHORT, SHORT, fail_when_locked=False)
        assert len(attempts) > 2


def test_attributes_may_be_changed_between_acquisitions(
    path: pathlib.Path, attempts: list[Any]
) -> None:
    lock = portalocker.Lock(path, timeout=LONG)
    lock.timeout = 0
    with held(path), pytest.raises(AlreadyLocked):
        lock.acquire()
    lock.timeout = LONG
    lock.fail_when_locked = True
    with held(path), pytest.raises(AlreadyLocked):
        lock.acquire()
    assert len(attempts) == 2


def test_the_end_of_the_timeout_says_who_holds_what_and_how_long_we_waited(
    path: pathlib.Path,
) -> None:
    with held(path), pytest.raises(AlreadyLocked) as caught:
        portalocker.Lock(path, timeout=SHORT).acquire()
    failure = caught.value
    assert failure.filename == str(path)
    assert failure.waited is not None and failure.waited >= SHORT
    assert failure.fh is None
    text = str(failure)
    assert text.startswith(f"cannot lock '{path}': ")
    assert 'waited' in text
    if sys.platform == 'linux':
        assert isinstance(failure.holder, Holder)
        assert failure.holder.pid == os.getpid()
        assert f'held by pid {os.getpid()}' in text


@pytest.mark.parametrize(
    'options', [{'timeout': SHORT}, {'fail_when_locked': True}]
)
def test_the_errno_is_found_by_unwrapping_single_arguments(
    options: dict[str, Any], path: pathlib.Path
) -> None:
    with held(path), pytest.raises(AlreadyLocked) as caught:
        portalocker.Lock(path, **options).acquire()
    error: BaseException = caught.value
    while not isinstance(error, IOError):
        (error,) = error.args
    assert error.errno in (errno.EAGAIN, errno.EACCES)
    assert caught.value.strerror
    assert isinstance(caught.value.__cause__, Exception)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


def test_shared_locks_share(path: pathlib.Path) -> None:
    path.touch()
    with (
        portalocker.Lock(path, 'r', flags=SHARED),
        portalocker.Lock(path, 'r', flags=SHARED),
        pytest.raises(AlreadyLocked),
    ):
        portalocker.Lock(path, timeout=0).acquire()


def test_a_failed_acquire_can_be_repeated(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path, timeout=0)
    with held(path), pytest.raises(AlreadyLocked):
        lock.acquire()
    with lock:
        assert is_locked(path)


def test_with_never_runs_its_body_unlocked(path: pathlib.Path) -> None:
    has_run = False
    with (
        held(path),
        pytest.raises(AlreadyLocked),
        portalocker.Lock(path, timeout=0),
    ):
        has_run = True
    assert not has_run


@pytest.mark.parametrize('timeout', [0, LONG, math.inf])
@pytest.mark.parametrize('fail_when_locked', [True, False])
def test_anything_but_contention_rises_at_once_and_names_the_file(
    timeout: float,
    fail_when_locked: bool,
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def refuse(fd: int, flags: int) -> None:
        calls.append(fd)
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(module, 'LOCKER', refuse)
    before = open_descriptors()
    lock = portalocker.Lock(
        path, timeout=timeout, fail_when_locked=fail_when_locked
    )
    with pytest.raises(LockException) as caught:
        lock.acquire()
    assert not isinstance(caught.value, AlreadyLocked)
    assert caught.value.args[0].errno == errno.ENOLCK
    assert str(path) in str(caught.value)
    assert len(calls) == 1
    assert lock.fh is None
    assert open_descriptors() == before


@pytest.mark.parametrize('target', ['utils.portalocker', 'portalocker'])
@pytest.mark.parametrize('timeout', [0, LONG, math.inf])
@pytest.mark.parametrize('error', [ValueError('odd'), OSError(errno.EIO, '')])
def test_whatever_else_a_locker_raises_is_wrapped_at_once(
    error: Exception,
    timeout: float,
    target: str,
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handles: list[Any] = []

    def lock(file: Any, flags: LockFlags) -> None:
        handles.append(file)
        raise error

    monkeypatch.setattr(f'portalocker.{target}.lock', lock)
    with pytest.raises(LockException) as caught:
        portalocker.Lock(path, timeout=timeout).acquire()
    assert caught.value.args == (error,)
    assert caught.value.__cause__ is error
    (fh,) = handles
    assert fh.closed


def test_an_interrupt_in_the_attempt_leaves_nothing_open(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(file: Any, flags: LockFlags) -> None:
        raise KeyboardInterrupt

    before = open_descriptors()
    monkeypatch.setattr(module, 'lock', lock)
    with pytest.raises(KeyboardInterrupt):
        portalocker.Lock(path, timeout=LONG).acquire()
    assert open_descriptors() == before


# blocking flags


def test_a_timeout_of_a_blocking_lock_warns_the_caller_once(
    path: pathlib.Path,
) -> None:
    with pytest.warns(UserWarning, match='no effect in blocking') as caught:
        lock = portalocker.Lock(path, timeout=1, flags=LockFlags.EXCLUSIVE)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        lock.acquire(timeout=1)
        lock.release()


def test_a_timeout_of_a_blocking_acquire_warns_the_caller_once(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path, flags=LockFlags.EXCLUSIVE)
    with pytest.warns(UserWarning, match='no effect in blocking') as caught:
        lock.acquire(timeout=1)
    assert [warning.filename for warning in caught] == [__file__]
    lock.release()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        lock.acquire(timeout=1)
    lock.release()


@pytest.mark.parametrize(
    'kind',
    [
        portalocker.RLock,
        portalocker.TemporaryFileLock,
        portalocker.PidFileLock,
    ],
)
def test_other_blocking_locks_warn_only_of_a_timeout_they_were_given(
    kind: Any, path: pathlib.Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        kind(path, flags=LockFlags.EXCLUSIVE)
    with pytest.warns(UserWarning, match='no effect in blocking') as caught:
        kind(path, timeout=1, flags=LockFlags.EXCLUSIVE)
    assert [warning.filename for warning in caught] == [__file__]


def test_no_warning_without_a_timeout_or_with_non_blocking(
    path: pathlib.Path,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        with portalocker.Lock(path, flags=LockFlags.EXCLUSIVE):
            pass
        with portalocker.Lock(path, timeout=1):
            pass


# release


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
@pytest.mark.parametrize('kind', [portalocker.Lock, portalocker.RLock])
def test_what_cannot_be_written_is_reported_after_the_release(
    kind: Any,
) -> None:
    full = pathlib.Path('/dev/full')
    lock = kind(full, timeout=LONG)
    fh = lock.acquire()
    fh.write('lost')
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        lock.release()
    assert any('/dev/full' in note for note in caught.value.__notes__)
    assert fh.closed
    assert lock.fh is None
    lock.acquire()
    lock.release()


def test_a_failed_unlock_is_logged_and_the_file_closed(
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(file: Any) -> None:
        raise LockException('no')

    lock = portalocker.Lock(path)
    fh = lock.acquire()
    monkeypatch.setattr(module, 'unlock', refuse)
    with caplog.at_level(logging.WARNING, 'portalocker.utils'):
        lock.release()
    assert fh.closed
    assert not is_locked(path)
    (record,) = caplog.records
    assert record.name == 'portalocker.utils'
    assert str(path) in record.getMessage()


def test_a_failed_close_is_logged(
    path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(io.TextIOWrapper):
        def close(self) -> None:
            super().close()
            raise OSError(errno.EIO, 'late')

    class Odd(portalocker.Lock):
        def _get_fh(self) -> Any:
            return Failing(open(self.filename, 'ab'))

    lock = Odd(path)
    lock.acquire()
    with caplog.at_level(logging.WARNING, 'portalocker.utils'):
        lock.release()
    assert 'late' in caplog.text
    assert not is_locked(path)


def test_the_handle_is_out_of_the_object_before_the_system_is_asked(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = portalocker.Lock(path)
    lock.acquire()
    seen: list[object] = []
    real = module.unlock

    def unlock(file: Any) -> None:
        seen.append(lock.fh)
        lock.release()  # like a signal handler that comes just now
        real(file)

    monkeypatch.setattr(module, 'unlock', unlock)
    lock.release()
    assert seen == [None]
    assert not is_locked(path)


def test_deleting_the_attribute_releases(path: pathlib.Path) -> None:
    class Owner:
        lock = portalocker.Lock(path)

    Owner.lock.acquire()
    del Owner().lock
    assert not is_locked(path)


# a closed handle


def test_a_handle_closed_by_the_user_counts_as_released(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path)
    lock.acquire().close()
    fh = lock.acquire()
    assert not fh.closed
    assert is_locked(path)
    with fh:
        pass
    assert lock.try_acquire()
    assert is_locked(path)
    lock.release()


def test_a_body_may_close_the_handle(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    with lock as fh:
        fh.close()
    assert lock.fh is None
    assert not is_locked(path)


# nested blocks and threads


def test_an_inner_block_leaves_the_outer_ones_lock(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path)
    with lock as outer:
        with lock as inner:
            assert inner is outer
        assert is_locked(path)
        assert not outer.closed
    assert not is_locked(path)


def test_another_thread_is_kept_out_by_the_same_object(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path, timeout=0)

    def contend() -> None:
        with pytest.raises(AlreadyLocked):
            lock.acquire()
        assert not lock.try_acquire()

    with lock:
        in_another_thread(contend)
        assert is_locked(path)

    def come_and_go() -> None:
        with lock:
            assert is_locked(path)

    in_another_thread(come_and_go)
    assert not is_locked(path)


def test_threads_that_share_a_lock_lose_no_update(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path, 'r+', timeout=LONG)
    path.write_text('0')

    def count() -> None:
        for _ in range(20):
            with lock as fh:
                number = int(fh.read())
                fh.seek(0)
                fh.write(str(number + 1))

    threads = [Thread(count) for _ in range(4)]
    for thread in threads:
        thread.finish()
    assert path.read_text() == '80'


def test_a_thread_that_never_acquired_may_release(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    with lock:
        in_another_thread(lock.release)
        assert not is_locked(path)
        with held(path):
            pass
    assert lock.fh is None


def test_leaving_a_block_does_not_release_the_hold_of_another_thread(
    path: pathlib.Path,
) -> None:
    lock = portalocker.Lock(path, timeout=LONG)

    def take_over() -> None:
        lock.release()
        lock.acquire()

    with lock:
        in_another_thread(take_over)
    assert is_locked(path)
    lock.release()  # it released already, or was released
    assert is_locked(path)
    in_another_thread(lock.release)
    assert not is_locked(path)


def test_shared_holds_of_threads_are_counted_separately(
    path: pathlib.Path,
) -> None:
    path.touch()
    lock = portalocker.Lock(path, 'r', timeout=LONG, flags=SHARED)
    lock.acquire()
    in_another_thread(lock.acquire)
    lock.release()
    assert lock.fh is not None and not lock.fh.closed
    assert is_locked(path)
    lock.release()
    assert is_locked(path)
    in_another_thread(lock.release)
    assert lock.fh is None
    assert not is_locked(path)


@pytest.mark.parametrize(
    'kind', [portalocker.Lock, portalocker.TemporaryFileLock]
)
def test_a_block_that_cannot_be_entered_holds_nothing(
    kind: type[portalocker.Lock],
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A signal handler raises between acquire() and the block."""

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    lock = kind(path)
    with monkeypatch.context() as patch:
        patch.setattr(_holdings.Holdings, 'enter', interrupt)
        with pytest.raises(KeyboardInterrupt), lock:
            pytest.fail('the block ran')
    assert lock.fh is None
    assert not is_locked(path)


# garbage


def test_a_handle_that_outlives_the_lock_keeps_it(
    path: pathlib.Path,
) -> None:
    fh = portalocker.Lock(path).acquire()
    gc.collect()
    assert is_locked(path)
    fh.close()
    assert not is_locked(path)


def test_an_abandoned_lock_is_let_go(path: pathlib.Path) -> None:
    def abandon() -> None:
        portalocker.Lock(path).acquire()
        gc.collect()

    with pytest.warns(ResourceWarning):
        abandon()
    assert not is_locked(path)


# the file at the path


def test_a_file_replaced_before_it_is_locked_is_not_the_one_held(
    path: pathlib.Path,
) -> None:
    replacements = 3

    class Unlucky(portalocker.Lock):
        def _get_lock(self, fh: Any) -> Any:
            nonlocal replacements
            if replacements:
                replacements -= 1
                successor = path.with_name('successor')
                successor.touch()
                successor.replace(path)
            return super()._get_lock(fh)

    with Unlucky(path, timeout=0) as fh:
        assert os.path.samestat(os.fstat(fh.fileno()), os.stat(path))
    assert replacements == 0


def test_a_waiter_ends_up_with_the_file_at_the_path(
    path: pathlib.Path,
) -> None:
    before = open_descriptors()
    with held(path):
        lock = portalocker.Lock(path, timeout=LONG, check_interval=0.001)
        thread = Thread(lock.acquire)
        path.unlink()  # the holder never lets go of the old file
        thread.finish()
        assert lock.fh is not None
        assert os.path.samestat(os.fstat(lock.fh.fileno()), os.stat(path))
        lock.release()
    assert len(open_descriptors() - before) <= 1  # the inotify instance


def test_a_symbolic_link_is_followed(path: pathlib.Path) -> None:
    target = path.with_name('target')
    path.symlink_to(target)
    with portalocker.Lock(path):
        assert is_locked(target)


# what subclasses override


def test_a_subclass_may_open_the_file_itself(path: pathlib.Path) -> None:
    other = path.with_name('other')

    class Elsewhere(portalocker.Lock):
        def _get_fh(self) -> Any:
            return open(other, 'a')

    with Elsewhere(path, timeout=0):
        assert is_locked(other)
        assert not path.exists()
        with pytest.raises(AlreadyLocked):
            Elsewhere(path, timeout=SHORT).acquire()
    assert not is_locked(other)


def test_a_subclass_may_open_a_relative_path(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(portalocker.Lock):
        def _get_fh(self) -> Any:
            return open(self.filename, self.mode, **self.file_open_kwargs)

    monkeypatch.chdir(path.parent)
    with Plain(path.name, timeout=0):
        assert is_locked(path)


def test_a_subclass_may_lock_itself(path: pathlib.Path) -> None:
    tries: list[Any] = []

    class Counted(portalocker.Lock):
        def _get_lock(self, fh: Any) -> Any:
            tries.append(fh)
            portalocker.lock(fh, self.flags)
            return fh

    with held(path), pytest.raises(AlreadyLocked):
        Counted(path, timeout=SHORT, check_interval=SHORT).acquire()
    assert len(tries) >= 2
    with Counted(path) as fh:
        assert tries[-1] is fh
        assert is_locked(path)


def test_a_subclass_may_prepare_the_file(path: pathlib.Path) -> None:
    class Stamped(portalocker.Lock):
        def _prepare_fh(self, fh: Any) -> Any:
            fh = super()._prepare_fh(fh)
            fh.write('stamp')
            return fh

    with Stamped(path, 'w'):
        pass
    assert path.read_text() == 'stamp'


@pytest.mark.parametrize('error', [ZeroDivisionError(), KeyboardInterrupt()])
def test_a_failure_to_prepare_unlocks_closes_and_rises_as_it_is(
    error: BaseException, path: pathlib.Path
) -> None:
    handles: list[Any] = []

    class Failing(portalocker.Lock):
        def _prepare_fh(self, fh: Any) -> Any:
            handles.append(fh)
            raise error

    lock = Failing(path)
    for attempt in (lock.acquire, lock.try_acquire):
        with pytest.raises(type(error)) as caught:
            attempt()
        assert caught.value is error
        assert handles[-1].closed
        assert lock.fh is None
        assert not is_locked(path)


def test_a_subclass_of_users_works(path: pathlib.Path) -> None:
    class Telemetry(utils.Lock):
        def __init__(self, name: str) -> None:
            super().__init__(
                name, mode='r+b', timeout=0, fail_when_locked=True
            )

        def read(self) -> bytes:
            assert self.fh is not None
            return self.fh.read()  # type: ignore[no-any-return]

    path.write_bytes(b'data')
    with Telemetry(str(path)) as fh:
        assert fh.name == str(path)
        with pytest.raises(AlreadyLocked):
            Telemetry(str(path)).acquire()
    lock = Telemetry(str(path))
    lock.acquire()
    assert lock.read() == b'data'
    lock.release()


# options that are assigned


def test_assigned_options_count_from_the_next_acquire(
    tmp_path: pathlib.Path,
) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    second.write_text('old')
    lock = portalocker.Lock(first, 'a')
    lock.filename = second
    lock.mode = 'w'
    assert (lock.filename, lock.mode, lock.truncate) == (
        str(second),
        'a',
        True,
    )
    lock.file_open_kwargs = {'encoding': 'utf-16-le'}
    with lock as fh:
        fh.write('new')
    assert second.read_bytes() == 'new'.encode('utf-16-le')
    assert not first.exists()


def test_assigned_flags_count_from_the_next_acquire(
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / 'lock'
    shared = LockFlags.SHARED | LockFlags.NON_BLOCKING
    lock = portalocker.Lock(path, 'a+')
    lock.flags = shared
    with lock, portalocker.Lock(path, 'a+', timeout=0, flags=shared):
        assert lock.flags == shared


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('filename', 'other'),
        ('mode', 'r+'),
        ('flags', LockFlags.SHARED),
        ('file_open_kwargs', {'buffering': 1}),
    ],
)
@pytest.mark.parametrize(
    'kind',
    [portalocker.Lock, portalocker.TemporaryFileLock, portalocker.PidFileLock],
)
def test_options_of_what_is_held_cannot_be_changed(
    tmp_path: pathlib.Path, kind: type, option: str, value: object
) -> None:
    lock = kind(tmp_path / 'lock')
    before = getattr(lock, option)
    lock.acquire()
    with pytest.raises(portalocker.LockException, match='it is held'):
        setattr(lock, option, value)
    assert getattr(lock, option) == before
    lock.release()


def test_a_pid_file_takes_its_lock_along(tmp_path: pathlib.Path) -> None:
    lock = portalocker.PidFileLock(tmp_path / 'first.pid')
    lock.filename = tmp_path / 'second.pid'
    with lock:
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            'second.pid',
            'second.pid.lock',
        ]
    with pytest.raises(ValueError, match='one process'):
        lock.flags = LockFlags.SHARED | LockFlags.NON_BLOCKING
    assert lock.flags == portalocker.utils.LOCK_METHOD
    with lock.fail_closed():
        assert lock.read_pid() is not None


def test_a_copy_has_the_assigned_options(tmp_path: pathlib.Path) -> None:
    lock = portalocker.Lock(tmp_path / 'first')
    lock.filename, lock.mode = tmp_path / 'second', 'w'
    twin = pickle.loads(pickle.dumps(lock))
    assert (twin.filename, twin.mode, twin.truncate) == (
        str(tmp_path / 'second'),
        'a',
        True,
    )
