"""A directory that is held by a lock on itself while somebody uses it."""

from __future__ import annotations

import os

from . import _living_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self


class pin:  # noqa: N801 - a verb to those who write `with`
    """Holds a directory, so that nobody takes it for old or abandoned.

    `pin(path)` takes a shared lock on the directory itself, at once, which
    any number of processes may have, until `close`, the end of the `with`
    block, or the end of the process and of the children that it forks. The
    programs that remove what is old (systemd-tmpfiles, `reapers.reap`) pass
    over the directory meanwhile; what is in it can be changed as before.

    `fd` is the descriptor that holds the lock. Raises AlreadyLocked where it
    is held exclusively (`TemporaryDirectory(lock=True)`, a reaper that
    removes it), and FileNotFoundError where it is gone.

    >>> import os
    >>> from portalocker.tempfile import TemporaryDirectory, pin
    >>> with TemporaryDirectory() as folder, pin(folder) as pinned:
    ...     os.fstat(pinned.fd).st_ino == os.stat(folder).st_ino
    True
    """

    fd: int = -1

    def __init__(
        self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]
    ) -> None:
        self._path = os.fspath(path)
        self.fd = _living_directory.hold(self._path, shared=True)

    def close(self) -> None:
        """Let the directory go."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            _living_directory.let_go(self._path, fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if self.fd >= 0:
            close(self.fd)
