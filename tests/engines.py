"""Which servers the tests ran against: the terminal summary names each.

A test of a server says `has_run(request, 'valkey 9.1.2')` when it has one,
and `is_missing(request, 'valkey', reason)` when it has none: that skips the
test, or fails it where the engine is required. The first word is the name.

PORTALOCKER_ENGINES lists the engines, with spaces, without which the run
fails, even if no test asked for them.
"""

from __future__ import annotations

import collections
import os
from typing import Any, NoReturn

import pytest

_RAN = 'engine'
_MISSED = 'engine that is missing'


def required() -> set[str]:
    """Names of the engines without which the run fails."""
    return set(os.environ.get('PORTALOCKER_ENGINES', '').split())


def has_run(request: pytest.FixtureRequest, engine: str) -> None:
    """The test of `request` runs against this server: name and version."""
    request.node.user_properties.append((_RAN, engine))


def is_missing(
    request: pytest.FixtureRequest, engine: str, reason: str
) -> NoReturn:
    """The test of `request` cannot run: there is no such server."""
    text = f'{engine} is missing: {reason}'
    request.node.user_properties.append((_MISSED, text))
    if engine in required():
        pytest.fail(text)
    pytest.skip(text)


class Tally:
    """How many tests ran, or could not, per engine."""

    def __init__(self) -> None:
        self._ran: collections.Counter[str] = collections.Counter()
        self._missed: collections.Counter[str] = collections.Counter()

    def count(self, report: Any) -> None:
        """Take in one report of a test, from this process or a worker."""
        if report.when != 'teardown':
            return
        for key, text in report.user_properties:
            if key == _RAN:
                self._ran[text] += 1
            elif key == _MISSED:
                self._missed[text] += 1

    def failures(self) -> list[str]:
        """What is required and did not run."""
        ran = {text.partition(' ')[0] for text in self._ran}
        return [
            f'{name} is required, and no test ran against it'
            for name in sorted(required() - ran)
        ]

    def lines(self) -> list[str]:
        """What the terminal summary says."""
        return [
            *(f'{text}: {n} tests' for text, n in sorted(self._ran.items())),
            *(
                f'{text}: {n} tests skipped'
                for text, n in sorted(self._missed.items())
            ),
            *self.failures(),
        ]
