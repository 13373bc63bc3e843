"""Is the file I locked still the file at that path?"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def still_names(path: Any, opened: os.stat_result) -> bool:
    """Whether `path` leads to the file that `opened` was read from.

    A symbolic link on the way counts as its target. A path that leads
    nowhere names nothing; any other failure of the system is raised.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.st_ino == opened.st_ino and found.st_dev == opened.st_dev
