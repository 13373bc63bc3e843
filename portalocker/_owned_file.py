"""An open file that is removed when it is closed, or when nobody has it."""

from __future__ import annotations

import os
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


class _TemporaryFileCloser:
    """Closes a file and removes it, at the latest when nobody has it.

    A forked child closes its copy and leaves the file to its parent. A file
    that was put in the place of ours stays.
    """

    cleanup_called = False
    close_called = False
    _identity: tuple[int, int] | None = None

    def __init__(
        self,
        file: Any,
        name: Any,
        delete: bool = True,
        delete_on_close: bool = True,
        warn_message: str | None = None,
    ) -> None:
        self.file = file
        self.name = name
        self.delete = delete
        self.delete_on_close = delete_on_close
        self.warn_message = warn_message
        self._birthplace = _this_process.here
        if delete:
            self._identity = _identity_of(file)

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
                self.close_called = True
                self.file.close()
        finally:
            # With O_TEMPORARY, Windows removes it
            if (
                self.delete
                and not (windows and self.delete_on_close)
                and self._birthplace.is_here
            ):
                try:
                    found = lstat(self.name)
                    if self._identity in {None, (found.st_ino, found.st_dev)}:
                        unlink(self.name)
                except FileNotFoundError:
                    pass

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
        was_closed = self.close_called
        self.cleanup()
        if self.delete and not was_closed and self._birthplace.is_here:
            message = self.warn_message or (
                'Implicitly cleaning up '
                f'<_TemporaryFileWrapper file={self.file!r}>'
            )
            warn(message, ResourceWarning)


def _identity_of(file: Any) -> tuple[int, int] | None:
    try:
        opened = os.fstat(file.fileno())
    except (AttributeError, OSError, TypeError, ValueError):
        return None  # not a file of the system
    return opened.st_ino, opened.st_dev


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
    ) -> None:
        self.file = file
        self.name = name
        self._closer = _TemporaryFileCloser(
            file, name, delete, delete_on_close
        )

    def __repr__(self) -> str:
        return f'<{type(self).__name__} file={self.__dict__["file"]!r}>'

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self.__dict__['file'], name)
        except KeyError:
            raise AttributeError(name) from None
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
        self.file.__enter__()
        return self

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> Any:
        try:
            return self.file.__exit__(exc, value, tb)
        finally:
            self._closer.cleanup()

    def close(self) -> None:
        """Close the file, and remove it unless that was put off."""
        self._closer.close()

    def __iter__(self) -> Iterator[Any]:
        # a generator keeps us, and so the file, while it is iterated
        yield from self.file

    __class_getitem__: Any = classmethod(GenericAlias)
