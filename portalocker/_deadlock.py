"""Waits that can never end: threads and tasks that wait for each other.

Every endless wait for a lock that this process holds is entered here before
it begins. Whoever enters last, and closes a circle, finds it.
"""

from __future__ import annotations

import _thread
import os
import sys

from . import _hold, exceptions
from ._holdings import Claimant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Guards _waits
_mutex = _thread.allocate_lock()

# What does not move on (a thread, or a task of an event loop that runs on)
# -> the wait it is in
_waits: dict[Any, Wait] = {}


class Deadlock(exceptions.DeadlockError, RuntimeError):
    """This wait would never end: whom we wait for waits for us.

    Nothing was taken. What the caller holds already it still holds.

    `circle`
        one line for each wait of the circle: who waits for what, and who
        holds that.
    """

    circle: tuple[str, ...]


class Wait:
    """One endless wait, as a context manager.

    `blocked` does not move on meanwhile: the `Claimant` of a thread or the
    `TaskClaimant` of a task; `opened` is the status of the file it waits for,
    None where the path itself is the lock. Somebody else may end the wait
    where it `may_be_cancelled`.
    Entering raises `Deadlock` instead of beginning a wait that never ends.
    """

    __slots__ = ('blocked', 'identity', 'may_be_cancelled', 'path')

    def __init__(
        self,
        blocked: Any,
        opened: os.stat_result | None,
        path: Any,
        *,
        may_be_cancelled: bool = False,
    ) -> None:
        self.blocked = blocked
        self.may_be_cancelled = may_be_cancelled
        self.identity: tuple[Any, ...] = ('path', path)
        if opened is not None:
            self.identity = opened.st_dev, opened.st_ino
        self.path = path

    def __enter__(self) -> None:
        with _mutex:
            circle = _circle_of(self)
            # One may be cancelled, but whoever waits for itself gains nothing
            if circle is None or (self.may_be_cancelled and len(circle) > 1):
                if not self.may_be_cancelled:
                    _waits[self.blocked] = self
                return
        failure = Deadlock(_in_words(self, circle), filename=self.path)
        failure.circle = circle
        raise failure

    def __exit__(self, *exc_info: object) -> None:
        with _mutex:
            if _waits.get(self.blocked) is self:
                del _waits[self.blocked]


def _circle_of(first: Wait) -> tuple[str, ...] | None:
    """Who waits for whom, if that leads back to who is about to wait."""
    circle = []
    seen = set()
    wait: Wait | None = first
    while wait is not None:
        holder = _holder_of(wait.identity)
        if holder is None or holder in seen:
            return None
        seen.add(holder)
        circle.append(
            f'{_name_of(wait.blocked)} waits for {wait.path!r}, held by '
            f'{_name_of(holder)}'
        )
        if first.blocked in (holder, _thread_of(holder)):
            return tuple(circle)
        wait = _waits.get(holder) or _waits.get(_thread_of(holder))
    return None


def _holder_of(identity: tuple[Any, ...]) -> Any:
    """Who of this process holds the file, or None."""
    for hold in list(_hold.held):
        owner = hold.owner
        if owner is None:
            continue
        if hold.fd < 0:
            if identity == ('path', getattr(hold.fd, 'path', None)):
                return owner
            continue
        try:
            status = os.fstat(hold.fd)
        except OSError:  # it is let go at this moment
            continue
        # Only whoever does not move on is of interest: its hold is stable
        if identity == (status.st_dev, status.st_ino) and hold.owner is owner:
            return owner
    return None


def _thread_of(holder: Any) -> Any:
    """The thread that a task runs in; a thread is its own."""
    return getattr(holder, 'thread', holder)


def _name_of(claimant: Any) -> str:
    if not isinstance(claimant, Claimant):
        task = claimant()
        get_name = getattr(task, 'get_name', None)
        name = get_name() if get_name else getattr(task, 'name', '?')
        return f'task {name!r}'
    threading = sys.modules.get('threading')
    if threading is not None:
        for thread in threading.enumerate():
            if thread.ident == claimant.ident:
                return f'thread {thread.name!r}'
    return f'thread {claimant.ident}'


def _in_words(wait: Wait, circle: tuple[str, ...]) -> str:
    told = '; '.join(circle)
    if len(circle) > 1:
        return f'Deadlock: {told}'
    return (
        f'Deadlock: lock {os.fspath(wait.path)!r} is already held by a '
        'different FileLock instance in this thread. Use is_singleton=True '
        f'to enable reentrant locking across instances. ({told})'
    )


def _forget_parent() -> None:
    global _mutex
    _mutex = _thread.allocate_lock()
    _waits.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_parent)
