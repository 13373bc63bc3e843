"""Remove a tree: whatever can go goes, no link is followed, no depth matters.

Where the system has descriptors of directories, every step goes from an open
directory to a name in it, so that nobody can turn a step elsewhere by putting
a symbolic link into the path. At most `_MOST_LEVELS` are open at a time: what
lies deeper is first moved up, beside the entries of the top.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOST_LEVELS = 24  # descriptors open at a time, and two more for a moment
# what appears or is swapped while we remove is removed too, not for ever
_MOST_SURPRISES = 10_000
_MOST_NOTES = 20

_HAS_DESCRIPTORS = (
    hasattr(os, 'O_DIRECTORY')
    and hasattr(os, 'O_NOFOLLOW')
    and os.scandir in os.supports_fd
    and os.supports_dir_fd >= {os.open, os.rename, os.rmdir, os.unlink}
)
_LOOK_FLAGS = (
    os.O_RDONLY | getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
)
_ENTER_FLAGS = _LOOK_FLAGS | getattr(os, 'O_DIRECTORY', 0)
# not a directory: swapped for something else since we looked
_NOT_A_DIRECTORY = {errno.ENOTDIR, errno.ELOOP, errno.EMLINK}
_NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}


def remove_tree(path: Any, dir_fd: int | None = None) -> list[OSError]:
    """Remove the directory at `path` and all below; return what went wrong.

    A tree of which nothing is left gives an empty list, and so does a path
    that leads nowhere. What cannot be removed stays, and everything else
    goes. Each error names the whole path of what it is about. A relative
    path starts at the directory of `dir_fd`, where that is given.
    """
    try:
        os.rmdir(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return []
    except OSError as error:
        if error.errno in _NOT_A_DIRECTORY:
            return [error]
    else:
        return []
    removal = _Removal()
    try:
        removal.remove(os.fsdecode(path), dir_fd)
    finally:
        removal.close()
    return removal.errors


def raise_first(errors: list[OSError]) -> None:
    """Raise the first of the errors, which tells of the others in notes."""
    if not errors:
        return
    first, *others = errors
    for other in others[:_MOST_NOTES]:
        first.add_note(f'also: {other}')
    if len(others) > _MOST_NOTES:
        first.add_note(f'and {len(others) - _MOST_NOTES} more')
    raise first


# the next two are for programs that know them from the standard library


def dont_follow_symlinks(
    func: Callable[..., Any], path: Any, *args: Any
) -> None:
    """Call a function of `os` for a path, not for what a link leads to."""
    if func in os.supports_follow_symlinks:
        func(path, *args, follow_symlinks=False)
    elif not os.path.islink(path):
        func(path, *args)


def resetperms(path: Any) -> None:
    """Give the owner every right to a directory, through no link."""
    _DIRECTORY('', None).open_up(os.fsdecode(path))


class _Removal:
    """The way from the top of the tree down to where we are."""

    def __init__(self) -> None:
        self.errors: list[OSError] = []
        # what is above the tree, its top, and so on
        self._levels: list[_Directory] = []
        self._surprises_left = _MOST_SURPRISES

    def remove(self, path: str, dir_fd: int | None) -> None:
        """Remove what is there, as far as that is possible."""
        above = _DIRECTORY('', None if dir_fd is None else os.dup(dir_fd))
        above.is_opened_up = True  # it is not ours to change
        self._levels.append(above)
        self._enter(self._levels[0], path)
        while self._levels[0].waiting or len(self._levels) > 1:
            level = self._levels[-1]
            if level.waiting:
                self._go_on(level, level.waiting.pop())
            else:
                self._leave()

    def close(self) -> None:
        """Let go of what an interrupted removal has open."""
        while self._levels:
            self._levels.pop().close()

    def _go_on(self, level: _Directory, name: str) -> None:
        """Remove what was seen as a directory, or go down into it."""
        try:
            level.rmdir(name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in _NOT_A_DIRECTORY:
                self._unlink(level, name)
            else:
                self._enter(level, name)

    def _unlink(self, level: _Directory, name: str) -> None:
        try:
            if level is self._levels[0]:  # what took the place of the top
                raise NotADirectoryError(
                    errno.ENOTDIR, os.strerror(errno.ENOTDIR)
                )
            level.insist(name, level.unlink)
        except FileNotFoundError:
            return
        except IsADirectoryError as error:
            self._look_again(level, name, error)
        except OSError as error:
            self._give_up(level, error, name)

    def _enter(self, level: _Directory, name: str) -> None:
        """Open a directory and remove the files in it."""
        try:
            if len(self._levels) > _MOST_LEVELS:
                self._move_up(level, name)
                return
            child = level.enter(name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in _NOT_A_DIRECTORY:
                self._unlink(level, name)
            else:
                self._give_up(level, error, name)
            return
        self._levels.append(child)
        try:
            refused = child.remove_files()
        except OSError as error:
            self._give_up(child, error)
            return
        for entry in refused:
            self._unlink(child, entry)

    def _leave(self) -> None:
        """Remove the directory that was emptied."""
        level = self._levels.pop()
        above = self._levels[-1]
        try:
            if level.is_blocked:
                above.is_blocked = True
                return
            above.insist(level.name, above.rmdir)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno in _NOT_EMPTY | _NOT_A_DIRECTORY:
                self._look_again(above, level.name, error)
            else:
                self._give_up(above, error, level.name)
        finally:
            level.close()

    def _look_again(
        self, level: _Directory, name: str, error: OSError
    ) -> None:
        """Somebody else changes the tree: do not trust what we know."""
        if self._surprises_left:
            self._surprises_left -= 1
            level.waiting.append(name)
        else:
            self._give_up(level, error, name)

    def _move_up(self, level: _Directory, name: str) -> None:
        """Make a directory that lies too deep an entry of the top."""
        top = self._levels[1]
        top.open_up_itself()
        new = f'.{os.urandom(8).hex()}'
        level.insist(name, lambda name: level.move(name, top, new))
        top.original[new] = level.shown(name)
        top.waiting.append(new)

    def _give_up(
        self, level: _Directory, error: OSError, name: str = ''
    ) -> None:
        level.is_blocked = True
        error.filename = level.shown(name)
        self.errors.append(error)


class _Directory:
    """A directory that is being emptied, and what is done to its entries.

    `place`
        what leads there: a descriptor or a path; None for what is above
        the top.
    `name`
        its own, in the directory above.
    `waiting`
        names of directories in it that are still to be removed.
    `is_blocked`
        whether something in it has to stay.
    """

    __slots__ = (
        'is_blocked',
        'is_opened_up',
        'name',
        'original',
        'path',
        'place',
        'waiting',
    )

    def __init__(self, path: str, place: Any, name: str = '') -> None:
        self.path = path  # for those who read errors
        self.place = place
        self.name = name
        self.waiting: list[str] = []
        # name -> path before it was moved up
        self.original: dict[str, str] = {}
        self.is_blocked = False
        self.is_opened_up = False

    def shown(self, name: str) -> str:
        """Return the path of an entry as the user knows it."""
        if not name:
            return self.path
        return self.original.get(name) or os.path.join(self.path, name)

    def insist(self, name: str, step: Callable[[str], None]) -> None:
        """Take a step; if it is refused, repair permissions and repeat."""
        try:
            step(name)
        except PermissionError:
            self.open_up_itself()
            self.open_up(name)
            step(name)

    def remove_files(self) -> list[str]:
        """Unlink what is no directory; return what refused to go."""
        raise NotImplementedError

    def unlink(self, name: str) -> None:
        """Unlink an entry."""
        raise NotImplementedError

    def rmdir(self, name: str) -> None:
        """Remove an empty directory."""
        raise NotImplementedError

    def enter(self, name: str) -> _Directory:
        """Go into a directory, never through a link."""
        raise NotImplementedError

    def move(self, name: str, to: _Directory, new: str) -> None:
        """Move an entry to another directory of the tree."""
        raise NotImplementedError

    def open_up_itself(self) -> None:
        """Give ourselves the right to change what is in it, if we can."""
        raise NotImplementedError

    def open_up(self, name: str) -> None:
        """Take off what forbids to remove an entry, if we can."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the directory."""


class _OpenDirectory(_Directory):
    """A directory reached through its descriptor."""

    __slots__ = ()

    def remove_files(self) -> list[str]:
        refused = []
        unlink = os.unlink
        fd = self.place
        waiting = self.waiting
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    else:
                        unlink(name, dir_fd=fd)
                except OSError:
                    refused.append(name)
        return refused

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self.place)

    def rmdir(self, name: str) -> None:
        os.rmdir(name, dir_fd=self.place)

    def enter(self, name: str) -> _Directory:
        try:
            fd = os.open(name, _ENTER_FLAGS, dir_fd=self.place)
        except PermissionError:
            self.open_up_itself()
            self.open_up(name)
            fd = os.open(name, _ENTER_FLAGS, dir_fd=self.place)
        return _OpenDirectory(self.shown(name), fd, name)

    def move(self, name: str, to: _Directory, new: str) -> None:
        os.rename(name, new, src_dir_fd=self.place, dst_dir_fd=to.place)

    def open_up_itself(self) -> None:
        if self.place is None or self.is_opened_up:
            return
        self.is_opened_up = True
        try:
            os.chmod(self.place, stat.S_IRWXU)  # a descriptor
        except OSError:
            pass  # the step that needs it fails, and tells
        if hasattr(os, 'chflags'):
            _clear_flags(self.place)

    def open_up(self, name: str) -> None:
        if hasattr(os, 'O_PATH'):
            _chmod_through_proc(name, self.place)
        else:
            _chmod_and_clear_flags(name, self.place)

    def close(self) -> None:
        if self.place is not None:
            fd, self.place = self.place, None
            os.close(fd)


def _chmod_through_proc(name: str, dir_fd: int | None) -> None:
    # O_PATH needs no permission for what it opens, and the name that /proc
    # gives to it leads to this very directory
    flags = getattr(os, 'O_PATH', 0) | _ENTER_FLAGS
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except OSError:
        return  # no directory: its own mode does not matter
    try:
        os.chmod(f'/proc/self/fd/{fd}', stat.S_IRWXU)
    except OSError:
        return
    finally:
        os.close(fd)


def _chmod_and_clear_flags(name: str, dir_fd: int | None) -> None:
    try:
        os.chmod(name, stat.S_IRWXU, dir_fd=dir_fd, follow_symlinks=False)
        if not hasattr(os, 'chflags'):
            return
        fd = os.open(name, _LOOK_FLAGS, dir_fd=dir_fd)
    except (OSError, NotImplementedError):
        return
    try:
        _clear_flags(fd)
    finally:
        os.close(fd)


def _clear_flags(fd: int) -> None:
    # os.chflags() knows paths only, and a path can be turned elsewhere
    import ctypes

    ctypes.CDLL(None).fchflags(ctypes.c_int(fd), ctypes.c_ulong(0))


class _NamedDirectory(_Directory):
    """A directory reached by its path, where there are no descriptors."""

    __slots__ = ()

    def _at(self, name: str) -> str:
        return name if self.place is None else os.path.join(self.place, name)

    def remove_files(self) -> list[str]:
        refused = []
        with os.scandir(self.place) as entries:
            for entry in entries:
                try:
                    if _is_real_directory(entry.path):
                        self.waiting.append(entry.name)
                    else:
                        os.unlink(entry.path)
                except OSError:
                    refused.append(entry.name)
        return refused

    def unlink(self, name: str) -> None:
        os.unlink(self._at(name))

    def _directory_at(self, name: str) -> str:
        path = self._at(name)
        if not _is_real_directory(path):
            raise NotADirectoryError(
                errno.ENOTDIR, os.strerror(errno.ENOTDIR), path
            )
        return path

    def rmdir(self, name: str) -> None:
        os.rmdir(self._directory_at(name))

    def enter(self, name: str) -> _Directory:
        path = self._directory_at(name)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            os.chmod(path, stat.S_IRWXU)
        return _NamedDirectory(self.shown(name), path, name)

    def move(self, name: str, to: _Directory, new: str) -> None:
        os.rename(self._at(name), os.path.join(to.place, new))

    def open_up_itself(self) -> None:
        if self.place is None or self.is_opened_up:
            return
        self.is_opened_up = True
        _make_writable(self.place)

    def open_up(self, name: str) -> None:
        _make_writable(self._at(name))


def _make_writable(path: str) -> None:
    try:
        if not os.path.islink(path):
            os.chmod(path, stat.S_IRWXU)
    except OSError:
        return  # the step that needs it fails, and tells


def _is_real_directory(path: str) -> bool:
    """False for links, and for the junctions of Windows."""
    status = os.lstat(path)
    reparse_point = getattr(stat, 'FILE_ATTRIBUTE_REPARSE_POINT', 0)
    attributes = getattr(status, 'st_file_attributes', 0)
    return stat.S_ISDIR(status.st_mode) and not attributes & reparse_point


_DIRECTORY: type[_Directory] = (
    _OpenDirectory if _HAS_DESCRIPTORS else _NamedDirectory
)
