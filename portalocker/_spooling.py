"""A file in memory that moves to a file of the system when it grows."""

from __future__ import annotations

import io
import os
from _warnings import warn as warn_now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any, AnyStr, Self, overload

    from ._file_shapes import (
        AnyPath,
        FileOf,
        OpenBinaryMode,
        OpenTextMode,
        WriteableBuffer,
    )
else:
    from ._owned_file import FileOf

    AnyStr = None


def open_file(**how: Any) -> Any:
    """Open what a file moves to: `tempfile`, which loads us, says how."""
    raise NotImplementedError


def _delegate(name: str) -> Any:
    """Return a method that calls the present file's method."""

    def method(self: SpooledTemporaryFile[Any], *args: Any) -> Any:
        return getattr(self._file, name)(*args)

    method.__name__ = name
    method.__qualname__ = f'SpooledTemporaryFile.{name}'
    method.__doc__ = f'Call `{name}` of the file, wherever it is now.'
    return method


def _delegated(name: str) -> Any:
    """Return a property that asks the present file."""
    return property(
        lambda self: getattr(self._file, name),
        doc=f'The `{name}` of the file, wherever it is now.',
    )


def _in_memory(mode: str, memory: io.BytesIO) -> Any:
    """Return `memory` with no more methods than the mode allows."""
    if '+' in mode:
        return memory
    if 'r' in mode:
        return io.BufferedReader(memory)
    return io.BufferedWriter(memory)


_OPTIONS = (
    'mode',
    'buffering',
    'encoding',
    'newline',
    'suffix',
    'prefix',
    'dir',
    'errors',
)
#: bytes that one character needs at most, in any encoding, escaped
_MOST_BYTES = 24


class SpooledTemporaryFile(FileOf[AnyStr]):
    """A file that is in memory until it has more than `max_size` bytes.

    Then, or when `fileno` or `rollover` is called, it moves to a
    `TemporaryFile` with the other parameters; with `max_size` 0 it moves for
    the last two alone. If that fails (the disk is full), the error is
    raised, the file stays in memory as it was before the call, and all of its
    methods go on working.

    >>> from portalocker.tempfile import SpooledTemporaryFile
    >>> with SpooledTemporaryFile(max_size=1000) as file:
    ...     file.write(b'bytes')
    5
    """

    _file: Any = None
    #: what `_file` wraps while it is in memory; None: nothing
    _memory: Any = None
    _is_text = False
    _rolled = False

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: SpooledTemporaryFile[str],
            max_size: int,
            mode: OpenTextMode,
            buffering: int = -1,
            encoding: str | None = None,
            newline: str | None = None,
            suffix: str | bytes | None = None,
            prefix: str | bytes | None = None,
            dir: AnyPath | None = None,
            *,
            errors: str | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: SpooledTemporaryFile[str],
            max_size: int = 0,
            *,
            mode: OpenTextMode,
            buffering: int = -1,
            encoding: str | None = None,
            newline: str | None = None,
            suffix: str | bytes | None = None,
            prefix: str | bytes | None = None,
            dir: AnyPath | None = None,
            errors: str | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self: SpooledTemporaryFile[bytes],
            max_size: int = 0,
            mode: OpenBinaryMode = 'w+b',
            buffering: int = -1,
            encoding: str | None = None,
            newline: str | None = None,
            suffix: str | bytes | None = None,
            prefix: str | bytes | None = None,
            dir: AnyPath | None = None,
            *,
            errors: str | None = None,
        ) -> None: ...

    def __init__(
        self,
        max_size: int = 0,
        mode: str = 'w+b',
        buffering: int = -1,
        encoding: str | None = None,
        newline: str | None = None,
        suffix: Any = None,
        prefix: Any = None,
        dir: Any = None,
        *,
        errors: str | None = None,
    ) -> None:
        self._file = io.BytesIO()
        if mode != 'w+b':
            self._memory = self._file
            self._file = _in_memory(mode, self._memory)
            if 'b' not in mode:
                self._is_text = True
                encoding = io.text_encoding(encoding)
                self._file = io.TextIOWrapper(
                    self._file, encoding, errors, newline
                )
        self._max_size = max_size
        self._options = (
            mode,
            buffering,
            encoding,
            newline,
            suffix,
            prefix,
            dir,
            errors,
        )

    @property
    def _TemporaryFileArgs(self) -> dict[str, Any]:  # noqa: N802
        return dict(zip(_OPTIONS, self._options, strict=True))

    def rollover(self) -> None:
        """Move to a file of the system; on failure, stay as it is."""
        if self._rolled:
            return
        old = self._file
        position = old.tell()
        old.flush()
        memory = old if self._memory is None else self._memory
        content = memory.getvalue()
        try:
            new = open_file(**self._TemporaryFileArgs)
            try:
                _write_all(new.fileno(), content)
                new.seek(position)
            except BaseException:
                new.close()
                raise
        except OSError as error:
            error.add_note(
                f'all {len(content)} bytes of the file are kept in memory'
            )
            raise
        self._file = new
        self._rolled = True
        self._memory = None

    def write(self, data: Any) -> int:
        """Write, moving to a file of the system if it gets too large.

        Where that fails, nothing of `data` was written.
        """
        if not self._max_size or self._rolled:
            return self._file.write(data)  # type: ignore[no-any-return]
        if self._is_text:
            return self._write_text(data)
        size = len(data) if type(data) is bytes else _size_of(data)
        if self._file.tell() + size > self._max_size:
            self.rollover()
        return self._file.write(data)  # type: ignore[no-any-return]

    def _write_text(self, text: str) -> int:
        file, memory = self._file, self._memory
        position = file.tell()
        is_near = position + _MOST_BYTES * len(text) > self._max_size
        before = memory.getvalue() if is_near else b''
        written = file.write(text)
        if is_near and file.tell() > self._max_size:
            try:
                self.rollover()
            except BaseException:
                memory.seek(0)
                memory.truncate()
                memory.write(before)
                file.seek(position)
                raise
        return written  # type: ignore[no-any-return]

    def read(self, size: int | None = -1, /) -> AnyStr:
        """Read to the end, or so many bytes or characters."""
        return self._file.read(size)  # type: ignore[no-any-return]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a position, as `io.IOBase.seek` does."""
        return self._file.seek(offset, whence)  # type: ignore[no-any-return]

    def writelines(self, lines: Iterable[Any]) -> None:
        """Write each line, as `write` does."""
        for line in lines:
            self.write(line)

    def truncate(self, size: int | None = None) -> int:
        """Cut the file at its position, or at `size`, which may be longer."""
        if size is not None and self._max_size and size > self._max_size:
            self.rollover()
        return self._file.truncate(size)  # type: ignore[no-any-return]

    def fileno(self) -> int:
        """Move to a file of the system and return its descriptor."""
        self.rollover()
        return self._file.fileno()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the file: its content is gone."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        file = self._file
        return file is not None and file.closed

    @property  # type: ignore[misc]
    def name(self) -> int | None:  # type: ignore[override]
        """The descriptor; None while it is in memory."""
        return getattr(self._file, 'name', None)

    @property
    def mode(self) -> str:
        """How it was opened."""
        if self._rolled:
            return self._file.mode  # type: ignore[no-any-return]
        mode: str = self._options[0]
        return mode

    def __enter__(self) -> Self:
        if self._file.closed:
            raise ValueError('cannot enter a closed file')
        return self

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._file.close()

    def _check(self, file: Any) -> None:
        """Move if `file` is too large; for those who write to it directly."""
        may_move = self._max_size and not self._rolled
        if may_move and file.tell() > self._max_size:
            self.rollover()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AnyStr:
        # through the present file: it may move between two lines
        line: AnyStr = self._file.readline()
        if not line:
            raise StopIteration
        return line

    def __del__(self, warn: Callable[..., None] = warn_now) -> None:
        file = self._file
        if file is None or file.closed:
            return
        warn(f'Unclosed file {self!r}', ResourceWarning, 2, self)
        file.close()

    if TYPE_CHECKING:

        def detach(self) -> Any: ...
        def read1(self, size: int = ..., /) -> bytes: ...
        def readinto1(self, buffer: WriteableBuffer, /) -> int: ...
        @property
        def encoding(self) -> str: ...
        @property
        def errors(self) -> str | None: ...
        @property
        def newlines(self) -> str | tuple[str, ...] | None: ...

    else:
        detach = _delegate('detach')
        flush = _delegate('flush')
        isatty = _delegate('isatty')
        read1 = _delegate('read1')
        readable = _delegate('readable')
        readinto = _delegate('readinto')
        readinto1 = _delegate('readinto1')
        readline = _delegate('readline')
        readlines = _delegate('readlines')
        seekable = _delegate('seekable')
        tell = _delegate('tell')
        writable = _delegate('writable')
        encoding = _delegated('encoding')
        errors = _delegated('errors')
        newlines = _delegated('newlines')


# a base class of the interpreter's own costs as much as all the rest here
io.IOBase.register(SpooledTemporaryFile)
# where users find it
SpooledTemporaryFile.__module__ = f'{__package__}.tempfile'


def _size_of(data: Any) -> int:
    try:
        return memoryview(data).nbytes
    except TypeError:
        return 0  # write() will refuse it


def _write_all(fd: int, content: bytes) -> None:
    """Write from the start of a new file, and go back there."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
