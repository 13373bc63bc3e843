"""The lockers of Windows against stand-ins for Windows."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
import types

import pytest

from portalocker import _windows_lockers, exceptions
from portalocker.constants import LockFlags

NB = LockFlags.NON_BLOCKING
LOCKERS = [_windows_lockers.Win32Locker, _windows_lockers.MsvcrtLocker]


class FakeMsvcrt(types.ModuleType):
    """`msvcrt` of a system where `refusals` come first."""

    LK_UNLCK, LK_NBLCK = 0, 2

    def __init__(self) -> None:
        super().__init__('msvcrt')
        self.refusals: list[OSError] = []
        # (mode, length, offset of the descriptor at the call)
        self.calls: list[tuple[int, int, int]] = []

    def locking(self, fd: int, mode: int, length: int) -> None:
        position = os.lseek(fd, 0, os.SEEK_CUR)
        self.calls.append((mode, length, position))
        if self.refusals:
            raise self.refusals.pop(0)

    def get_osfhandle(self, fd: int) -> int:
        os.fstat(fd)
        return 1000 + fd


class FakePyWin32Error(Exception):
    """`pywintypes.error`."""

    def __init__(self, winerror: int, funcname: str, strerror: str) -> None:
        super().__init__(winerror, funcname, strerror)
        self.winerror = winerror
        self.strerror = strerror


class FakePyWin32(types.ModuleType):
    """`win32file` and `pywintypes` of a system."""

    error = FakePyWin32Error
    OVERLAPPED = object

    def __init__(self) -> None:
        super().__init__('win32file')
        self.refusals: list[int] = []
        self.calls: list[tuple[str, tuple[int, ...]]] = []

    def _answer(self, name: str, *args: object) -> None:
        *numbers, overlapped = args
        assert type(overlapped) is object
        self.calls.append((name, tuple(numbers)))
        if self.refusals:
            raise FakePyWin32Error(self.refusals.pop(0), name, 'some words')

    def LockFileEx(self, *args: object) -> None:  # noqa: N802
        self._answer('lock', *args)

    def UnlockFileEx(self, *args: object) -> None:  # noqa: N802
        self._answer('unlock', *args)


class FakeFunction:
    """A function of kernel32 that checks what it is given."""

    def __init__(self, kernel32: FakeKernel32, name: str) -> None:
        self._kernel32, self._name = kernel32, name
        self.argtypes: tuple[type, ...] = ()
        self.restype: type | None = None

    def __call__(self, *args: int) -> int:
        assert len(args) == len(self.argtypes)
        for argument, kind in zip(args, self.argtypes, strict=True):
            kind.from_param(argument)
        self._kernel32.calls.append((self._name, args[:-1]))
        if not self._kernel32.refusals:
            return 1
        self._kernel32.last_error = self._kernel32.refusals.pop(0)
        return 0


class FakeKernel32:
    """`kernel32` as `ctypes` gives it."""

    def __init__(self) -> None:
        self.refusals: list[int] = []
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.last_error = 0
        self.LockFileEx = FakeFunction(self, 'lock')
        self.UnlockFileEx = FakeFunction(self, 'unlock')


@pytest.fixture
def fake_msvcrt(monkeypatch) -> FakeMsvcrt:
    fake = FakeMsvcrt()
    monkeypatch.setitem(sys.modules, 'msvcrt', fake)
    return fake


@pytest.fixture
def fake_pywin32(monkeypatch, fake_msvcrt) -> FakePyWin32:
    fake = FakePyWin32()
    monkeypatch.setitem(sys.modules, 'win32file', fake)
    monkeypatch.setitem(sys.modules, 'pywintypes', fake)
    return fake


@pytest.fixture
def fake_kernel32(monkeypatch, fake_msvcrt) -> FakeKernel32:
    fake = FakeKernel32()

    def load(name: str, *, use_last_error: bool) -> FakeKernel32:
        assert name == 'kernel32'
        assert use_last_error
        return fake

    monkeypatch.setitem(sys.modules, 'win32file', None)
    for name, value in {
        'WinDLL': load,
        'get_last_error': lambda: fake.last_error,
        'FormatError': lambda code: f'words for {code}',
    }.items():
        monkeypatch.setattr(ctypes, name, value, raising=False)
    return fake


@pytest.fixture(params=['fake_pywin32', 'fake_kernel32'])
def fake_win32(request: pytest.FixtureRequest):
    """Each way to LockFileEx."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def file(tmp_path):
    with open(tmp_path / 'file', 'w+b') as file:
        file.write(b'0123456789')
        file.seek(4)
        yield file


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """What the lockers slept, without sleeping."""
    seconds: list[float] = []
    monkeypatch.setattr(_windows_lockers.time, 'sleep', seconds.append)
    return seconds


def test_importing_the_lockers_loads_no_windows_module_and_no_ctypes():
    program = (
        'import sys; import portalocker._windows_lockers; '
        "print(*{'ctypes', 'win32file', 'importlib.util'} & {*sys.modules})"
    )
    run = subprocess.run(
        [sys.executable, '-S', '-c', program],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == []


@pytest.mark.skipif(os.name == 'nt', reason='Windows has msvcrt')
@pytest.mark.parametrize('locker_class', LOCKERS)
@pytest.mark.parametrize('kind', [LockFlags.EXCLUSIVE, LockFlags.SHARED])
def test_without_windows_the_failure_says_what_is_missing(
    locker_class, kind, file
):
    locker = locker_class()
    with pytest.raises(exceptions.LockException, match='msvcrt') as caught:
        locker.lock(file, kind)
    assert caught.value.fh is file
    with pytest.raises(exceptions.LockException, match='msvcrt'):
        locker.unlock(file)
    assert file.tell() == 4


def test_msvcrt_locks_its_range_from_the_start_and_moves_back(
    fake_msvcrt, file
):
    locker = _windows_lockers.MsvcrtLocker()
    locker.lock(file, LockFlags.EXCLUSIVE | NB)
    assert file.tell() == 4
    locker.unlock(file)
    assert file.tell() == 4
    assert fake_msvcrt.calls == [
        (FakeMsvcrt.LK_NBLCK, 0x10000, 0),
        (FakeMsvcrt.LK_UNLCK, 0x10000, 0),
    ]


def test_a_descriptor_is_moved_back_when_the_lock_is_refused(
    fake_msvcrt, file
):
    fd = file.fileno()
    os.lseek(fd, 7, os.SEEK_SET)
    fake_msvcrt.refusals = [PermissionError(errno.EACCES, 'no')]
    with pytest.raises(exceptions.AlreadyLocked):
        _windows_lockers.MsvcrtLocker().lock(fd, LockFlags.EXCLUSIVE | NB)
    assert fake_msvcrt.calls == [(FakeMsvcrt.LK_NBLCK, 0x10000, 0)]
    assert os.lseek(fd, 0, os.SEEK_CUR) == 7


@pytest.mark.parametrize(
    ('number', 'failure'),
    [
        (errno.EACCES, exceptions.AlreadyLocked),
        (36, exceptions.AlreadyLocked),
        (errno.EBADF, exceptions.LockException),
        (errno.EINVAL, exceptions.LockException),
        (errno.EIO, exceptions.LockException),
    ],
)
def test_msvcrt_refusals_are_translated(fake_msvcrt, file, number, failure):
    refusal = OSError(number, 'some words')
    fake_msvcrt.refusals = [refusal]
    with pytest.raises(exceptions.LockException) as caught:
        _windows_lockers.MsvcrtLocker().lock(file, LockFlags.EXCLUSIVE | NB)
    assert type(caught.value) is failure
    assert caught.value.args[0] == exceptions.LockException.LOCK_FAILED
    assert caught.value.args[1] == caught.value.strerror
    assert caught.value.fh is file
    assert caught.value.__cause__ is refusal


@pytest.mark.parametrize(
    ('code', 'failure'),
    [
        (33, exceptions.AlreadyLocked),
        (997, exceptions.AlreadyLocked),
        (5, exceptions.LockException),
        (6, exceptions.LockException),
        (50, exceptions.LockException),
        (158, exceptions.LockException),
    ],
)
@pytest.mark.parametrize('flags', [LockFlags.EXCLUSIVE, LockFlags.SHARED])
def test_win32_refusals_are_translated(fake_win32, file, code, failure, flags):
    fake_win32.refusals = [code]
    with pytest.raises(exceptions.LockException) as caught:
        _windows_lockers.Win32Locker().lock(file, flags | NB)
    assert type(caught.value) is failure
    assert caught.value.args[0] == exceptions.LockException.LOCK_FAILED
    assert caught.value.args[1] == caught.value.strerror
    assert caught.value.fh is file
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.strerror in (
        'some words',
        f'words for {code}',
    )
    assert file.tell() == 4


def test_both_ways_ask_for_the_same_bytes(request, file, monkeypatch):
    """All 64 bits of the length count; one of them is signed."""
    asked = []
    for way in ('fake_pywin32', 'fake_kernel32'):
        fake = request.getfixturevalue(way)
        locker = _windows_lockers.Win32Locker()
        locker.lock(file, LockFlags.EXCLUSIVE | NB)
        locker.lock(file, LockFlags.SHARED | NB)
        locker.unlock(file)
        asked.append(fake.calls)
        for name in ('win32file', 'pywintypes'):
            monkeypatch.setitem(sys.modules, name, None)
    handle = 1000 + file.fileno()
    assert asked[0] == [
        ('lock', (handle, 2 | 1, -0x10000, 0)),
        ('lock', (handle, 1, -0x10000, 0)),
        ('unlock', (handle, -0x10000, 0)),
    ]
    assert asked[1] == [
        ('lock', (handle, 2 | 1, 0, 0xFFFF0000, 0)),
        ('lock', (handle, 1, 0, 0xFFFF0000, 0)),
        ('unlock', (handle, 0, 0xFFFF0000, 0)),
    ]


@pytest.mark.parametrize('locker_class', LOCKERS)
@pytest.mark.parametrize('flags', [LockFlags.EXCLUSIVE, LockFlags.SHARED])
def test_without_non_blocking_contention_is_tried_again(
    fake_win32, fake_msvcrt, locker_class, flags, file, pauses
):
    times = 12
    fake_win32.refusals = [33] * times
    fake_msvcrt.refusals = [
        PermissionError(errno.EACCES, 'no') for _ in range(times)
    ]
    locker_class().lock(file, flags)
    assert pauses == [min(0.001 * 2**n, 0.25) for n in range(times)]
    # never a request that waits in the system
    for name, numbers in fake_win32.calls:
        assert name == 'lock'
        assert numbers[1] & 1
    for mode, _, _ in fake_msvcrt.calls:
        assert mode == FakeMsvcrt.LK_NBLCK


@pytest.mark.parametrize('locker_class', LOCKERS)
def test_a_blocking_wait_ends_with_what_is_no_contention(
    fake_win32, fake_msvcrt, locker_class, file, pauses
):
    fake_win32.refusals = [33, 50]
    fake_msvcrt.refusals = [
        PermissionError(errno.EACCES, 'no'),
        OSError(errno.EIO, 'broken'),
    ]
    with pytest.raises(exceptions.LockException) as caught:
        locker_class().lock(file, LockFlags.EXCLUSIVE)
    assert type(caught.value) is exceptions.LockException
    assert len(pauses) == 1


@pytest.mark.parametrize('code', [158, 33])
def test_unlocking_what_is_not_locked_does_nothing(
    fake_win32, fake_msvcrt, file, code
):
    """Windows answers 158, Wine 33."""
    fake_win32.refusals = [code, code]
    fake_msvcrt.refusals = [PermissionError(errno.EACCES, 'no')]
    _windows_lockers.Win32Locker().unlock(file)
    _windows_lockers.MsvcrtLocker().unlock(file)
    assert [name for name, _ in fake_win32.calls] == ['unlock', 'unlock']
    assert len(fake_msvcrt.calls) == 1


def test_msvcrt_unlock_asks_win32_only_after_eacces(
    fake_win32, fake_msvcrt, file
):
    locker = _windows_lockers.MsvcrtLocker()
    locker.unlock(file)
    fake_msvcrt.refusals = [OSError(errno.EBADF, 'bad')]
    with pytest.raises(exceptions.LockException, match='bad'):
        locker.unlock(file)
    assert fake_win32.calls == []


@pytest.mark.parametrize('locker_class', LOCKERS)
def test_an_unlock_that_fails_is_no_contention(
    fake_win32, fake_msvcrt, locker_class, file
):
    fake_win32.refusals = [6]
    fake_msvcrt.refusals = [PermissionError(errno.EACCES, 'no')]
    with pytest.raises(exceptions.LockException) as caught:
        locker_class().unlock(file)
    assert type(caught.value) is exceptions.LockException
    assert caught.value.fh is file


class BarredFile:
    """A file whose buffered bytes cannot be written: somebody locked it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def tell(self) -> int:
        return 3

    def seek(self, offset: int) -> int:
        raise PermissionError(errno.EACCES, 'barred')


@pytest.mark.parametrize('locker_class', LOCKERS)
def test_bytes_that_cannot_be_written_do_not_keep_a_file_from_unlock(
    fake_win32, fake_msvcrt, locker_class, file
):
    """Nor from a lock: whether that is free is for the system to say."""
    barred = BarredFile(file.fileno())
    os.lseek(file.fileno(), 7, os.SEEK_SET)
    locker_class().lock(barred, LockFlags.EXCLUSIVE | NB)
    locker_class().unlock(barred)
    assert len(fake_win32.calls) + len(fake_msvcrt.calls) == 2
    assert {offset for _, _, offset in fake_msvcrt.calls} <= {0}
    assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 7


@pytest.mark.parametrize('locker_class', LOCKERS)
def test_a_closed_file_is_a_failure_and_no_contention(
    fake_win32, fake_msvcrt, locker_class, file
):
    file.close()
    locker = locker_class()
    for call in (
        lambda: locker.lock(file, NB | LockFlags.SHARED),
        lambda: locker.lock(file, NB | LockFlags.EXCLUSIVE),
        lambda: locker.unlock(file),
    ):
        with pytest.raises(exceptions.LockException) as caught:
            call()
        assert type(caught.value) is exceptions.LockException
        assert caught.value.fh is file
    assert fake_win32.calls == []
    assert fake_msvcrt.calls == []


@pytest.mark.parametrize('locker_class', LOCKERS)
def test_nothing_is_asked_of_the_system_for_flags_that_are_no_request(
    fake_win32, fake_msvcrt, locker_class, file
):
    for flags in (
        LockFlags(0),
        NB,
        LockFlags.UNBLOCK,
        LockFlags.EXCLUSIVE | LockFlags.SHARED,
    ):
        with pytest.raises(RuntimeError):
            locker_class().lock(file, flags)
    assert fake_win32.calls == []
    assert fake_msvcrt.calls == []


def test_the_position_is_saved_and_restored_by_name(file):
    fd, io_obj, original_pos = _windows_lockers._prepare_windows_file(file)
    assert (fd, io_obj, original_pos) == (file.fileno(), file, 4)
    assert file.tell() == 0
    _windows_lockers._restore_windows_file_pos(io_obj, original_pos)
    assert file.tell() == 4
    assert _windows_lockers._prepare_windows_file(fd) == (fd, None, None)
    _windows_lockers._restore_windows_file_pos(None, None)
    assert file.tell() == 4
