"""The least, in Python, that keeps the promises of temporary files.

A name drawn from the system's random source, the audit event, an object that
cleans up once, in this process only, and removes no stranger's file. It has no
parameters, repairs nothing, and tries no second name: what costs less than
this cannot be had. `fresh_file` promises nothing but the name.
"""

from __future__ import annotations

import fcntl
import functools
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
            text = bytearray(os.urandom(576).translate(self.letters))
            text[8::9] = b' ' * 64
            self.ready = text.decode().split()
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


class BareLockedDirectory(BareDirectory):
    """One that is locked, and not by mistake another one of its name."""

    def __init__(self, names: BareNames) -> None:
        super().__init__(names)
        self.fd = os.open(self.name, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.path.samestat(os.fstat(self.fd), os.lstat(self.name))

    def __exit__(self, *_: object) -> None:
        fd, self.fd = self.fd, -1
        super().__exit__()
        if fd >= 0:
            os.close(fd)


class BareSpool:
    """A file whose bound methods stay good when it moves."""

    def __init__(self, max_size: int = 0, mode: str = 'w+b') -> None:
        self.file = io.BytesIO()
        self.max_size = max_size
        self.mode = mode

    def write(self, data: bytes) -> int:
        if self.max_size:
            raise NotImplementedError
        return self.file.write(data)

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


class BareWriter:
    """A file that appears whole under a name that is free."""

    fd = -1

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> io.BufferedWriter:
        place, _, self.name = self.path.rpartition('/')
        self.dir_fd = os.open(place, os.O_PATH | os.O_DIRECTORY)
        try:
            if os.access(
                self.name,
                os.F_OK,
                dir_fd=self.dir_fd,
                effective_ids=True,
                follow_symlinks=False,
            ):
                raise FileExistsError(self.path)
            self.fd = os.open(
                '.', os.O_TMPFILE | os.O_RDWR, 0o666, dir_fd=self.dir_fd
            )
        except BaseException:
            os.close(self.dir_fd)
            raise
        # who closes the file object leaves us the descriptor
        self.raw = io.FileIO(self.fd, 'wb', closefd=False)
        self.file = io.BufferedWriter(self.raw)
        return self.file

    def __exit__(self, kind: object, *_: object) -> None:
        fd, self.fd = self.fd, -1
        try:
            if kind is None:
                self.file.close()
                os.fsync(fd)
                os.link(
                    f'/proc/self/fd/{fd}',
                    self.name,
                    src_dir_fd=self.dir_fd,
                    dst_dir_fd=self.dir_fd,
                )
        finally:
            self.raw.close()
            os.close(fd)
            os.close(self.dir_fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            self.__exit__(self)


def written(path: str, content: bytes) -> None:
    """Write a file that appears whole."""
    with BareWriter(path) as file:
        file.write(content)


def removed(path: str) -> None:
    """Remove a directory and what is in it, following no link."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    directories = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=fd)
        for name in directories:
            os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(path)


class BareNamedFile:
    """Methods that keep the file, whoever keeps them."""

    def __init__(self, file: io.BufferedRandom) -> None:
        self.write = functools.partial(file.write)
        self.seek = functools.partial(file.seek)


def fresh_file(folder: str) -> Operation:
    """The system calls, with a new name each time and no other promise."""
    names = BareNames(folder)

    def operation() -> None:
        path = names.path('tempfile.mkstemp')
        os.close(os.open(path, NEW, 0o600))
        os.unlink(path)

    return operation


def operations(folder: str) -> dict[str, Operation]:
    """The least that keeps the promises."""
    names = BareNames(folder)

    def entered(make: Callable[..., Any], *args: object) -> Operation:
        def operation() -> None:
            with make(*args):
                pass

        return operation

    def mkstemp() -> tuple[int, str]:
        path = names.path('tempfile.mkstemp')
        return os.open(path, NEW, 0o600), path

    def mkstemp_cycle() -> None:
        fd, path = mkstemp()
        os.close(fd)
        os.unlink(path)

    def nameless() -> io.BufferedRandom:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
        return io.BufferedRandom(io.FileIO(fd, 'rb+'))

    return {
        'mkstemp, close, unlink': mkstemp_cycle,
        'NamedTemporaryFile': entered(BareFile, names),
        'TemporaryFile': entered(nameless),
        'TemporaryDirectory': entered(BareDirectory, names),
        'TemporaryDirectory, locked': entered(BareLockedDirectory, names),
    }
