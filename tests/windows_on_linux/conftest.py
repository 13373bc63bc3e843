"""The Windows part is collected by a Windows Python, the rest elsewhere."""

from __future__ import annotations

import os

if os.name == 'nt':
    collect_ignore_glob = ['test_*.py']
else:
    collect_ignore = ['windows_part']
