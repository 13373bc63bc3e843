"""What a copy of a lock has: the same path and options, and no hold."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class StartsReleased:
    """A lock whose copies, pickled or not, hold nothing.

    `_start_released()` makes the attributes in `_of_the_hold` anew.
    """

    _of_the_hold: frozenset[str] = frozenset()

    def _start_released(self) -> None:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in self._of_the_hold
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start_released()
