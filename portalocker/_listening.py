"""Whether somebody counts waits and holds; wait_counters does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# What is told, see `wait_counters.enable()`; None: nobody listens
listener: Any = None
