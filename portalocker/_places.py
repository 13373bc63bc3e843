"""The places of a semaphore as something to contend for."""

from __future__ import annotations

import os
import time

from . import _acquisition, _opening, _wakeup, exceptions, portalocker

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Protocol

    class PlaceHolder(Protocol):
        """A semaphore: it takes one of the places for itself."""

        lock: Any

        def try_lock(self, filenames: Sequence[pathlib.Path]) -> bool: ...


class Places:
    """The files of a semaphore, as a `Door`.

    The first file carries the line; whoever's turn it is tries them all.
    """

    def __init__(
        self, semaphore: PlaceHolder, paths: Sequence[pathlib.Path]
    ) -> None:
        self._semaphore = semaphore
        self.paths = paths
        self._path = paths[0]
        self._has_one = False

    def _get_fh(self) -> int:
        return _opening.nofollow_opener(
            os.fspath(self._path), os.O_RDWR | os.O_CREAT
        )

    def _get_lock(self, fh: int) -> None:
        if self._has_one:  # the first file was replaced while we took it
            return
        if self._semaphore.lock is not None:
            raise exceptions.AlreadyActive('Already locked')
        if not self._semaphore.try_lock(self.paths):
            raise exceptions.AlreadyLocked
        self._has_one = True

    def is_crowded(self) -> bool:
        """Whether we lately had to wait for one of these places."""
        return self._path in _wakeup.crowded

    def wait_for_one(
        self, ticking: Callable[[Callable[[float], object]], Iterator[int]]
    ) -> None:
        """Have the semaphore take a place when it is our turn."""
        if not portalocker.locks_open_files():
            # To close a file of the line would drop our lock on it
            for _ in ticking(time.sleep):
                if self._semaphore.try_lock(self.paths):
                    return
            raise exceptions.AlreadyLocked
        fd = self._get_fh()
        contender = _acquisition.Contender(
            self, fd, os.fstat(fd), is_shared=True, also=self.paths[1:]
        )
        try:
            fd, _ = contender.hold(ticking)
        except exceptions.AlreadyLocked as failure:
            failure.args = ()
            raise
        os.close(fd)
