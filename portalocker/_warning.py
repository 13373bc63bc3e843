"""Warnings: to the caller of the package, and to the log."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def warn_caller(
    message: str, category: type[Warning], inside: dict[str, Any]
) -> None:
    """Warn on behalf of the first caller whose globals are not `inside`."""
    import warnings

    level = 1
    while sys._getframe(level).f_globals is inside:
        level += 1
    warnings.warn(message, category, stacklevel=level + 1)


def lazy_logger(name: str) -> Any:
    """A logger for which logging is imported when it speaks."""
    return _LazyLogger(name)


class _LazyLogger:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        import logging

        return getattr(logging.getLogger(self._name), attribute)
