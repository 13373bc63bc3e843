"""Both lockers of Windows, against the system itself."""

from __future__ import annotations

import _thread
import ctypes
import io
import itertools
import msvcrt
import os
import threading
import time

import pytest
import windows_lock_process as processes

from portalocker import _windows_lockers, exceptions
from portalocker.constants import LockFlags

NB = LockFlags.NON_BLOCKING
HOLDERS = list(
    itertools.product(
        sorted(processes.LOCKERS),
        ('pywin32', 'ctypes'),
        sorted(processes.KINDS),
    )
)
LONG_SECONDS = 60  # only a failure waits that long


def byte_is_locked(path, offset: int) -> bool:
    """Ask the C runtime, through a handle of its own, about one byte."""
    fd = os.open(path, os.O_RDWR | os.O_BINARY)
    try:
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return True
        os.lseek(fd, offset, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        return False
    finally:
        os.close(fd)


class Pauses:
    """Stands for `time.sleep` in the lockers: tells when somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.seconds: list[float] = []
        self._sleep = time.sleep
        monkeypatch.setattr(_windows_lockers.time, 'sleep', self)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.begun.set()
        self._sleep(seconds)


@pytest.fixture
def pauses(monkeypatch) -> Pauses:
    return Pauses(monkeypatch)


def test_pywin32_is_used_where_it_can_be_imported(way, path):
    locker = _windows_lockers.Win32Locker()
    with open(path, 'r+b') as file:
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
    expected = {
        'pywin32': _windows_lockers._PyWin32Ranges,
        'ctypes': _windows_lockers._Kernel32Ranges,
    }
    assert type(locker._ranges) is expected[way]


@pytest.mark.parametrize(('name', 'holder_way', 'held_kind'), HOLDERS)
def test_only_shared_locks_of_two_processes_go_together(
    name, holder_way, held_kind, locker, path
):
    with (
        processes.holding(name, holder_way, held_kind, path) as holder,
        open(path, 'r+b') as file,
    ):
        assert holder.said() == 'held'
        for kind, flags in processes.KINDS.items():
            if kind == held_kind == 'shared':
                locker.lock(file, flags | NB)
                locker.unlock(file)
                continue
            with pytest.raises(exceptions.AlreadyLocked):
                locker.lock(file, flags | NB)
        holder.leave()
        locker.lock(file, LockFlags.EXCLUSIVE | NB)


@pytest.mark.parametrize('kind', sorted(processes.KINDS))
def test_another_process_is_let_in_by_unlock(locker, way, kind, path):
    with open(path, 'r+b') as file:
        locker.lock(file, processes.KINDS[kind] | NB)
        with processes.holding('win32', way, 'exclusive', path) as other:
            assert other.said() == 'refused'
        locker.unlock(file)
        with processes.holding('win32', way, 'exclusive', path) as other:
            assert other.said() == 'held'
            other.leave()


@pytest.mark.parametrize('kind', sorted(processes.KINDS))
def test_a_killed_holder_holds_nothing(locker, way, kind, path):
    name = type(locker).__name__.removesuffix('Locker').lower()
    with processes.holding(name, way, kind, path) as holder:
        assert holder.said() == 'held'
        holder.kill()
        with open(path, 'r+b') as file:
            locker.lock(file, LockFlags.EXCLUSIVE)
            assert byte_is_locked(path, 0)


@pytest.mark.parametrize('end', ['leave', 'kill'])
@pytest.mark.parametrize('kind', sorted(processes.KINDS))
def test_a_blocking_lock_gets_in_when_the_holder_goes(
    locker, end, kind, path, pauses
):
    entered = threading.Event()

    def enter() -> None:
        with open(path, 'r+b') as file:
            locker.lock(file, processes.KINDS[kind])
            entered.set()
            locker.unlock(file)

    with processes.holding('msvcrt', 'ctypes', 'exclusive', path) as holder:
        assert holder.said() == 'held'
        waiter = threading.Thread(target=enter)
        waiter.start()
        assert pauses.begun.wait(LONG_SECONDS)
        assert not entered.is_set()
        getattr(holder, end)()
        waiter.join(LONG_SECONDS)
    assert entered.is_set()


def test_pauses_are_short_first_and_never_long(locker, path, monkeypatch):
    """Twelve pauses, then the holder goes."""
    seconds: list[float] = []

    def count(pause: float) -> None:
        seconds.append(pause)
        if len(seconds) == 12:
            holder.close()

    monkeypatch.setattr(_windows_lockers.time, 'sleep', count)
    with open(path, 'r+b') as holder, open(path, 'r+b') as file:
        locker.lock(holder, LockFlags.EXCLUSIVE | NB)
        locker.lock(file, LockFlags.EXCLUSIVE)
    assert len(seconds) == 12
    assert seconds[0] <= 0.001
    assert all(a <= b <= 2 * a for a, b in itertools.pairwise(seconds))
    assert seconds[-1] == 0.25


def test_an_interrupt_ends_the_wait(locker, path, pauses):
    """Raised by another thread while the main thread waits."""

    def interrupt() -> None:
        if pauses.begun.wait(LONG_SECONDS):
            _thread.interrupt_main()

    with open(path, 'r+b') as holder, open(path, 'r+b') as file:
        locker.lock(holder, LockFlags.EXCLUSIVE | NB)
        file.seek(5)
        other = threading.Thread(target=interrupt)
        other.start()
        with pytest.raises(KeyboardInterrupt):
            locker.lock(file, LockFlags.EXCLUSIVE)
        other.join()
        assert file.tell() == 5
        locker.unlock(holder)
        assert not byte_is_locked(path, 0)


def test_win32_locks_the_range_that_other_programs_lock(path, way):
    """The system unlocks a range only if it is told the very same bytes."""
    kernel32 = ctypes.WinDLL('kernel32')
    locker = _windows_lockers.Win32Locker()
    with open(path, 'r+b') as file:
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(file.fileno()))
        for high, low, is_the_range in (
            (0, 0x10000, False),
            (0, 0xFFFF0001, False),
            (0xFFFFFFFF, 0xFFFF0000, False),
            (0, 0xFFFF0000, True),
        ):
            lengths = map(ctypes.c_uint32, (low, high))
            unlocked = kernel32.UnlockFile(handle, 0, 0, *lengths)
            assert bool(unlocked) is is_the_range
            assert byte_is_locked(path, 0) is not is_the_range


def test_msvcrt_locks_the_first_64_kib(path, way):
    locker = _windows_lockers.MsvcrtLocker()
    with open(path, 'r+b') as file:
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        assert byte_is_locked(path, 0)
        assert byte_is_locked(path, 0xFFFF)
        assert not byte_is_locked(path, 0x10000)
        locker.unlock(file)
        assert not byte_is_locked(path, 0)


@pytest.mark.parametrize('kind', sorted(processes.KINDS))
def test_a_descriptor_is_locked_from_its_start_and_stays_where_it_is(
    locker, kind, path
):
    fd = os.open(path, os.O_RDWR | os.O_BINARY)
    try:
        os.lseek(fd, 100_000, os.SEEK_SET)
        locker.lock(fd, processes.KINDS[kind] | NB)
        assert os.lseek(fd, 0, os.SEEK_CUR) == 100_000
        assert byte_is_locked(path, 0)
        os.lseek(fd, 7, os.SEEK_SET)
        locker.unlock(fd)
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7
        assert not byte_is_locked(path, 0)
    finally:
        os.close(fd)


def test_anything_with_a_descriptor_can_be_locked(locker, path):
    class Named:
        def fileno(self) -> int:
            return fd

    fd = os.open(path, os.O_RDWR | os.O_BINARY)
    try:
        locker.lock(Named(), LockFlags.EXCLUSIVE | NB)
        assert byte_is_locked(path, 0)
        locker.unlock(Named())
        assert not byte_is_locked(path, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize('mode', ['r', 'r+', 'rb', 'r+b', 'a+', 'a+b'])
def test_a_file_object_stays_where_it_is(locker, mode, path):
    with open(path, mode) as file:
        file.seek(0)
        first = file.read(3)
        position = file.tell()
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        assert file.tell() == position
        assert byte_is_locked(path, 0)
        second = file.read(5)
        locker.unlock(file)
        assert file.tell() == position + 5
        assert not byte_is_locked(path, 0)
    together = first + second
    assert together in ('the line', b'the line')


def test_a_reader_that_read_ahead_is_locked_from_its_start(locker, path):
    """At 0 for its user, while its descriptor is at the end."""
    with open(path, 'rb') as file:
        file.read(3)
        file.seek(0)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) > 0
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        assert byte_is_locked(path, 0)
        assert file.read(3) == b'the'
        locker.unlock(file)
        assert not byte_is_locked(path, 0)


def test_lines_go_on_after_a_lock_amid_them(locker, path):
    lines = []
    with open(path) as file:
        for line in file:
            locker.lock(file, LockFlags.EXCLUSIVE | NB)
            assert byte_is_locked(path, 0)
            lines.append(line)
            locker.unlock(file)
    assert lines == [f'the line {n}\n' for n in range(3)]


@pytest.mark.parametrize(
    ('mode', 'encoding'),
    [('w', 'utf-8'), ('w', 'utf-8-sig'), ('w', 'utf-16'), ('a', 'utf-8')],
)
def test_what_was_written_is_out_before_the_lock_is_gone(
    locker, mode, encoding, path
):
    path.write_bytes(b'')
    with open(path, mode, encoding=encoding, newline='') as file:
        file.write('before ')
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        file.write('under ')
        locker.unlock(file)
        assert path.read_text(encoding) == 'before under '
        file.write('after')
    assert path.read_text(encoding) == 'before under after'


@pytest.mark.parametrize('mode', ['wb', 'ab', 'r+b'])
def test_bytes_that_were_written_are_out_before_the_lock_is_gone(
    locker, mode, path
):
    with open(path, mode) as file:
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        file.write(b'under')
        locker.unlock(file)
        assert b'under' in path.read_bytes()


@pytest.mark.parametrize('locked_first', [False, True])
def test_unlocking_what_is_not_locked_does_nothing(locker, locked_first, path):
    with open(path, 'r+b') as file:
        if locked_first:
            locker.lock(file, LockFlags.EXCLUSIVE | NB)
            locker.unlock(file)
        locker.unlock(file)
        locker.unlock(file)


@pytest.mark.parametrize('kind', sorted(processes.KINDS))
def test_unlocking_does_not_touch_the_lock_of_another(locker, kind, path):
    with open(path, 'r+b') as holder, open(path, 'r+b') as other:
        locker.lock(holder, processes.KINDS[kind] | NB)
        locker.unlock(other)
        other.close()
        assert byte_is_locked(path, 0)
    assert not byte_is_locked(path, 0)


@pytest.mark.parametrize('held_kind', sorted(processes.KINDS))
def test_an_exclusive_lock_over_ones_own_is_refused(locker, held_kind, path):
    with open(path, 'r+b') as file:
        locker.lock(file, processes.KINDS[held_kind] | NB)
        with pytest.raises(exceptions.AlreadyLocked):
            locker.lock(file, LockFlags.EXCLUSIVE | NB)
        assert byte_is_locked(path, 0)
        locker.unlock(file)
        assert not byte_is_locked(path, 0)


@pytest.mark.parametrize('kind', sorted(processes.KINDS))
@pytest.mark.parametrize('as_descriptor', [False, True])
def test_contention_names_the_argument_and_the_cause(
    locker, kind, as_descriptor, path
):
    with open(path, 'r+b') as holder, open(path, 'r+b') as file:
        locker.lock(holder, LockFlags.EXCLUSIVE | NB)
        argument = file.fileno() if as_descriptor else file
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            locker.lock(argument, processes.KINDS[kind] | NB)
    number, text = caught.value.args
    assert number == exceptions.LockException.LOCK_FAILED
    assert caught.value.strerror == text
    assert caught.value.fh is argument or caught.value.fh == argument
    assert isinstance(caught.value.__cause__, OSError)


def test_a_closed_file_is_a_failure_and_no_contention(locker, path):
    file = open(path, 'r+b')  # noqa: SIM115 - closed on purpose
    fd = file.fileno()
    file.close()
    for argument in (file, fd):
        for call in (
            lambda it: locker.lock(it, LockFlags.EXCLUSIVE),
            lambda it: locker.lock(it, LockFlags.SHARED),
            locker.unlock,
        ):
            with pytest.raises(exceptions.LockException) as caught:
                call(argument)
            assert type(caught.value) is exceptions.LockException
            assert caught.value.fh is argument


def test_a_file_without_a_descriptor_is_a_failure(locker):
    for call in (
        lambda it: locker.lock(it, LockFlags.EXCLUSIVE),
        locker.unlock,
    ):
        with pytest.raises(exceptions.LockException):
            call(io.BytesIO())


def test_a_pipe_is_a_failure(locker):
    reading, writing = os.pipe()
    try:
        with pytest.raises(exceptions.LockException) as caught:
            locker.lock(writing, LockFlags.EXCLUSIVE | NB)
    finally:
        os.close(reading)
        os.close(writing)
    assert type(caught.value) is exceptions.LockException


@pytest.mark.parametrize('thing', ['file.txt', None, 1.5])
def test_what_is_no_file_is_a_type_error(locker, thing):
    with pytest.raises(TypeError, match=r'descriptor .* fileno'):
        locker.lock(thing, LockFlags.EXCLUSIVE | NB)
    with pytest.raises(TypeError, match=r'descriptor .* fileno'):
        locker.unlock(thing)


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (NB, 'NON_BLOCKING'),
        (LockFlags(0), 'SHARED or EXCLUSIVE'),
        (LockFlags.UNBLOCK, 'unlock'),
        (LockFlags.EXCLUSIVE | LockFlags.SHARED, 'SHARED .*EXCLUSIVE'),
        (LockFlags.EXCLUSIVE | LockFlags.SHARED | NB, 'SHARED .*EXCLUSIVE'),
    ],
)
def test_flags_that_are_no_request_are_refused(locker, flags, words, path):
    with open(path, 'r+b') as file:
        with pytest.raises(RuntimeError, match=words):
            locker.lock(file, flags)
        assert not byte_is_locked(path, 0)


@pytest.mark.mandatory_locks
def test_others_cannot_read_what_is_locked_exclusively(locker, path):
    with open(path, 'r+b') as file, open(path, 'rb') as reader:
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        with pytest.raises(PermissionError):
            reader.read()
        assert file.read(3) == b'the'


@pytest.mark.mandatory_locks
def test_buffered_bytes_wait_for_the_lock(locker, path):
    with open(path, 'r+b') as holder, open(path, 'ab') as file:
        locker.lock(holder, LockFlags.EXCLUSIVE | NB)
        file.write(b'pending')
        with pytest.raises(exceptions.AlreadyLocked):
            locker.lock(file, LockFlags.EXCLUSIVE | NB)
        locker.unlock(holder)
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
    assert path.read_bytes().endswith(b'pending')


@pytest.mark.mandatory_locks
def test_a_shared_lock_bars_its_holder_from_writing(locker, path):
    with open(path, 'r+b') as file:
        locker.lock(file, LockFlags.SHARED | NB)
        file.write(b'THE')
        with pytest.raises(PermissionError):
            file.flush()
        locker.unlock(file)
        assert not byte_is_locked(path, 0)
    assert path.read_bytes().startswith(b'THE line')
