"""Marks on lock files, for those who sweep directories.

Systems remove files that nobody touched for days from their directories for
temporary files, whether they are locked or not. The sticky bit asks them to
spare a file: so says the XDG Base Directory Specification, and so does
systemd-tmpfiles. A file that is only a lock bears it while somebody holds it;
where it bears it and nobody does, the holder died, and it may be removed.
"""

from __future__ import annotations

import os
import stat
import sys

from . import _wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MARK = stat.S_ISVTX


def mark_held(fh: Any) -> None:
    """Have the file spared, as far as it is ours."""
    try:
        fd = fh.fileno()
        mode = os.fstat(fd).st_mode
        if not mode & _MARK and hasattr(os, 'fchmod'):
            os.fchmod(fd, stat.S_IMODE(mode) | _MARK)
    except (OSError, ValueError):
        return  # somebody else's file, or closed by hand


def unmark_free(fh: Any) -> None:
    """Say that the file may go once it is unlocked: nobody waits for it."""
    try:
        fd = fh.fileno()
        status = os.fstat(fd)
        if (
            status.st_mode & _MARK
            and hasattr(os, 'fchmod')
            # a change would wake who waits, and who holds next marks again
            and not _wakeup.must_queue(fd, status.st_dev)
        ):
            os.fchmod(fd, stat.S_IMODE(status.st_mode) & ~_MARK)
    except (OSError, ValueError):
        return


def was_held(status: os.stat_result) -> bool:
    """Whether it is a lock file of ours that somebody holds, or died with."""
    return (
        stat.S_ISREG(status.st_mode)
        and bool(status.st_mode & _MARK)
        and status.st_nlink == 1
        and status.st_size == 0
        and is_ours(status)
    )


def is_ours(status: os.stat_result) -> bool:
    """Whether it belongs to this user, where the system can say so."""
    return sys.platform == 'win32' or status.st_uid == os.geteuid()
