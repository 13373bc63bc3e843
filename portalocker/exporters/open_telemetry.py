"""Wait counters as observable instruments of OpenTelemetry.

They are read when a reader asks, so counting costs nothing more.

>>> observe()
"""

from __future__ import annotations

try:
    from opentelemetry import metrics
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f'cannot export to OpenTelemetry: {_error}; its interface comes with '
        'pip install "portalocker[opentelemetry]"',
        name=_error.name,
    ) from _error

from .. import wait_counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = ['observe']

#: the attribute that has the name of a counter
NAME = 'portalocker.wait.name'
#: of the semantic conventions: what kind of failure it was
_ERROR_TYPE = 'error.type'
_OUTCOMES = {
    'timeouts': 'timeout',
    'cancelled': 'cancelled',
    'errors': '_OTHER',
}


def observe(meter: Any = None) -> None:
    """Make the instruments, with this meter or one of the global provider.

    `portalocker.wait.count`, `.time` (seconds), `.contentions` and
    `.failures` (by `error.type`, as in the semantic conventions, which have
    no metric for locks inside a process), `.active` and `.longest` (seconds).
    Their attribute `portalocker.wait.name` is the name of the counter. Call
    it once for each meter.
    """
    meter = meter or metrics.get_meter('portalocker')
    meter.create_observable_counter(
        'portalocker.wait.count',
        [_observer(lambda waits: waits.started)],
        unit='{wait}',
        description='waits that began',
    )
    meter.create_observable_counter(
        'portalocker.wait.time',
        [_observer(lambda waits: waits.total)],
        unit='s',
        description='time that was waited',
    )
    meter.create_observable_counter(
        'portalocker.wait.contentions',
        [_observer(lambda waits: waits.contended)],
        unit='{contention}',
        description='waits that found somebody before them',
    )
    meter.create_observable_counter(
        'portalocker.wait.failures',
        [_failures],
        unit='{failure}',
        description='waits that ended in vain',
    )
    meter.create_observable_up_down_counter(
        'portalocker.wait.active',
        [_observer(lambda waits: waits.active)],
        unit='{wait}',
        description='waits going on',
    )
    meter.create_observable_gauge(
        'portalocker.wait.longest',
        [_observer(lambda waits: waits.longest)],
        unit='s',
        description='the longest wait so far',
    )


def _observer(
    number_of: Callable[[wait_counters.Waits], float],
) -> Callable[[Any], Iterator[metrics.Observation]]:
    def read(_: Any) -> Iterator[metrics.Observation]:
        for name, waits in wait_counters.snapshot().items():
            yield metrics.Observation(number_of(waits), {NAME: name})

    return read


def _failures(_: Any) -> Iterator[metrics.Observation]:
    for name, waits in wait_counters.snapshot().items():
        for field, error_type in _OUTCOMES.items():
            yield metrics.Observation(
                getattr(waits, field), {NAME: name, _ERROR_TYPE: error_type}
            )
