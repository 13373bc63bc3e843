"""An open file that is removed when it is closed, or when nobody has it."""

from __future__ import annotations

import io
import os
import sys
from _thread import RLock
from _warnings import warn as warn_now

from . import _this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from functools import partial
    from types import TracebackType
    from typing import Any, AnyStr, Self, TypeAlias

    from ._file_shapes import FileOf

    #: a new file: its descriptor, its name, the process that made it
    _Unused: TypeAlias = tuple[int, Any, _this_process.Birthplace]
else:
    from _functools import partial  # functools costs a millisecond

    AnyStr = None

    class FileOf:
        """What can be subscripted with the type of its content."""

        __class_getitem__ = classmethod(type(list[int]))


io_open = io.open
#: mode, buffering, encoding, errors, newline of most files
USUAL = ('w+b', -1, None, None, None)
# guards the step from a descriptor to a file object
_late_lock = RLock()


def _renew_lock() -> None:
    global _late_lock
    _late_lock = RLock()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_renew_lock)

# What runs when the interpreter ends has `os` as a default: by then, globals
# may be gone


def _leads_to(
    path: Any, fd: int, os: Any = os, has_proc: bool = sys.platform == 'linux'
) -> bool:
    """Whether a path leads to the file that a descriptor has open."""
    if has_proc:
        try:
            # one call instead of two; as good where both are written alike
            has_this_path = os.readlink(f'/proc/self/fd/{fd}') == path
            # of a file that has lost its name the system says so
            if has_this_path and not path.endswith(' (deleted)'):
                return True
        except OSError:
            pass  # no /proc here
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return False
    opened = os.fstat(fd)
    return bool(
        found.st_ino == opened.st_ino and found.st_dev == opened.st_dev
    )


def _unlink_if_same(
    path: Any, opened: os.stat_result | None, os: Any = os
) -> None:
    """Unlink a file, unless another one was put in its place."""
    try:
        if opened is not None:
            found = os.lstat(path)
            if found.st_ino != opened.st_ino or found.st_dev != opened.st_dev:
                return
        os.unlink(path)
    except FileNotFoundError:
        pass


class _TemporaryFileCloser:
    """Closes a file and removes it, at the latest when nobody has it.

    A forked child closes its copy and leaves the file to its parent. A file
    that was put in the place of ours stays.
    """

    cleanup_called = True  # until there is something to clean up
    close_called = False
    delete_on_close = True
    warn_message: str | None = None
    _opened: os.stat_result | None = None

    def __init__(
        self,
        file: Any,
        name: Any,
        delete: bool = True,
        delete_on_close: bool = True,
        warn_message: str | None = None,
        opened: os.stat_result | None = None,
    ) -> None:
        self.file = file
        self.name = name
        self.delete = delete
        if not delete_on_close:
            self.delete_on_close = delete_on_close
        if warn_message is not None:
            self.warn_message = warn_message
        self._birthplace = _this_process.here
        if delete:
            # now: others may close the file before it is removed
            self._opened = opened or _status(file)
        self.cleanup_called = False

    def cleanup(
        self,
        windows: bool = (os.name == 'nt'),
        unlink: Callable[..., None] = _unlink_if_same,
    ) -> None:
        """Close the file, and remove it where that was asked for."""
        if self.cleanup_called:
            return
        self.cleanup_called = True
        try:
            if not self.close_called:
                self.close_called = True
                self.file.close()
        finally:
            # With O_TEMPORARY, Windows removes it
            if (
                self.delete
                and not (windows and self.delete_on_close)
                and self._birthplace.is_here
            ):
                unlink(self.name, self._opened)

    def close(self) -> None:
        """Close the file; remove it unless that was put off."""
        if self.close_called:
            return
        self.close_called = True
        try:
            self.file.close()
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


def buffered(fd: int, name: Any = None) -> io.BufferedRandom:
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


def is_usual(how: tuple[Any, ...]) -> bool:
    """Whether `io.open` would do nothing but what `buffered` does."""
    return how == USUAL and io.open is io_open


def name_raw(file: Any, name: Any) -> None:
    """Let the innermost file object have a name."""
    raw = getattr(file, 'buffer', file)
    raw = getattr(raw, 'raw', raw)
    raw.name = name


def remove_after(error: BaseException, path: Any) -> None:
    """Remove a file that could not be given to the caller."""
    try:
        os.unlink(path)
    except OSError as second:
        error.add_note(f'{path!r} is left behind: {second.strerror}')


def _taken_over(new: _Unused, opened: os.stat_result) -> io.BufferedRandom:
    """Return the file object of a new file, which goes if that fails."""
    fd, name, birthplace = new
    try:
        return buffered(fd, name)
    except BaseException:
        if birthplace.is_here:
            _unlink_if_same(name, opened)
        raise


def _closed_file(name: Any) -> io.BufferedRandom:
    """Return what a file that nobody used is after it was closed."""
    file = buffered(os.open(os.devnull, os.O_RDWR), name)
    file.close()
    return file


def _close_unused(
    unused: Sequence[_Unused],
    os: Any = os,
    leads_to: Callable[[Any, int], bool] = _leads_to,
) -> bool:
    """Close the descriptor and remove the file; False: another did."""
    try:
        fd, name, birthplace = unused.pop()  # type: ignore[attr-defined]
    except IndexError:
        return False
    is_ours = False
    try:
        # With O_TEMPORARY, Windows removes it
        if birthplace.is_here and os.name != 'nt':
            is_ours = leads_to(name, fd)
    finally:
        try:
            os.close(fd)
        finally:
            if is_ours:
                try:
                    os.unlink(name)
                except FileNotFoundError:
                    pass
    return True


class _TemporaryFileWrapper(FileOf[AnyStr]):
    """A file with a name, which is removed when it is closed.

    It has the methods and attributes of the file object in `file`.

    The descriptor of a new file may take the place of the file object, which
    is made, with what closes it, when somebody asks for it: many a temporary
    file is used by its name alone. Such a file is removed when it is closed.
    """

    # Holds what is known of the new file until somebody takes it: to close
    # it, or for a file object. In one piece: with __getattr__ in its class,
    # an object's attributes are slow to read
    _unused: Sequence[_Unused] = ()
    file: Any
    name: Any

    def __init__(
        self,
        file: Any,
        name: Any,
        delete: bool = True,
        delete_on_close: bool = True,
        fd: int | None = None,
    ) -> None:
        self.name = name
        if fd is None:
            self.file = file
            self._closer = _TemporaryFileCloser(
                file, name, delete, delete_on_close
            )
        else:
            self._unused = [(fd, name, _this_process.here)]

    def __repr__(self) -> str:
        return f'<{type(self).__name__} file={self.file!r}>'

    def __getattr__(self, name: str) -> Any:
        if name in {'file', '_closer'}:
            if '_unused' not in self.__dict__:
                raise AttributeError(name)  # the constructor failed
            self._begin_to_use()
            return self.__dict__[name]
        value = getattr(self.file, name)
        if not callable(value):
            return value  # it may be another one after the next read
        # Who keeps the method keeps the file: f = NamedTemporaryFile().write
        method: Any = partial(value)
        method._closer = self._closer
        method.__name__ = name
        method.__doc__ = value.__doc__
        self.__dict__[name] = method
        return method

    def _begin_to_use(self) -> None:
        """Make the file object, and what closes it."""
        with _late_lock:
            if '_closer' in self.__dict__:
                return  # another thread was faster
            unused: Any = self._unused
            try:
                new = unused.pop()
            except IndexError:  # another thread is closing it
                self.file = _closed_file(self.name)
                closer = _TemporaryFileCloser(
                    self.file, self.name, delete=False
                )
                closer.cleanup_called = closer.close_called = True
            else:
                fd, name, birthplace = new
                try:
                    opened = os.fstat(fd)
                except BaseException:
                    unused.append(new)
                    raise
                self.file = _taken_over(new, opened)
                closer = _TemporaryFileCloser(self.file, name, opened=opened)
                closer._birthplace = birthplace
            self._closer = closer

    def __enter__(self) -> Self:
        if not self._unused:
            self.file.__enter__()
        return self

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
        close_unused: Callable[[Sequence[_Unused]], bool] = _close_unused,
    ) -> Any:
        unused = self._unused
        if unused and close_unused(unused):
            return None
        closer = self._closer
        try:
            return self.file.__exit__(exc, value, tb)
        finally:
            closer.cleanup()

    def close(self) -> None:
        """Close the file, and remove it unless that was put off."""
        unused = self._unused
        if not (unused and _close_unused(unused)):
            self._closer.close()

    def __iter__(self) -> Iterator[Any]:
        # a generator keeps us, and so the file, while it is iterated
        yield from self.file

    def __del__(
        self,
        warn: Callable[..., None] = warn_now,
        close_unused: Callable[[Sequence[_Unused]], bool] = _close_unused,
    ) -> None:
        unused = self._unused
        if not unused:
            return
        _, name, birthplace = unused[0]
        if close_unused(unused) and birthplace.is_here:
            file = f'<_io.BufferedRandom name={name!r}>'
            warn(
                f'Implicitly cleaning up <{type(self).__name__} file={file}>',
                ResourceWarning,
            )
