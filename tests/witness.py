"""Who sees two at once in one place."""

from __future__ import annotations

import os
import pathlib


class Witness:
    """Knows nothing of locks: one is inside from `enter` to `leave`."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._mark = directory / 'somebody is inside'
        self._journal = directory / 'journal'

    def enter(self, who: object = '') -> None:
        """Come in; fails where somebody is inside."""
        os.close(os.open(self._mark, os.O_CREAT | os.O_EXCL))
        self.note(f'{who} in')

    def leave(self, who: object = '') -> None:
        """Go out."""
        self.note(f'{who} out')
        os.unlink(self._mark)

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *exc_info: object) -> None:
        self.leave()

    def note(self, text: str) -> None:
        """Add a line to the journal."""
        fd = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f'{text}\n'.encode())
        os.close(fd)

    def journal(self) -> list[str]:
        """What was noted, in order."""
        return self._journal.read_text(encoding='ascii').splitlines()
