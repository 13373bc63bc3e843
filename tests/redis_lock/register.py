"""A register that refuses what former holders write, and tells of it.

A writer announces its token first and is given the value; it may write while
nobody announced a larger one. So an update is lost only if two holders had
tokens of one order in two orders of time.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import struct

_CONTENT = struct.Struct('=QQQQ')  # token, value, refused, accepted


class DuplicateToken(Exception):
    """Two holds have one token."""


class Register:
    """A file of one record; any number of processes use it."""

    def __init__(self, path: pathlib.Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT)
        if not os.fstat(self._fd).st_size:
            os.pwrite(self._fd, bytes(_CONTENT.size), 0)

    def announce(self, token: int) -> int | None:
        """The value, for the largest token so far; None for a smaller one."""
        with _Alone(self._fd) as content:
            if token == content.token:
                raise DuplicateToken(token)
            if token < content.token:
                content.refused += 1
                return None
            content.token = token
            return content.value

    def write(self, token: int, value: int) -> bool:
        """Set the value, unless a larger token came; whether it was set."""
        with _Alone(self._fd) as content:
            if token != content.token:
                content.refused += 1
                return False
            content.value = value
            content.accepted += 1
            return True

    def totals(self) -> tuple[int, int, int]:
        """The value, and how many writes were accepted and refused."""
        with _Alone(self._fd) as content:
            return content.value, content.accepted, content.refused

    def close(self) -> None:
        os.close(self._fd)


class _Alone:
    """The content, changed in one step; whoever is killed changes nothing."""

    token: int
    value: int
    refused: int
    accepted: int

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> _Alone:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.token, self.value, self.refused, self.accepted = _CONTENT.unpack(
            os.pread(self._fd, _CONTENT.size, 0)
        )
        return self

    def __exit__(self, *exc_info: object) -> None:
        content = self.token, self.value, self.refused, self.accepted
        os.pwrite(self._fd, _CONTENT.pack(*content), 0)
        fcntl.flock(self._fd, fcntl.LOCK_UN)
