"""Signal handlers that raise: what they must not take from us.

Python runs them when a call returned, when a function begins, and when a loop
goes back; nowhere else. So nothing comes between two assignments.
"""

from __future__ import annotations

import itertools
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Kept:
    """A descriptor that is closed with it, unless somebody took it out.

    Take it out by two assignments: no call may stand between them.
    """

    # No __init__, which could be cut off
    fd = -1

    def fileno(self) -> int:
        """The descriptor; -1 where there is none any more."""
        return self.fd

    def close(self) -> None:
        """Close it; once is enough."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close


def let_pass(error: OSError) -> OSError:
    """Raise it if a handler did: the errors of the system have a number."""
    if error.errno is None:
        raise error
    return error


def open_kept(
    path: Any, flags: int, mode: int = 0o666, dir_fd: int | None = None
) -> int:
    """`os.open()`; a handler that raises comes before it, or after.

    The caller has the descriptor before any handler runs again.
    """
    # Python looks for signals when a call returned, and what that gave would
    # be nobody's. What an iterator gives is stored before it looks
    opener: Any = os.open
    if dir_fd is not None:
        import functools

        opener = functools.partial(os.open, dir_fd=dir_fd)
    [fd] = map(opener, (path,), (flags,), (mode,))
    return fd  # type: ignore[no-any-return]


def openings(path: Any, flags: int, mode: int = 0o666) -> Iterator[int]:
    """`open_kept`, each time that the next item is asked for.

    Ask by `for fd in openings: break`, which is no call; so does every
    thread, by the same iterator.
    """
    ever = itertools.repeat
    return map(os.open, ever(path), ever(flags), ever(mode))
