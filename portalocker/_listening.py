"""Whether somebody counts waits and holds; wait_counters does."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Waited = TypeVar('Waited')

# Gives what a lock is counted by, see `wait_counters.enable()`; None: nobody
# listens. Read once for each call: another thread may switch it off
listener: Any = None


class Acquiring:
    """An `acquire()` that is told to whoever counts; end it by `holds()`."""

    __slots__ = ('_began', '_counted')

    def __init__(self, counted: Any) -> None:
        self._counted = counted
        self._began = self._counted.calls_acquire()

    def __enter__(self) -> Any:
        return self

    def holds(self, holding: Any) -> None:
        """It succeeded: `holding` is what was taken, None if it is over."""
        self._counted.enters(self._began, holding)

    def __exit__(
        self, exc_type: object, failure: BaseException | None, trace: object
    ) -> None:
        if failure is not None:
            self._counted.fails(self._began, failure)


class Releasing:
    """A `release()` that is told to whoever counted the `acquire()`."""

    __slots__ = ('_began', '_counted', '_region')

    def __init__(self, holding: Any) -> None:
        counted = self._counted = holding.counted.here()
        self._region = holding.region
        self._began = counted.calls_release()
        # No call between the two: a signal handler may raise in each
        holding.counted = None
        counted.region.active -= 1

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        # Whatever was raised, the lock is let go
        self._counted.leaves(self._began, self._region)


def wait_counted(lock: Any, wait: Callable[[], Waited]) -> Waited:
    """What `wait()` gives; whoever counts is told that `lock` waits."""
    phases_of = listener
    if phases_of is None:
        return wait()
    counted = phases_of(lock)
    counted.waits()
    try:
        return wait()
    finally:  # no call: a handler that raises in one would lose the lock
        counted.enter.active -= 1
