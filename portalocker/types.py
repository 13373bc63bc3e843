"""The shapes we accept: open modes, paths, and things to lock."""

from __future__ import annotations

import io
import os
import pathlib
import typing
from collections.abc import Callable

#: every mode the built-in `open()` of any supported or past Python took
Mode = typing.Literal[
    # text, read / write / append / create
    'r', 'r+', '+r', 'rt', 'tr', 'rt+', 'r+t', '+rt', 'tr+', 't+r', '+tr',
    'w', 'w+', '+w', 'wt', 'tw', 'wt+', 'w+t', '+wt', 'tw+', 't+w', '+tw',
    'a', 'a+', '+a', 'at', 'ta', 'at+', 'a+t', '+at', 'ta+', 't+a', '+ta',
    'x', 'x+', '+x', 'xt', 'tx', 'xt+', 'x+t', '+xt', 'tx+', 't+x', '+tx',
    # universal newlines
    'U', 'rU', 'Ur', 'rtU', 'rUt', 'Urt', 'trU', 'tUr', 'Utr',
    'rbU', 'rUb', 'Urb', 'brU', 'bUr', 'Ubr',
    # binary, read / write / append / create
    'rb', 'br', 'rb+', 'r+b', '+rb', 'br+', 'b+r', '+br',
    'wb', 'bw', 'wb+', 'w+b', '+wb', 'bw+', 'b+w', '+bw',
    'ab', 'ba', 'ab+', 'a+b', '+ab', 'ba+', 'b+a', '+ba',
    'xb', 'bx', 'xb+', 'x+b', '+xb', 'bx+', 'b+x', '+bx',
]  # fmt: skip

#: a path (any `os.PathLike` whose path is text works as well)
Filename = typing.Union[str, pathlib.Path, 'os.PathLike[str]']

#: an open text or binary file
IO = typing.Union[typing.IO[str], typing.IO[bytes]]


class FileOpenKwargs(typing.TypedDict, total=False):
    """What `Lock` passes on to the built-in `open()`."""

    #: buffering policy
    buffering: int
    #: encoding of a text file
    encoding: str | None
    #: how encoding errors are handled
    errors: str | None
    #: how line ends are handled
    newline: str | None
    #: whether closing the file closes its descriptor
    closefd: bool
    #: `opener(path, flags) -> descriptor`
    opener: Callable[[str, int], int] | None


class HasFileno(typing.Protocol):
    """Anything that has a file descriptor."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...


#: what `lock()` and `unlock()` take
FileArgument = typing.Union[
    typing.IO[typing.Any], io.TextIOWrapper, int, HasFileno
]
