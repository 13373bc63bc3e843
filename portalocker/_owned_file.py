"""An open file that is removed when it is closed, or when nobody has it."""

from __future__ import annotations

import io
import os
from _thread import RLock
from _warnings import warn as warn_now

from . import _this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from functools import partial
    from types import TracebackType
    from typing import Any, Self
else:
    from _functools import partial  # functools costs a millisecond

GenericAlias: Any = type(list[int])  # types.GenericAlias, for nothing

# guards the step from a descriptor to a file object
_late_lock = RLock()


def _renew_lock() -> None:
    global _late_lock
    _late_lock = RLock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_renew_lock)


class _TemporaryFileCloser:
    """Closes a file and removes it, at the latest when nobody has it.

    A forked child closes its copy and leaves the file to its parent. A file
    that was put in the place of ours stays.

    A descriptor may take the place of the file object, which is made when
    somebody asks for it. Many a temporary file is used by its name alone.
    """

    cleanup_called = True  # until there is something to clean up
    close_called = False
    delete_on_close = True
    warn_message: str | None = None
    # holds the descriptor until somebody takes it: to close it, or for a
    # file object
    _unused: tuple[()] | list[int] = ()
    _opened: os.stat_result | None = None

    def __init__(
        self,
        file: Any,
        name: Any,
        delete: bool = True,
        delete_on_close: bool = True,
        warn_message: str | None = None,
        fd: int | None = None,
    ) -> None:
        self.name = name
        self.delete = delete
        if not delete_on_close:
            self.delete_on_close = delete_on_close
        if warn_message is not None:
            self.warn_message = warn_message
        self._birthplace = _this_process.here
        if delete:
            # now: others may close the file before it is removed
            self._opened = os.fstat(fd) if fd is not None else _status(file)
        if fd is None:
            self.file = file
        else:
            self._unused = [fd]
        self.cleanup_called = False

    def __getattr__(self, attribute: str) -> Any:
        if attribute != 'file':
            raise AttributeError(attribute)
        with _late_lock:
            if 'file' not in self.__dict__:
                self.file = self._make_file()
            return self.__dict__['file']

    def _make_file(self) -> Any:
        if not self._unused:
            return _closed_file(self.name)
        return buffered(self._unused.pop(), self.name)

    def _close_file(self) -> None:
        self.close_called = True
        if self._unused:
            try:
                fd = self._unused.pop()
            except IndexError:
                pass  # another thread makes a file object of it
            else:
                os.close(fd)
                return
        self.file.close()

    def cleanup(
        self,
        windows: bool = (os.name == 'nt'),
        unlink: Callable[[Any], None] = os.unlink,
        lstat: Callable[[Any], os.stat_result] = os.lstat,
    ) -> None:
        """Close the file, and remove it where that was asked for."""
        if self.cleanup_called:
            return
        self.cleanup_called = True
        try:
            if not self.close_called:
                self._close_file()
        finally:
            # With O_TEMPORARY, Windows removes it
            if (
                self.delete
                and not (windows and self.delete_on_close)
                and self._birthplace.is_here
            ):
                try:
                    opened, found = self._opened, lstat(self.name)
                    if opened is None or (
                        found.st_ino == opened.st_ino
                        and found.st_dev == opened.st_dev
                    ):
                        unlink(self.name)
                except FileNotFoundError:
                    pass

    def close(self) -> None:
        """Close the file; remove it unless that was put off."""
        if self.close_called:
            return
        try:
            self._close_file()
        finally:
            if self.delete and self.delete_on_close:
                self.cleanup()

    def __del__(self, warn: Callable[..., None] = warn_now) -> None:
        if self.cleanup_called:
            return
        was_closed = self.close_called
        self.cleanup()
        if self.delete and not was_closed and self._birthplace.is_here:
            message = self.warn_message or (
                'Implicitly cleaning up '
                f'<_TemporaryFileWrapper file={self.file!r}>'
            )
            warn(message, ResourceWarning)


def _status(file: Any) -> os.stat_result | None:
    try:
        return os.fstat(file.fileno())
    except (AttributeError, OSError, TypeError, ValueError):
        return None  # not a file of the system


def buffered(fd: int, name: Any = None) -> Any:
    """Return the file object that takes over a new file's descriptor."""
    try:
        raw = io.FileIO(fd, 'rb+')
    except BaseException:
        os.close(fd)
        raise
    try:
        if name is not None:
            raw.name = name
        return io.BufferedRandom(raw)
    except BaseException:
        raw.close()
        raise


def _closed_file(name: Any) -> Any:
    """Return what a file that nobody used is after it was closed."""
    file = buffered(os.open(os.devnull, os.O_RDWR), name)
    file.close()
    return file


class _TemporaryFileWrapper:
    """A file with a name, which is removed when it is closed.

    It has the methods and attributes of the file object in `file`.
    """

    def __init__(
        self,
        file: Any,
        name: Any,
        delete: bool = True,
        delete_on_close: bool = True,
        fd: int | None = None,
    ) -> None:
        if fd is None:
            self.file = file
        self.name = name
        self._closer = _TemporaryFileCloser(
            file, name, delete, delete_on_close, None, fd
        )

    def __repr__(self) -> str:
        return f'<{type(self).__name__} file={self.file!r}>'

    def __getattr__(self, name: str) -> Any:
        if name == '_closer':
            raise AttributeError(name)  # the constructor failed
        file = self._closer.file
        if name == 'file':
            self.file = file
            return file
        value = getattr(file, name)
        if not callable(value):
            return value  # it may be another one after the next read
        # Who keeps the method keeps the file: f = NamedTemporaryFile().write
        method: Any = partial(value)
        method._closer = self._closer
        method.__name__ = name
        method.__doc__ = value.__doc__
        self.__dict__[name] = method
        return method

    def __enter__(self) -> Self:
        if not self._closer._unused:
            self.file.__enter__()
        return self

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        closer = self._closer
        if closer._unused:
            closer.cleanup()
            return None
        try:
            return self.file.__exit__(exc, value, tb)
        finally:
            closer.cleanup()

    def close(self) -> None:
        """Close the file, and remove it unless that was put off."""
        self._closer.close()

    def __iter__(self) -> Iterator[Any]:
        # a generator keeps us, and so the file, while it is iterated
        yield from self.file

    __class_getitem__: Any = classmethod(GenericAlias)
