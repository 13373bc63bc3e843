"""This very process and its end, told from a forked child and its end."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Birthplace:
    """A process, as the objects that it made remember it.

    `is_here` is false in a forked child, for objects of its parent.
    """

    __slots__ = ('is_here',)

    def __init__(self) -> None:
        self.is_here = True


#: where new objects are made; read it here, a child has another one
here = Birthplace()

#: some other process
ELSEWHERE = Birthplace()
ELSEWHERE.is_here = False


def _move_out() -> None:
    global here
    here.is_here = False
    here = Birthplace()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_move_out)

# what is called at the end -> the process that asked for it
_callers: dict[Callable[[], None], int] = {}


def call_at_exit(callback: Callable[[], None]) -> None:
    """Call `callback` once this process ends by itself; asking twice is fine.

    Children of multiprocessing count as well.
    """
    # Not at import: a child of multiprocessing forgets the hooks that it
    # inherited, and before Python 3.13 runs its own kind of hooks only
    pid = os.getpid()
    if _callers.get(callback) == pid:
        return
    _callers[callback] = pid
    import atexit
    import sys

    def call() -> None:
        if os.getpid() == pid:
            callback()

    atexit.register(call)
    multiprocessing_util = sys.modules.get('multiprocessing.util')
    if multiprocessing_util is not None:
        multiprocessing_util.Finalize(None, call, exitpriority=100)
