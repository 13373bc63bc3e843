"""What goes on until it is closed, or the block that it was made for ends."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from typing import Self


class UntilClosed:
    """A context manager that is closed at the end of its block."""

    def close(self) -> None:
        """End it, and wait for that."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()
