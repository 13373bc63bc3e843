"""Wait counters as metrics of prometheus-client: read when scraped.

>>> import prometheus_client
>>> registry = prometheus_client.CollectorRegistry()
>>> registry.register(Collector())
"""

from __future__ import annotations

import itertools

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f'cannot export to Prometheus: {_error}; its client comes with '
        'pip install "portalocker[prometheus]"',
        name=_error.name,
    ) from _error

from .. import wait_counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ['Collector']

# Powers of two, in nanoseconds, from a microsecond to a minute
_FIRST, _LAST = 10, 36


class Collector:
    """A collector of all counters, labelled by their `name`.

    `portalocker_wait_seconds` (a histogram), `portalocker_wait_active`,
    `portalocker_wait_longest_seconds`, `portalocker_wait_contended_total`
    and `portalocker_wait_failures_total` with the label `outcome`. Counting
    costs nothing more: the numbers are read when they are collected. It does
    not work in the multiprocess mode of the client, which has no collectors.
    """

    def collect(self) -> Iterator[Any]:
        """Read all counters."""
        seconds = HistogramMetricFamily(
            'portalocker_wait_seconds', 'how long waits took', labels=['name']
        )
        active = GaugeMetricFamily(
            'portalocker_wait_active', 'waits going on', labels=['name']
        )
        longest = GaugeMetricFamily(
            'portalocker_wait_longest_seconds',
            'the longest wait so far',
            labels=['name'],
        )
        contended = CounterMetricFamily(
            'portalocker_wait_contended',
            'waits that found somebody before them',
            labels=['name'],
        )
        failures = CounterMetricFamily(
            'portalocker_wait_failures',
            'waits that ended in vain',
            labels=['name', 'outcome'],
        )
        for name, waits in wait_counters.snapshot().items():
            seconds.add_metric([name], buckets(waits), waits.total)
            active.add_metric([name], waits.active)
            longest.add_metric([name], waits.longest)
            contended.add_metric([name], waits.contended)
            for outcome in ('timeouts', 'cancelled', 'errors'):
                number = getattr(waits, outcome)
                failures.add_metric([name, outcome], number)
        yield from (seconds, active, longest, contended, failures)


def buckets(waits: wait_counters.Waits) -> list[tuple[str, float]]:
    """The histogram as Prometheus has it: how many took at most so long."""
    counts = list(itertools.accumulate(waits.histogram))
    found: list[tuple[str, float]] = [
        (repr(2**power / 1e9), counts[power])
        for power in range(_FIRST, _LAST + 1)
    ]
    return [*found, ('+Inf', counts[-1])]
