"""What a server of the tests does when the tests are killed: it ends."""

from __future__ import annotations

import ctypes
import signal
import sys


def die_with_parent() -> None:
    """In a new child: have the system end it with the thread that forked."""
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG
