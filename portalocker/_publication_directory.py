"""A directory held open: what becomes of its path does not matter."""

from __future__ import annotations

import errno
import os
import stat

_HAS_DIR_FD = os.supports_dir_fd >= {
    os.link,
    os.mkdir,
    os.open,
    os.rename,
    os.stat,
    os.unlink,
}
# O_PATH needs no permission to read the directory
_DIRECTORY_FLAGS = getattr(os, 'O_PATH', 0) | getattr(os, 'O_DIRECTORY', 0)
# a directory that cannot be synced is no failed publication
_NO_DIRECTORY_SYNC = {
    errno.EACCES,
    errno.EBADF,
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
}
# a longer name may be too long, which access() does not tell
_CERTAINLY_SHORT = 63
_CAN_ASK = (
    _HAS_DIR_FD
    and {os.access} <= os.supports_dir_fd
    and {os.access} <= os.supports_effective_ids
    and {os.access} <= os.supports_follow_symlinks
)


def anchored(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
) -> str:
    """Where it is now, as text; an empty path leads nowhere."""
    text = os.fsdecode(path)
    if not text:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
    return text if os.path.isabs(text) else os.path.join(os.getcwd(), text)


class Directory:
    """A directory held open; where that cannot be, its absolute path."""

    dir_fd: int | None = None

    def __init__(self, path: str) -> None:
        self.path = (
            path if path[:1] == '/' else os.path.join(os.getcwd(), path)
        )
        if _HAS_DIR_FD:
            self.dir_fd = os.open(path or '.', _DIRECTORY_FLAGS)
        elif not stat.S_ISDIR(os.stat(self.path).st_mode):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), path
            )

    def at(self, name: str) -> str:
        """Return what leads to `name`, together with `dir_fd`."""
        return os.path.join(self.path, name) if self.dir_fd is None else name

    def status(self, name: str) -> os.stat_result | None:
        """Return what is there under `name`, link or file, or None."""
        try:
            return os.stat(
                self.at(name), dir_fd=self.dir_fd, follow_symlinks=False
            )
        except FileNotFoundError:
            return None

    def is_free(self, name: str) -> bool:
        """Whether nothing is there under `name`, not even a dead link."""
        if _CAN_ASK and len(name) <= _CERTAINLY_SHORT:
            return not os.access(
                name,
                os.F_OK,
                dir_fd=self.dir_fd,
                effective_ids=True,
                follow_symlinks=False,
            )
        return self.status(name) is None

    def open_name(self, name: str, flags: int, mode: int = 0o777) -> int:
        """Open `name` in this directory."""
        return os.open(self.at(name), flags, mode, dir_fd=self.dir_fd)

    def present_path(self) -> str:
        """Return where the directory is now, as far as the system tells."""
        try:
            return os.readlink(f'/proc/self/fd/{self.dir_fd}')
        except OSError:
            return self.path

    def sync(self) -> None:
        """Make the names in this directory survive a power failure."""
        if self.dir_fd is None:
            _sync_directory(self.path)
        else:
            _sync_directory('.', self.dir_fd)

    def close(self) -> None:
        """Let go of the directory."""
        dir_fd, self.dir_fd = self.dir_fd, None
        if dir_fd is not None:
            os.close(dir_fd)


def _sync_directory(path: str, dir_fd: int | None = None) -> None:
    """Sync a directory, where the system can and lets us."""
    flags = os.O_RDONLY | getattr(os, 'O_DIRECTORY', 0)
    try:
        fd = os.open(path, flags, dir_fd=dir_fd)
    except PermissionError:
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
    finally:
        os.close(fd)


def make_directories(path: str, *, is_synced: bool) -> None:
    """Make the directories of `path` that are missing, and sync them."""
    path = os.path.join(os.getcwd(), path)
    missing = []
    ancestor = path
    while not os.path.isdir(ancestor):
        missing.append(ancestor)
        ancestor = os.path.dirname(ancestor)
    os.makedirs(path, exist_ok=True)
    if is_synced:
        for made in missing:
            _sync_directory(os.path.dirname(made))
