"""A directory that is removed with all in it, at the latest at the end."""

from __future__ import annotations

import errno
import os
import sys
from _warnings import warn as warn_now
from _weakref import ref

from . import _this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


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
            from . import _living_directory

            self._living = _living_directory
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
        self.detach()
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
            self.let_go()

    def release(self, verb: str, move: Callable[[], Any]) -> None:
        """Let the directory stay, once `move` has done what it has to."""
        if not self._birthplace.is_here:
            raise PermissionError(
                errno.EPERM,
                f"cannot {verb} the parent process's directory",
                self.name,
            )
        if self.is_kept:
            raise FileNotFoundError(
                errno.ENOENT, f'cannot {verb} a directory twice', self.name
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

    def __repr__(self) -> str:
        return f'<{self.owner.__name__} {self.name!r}>'


# id -> every directory that this process will have to remove
_cleaners: dict[int, ref[DirectoryCleaner]] = {}
_exit_hook_of: _this_process.Birthplace | None = None


def _remove_at_exit() -> None:
    global _exit_hook_of
    _exit_hook_of = _this_process.here
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
