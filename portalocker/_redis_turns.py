"""What one thread uses at a time, and whoever comes last closes."""

from __future__ import annotations


class UsedByOne:
    """One at a time uses it; nobody waits for it.

    Nothing is locked, and every step may be the last before an exception: a
    signal handler that comes in between finds it taken, and goes elsewhere.
    """

    def __init__(self) -> None:
        self._users: dict[None, object] = {}
        self._is_over = False

    def take(self, user: object) -> bool:
        """Use it from now on; whether nobody else does."""
        return self._users.setdefault(None, user) is user

    def is_taken_by(self, user: object) -> bool:
        """Whether this one uses it."""
        return self._users.get(None) is user

    def give_back(self, user: object) -> None:
        """Let others use it."""
        del self._users[None]
        if self._is_over:
            self.close()

    def close(self) -> None:
        """Close it, now or as soon as nobody uses it; for ever."""
        self._is_over = True
        if self.take(self):
            self._close()

    def _close(self) -> None:
        raise NotImplementedError
