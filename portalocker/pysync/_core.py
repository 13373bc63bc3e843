"""Which implementation is in use: the native one, or pure Python.

PORTALOCKER_NO_EXTENSIONS=1 in the environment chooses pure Python, as does
an installation without the extension.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import _native

    core = _native
else:
    core = None
    if os.environ.get('PORTALOCKER_NO_EXTENSIONS', '0') in {'', '0'}:
        try:
            core = importlib.import_module(f'{__package__}._native')
        except (ImportError, SystemError):
            # SystemError: an extension of a build with the GIL, in one without
            pass
    if core is None:
        from . import _pure as core

IMPLEMENTATION = core.__name__.rpartition('._')[2]

# Whether Mutex hands itself to whoever has waited for a millisecond
FAIR = IMPLEMENTATION == 'native' or sys.version_info >= (3, 14)
