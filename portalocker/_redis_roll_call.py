"""Who of the holders answers; the others lose the lock."""

from __future__ import annotations

import os

from . import _deadline, _redis_plan, _redis_scripts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

    from ._redis_holder import RedisHolder


class RollCall:
    """Who of these holders answers a ping."""

    def __init__(self, session: Any, base: str, found: Any) -> None:
        self._session = session
        self._base = base
        #: nonce -> who has not answered
        self.missing = {os.urandom(8).hex(): one for one in found}
        self._wake: Callable[[], object] | None = None

    def begin(self) -> None:
        """Ping all of them."""
        for nonce, one in list(self.missing.items()):
            self._session.pongs[nonce] = lambda nonce=nonce: self._hear(nonce)
            self._session.ping(one.sid, self._base, nonce)

    def end(self) -> None:
        """Listen to no answer any more."""
        for nonce in list(self.missing):
            self._session.pongs.pop(nonce, None)

    def _hear(self, nonce: str) -> None:
        with self._session.mutex:
            self.missing.pop(nonce, None)
            wake, self._wake = self._wake, None
        if wake is not None:
            wake()

    def prepare_pause(self, wake: Callable[[], object]) -> bool:
        """Have `wake` called at the next answer; whether one is missing."""
        with self._session.mutex:
            self._wake = wake
            return bool(self.missing)


def eviction(
    session: Any, base: str, found: tuple[RedisHolder, ...], timeout: float
) -> Generator[_redis_plan.Step, Any, bool | None]:
    """Ping holders; True where one answers. The others lose the lock."""
    call = RollCall(session, base, found)
    deadline = _deadline.Deadline(timeout)
    try:
        call.begin()
        while call.missing and deadline.remaining() > 0:
            yield _redis_plan.Rest(call, deadline.remaining())
    finally:
        call.end()
    silent = list(call.missing.values())
    for one in silent:
        keys = _redis_scripts.keys_of(base)
        yield _redis_plan.RunScript(
            session.dialect.evict, keys, (one.hid, one.sid)
        )
    return len(silent) < len(found) or None
