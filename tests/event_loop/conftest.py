"""Each test runs in both event loops."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

# the wake-ups of Linux
collect_ignore_glob = [] if sys.platform == 'linux' else ['test_*.py']

LONG = 15.0


@pytest.fixture(params=['asyncio', 'trio'])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run a function in an event loop, LONG seconds at most."""

    def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        async def limited() -> Any:
            with anyio.fail_after(LONG):
                return await function(*args)

        return anyio.run(limited, backend=request.param)

    return run


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file.lock'
