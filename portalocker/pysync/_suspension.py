"""Critical sections of a thread give way while the thread waits."""

from __future__ import annotations

from _thread import _local, get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Section(Protocol):
        """What can give its mutexes back, and take them again."""

        def _suspend(self) -> bool: ...
        def _resume(self) -> None: ...


class _PerThread(_local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        # The sections it is in, the innermost last
        self.sections: list[Section] = []
        self.ident = get_ident()


own = _PerThread()


def sleep(acquire: Callable[..., bool], seconds: float) -> bool:
    """Wait in `acquire(timeout)`, and hold no section meanwhile."""
    if not own.sections:
        return acquire(timeout=seconds)
    suspend_all()
    try:
        return acquire(timeout=seconds)
    finally:
        resume_top()


def suspend_all() -> None:
    """Give back what the sections of this thread hold."""
    for section in reversed(own.sections):
        # those around a suspended one have been suspended with it
        if not section._suspend():
            break


def resume_top() -> None:
    """Take back what the innermost section gave."""
    if own.sections:
        own.sections[-1]._resume()
