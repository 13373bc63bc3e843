"""How a lock file is named and opened."""

from __future__ import annotations

import os
import stat

from . import _signal_handlers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_CLOEXEC = getattr(os, 'O_CLOEXEC', 0)
# For a file that is only a lock: no symbolic link, no waiting FIFO
_ONLY_A_LOCK = (
    _CLOEXEC | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)


# the sticky bit asks who sweeps directories to spare it, see `_sweeping`
_NEW_LOCK_FILE_MODE = 0o666 | stat.S_ISVTX


def path_text(filename: Any) -> str:
    """A path as text, from whatever names one or has a text of its own."""
    if isinstance(filename, str):
        return filename
    if isinstance(filename, bytes) or hasattr(filename, '__fspath__'):
        return os.fsdecode(filename)
    kind: Any = type(filename)
    if kind.__str__ is object.__str__ or kind is bytearray:
        # None, a number, a list: a mistake, not the name of a file
        raise TypeError(
            f'cannot lock {filename!r}: a path is a str, bytes or '
            f'os.PathLike object, not {kind.__name__}'
        )
    return str(filename)


def absolute_path(filename: str) -> str:
    """Where it is now: a later chdir changes nothing."""
    if not filename:
        return filename  # it leads nowhere, not to the current directory
    try:
        return os.path.abspath(filename)
    except FileNotFoundError:  # the current directory is gone
        return filename


def directory_or_default(directory: Any) -> Any:
    """The directory for temporary files, where none is given."""
    if directory is not None:
        return directory
    import tempfile

    return tempfile.gettempdir()


def plain_opener(path: str, flags: int) -> int:
    """Open like `open()` does."""
    return _signal_handlers.open_kept(path, flags | _CLOEXEC)


def intact_opener(
    opener: Callable[[str, int], int] | None,
) -> Callable[[str, int], int]:
    """The opener for mode 'w' that leaves truncating to the holder."""
    chosen = opener or plain_opener

    def open_intact(path: str, flags: int) -> int:
        return chosen(path, flags & ~os.O_TRUNC)

    return open_intact


def nofollow_opener(path: str, flags: int) -> int:
    """Open a file that is only a lock: no symbolic link, no waiting FIFO."""
    try:
        return _signal_handlers.open_kept(
            path, flags | _ONLY_A_LOCK, _NEW_LOCK_FILE_MODE
        )
    except OSError as error:
        if os.path.islink(path):
            raise OSError(
                error.errno,
                'a symbolic link is refused where only a lock file may be',
                path,
            ) from error
        raise


def close_quietly(fh: Any) -> None:
    """Close a handle we do not hold a lock with, whatever it says."""
    try:
        os.close(fh) if isinstance(fh, int) else fh.close()
    except OSError as error:
        _signal_handlers.let_pass(error)
    except ValueError:
        pass
