"""Places and files that several modules are tried on."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


_MEMORY = '/dev/shm'
_HAS_MEMORY = sys.platform == 'linux' and os.access(_MEMORY, os.W_OK)


@pytest.fixture(params=['default', 'memory'] if _HAS_MEMORY else ['default'])
def place(request: pytest.FixtureRequest) -> Iterator[pathlib.Path]:
    """A directory that everybody may write to."""
    directory = _MEMORY if request.param == 'memory' else None
    path = pathlib.Path(tempfile.mkdtemp(dir=directory))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file with some content."""
    path = tmp_path / 'file'
    path.write_text('content')
    return path


@pytest.fixture
def first(path: pathlib.Path) -> Iterator[Any]:
    """The file, open for reading and writing."""
    with open(path, 'r+') as fh:
        yield fh


@pytest.fixture
def second(path: pathlib.Path) -> Iterator[Any]:
    """The same file, opened once more."""
    with open(path, 'r+') as fh:
        yield fh
