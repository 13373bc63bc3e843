"""Either implementation, whichever one `portalocker.pysync` has chosen."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import sys
from typing import Any

from portalocker import pysync as chosen

IMPLEMENTATIONS = ('pure', 'native')
HERE = pathlib.Path(__file__).parent
FOLDER = pathlib.Path(chosen.__file__).parent
SWITCH = 'PORTALOCKER_NO_EXTENSIONS'


def load(implementation: str) -> Any:
    """Return `portalocker.pysync` as it is with that implementation."""
    if implementation == chosen.IMPLEMENTATION:
        return chosen
    if implementation == 'pure':
        return load_pure(FOLDER)
    return None


def load_pure(folder: pathlib.Path) -> Any:
    """Return the package in `folder`, in pure Python, beside the chosen."""
    name = 'portalocker.pysync_pure'
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(
        name,
        folder / '__init__.py',
        submodule_search_locations=[str(folder)],
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = '1'
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del os.environ[SWITCH]
        else:
            os.environ[SWITCH] = before
    assert module.IMPLEMENTATION == 'pure'
    return module
