"""Sleep in poll(2), which knows no limit on descriptor numbers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def wait_readable(file: Any, seconds: float) -> bool:
    """Sleep until `file` is readable, or for `seconds`; which?"""
    import select

    posix: Any = select  # Windows has no poll()
    poll = posix.poll()
    poll.register(file, posix.POLLIN)
    return bool(poll.poll(seconds * 1000))
