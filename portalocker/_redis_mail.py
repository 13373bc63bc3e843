"""What goes over a session's connection: commands out, answers in."""

from __future__ import annotations

import collections

from . import _redis_scripts, _redis_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


class RedisMail:
    """Commands of anybody, sent by one; each answer finds who wants it."""

    def __init__(self) -> None:
        # What to send, and what to do with the answer
        self._outbox: collections.deque[
            tuple[bytes, Callable[[Any], None] | None]
        ] = collections.deque()
        # What to do with the answers that are still to come, in order
        self._expected: collections.deque[Callable[[Any], None]] = (
            collections.deque()
        )

    def attend(self) -> None:
        """Have the reader look at what we have for it; never waits."""
        raise NotImplementedError

    def post(
        self,
        *words: str | bytes | int,
        answered: Callable[[Any], None] | None = None,
    ) -> None:
        """Send a command soon, in order; may be called from anywhere.

        Nothing is locked: destructors come here in the middle of anything.
        """
        self._outbox.append((_redis_wire.packed(*words), answered))
        self.attend()

    def post_script(
        self,
        script: _redis_scripts.Script,
        keys: Iterable[bytes],
        words: list[Any],
        answered: Callable[[Any], None],
    ) -> None:
        """Run a script over the session's own connection."""
        keys = list(keys)

        def with_text(answer: Any) -> None:
            if getattr(answer, 'code', None) != 'NOSCRIPT':
                answered(answer)
                return
            self.post(
                *('EVAL', script.text, len(keys), *keys, *words),
                answered=answered,
            )

        self.post(
            *('EVALSHA', script.sha, len(keys), *keys, *words),
            answered=with_text,
        )

    def take_outgoing(self) -> bytes:
        """What is to be sent now; its answers are expected from here on."""
        parts = []
        while self._outbox:
            data, answered = self._outbox.popleft()
            parts.append(data)
            if answered is not None:
                self._expected.append(answered)
        return b''.join(parts)

    def take_answer(self, answer: Any) -> None:
        """The answer to the oldest command that has none yet."""
        if not self._expected:
            raise ConnectionError(f'unexpected answer {answer!r}')
        self._expected.popleft()(answer)


def ignore_answer(_: object) -> None:
    """Nobody waits for this answer."""
