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
        raise TypeError(
            f'cannot decorate {function!r}: it would hold up the event loop '
            'while it waits'
        )
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
