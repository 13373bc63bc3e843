"""What this process holds through bare descriptors, and what a child forgets.

A lock object has one `Hold` for all its life. Its fields belong to whoever
holds the system's lock: they are written after it was taken and before it is
let go, so threads that contend for one object need no other lock.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# Every hold of this process that is held. No call enters or removes one: a
# signal handler may raise in each
held: dict[Hold, None] = {}


class Hold:
    """One lock, as this process holds it.

    owner | the lock is
    ------|---------------------------------------------
    None  | free, or not ours
    other | held by this task or thread, `depth` times
    """

    __slots__ = (
        'counted',
        'depth',
        'fd',
        'is_logged',
        'owner',
        'region',
        'turn',
    )

    def __init__(self) -> None:
        self.owner: Any = None
        #: below zero: what is held has none, and may say where it is
        self.fd = -1
        self.depth = 0
        # Closed when we let go, which wakes the next in line
        self.turn: Any = None
        self.is_logged = False
        #: where it is counted, None where nobody listened when it began
        self.counted: Any = None
        self.region: Any = None


def _forget_parent() -> None:
    for hold in held:
        hold.owner = hold.counted = None
        if hold.turn is not None:
            hold.turn.abandon()
        if hold.fd >= 0:
            # Only our copy: the parent keeps the open file, and its lock
            os.close(hold.fd)
    held.clear()


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_forget_parent)
