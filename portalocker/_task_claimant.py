"""Who acquires: the running task of an event loop, or else the thread."""

from __future__ import annotations

import sys
from _weakref import ref

from ._holdings import _threads, current_claimant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

    from ._holdings import Claimant

    AnyClaimant = Union[Claimant, 'TaskClaimant']


# Gives the loop that runs in this thread, once somebody imported asyncio
_running_loop: Any = None


class TaskClaimant(ref['Any']):
    """One task, as the holder of a lock; it does not keep the task alive."""

    __slots__ = ('thread',)

    # The thread that runs the task
    thread: Claimant


def running_claimant() -> AnyClaimant:
    """The running task, or the thread where none runs; compare with `==`."""
    loaded = sys.modules
    if 'trio' in loaded or (
        'asyncio' in loaded
        if _running_loop is None
        else _running_loop() is not None
    ):
        task = running_task()
        if task is not None:
            claimant = TaskClaimant(task)
            claimant.thread = current_claimant()
            return claimant
    try:  # as current_claimant(), without its frame
        return _threads.token  # type: ignore[no-any-return]
    except AttributeError:
        return current_claimant()


def running_task() -> Any:
    """The task of asyncio or trio that runs in this thread, or None."""
    global _running_loop
    asyncio = sys.modules.get('asyncio')
    try:
        if asyncio is not None:
            _running_loop = asyncio._get_running_loop
            if _running_loop() is not None:
                return asyncio.current_task()
    except AttributeError:  # another thread is importing it
        pass
    trio = sys.modules.get('trio')
    try:
        return None if trio is None else trio.lowlevel.current_task()
    except (AttributeError, RuntimeError):  # no loop of its runs here
        return None


def has_ended(claimant: AnyClaimant) -> bool:
    """Whether that thread or task will never release anything."""
    if isinstance(claimant, TaskClaimant):
        task = claimant()
        done = getattr(task, 'done', None)
        return task is None or (done is not None and done())
    return claimant.ident not in sys._current_frames()
