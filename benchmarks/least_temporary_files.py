"""The least, in Python, that keeps the promises of temporary files.

A name drawn from the system's random source, the audit event, an object that
cleans up once, in this process only, and removes no stranger's file. It has no
parameters, repairs nothing, and tries no second name: what costs less than
this cannot be had.
"""

from __future__ import annotations

import io
import os
import sys
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_NOFOLLOW', 0)
Operation = Callable[[], object]


class BareNames:
    """Names that nobody can guess, in one directory."""

    letters = b'abcdefghijklmnopqrstuvwxyz012345' * 8

    def __init__(self, folder: str) -> None:
        self.head = os.path.join(folder, 'tmp')
        self.ready: list[str] = []

    def path(self, event: str) -> str:
        if not self.ready:
            text = os.urandom(512).translate(self.letters).decode()
            self.ready = [text[n : n + 8] for n in range(0, 512, 8)]
        path = self.head + self.ready.pop()
        sys.audit(event, path)
        return path


class BareFile:
    """A named file that goes when it is closed, and no other one."""

    is_here = True  # false in a forked child

    def __init__(self, names: BareNames) -> None:
        self.name = names.path('tempfile.mkstemp')
        self.fd = os.open(self.name, NEW, 0o600)

    def __enter__(self) -> BareFile:
        return self

    def __exit__(self, *_: object) -> None:
        fd, self.fd = self.fd, -1
        is_ours = os.readlink(f'/proc/self/fd/{fd}') == self.name
        os.close(fd)
        if is_ours and self.is_here:
            os.unlink(self.name)

    def __del__(self) -> None:
        if self.fd >= 0:
            self.__exit__()


class BareDirectory:
    """A directory that goes, at the latest at the end of the process."""

    is_here = True
    living: ClassVar[dict[int, object]] = {}

    def __init__(self, names: BareNames) -> None:
        self.name = names.path('tempfile.mkdtemp')
        os.mkdir(self.name, 0o700)
        self.living[id(self)] = weakref.ref(self)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        if self.living.pop(id(self), None) and self.is_here:
            os.rmdir(self.name)

    def __del__(self) -> None:
        self.__exit__()


class BareSpool:
    """A file whose bound methods stay good when it moves."""

    def __init__(self, max_size: int = 0, mode: str = 'w+b') -> None:
        self.file = io.BytesIO()
        self.max_size = max_size
        self.mode = mode

    def write(self, data: bytes) -> int:
        if self.max_size <= 0:
            return self.file.write(data)
        raise NotImplementedError

    def seek(self, offset: int, whence: int = 0) -> int:
        return self.file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        return self.file.read(size)

    def __enter__(self) -> BareSpool:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __del__(self) -> None:
        if not self.file.closed:
            self.file.close()


def operations(folder: str) -> dict[str, Operation]:
    """The least that keeps the promises."""
    names = BareNames(folder)

    def entered(make: Callable[..., Any], *args: object) -> Operation:
        def operation() -> None:
            with make(*args):
                pass

        return operation

    def mkstemp() -> None:
        path = names.path('tempfile.mkstemp')
        os.close(os.open(path, NEW, 0o600))
        os.unlink(path)

    def nameless() -> io.BufferedRandom:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        return io.BufferedRandom(io.FileIO(fd, 'rb+'))

    return {
        'mkstemp, close, unlink': mkstemp,
        'NamedTemporaryFile': entered(BareFile, names),
        'TemporaryFile': entered(nameless),
        'TemporaryDirectory': entered(BareDirectory, names),
    }
