"""Functions whose body runs with a lock held, whatever their colour."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def decorated(lock: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the lock held while its body runs."""
    import functools
    import inspect

    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(
        function
    ):
        return _for_tasks(lock)(function)  # type: ignore[no-any-return]
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generating(*args: Any, **kwargs: Any) -> Any:
            with lock:
                return (yield from function(*args, **kwargs))

        return generating

    @functools.wraps(function)
    def calling(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return function(*args, **kwargs)

    return calling


def _for_tasks(lock: Any) -> Any:
    """The lock that waits in an event loop, and holds what `lock` holds."""
    import importlib

    if lock._twin is None:
        # By name: that room is built on this one
        aio = importlib.import_module(f'{__package__}.aio')
        twin = aio.FileLock(lock.lock_file, **lock._options)
        twin._half._hold = lock._hold
        lock._twin = twin  # which lives as long, and lets go when both end
    return lock._twin
