"""SeqLock: readers look without a lock, and look again after a write."""

from __future__ import annotations

from _thread import allocate_lock, get_ident

from ._shapes import Uncopied, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_NOT_LOCKED = 'release unlocked lock'


class SeqLock(Uncopied):
    """A number that is odd while a writer writes, and higher afterwards."""

    __slots__ = ('__weakref__', '_mutex', '_sequence', '_writer')

    def __init__(self) -> None:
        # Writers exclude each other by it; readers that find an odd number
        # wait there instead of spinning
        self._mutex = allocate_lock()
        self._sequence = 0
        self._writer = 0

    def lock_write(self) -> None:
        """Begin to write, waiting for other writers."""
        self._mutex.acquire()
        self._writer = get_ident()
        self._sequence += 1

    def unlock_write(self) -> None:
        """Publish what was written; RuntimeError if nobody writes."""
        self._end_write(1)

    def abandon_write(self) -> None:
        """End a write that changed nothing: readers need not look again."""
        self._end_write(-1)

    def _end_write(self, step: int) -> None:
        if not self._sequence & 1:
            raise RuntimeError(_NOT_LOCKED)
        self._writer = 0
        self._sequence += step
        self._mutex.release()

    def begin_read(self) -> int:
        """Return a token for `end_read()`; waits while somebody writes.

        RuntimeError in the thread that writes.
        """
        sequence = self._sequence
        while sequence & 1:
            if self._writer == get_ident():
                raise RuntimeError(
                    f'cannot read under {self!r}: this thread is writing'
                )
            with self._mutex:
                sequence = self._sequence
        return sequence

    def end_read(self, token: int, /) -> bool:
        """Whether nothing was written since `begin_read()` gave `token`."""
        return self._sequence == token

    def write(self) -> SeqLockWrite:
        """Return a `with` block that writes.

        What was written is published at its end, after an exception too;
        `abandon()` inside says that nothing was changed.
        """
        return SeqLockWrite(self)

    def after_fork(self) -> bool:
        """Make it usable in a forked child; call it before anything else.

        True if somebody was writing when the parent forked, so that the data
        may be half written. No token of before is valid then.
        """
        was_writing = bool(self._sequence & 1)
        self._sequence += was_writing
        self._writer = 0
        self._mutex._at_fork_reinit()  # type: ignore[attr-defined]
        return was_writing

    def _lock_read(self) -> None:
        """Keep writers out; the number stays even."""
        self._mutex.acquire()

    def _unlock_read(self) -> None:
        self._mutex.release()

    def _holder(self) -> int:
        return self._writer

    def __repr__(self) -> str:
        return f'<{name_of(self)} at {id(self):#x}: sequence={self._sequence}>'


class SeqLockWrite:
    """One write under a SeqLock, as a `with` block."""

    __slots__ = ('_is_open', '_seq_lock')

    def __init__(self, seq_lock: SeqLock) -> None:
        self._seq_lock = seq_lock
        self._is_open = False

    def abandon(self) -> None:
        """Say that nothing was changed; RuntimeError outside the block."""
        if not self._is_open:
            raise RuntimeError('cannot abandon a write that is not open')
        self._is_open = False
        self._seq_lock.abandon_write()

    def __enter__(self) -> Self:
        self._seq_lock.lock_write()
        self._is_open = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_open:
            self._is_open = False
            self._seq_lock.unlock_write()
