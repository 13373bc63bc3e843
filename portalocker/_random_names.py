"""Names that nobody can guess."""

from __future__ import annotations

import os

from . import _after_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class RandomNameSequence:
    """Endless names from the system's random source, 40 bits each."""

    characters = 'abcdefghijklmnopqrstuvwxyz012345'
    _letters = (characters * 8).encode()  # any byte -> a letter

    def __init__(self) -> None:
        self._ready: list[str] = []
        _after_fork.forget_in_child(self)

    def _forget_parent(self) -> None:
        self._ready.clear()

    def __iter__(self) -> RandomNameSequence:
        return self

    def __next__(self) -> str:
        try:
            return self._ready.pop()
        except IndexError:
            return self._next_of_many()

    def _next_of_many(self) -> str:
        text = bytearray(os.urandom(9 * 64).translate(self._letters))
        text[8::9] = b' ' * 64
        first, *others = text.decode('ascii').split()
        self._ready += others
        return first

    @property
    def rng(self) -> Any:
        """The system's random source as an object of module `random`."""
        from random import SystemRandom

        return SystemRandom()
