"""Each test of a primitive runs with both implementations."""

from __future__ import annotations

from typing import Any

import loading
import pytest


@pytest.fixture(scope='session', params=loading.IMPLEMENTATIONS)
def sync(request: pytest.FixtureRequest) -> Any:
    """`portalocker.pysync`, native or pure."""
    module = loading.load(request.param)
    if module is None:
        # test_implementation.py fails where it could have been built
        pytest.skip('the native implementation is not built')
    return module
