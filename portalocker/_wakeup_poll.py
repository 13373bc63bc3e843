"""Sleep in poll(2), which knows no limit on descriptor numbers."""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_select: Any = select  # Windows has no poll()


def wait_readable(file: Any, seconds: float) -> bool:
    """Sleep until `file` is readable, or for `seconds`; which?"""
    poll = _select.poll()
    poll.register(file, _select.POLLIN)
    return bool(poll.poll(seconds * 1000))
