"""Win32Locker and MsvcrtLocker: file locks of Windows, importable anywhere.

Both lock a byte range from offset 0: `LockFileEx` the first 0xFFFF0000
bytes, `msvcrt.locking` the first 0x10000. The ranges overlap, so the two
exclude each other. See docs/explanation/windows.rst.
"""

from __future__ import annotations

import errno
import os
import time

from . import _base_locker, _lock_request, constants, exceptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from . import types

# The low half of a 64 bit length, signed as pywin32 takes it; every program
# that shares a lock file has to lock the same bytes
_WIN32_RANGE_LOW = -0x10000

_LOCKFILE_FAIL_IMMEDIATELY = 0x1
_LOCKFILE_EXCLUSIVE_LOCK = 0x2

# ERROR_LOCK_VIOLATION, ERROR_IO_PENDING
_WIN32_CONTENTION = (33, 997)
# ERROR_NOT_LOCKED; Wine says ERROR_LOCK_VIOLATION, which no Windows does here
_WIN32_NOT_LOCKED = (158, 33)
# EACCES, EDEADLOCK (36 in the C runtime of Windows only)
_MSVCRT_CONTENTION = (errno.EACCES, 36)

_FIRST_PAUSE_SECONDS = 0.001
_LONGEST_PAUSE_SECONDS = 0.25  # what a blocked waiter may lose at a hand-off

# a closed file is a ValueError, a missing module an ImportError
_SYSTEM_REFUSALS = (OSError, ValueError, ImportError)


class _Win32Error(OSError):
    """What Windows answered; knows its number on every system."""

    def __init__(self, win32_code: int, text: str) -> None:
        super().__init__(0, text, None, win32_code)
        self.win32_code = win32_code


class _PyWin32Ranges:
    """LockFileEx and UnlockFileEx through pywin32."""

    def __init__(self) -> None:
        import importlib

        self._win32file: Any = importlib.import_module('win32file')
        self._pywintypes: Any = importlib.import_module('pywintypes')

    def _call(self, function: Callable[..., object], *args: int) -> None:
        overlapped = self._pywintypes.OVERLAPPED()  # offset 0
        try:
            function(*args, _WIN32_RANGE_LOW, 0, overlapped)
        except self._pywintypes.error as error:
            raise _Win32Error(error.winerror, error.strerror) from error

    def lock_range(self, handle: int, win32_flags: int) -> None:
        self._call(self._win32file.LockFileEx, handle, win32_flags)

    def unlock_range(self, handle: int) -> None:
        self._call(self._win32file.UnlockFileEx, handle)


class _Kernel32Ranges:
    """LockFileEx and UnlockFileEx through ctypes."""

    def __init__(self) -> None:
        import ctypes
        import ctypes.wintypes as words

        windows_ctypes: Any = ctypes  # half of its names exist on Windows only
        handle, dword = words.HANDLE, words.DWORD

        class Overlapped(ctypes.Structure):
            _fields_ = (
                ('Internal', ctypes.c_size_t),
                ('InternalHigh', ctypes.c_size_t),
                ('Offset', dword),
                ('OffsetHigh', dword),
                ('hEvent', handle),
            )

        kernel32 = windows_ctypes.WinDLL('kernel32', use_last_error=True)
        pointer = ctypes.POINTER(Overlapped)
        self._lock_file = kernel32.LockFileEx
        self._lock_file.restype = words.BOOL
        self._lock_file.argtypes = (handle, *[dword] * 4, pointer)
        self._unlock_file = kernel32.UnlockFileEx
        self._unlock_file.restype = words.BOOL
        self._unlock_file.argtypes = (handle, *[dword] * 3, pointer)
        self._overlapped = Overlapped
        self._ctypes = windows_ctypes

    def _call(self, function: Callable[..., object], *args: int) -> None:
        overlapped = self._ctypes.byref(self._overlapped())  # offset 0
        low = _WIN32_RANGE_LOW & 0xFFFFFFFF
        if not function(*args, 0, low, 0, overlapped):
            win32_code = self._ctypes.get_last_error()
            text = self._ctypes.FormatError(win32_code)
            raise _Win32Error(win32_code, text)

    def lock_range(self, handle: int, win32_flags: int) -> None:
        self._call(self._lock_file, handle, win32_flags)

    def unlock_range(self, handle: int) -> None:
        self._call(self._unlock_file, handle)


def _win32_ranges() -> _PyWin32Ranges | _Kernel32Ranges:
    """The way to LockFileEx that this Python has."""
    try:
        return _PyWin32Ranges()
    except ImportError:
        return _Kernel32Ranges()


def _msvcrt() -> Any:
    """The module `msvcrt`, or an ImportError that says who has it."""
    try:
        import msvcrt
    except ImportError as error:
        raise ImportError(
            'Windows locks need msvcrt, a module of Python for Windows'
        ) from error
    return msvcrt


def _windows_fd(file_obj: types.FileArgument) -> int:
    """The descriptor of what shall be locked."""
    if isinstance(file_obj, int):
        return file_obj
    if not callable(getattr(file_obj, 'fileno', None)):
        raise TypeError(
            f'cannot lock {file_obj!r}: expected a file descriptor or an '
            'object with fileno()'
        )
    return file_obj.fileno()


def _prepare_windows_file(
    file_obj: types.FileArgument,
) -> tuple[int, Any, int | None]:
    """Move a file object to its start: (fd, it or None, old position)."""
    fd = _windows_fd(file_obj)
    io_obj: Any = file_obj
    if not hasattr(io_obj, 'tell') or not hasattr(io_obj, 'seek'):
        return fd, None, None
    try:
        original_pos: int = io_obj.tell()
        if original_pos != 0:
            io_obj.seek(0)  # writes out what is buffered
    except OSError:
        # A pipe, a text file amid `for line in file`, or bytes that cannot
        # be written now and stay buffered: the system looks at the
        # descriptor only, which the caller moves
        return fd, None, None
    return fd, io_obj, original_pos


def _restore_windows_file_pos(
    file_io_obj: Any, original_pos: int | None
) -> None:
    """Move a prepared file object back to where it was."""
    if file_io_obj is not None and original_pos:
        file_io_obj.seek(original_pos)


def _at_file_start(
    file_obj: types.FileArgument, call: Callable[..., Any], *args: Any
) -> Any:
    """Return `call(fd, *args)`, made while the file is at offset 0."""
    fd, io_obj, original_pos = _prepare_windows_file(file_obj)
    try:
        # A buffered reader at 0 has read ahead: its descriptor is elsewhere
        raw_pos = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            return call(fd, *args)
        finally:
            os.lseek(fd, raw_pos, os.SEEK_SET)
    finally:
        _restore_windows_file_pos(io_obj, original_pos)


def _windows_lock_failure(
    error: Exception, file_obj: types.FileArgument
) -> exceptions.LockException:
    """`AlreadyLocked` if another handle is in the way, else the reason."""
    if isinstance(error, _Win32Error):
        contended = error.win32_code in _WIN32_CONTENTION
    else:
        contended = getattr(error, 'errno', None) in _MSVCRT_CONTENTION
    if contended:
        return exceptions.AlreadyLocked(
            exceptions.LockException.LOCK_FAILED,
            'it is locked through another handle',
            fh=file_obj,
        )
    return _windows_failure(error, file_obj)


def _windows_failure(
    error: Exception, file_obj: types.FileArgument
) -> exceptions.LockException:
    """The system's words as a `LockException`."""
    text = getattr(error, 'strerror', None) or str(error)
    return exceptions.LockException(
        exceptions.LockException.LOCK_FAILED, text, fh=file_obj
    )


def _lock_at_start(
    file_obj: types.FileArgument,
    flags: int,
    try_once: Callable[..., None],
    *args: Any,
) -> None:
    """Lock; without NON_BLOCKING try again until nobody is in the way."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            _at_file_start(file_obj, try_once, *args)
        except _SYSTEM_REFUSALS as error:
            failure = _windows_lock_failure(error, file_obj)
            if flags & constants.LOCK_NB or not isinstance(
                failure, exceptions.AlreadyLocked
            ):
                raise failure from error
        else:
            return
        # Neither a pending LockFileEx nor LK_LOCK: the first cannot be
        # interrupted, the second gives up after ten tries of a second
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _unlock_at_start(
    file_obj: types.FileArgument, call: Callable[[int], bool]
) -> bool:
    """Return `call(fd)`, its failures as `LockException`."""
    try:
        was_unlocked: bool = _at_file_start(file_obj, call)
    except _SYSTEM_REFUSALS as error:
        failure = _windows_failure(error, file_obj)
        failure._verb = 'unlock'
        raise failure from error
    return was_unlocked


class Win32Locker(_base_locker.BaseLocker):
    """Locks with `LockFileEx`: shared and exclusive.

    Uses pywin32 where it is installed, `ctypes` otherwise; both lock the
    same bytes. Protocol: `LockFileEx` and `UnlockFileEx` of the Windows API,
    https://learn.microsoft.com/windows/win32/api/fileapi/

    The lock belongs to the handle: a second lock through the same handle is
    refused (shared over what the handle holds itself is stacked and wants
    as many `unlock()`), and closing the handle, however its process ends,
    lets go.
    """

    _ranges: _PyWin32Ranges | _Kernel32Ranges | None = None

    def _get_os_handle(self, fd: int) -> int:
        """The Windows handle of a descriptor."""
        handle: int = _msvcrt().get_osfhandle(fd)
        return handle

    def _lock_range(self, fd: int, win32_flags: int) -> None:
        handle = self._get_os_handle(fd)
        if self._ranges is None:
            self._ranges = _win32_ranges()
        self._ranges.lock_range(handle, win32_flags)

    def _unlock_range(self, fd: int) -> bool:
        """Whether there was a lock to let go of."""
        handle = self._get_os_handle(fd)
        if self._ranges is None:
            self._ranges = _win32_ranges()
        try:
            self._ranges.unlock_range(handle)
        except _Win32Error as error:
            if error.win32_code not in _WIN32_NOT_LOCKED:
                raise
            return False
        return True

    def lock(
        self, file_obj: types.FileArgument, flags: constants.LockFlags
    ) -> None:
        """Lock the file; without NON_BLOCKING wait for it, for ever.

        Waiting is trying again, after 1 ms first and 0.25 s at most, so
        that Ctrl-C ends it. The position in the file is kept.

        Raises `AlreadyLocked` with NON_BLOCKING if another handle holds a
        lock in the way, `RuntimeError` for flags that are no request,
        `TypeError` for what is no file, `LockException` for everything else.

        >>> Win32Locker().lock(file, LockFlags.SHARED)  # doctest: +SKIP
        """
        _lock_request.check_flags(flags)
        win32_flags = _LOCKFILE_FAIL_IMMEDIATELY
        if flags & constants.LOCK_EX:
            win32_flags |= _LOCKFILE_EXCLUSIVE_LOCK
        _lock_at_start(file_obj, flags, self._lock_range, win32_flags)

    def unlock(self, file_obj: types.FileArgument) -> None:
        """Let go of the file; nothing happens where nothing is locked.

        Never blocks. Raises `LockException` if the system refuses or the
        file is closed, `TypeError` for what is no file.

        >>> Win32Locker().unlock(file)  # doctest: +SKIP
        """
        _unlock_at_start(file_obj, self._unlock_range)


class MsvcrtLocker(_base_locker.BaseLocker):
    """Locks exclusively with `msvcrt.locking`, shared with `Win32Locker`.

    The two exclude each other. Protocol: `_locking` of the C runtime of
    Windows, https://learn.microsoft.com/cpp/c-runtime-library/

    The lock belongs to the handle, as with `Win32Locker`.
    """

    _msvcrt_lock_length = 0x10000

    def __init__(self) -> None:
        self._win32_locker = Win32Locker()

    def _lock_exclusively(self, fd: int) -> None:
        msvcrt = _msvcrt()
        msvcrt.locking(fd, msvcrt.LK_NBLCK, self._msvcrt_lock_length)

    def _unlock_exclusive(self, fd: int) -> bool:
        """Whether there was an exclusive lock to let go of."""
        msvcrt = _msvcrt()
        try:
            msvcrt.locking(fd, msvcrt.LK_UNLCK, self._msvcrt_lock_length)
        except OSError as error:
            if error.errno != errno.EACCES:
                raise
            return False
        return True

    def lock(
        self, file_obj: types.FileArgument, flags: constants.LockFlags
    ) -> None:
        """Lock the file; without NON_BLOCKING wait for it, for ever.

        Waits, keeps the position and raises as `Win32Locker.lock()` does.

        >>> MsvcrtLocker().lock(file, LockFlags.EXCLUSIVE)  # doctest: +SKIP
        """
        _lock_request.check_flags(flags)
        if flags & constants.LOCK_SH:
            self._win32_locker.lock(file_obj, flags)
        else:
            _lock_at_start(file_obj, flags, self._lock_exclusively)

    def unlock(self, file_obj: types.FileArgument) -> None:
        """Let go of the file; nothing happens where nothing is locked.

        Never blocks. Raises `LockException` if the system refuses or the
        file is closed, `TypeError` for what is no file.

        >>> MsvcrtLocker().unlock(file)  # doctest: +SKIP
        """
        if not _unlock_at_start(file_obj, self._unlock_exclusive):
            self._win32_locker.unlock(file_obj)
