"""A directory that is removed with all in it, at the latest at the end."""

from __future__ import annotations

import errno
import os
import sys
from _warnings import warn as warn_now
from _weakref import ref

from . import _after_fork, _this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, AnyStr
    from typing import Generic as Named
else:
    AnyStr = None

    class Named:
        """What can be subscripted with the type of its name."""

        __class_getitem__ = classmethod(type(list[int]))


_DIRECTORY_FLAGS = getattr(os, 'O_DIRECTORY', 0) | getattr(
    os, 'O_PATH', os.O_RDONLY
)


class DirectoryCleaner:
    """Removes a directory: at the latest when nobody has it any more.

    `fd`
        what holds the lock on the directory, or None.
    """

    __slots__ = (
        '__weakref__',
        '_birthplace',
        '_living',
        'delete',
        'fd',
        'ignore_errors',
        'is_done',
        'is_kept',
        'name',
        'owner',
    )

    def __init__(
        self,
        owner: Any,
        name: Any,
        fd: int | None,
        ignore_errors: bool,
        delete: bool,
    ) -> None:
        self.owner = owner
        self.name = name
        self.fd = fd
        self.ignore_errors = ignore_errors
        self.delete = delete
        self.is_done = False
        self.is_kept = False
        if fd is not None:
            # now: nothing can be imported when the interpreter ends
            self._living = _living_directories()
        self._birthplace = _this_process.here
        if _exit_hook_of is not _this_process.here:
            _remove_at_exit()
        _cleaners[id(self)] = ref(self)

    def detach(self) -> None:
        """Nobody has to remove the directory after us any more."""
        self.is_done = True
        _cleaners.pop(id(self), None)

    def remove(self) -> None:
        """Remove the directory, unless it was kept or is the parent's."""
        self.is_done = True
        _cleaners.pop(id(self), None)
        if self.is_kept or not self._birthplace.is_here:
            return
        if os.name == 'nt':
            self.let_go()  # there, what is open cannot be removed
        try:
            try:
                os.rmdir(self.name)
            except FileNotFoundError:
                pass
            except OSError:
                self.owner._rmtree(self.name, self.ignore_errors)
        finally:
            if self.fd is not None:
                self.let_go()

    def release(self, verb: str, move: Callable[[], Any]) -> None:
        """Let the directory stay, once `move` has done what it has to."""
        if not self._birthplace.is_here:
            raise PermissionError(
                errno.EPERM,
                f"cannot {verb} another process's directory",
                self.name,
            )
        if self.is_kept:
            raise FileNotFoundError(
                errno.ENOENT, f'cannot {verb} a directory twice', self.name
            )
        if not self._is_there():
            raise FileNotFoundError(
                errno.ENOENT,
                f'cannot {verb} a directory that is gone',
                self.name,
            )
        was_held = self.fd is not None
        self._mark(stays=True)
        if os.name == 'nt':
            self.let_go()  # there, nothing in it may be open
        try:
            move()
        except BaseException:
            if was_held and self.fd is None:
                self.fd = self._living.hold(self.name, shared=False)
            self._mark(stays=False)
            raise
        self.is_kept = True
        self.detach()
        self.let_go()

    def _is_there(self) -> bool:
        try:
            found = os.lstat(self.name)
        except FileNotFoundError:
            return False
        held = (
            None if self.fd is None or os.name == 'nt' else os.fstat(self.fd)
        )
        return held is None or os.path.samestat(found, held)

    def _mark(self, *, stays: bool) -> None:
        if self.fd is None or not self.delete:
            return
        if stays:
            self._living.unmark(self.fd)
        else:
            self._living.mark(self.fd)

    def let_go(self) -> None:
        """Give the lock back."""
        if self.fd is not None:
            fd, self.fd = self.fd, None
            self._living.let_go(self.name, fd)

    def __del__(
        self,
        warn: Callable[..., None] = warn_now,
        warning: type[Warning] = ResourceWarning,
    ) -> None:
        if self.is_done:
            return
        self.detach()
        if not self._birthplace.is_here:
            self.let_go()
        elif self.delete:
            self.remove()
            warn(f'Implicitly cleaning up {self!r}', warning)
        else:
            self.let_go()

    def __reduce__(self) -> Any:
        # What is pickled or copied deeply is not what will remove it
        return _elsewhere, (
            self.owner,
            self.name,
            self.ignore_errors,
            self.delete,
        )

    def __repr__(self) -> str:
        return f'<{self.owner.__name__} {self.name!r}>'


def _elsewhere(
    owner: Any, name: Any, ignore_errors: bool, delete: bool
) -> DirectoryCleaner:
    """Return one that knows a directory of another process, or object."""
    cleaner = DirectoryCleaner(owner, name, None, ignore_errors, delete)
    cleaner._birthplace = _this_process.ELSEWHERE
    return cleaner


def _living_directories() -> Any:
    with _after_fork.late_import:
        from . import _living_directory
    return _living_directory


_tree_removal: Any = None


def tree_removal() -> Any:
    """Return what removes trees: loaded with the first directory."""
    global _tree_removal
    if _tree_removal is None:
        with _after_fork.late_import:
            from . import _tree_removal
    return _tree_removal


# id -> every directory that this process will have to remove
_cleaners: dict[int, ref[DirectoryCleaner]] = {}
_exit_hook_of: _this_process.Birthplace | None = None


def _remove_at_exit() -> None:
    global _exit_hook_of
    _exit_hook_of = _this_process.here
    tree_removal()  # now: nothing can be imported when the interpreter ends
    with _after_fork.late_import:
        _this_process.call_at_exit(_remove_all)


def _remove_all() -> None:
    for reference in reversed(list(_cleaners.values())):
        cleaner = reference()
        if cleaner is None or cleaner.is_done:
            continue
        try:
            cleaner.__del__()
        except Exception as error:  # noqa: BLE001
            # the interpreter ends: tell, and go on with the others
            sys.excepthook(type(error), error, error.__traceback__)


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_cleaners.clear)


def undo(name: Any, fd: int | None) -> None:
    """Remove a new directory that could not be given to the caller."""
    os.rmdir(name)
    if fd is not None:
        os.close(fd)


class OwnedDirectory(Named[AnyStr]):
    """The mechanism; who inherits from it says how one is made."""

    name: AnyStr
    _finalizer: DirectoryCleaner

    @staticmethod
    def _maker(
        lock: object, *, marked: bool
    ) -> tuple[Callable[[Any], int], str]:
        """Return what makes a directory and holds it; and the usual prefix."""
        if lock is not True and lock != 'shared':
            raise ValueError(
                f'cannot lock a directory with lock={lock!r}: it is True, '
                "'shared' or False"
            )
        living = _living_directories()

        def make(path: Any) -> int:
            fd: int = living.make(path, shared=lock == 'shared', marked=marked)
            return fd

        return make, living.PREFIX

    @property
    def fd(self) -> int | None:
        """The descriptor that holds the lock; None: there is no lock."""
        return self._finalizer.fd

    def cleanup(self) -> None:
        """Remove the directory with all that is in it, if it exists.

        Raises the first of the errors, with the others in its notes, after
        all was removed that can be; nothing with `ignore_cleanup_errors`.
        """
        self._finalizer.remove()

    def keep(self) -> AnyStr:
        """Let the directory stay for ever, unlocked; return its path.

        Raises FileNotFoundError where it is gone, or was kept before.
        """
        self._finalizer.release('keep', lambda: None)
        return self.name

    def persist(
        self,
        dst: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        replace: bool = False,
    ) -> str:
        """Let the directory stay under the name `dst`; return that path.

        It is one step, inside one file system. What has the name already
        is never replaced (FileExistsError), unless `replace` is asked for;
        then what was there is removed, as `atomic.replace_directory` says.
        Where it fails, the directory is as temporary as before.
        """
        with _after_fork.late_import:
            from . import _publication_directory

        target = os.path.normpath(_publication_directory.anchored(dst))
        source = os.fsdecode(self.name)
        move = _replace_directory if replace else _rename_to_new_name
        self._finalizer.release('persist', lambda: move(source, target))
        self.name = target  # type: ignore[assignment]
        return target

    @classmethod
    def _rmtree(
        cls,
        name: Any,
        ignore_errors: bool = False,
        repeated: bool = False,  # noqa: ARG003 - others pass it
    ) -> None:
        removal = tree_removal()
        errors = removal.remove_tree(name)
        if not ignore_errors:
            removal.raise_first(errors)

    @classmethod
    def _cleanup(
        cls,
        name: Any,
        warn_message: str,
        ignore_errors: bool = False,
        delete: bool = True,
    ) -> None:
        if delete:
            cls._rmtree(name, ignore_errors)
            warn_now(warn_message, ResourceWarning)

    def __repr__(self) -> str:
        return f'<{type(self).__name__} {self.name!r}>'

    def __enter__(self) -> AnyStr:
        return self.name

    def __exit__(
        self,
        exc: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._finalizer.delete:
            self._finalizer.remove()
        else:
            self._finalizer.let_go()


def _rename_to_new_name(source: str, target: str) -> None:
    """Rename a directory; of several to one name, one wins."""
    if sys.platform == 'win32':
        os.rename(source, target)
        return
    with _after_fork.late_import:
        from . import _publication_renaming

    old_place, old_name = os.path.split(source)
    new_place, new_name = os.path.split(target)
    old_fd = os.open(old_place, _DIRECTORY_FLAGS)
    try:
        new_fd = os.open(new_place, _DIRECTORY_FLAGS)
        try:
            _publication_renaming.rename_to_new_name(
                old_fd, old_name, new_fd, new_name
            )
        except OSError as error:
            error.filename, error.filename2 = source, target
            raise
        finally:
            os.close(new_fd)
    finally:
        os.close(old_fd)


def _replace_directory(source: str, target: str) -> None:
    with _after_fork.late_import:
        from . import atomic

    atomic.replace_directory(source, target, durable=False)
