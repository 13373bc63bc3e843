"""Wait counters as lines of a log.

>>> write_log()
"""

from __future__ import annotations

import contextlib
import logging
import threading

from .. import wait_counters
from ._until_closed import UntilClosed

__all__ = ['LogRegularly', 'write_log']

_logger = logging.getLogger('portalocker.wait_counters')


def write_log(
    logger: logging.Logger = _logger, level: int = logging.INFO
) -> None:
    """Write one line for each counter, sorted by name. It never blocks."""
    for name, waits in sorted(wait_counters.snapshot().items()):
        logger.log(
            level,
            '%s: active %d, started %d, total %.6f s, longest %.6f s, '
            'contended %d, timeouts %d, cancelled %d, errors %d',
            name,
            waits.active,
            waits.started,
            waits.total,
            waits.longest,
            waits.contended,
            waits.timeouts,
            waits.cancelled,
            waits.errors,
        )


class LogRegularly(UntilClosed):
    """Writes the lines every so many seconds, from a thread of its own.

    `close()` ends it, as does the end of a `with` block; else the end of the
    process. A forked child has none. What a handler of the log raises ends
    nothing.

    >>> with LogRegularly(60):
    ...     pass
    """

    def __init__(
        self,
        seconds: float,
        logger: logging.Logger = _logger,
        level: int = logging.INFO,
    ) -> None:
        if not seconds > 0:
            raise ValueError(f'cannot log every {seconds} seconds')
        self._seconds = seconds
        self._about = logger, level
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name='portalocker wait counters', daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(self._seconds):
            with contextlib.suppress(Exception):  # whatever a handler raises
                write_log(*self._about)

    def close(self) -> None:
        """End the thread, and wait for that."""
        self._over.set()
        self._thread.join()
