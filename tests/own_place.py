"""Where the temporary files of a run go, and what each test must take back.

What tests, their children and the examples in the documentation call
temporary goes into one directory, which goes with the run. Its name is locked
while the run lives, so that a later run removes what a killed one left.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import warnings
from typing import Any

PREFIX = 'portalocker-tests-'
_KEPT = (
    PREFIX,
    'pytest-of-',
    'pymp-',
    'portalocker-counters-',
    'single_file_',
)


def enter() -> contextlib.ExitStack:
    """Let temporary files go into a new directory until the stack closes."""
    # before the variable is set: who imports it may look for the directory
    from portalocker import reapers
    from portalocker import tempfile as ours

    real = tempfile.gettempdir()
    try:
        reapers.reap(real, PREFIX)
    except OSError as error:
        warnings.warn(f'what a dead run left stays: {error}', stacklevel=2)
    stack = contextlib.ExitStack()
    place = stack.enter_context(
        ours.TemporaryDirectory(prefix=PREFIX, dir=real, lock=True)
    )
    before = dict(os.environ)
    # the last directories of pytest itself stay, to be looked at
    os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', real)
    for name in ('TMPDIR', 'TEMP', 'TMP'):
        os.environ[name] = place
    stack.callback(_restore, before)
    tempfile.tempdir = ours.tempdir = None
    if os.name == 'posix':
        os.chmod(place, 0o1777)  # as the real one: for every user
    return stack


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def names() -> set[str]:
    """What is there, apart from what is kept there from run to run."""
    with contextlib.suppress(OSError):
        return {
            name
            for name in os.listdir(tempfile.gettempdir())
            if not name.startswith(_KEPT)
        }
    return set()


_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 1 << 14, 1 << 18


def see_own_mounts() -> None:
    """Let what the run mounts go with its last process, as far as we may."""
    if sys.platform == 'linux':
        libc: Any = ctypes.CDLL(None)
        if not libc.unshare(_CLONE_NEWNS):
            flags = ctypes.c_ulong(_MS_REC | _MS_PRIVATE)
            libc.mount(None, b'/', None, flags, None)
