"""What a forked child must forget: locks that its parent holds or awaits.

flock belongs to the open file description, which parent and child share: a
child that unlocks, or merely lives on, would free or keep the parent's lock.
So the child starts with its own, unlocked descriptors under the same numbers.
"""

from __future__ import annotations

import _thread
import os
from _weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Forgetful(Protocol):
        """Whoever has something to forget in a forked child."""

        def _forget_parent(self) -> None: ...


#: held by a thread that loads a module late: a child that is forked in the
#: middle would find half a module, or wait for the rest for ever
late_import = _thread.RLock()

# Who waits at this moment, in any thread
waiting: set[Forgetful] = set()

#: forks between the first process and this one
fork_count = 0

# id -> weak reference to an object with `_forget_parent()`
_forgetful: dict[int, ref[Any]] = {}


def forget_in_child(thing: Forgetful) -> None:
    """Call `thing._forget_parent()` in every forked child, while it lives."""
    key = id(thing)

    def drop(
        reference: object, known: dict[int, Any] = _forgetful, key: int = key
    ) -> None:
        if known.get(key) is reference:
            del known[key]

    _forgetful[key] = ref(thing, drop)


class _Orphan:
    """A locked handle whose lock object is gone."""

    def __init__(self, fh: Any) -> None:
        self._fh = ref(fh, lambda _: _orphans.pop(id(self), None))

    def _forget_parent(self) -> None:
        fh = self._fh()
        if fh is not None:
            part_with(fh)


_orphans: dict[int, _Orphan] = {}

# Handles that lost their lock in this child
_parted: list[Any] = []


def forget_handle_in_child(fh: Any) -> None:
    """The same for a bare handle that outlived its lock object."""
    try:
        orphan = _Orphan(fh)
    except TypeError:  # some handles cannot be referenced weakly
        return
    _orphans[id(orphan)] = orphan
    forget_in_child(orphan)


def part_with(fh: Any) -> None:
    """Give a handle inherited from the parent a descriptor of its own.

    Same number, same file, but read-only and not locked: what the child
    writes through a lock that is not its own fails instead of doing harm.
    """
    try:
        fd = fh if isinstance(fh, int) else fh.fileno()
    except (OSError, ValueError):
        return  # closed already
    try:
        own = _reopen(fd)
    except OSError:  # no descriptor left: take this one
        os.close(fd)
        own = os.open(os.devnull, os.O_RDONLY)
    if own != fd:
        os.dup2(own, fd, inheritable=False)
        os.close(own)
    _parted.append(fh)  # nobody is to be told that it was never closed


def _reopen(fd: int) -> int:
    flags = os.O_RDONLY
    for name in ('O_NONBLOCK', 'O_CLOEXEC'):
        flags |= getattr(os, name, 0)
    try:
        return os.open(f'/proc/self/fd/{fd}', flags)
    except OSError:  # no /proc, or we may not read the file
        return os.open(os.devnull, flags)


def _in_child() -> None:
    global fork_count
    fork_count += 1
    for waiter in list(waiting):
        waiter._forget_parent()
    waiting.clear()
    for reference in list(_forgetful.values()):
        thing = reference()
        if thing is not None:
            thing._forget_parent()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(
        before=late_import.acquire,
        after_in_parent=late_import.release,
        after_in_child=late_import.release,
    )
    os.register_at_fork(after_in_child=_in_child)
