"""A lock file that is removed with its lock: by its holder, or after it.

A lock file may be unlinked only under its own lock, and only while its path
still leads to it; else two processes would hold two files of one name.
"""

from __future__ import annotations

import os
import time
from _weakref import ref

from . import (
    _file_identity,
    _opening,
    _this_process,
    _wakeup,
    constants,
    exceptions,
    portalocker,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNLINK_TRIES = 5  # on Windows a file that somebody has open stays
_FIRST_UNLINK_PAUSE_SECONDS = 0.001

# Every temporary lock file that this process holds, see `Remains`
_remains: dict[int, Remains] = {}


def remove_held(
    fh: Any, path: str, companions: tuple[str, ...], *, is_shared: bool
) -> None:
    """Unlink the lock file that `fh` holds, or raise `LockLost`.

    Somebody who waits for this very file gets it instead, and removes it
    in turn; so does the last one of several shared holders.
    """
    if is_shared and not _is_last_shared_holder(fh):
        return
    fd = fh.fileno()
    opened = os.fstat(fd)
    if not _file_identity.still_names(path, opened):
        raise exceptions.LockLost(
            'not unlinking: it is not the file that was locked'
        )
    for companion in companions:
        unlink_if_there(companion)
    if not _wakeup.must_queue(fd, opened.st_dev):
        unlink_if_there(path)


def check_not_lost(fh: Any, path: str) -> None:
    """Raise `LockLost` if the file that `fh` holds is not at `path`."""
    if not _file_identity.still_names(path, os.fstat(fh.fileno())):
        raise exceptions.LockLost(
            f'cannot rely on {path!r}: the lock is compromised, its file was '
            'unlinked or replaced while it was held'
        )


def _is_last_shared_holder(fh: Any) -> bool:
    try:
        portalocker.lock(
            fh,
            constants.LockFlags.EXCLUSIVE | constants.LockFlags.NON_BLOCKING,
        )
    except exceptions.LockException:
        return False
    return True


def unlink_if_there(path: str) -> bool:
    """Unlink `path`; False where somebody keeps it open (Windows)."""
    pause = _FIRST_UNLINK_PAUSE_SECONDS
    for _ in range(_UNLINK_TRIES):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return True
        except PermissionError:
            if os.name != 'nt':
                raise
            time.sleep(pause)
            pause *= 2
        else:
            return True
    return False


def reap(path: str, companions: tuple[str, ...] = ()) -> bool:
    """Remove a lock file that nobody holds; whether it was removed."""
    if not portalocker.locks_open_files():
        return False  # we could not tell a lock of ours from nobody's
    try:
        # Never create: it may be gone already
        fd = _opening.nofollow_opener(path, os.O_RDWR)
    except OSError:
        return False
    try:
        portalocker.lock(
            fd,
            constants.LockFlags.EXCLUSIVE | constants.LockFlags.NON_BLOCKING,
        )
        if not _file_identity.still_names(path, os.fstat(fd)):
            return False
        for companion in companions:
            unlink_if_there(companion)
        if os.name != 'nt':
            return unlink_if_there(path)
        portalocker.unlock(fd)
    except (OSError, exceptions.LockException):
        return False
    finally:
        os.close(fd)
    # Windows removes no file that anybody has open: what is held stays
    return unlink_if_there(path)


class Remains:
    """What a held temporary lock leaves behind if nobody releases it.

    Its file is removed when the handle is collected, and at the end of the
    process; never by a forked child.
    """

    def __init__(
        self,
        fh: Any,
        path: str,
        companions: tuple[str, ...],
        *,
        is_shared: bool,
    ) -> None:
        self._is_shared = is_shared
        self._path = path
        self._companions = companions
        self._fh = ref(fh, self._collected)
        _remains[id(self)] = self
        _this_process.call_at_exit(_remove_all_remains)

    def detach(self) -> None:
        """The lock was released: nothing is left to do."""
        _remains.pop(id(self), None)

    def _collected(self, _: object) -> None:
        # The handle is closed by now; whoever took the lock since keeps it
        if _remains.pop(id(self), None) is not None:
            reap(self._path, self._companions)

    def remove(self) -> None:
        """Remove the file and close the handle: the process ends."""
        self.detach()
        fh = self._fh()
        if fh is None or fh.closed:
            reap(self._path, self._companions)
            return
        if os.name == 'posix':
            remove_held(
                fh, self._path, self._companions, is_shared=self._is_shared
            )
            fh.close()
        else:
            portalocker.unlock(fh)
            fh.close()
            reap(self._path, self._companions)


def _remove_all_remains() -> None:
    for remains in list(_remains.values()):
        try:
            remains.remove()
        except (
            OSError,
            ValueError,
            exceptions.LockException,
        ):  # nobody to tell
            pass


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_remains.clear)
