"""What the tests of waiting processes share."""

from __future__ import annotations

import pathlib

import pytest


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'file.lock'
    path.touch()
    return path
