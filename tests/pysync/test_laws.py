"""The laws of laws.py, each in its own process."""

from __future__ import annotations

import os
import subprocess
import sys

import laws
import loading
import pytest

# A law that is asked for under PORTALOCKER_STRESS works this much harder
HARDER = 20


@pytest.mark.parametrize('implementation', loading.IMPLEMENTATIONS)
@pytest.mark.parametrize('name', laws.LAWS)
def test_law(name: str, implementation: str) -> None:
    obey(name, implementation, 1)


@pytest.mark.stress
@pytest.mark.timeout(laws.LIMIT * HARDER)
@pytest.mark.parametrize('implementation', loading.IMPLEMENTATIONS)
@pytest.mark.parametrize('name', laws.LAWS)
def test_law_under_stress(name: str, implementation: str) -> None:
    obey(name, implementation, HARDER)


def obey(name: str, implementation: str, scale: int) -> None:
    if loading.load(implementation) is None:
        pytest.skip('the native implementation is not built')
    result = subprocess.run(
        [sys.executable, laws.__file__, name, implementation, str(scale)],
        env={**os.environ, 'PYTHONWARNINGS': 'ignore::DeprecationWarning'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
