"""The least, in Python, that keeps the promises of a lock on a file.

Nobody who waits is passed, the file that is locked is the one at the path, the
holder is known, and a forked child can be told what its parent holds. It has
no parameters and never waits: what costs less than this cannot be had.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
import threading
from typing import IO

EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB
LOCK_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
FLOCK = 'hhqqi0q'
# Where those who wait have their tickets
WHO_WAITS = struct.pack(FLOCK, fcntl.F_WRLCK, 0, 1 << 62, 0, 0)
NOBODY = struct.pack(FLOCK, fcntl.F_UNLCK, 0, 1 << 62, 0, 0)

threads = threading.local()
#: what a forked child has to let go
held: dict[object, None] = {}


def this_thread() -> object:
    """Return what no other thread ever has: numbers are used again."""
    try:
        return threads.token
    except AttributeError:
        threads.token = object()
        return threads.token


def refuse_to_pass(fd: int) -> None:
    """Fail where somebody waits for the file."""
    if fcntl.fcntl(fd, fcntl.F_OFD_GETLK, WHO_WAITS) != NOBODY:
        raise BlockingIOError


class Proxy:
    """What `acquire()` of a `FileLock` gives, to be used in a `with`."""

    __slots__ = ('lock',)

    def __init__(self, lock: BareFileLock) -> None:
        self.lock = lock

    def __enter__(self) -> BareFileLock:
        return self.lock

    def __exit__(self, *_: object) -> None:
        self.lock.release()


class BareFileLock:
    """A `FileLock`: counted, on a descriptor."""

    def __init__(self, path: str) -> None:
        ever = itertools.repeat
        # No signal handler comes between the call and the name that keeps it
        self.openings = map(os.open, ever(path), ever(LOCK_FILE), ever(0o666))
        self.owner: object = None
        self.depth = 0
        self.fd = -1

    def acquire(self) -> Proxy:
        proxy = Proxy(self)
        owner = this_thread()
        if self.owner is owner:
            self.depth += 1
            return proxy
        fd = -1
        for fd in self.openings:  # noqa: B007
            break
        try:
            refuse_to_pass(fd)
            fcntl.flock(fd, EXCLUSIVE)
            if os.fstat(fd).st_nlink != 1:
                raise FileNotFoundError
        except BaseException:
            os.close(fd)
            raise
        self.fd, self.depth, self.owner = fd, 1, owner
        held[self] = None
        return proxy

    def release(self) -> None:
        if self.owner is not this_thread():
            return
        if self.depth > 1:
            self.depth -= 1
            return
        fd, self.owner = self.fd, None
        del held[self]
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


class BareLock:
    """A `Lock`: a file object, whose path is compared."""

    def __init__(self, path: str) -> None:
        self.path = path
        # The files of those threads that hold it
        self.files: dict[object, IO[str]] = {}
        held[self] = None

    def acquire(self) -> IO[str]:
        file = self.files.get(this_thread())
        if file is not None:
            return file
        file = open(self.path, 'a')  # noqa: SIM115
        try:
            fd = file.fileno()
            refuse_to_pass(fd)
            fcntl.flock(fd, EXCLUSIVE)
            opened, found = os.fstat(fd), os.stat(self.path)
            if not os.path.samestat(opened, found):
                raise FileNotFoundError
        except BaseException:
            file.close()
            raise
        self.files[this_thread()] = file
        return file

    def release(self) -> None:
        file = self.files.pop(this_thread(), None)
        if file is not None:
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)
            file.close()

    def __enter__(self) -> IO[str]:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
