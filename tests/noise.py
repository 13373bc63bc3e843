"""A plugin of pytest: threads pause at random lines of the package.

Races that a quiet machine never shows come out within minutes:

    PYTHONPATH=tests python -m pytest -p noise -n 2 tests/laws

PORTALOCKER_NOISE is the share of lines that a thread pauses before (0.01).
Tests that trace the package themselves go without. Source: Edelstein, Farchi,
Nir, Ratsaby, Ur 2002 (noise makers).
"""

from __future__ import annotations

import os
import pathlib
import random
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any

import portalocker

_PACKAGE = str(pathlib.Path(portalocker.__file__).parent)
_SHARE = float(os.environ.get('PORTALOCKER_NOISE', '0.01'))
_LONGEST_SECONDS = 0.002

_is_ours: dict[CodeType, bool] = {}
_random = random.Random(os.urandom(8)).random
_sleep = time.sleep  # tests replace it


def _pause(frame: FrameType, event: str, _: Any) -> Any:
    if event == 'line' and _random() < _SHARE:
        _sleep(_random() * _LONGEST_SECONDS)
    return _pause


def _trace(frame: FrameType, event: str, _: Any) -> Any:
    code = frame.f_code
    if code not in _is_ours:
        _is_ours[code] = code.co_filename.startswith(_PACKAGE)
    return _pause if _is_ours[code] else None


def pytest_runtest_setup() -> None:
    """Every thread that starts from now on makes noise."""
    threading.settrace(_trace)
    sys.settrace(_trace)


def pytest_runtest_teardown() -> None:
    """Until the test is over."""
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]
