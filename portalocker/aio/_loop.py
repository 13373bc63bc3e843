"""One event loop: how its tasks sleep, and the lines they stand in.

Nothing here starts a task or a thread. Of the tasks that wait for a file to be
closed one reads the inotify instance of the process and wakes the others; it
hands over when it leaves, as the threads of `_wakeup_inotify` do.
"""

from __future__ import annotations

import _thread
import sys
import weakref
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from .. import _wakeup_inotify
from . import _line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .. import _wakeup, _wakeup_queue

_loops: anyio.lowlevel.RunVar[Loop] = anyio.lowlevel.RunVar('portalocker')


def here() -> Loop:
    """The loop that runs."""
    try:
        return _loops.get()
    except LookupError:
        loop = Loop()
        _loops.set(loop)
        return loop


class Loop:
    """What this package knows of one event loop."""

    def __init__(self) -> None:
        #: path -> the tasks that wait for it
        self.lines: dict[Any, _line.Line] = {}
        self._watch = Watch()
        self._turnstile = anyio.Lock()

    async def turnstile(self) -> None:
        """Let one task pass each time the loop goes around.

        Many may give up at the same moment, and each asks the system who
        holds, which takes a tenth of a millisecond: others run in between.
        """
        async with self._turnstile:
            pass

    async def sleep(self, nap: _wakeup.Nap) -> bool:
        """Sleep through a nap; whether something ended it."""
        instance = _wakeup_inotify.process_instance()
        if nap.ticket is not None:
            is_woken = await _outlives_predecessor(nap.ticket, nap.seconds)
        elif nap.interest is None or instance is None:
            await anyio.sleep(nap.seconds)
            return False
        else:
            is_woken = await self._watch.wait(
                instance, nap.interest, nap.seconds
            )
        if not is_woken:
            await self.turnstile()
        return is_woken


async def _outlives_predecessor(
    ticket: _wakeup_queue.Ticket, seconds: float
) -> bool:
    predecessor = ticket.predecessor
    assert predecessor is not None
    with anyio.move_on_after(seconds):
        await anyio.wait_readable(predecessor)
        ticket.lose_predecessor()
        return True
    return False


class Sleeper:
    """One task that sleeps until its interest is woken, or it shall read.

    Only the task keeps it: one that sleeps in a closed loop is collected.
    """

    __slots__ = ('__weakref__', 'event', 'reference', 'scope', 'soon', 'watch')

    def __init__(self, watch: Watch, scope: anyio.CancelScope) -> None:
        self.watch = watch
        self.scope = scope
        self.event = anyio.Event()
        self.soon = caller_from_threads()
        self.reference = weakref.ref(self)

    def wake(self) -> None:
        """Called by whoever reads the instance, in any thread."""
        if self.watch.reads_here():
            self.wake_here()
            return
        try:
            self.soon(self.wake_here)
        except RuntimeError:  # the loop has ended
            pass

    def wake_here(self) -> None:
        """Go on, unless that is done already; called by the loop."""
        if self.watch.is_read_by(self):
            # A thread read what it waits for
            self.scope.cancel()
        else:
            _line.wake(self.event)


class Watch:
    """The tasks of one loop that wait for somebody to close a file.

    The reader is the one that waits for the inotify instance itself.
    """

    def __init__(self) -> None:
        self._sleepers: dict[weakref.ref[Sleeper], None] = {}
        self._reader: weakref.ref[Sleeper] | None = None
        # The thread in which a task reads the instance just now
        self._reading: int | None = None

    def reads_here(self) -> bool:
        """Whether the caller is a task of this loop that reads."""
        return self._reading == _thread.get_ident()

    def is_read_by(self, sleeper: Sleeper) -> bool:
        """Whether it is the reader."""
        return self._reader is sleeper.reference

    async def wait(
        self,
        instance: _wakeup_inotify.Instance,
        interest: _wakeup_inotify.Interest,
        seconds: float,
    ) -> bool:
        """Sleep until `interest` is woken or `seconds` are over; which?"""
        instance.drain_unread()
        with anyio.move_on_after(seconds) as scope:
            sleeper = Sleeper(self, scope)
            interest.on_wake = _waker(sleeper.reference)
            self._sleepers[sleeper.reference] = None
            try:
                while not interest.is_woken:
                    if self._reader is None:
                        if await self._read(instance, sleeper):
                            interest.is_woken = True
                    else:
                        await sleeper.event.wait()
                        sleeper.event = anyio.Event()
            finally:
                interest.on_wake = None
                del self._sleepers[sleeper.reference]
                self._hand_over()
        was_woken, interest.is_woken = interest.is_woken, False
        return was_woken

    async def _read(
        self, instance: _wakeup_inotify.Instance, sleeper: Sleeper
    ) -> bool:
        """Read the instance; whether the reader goes on anyway."""
        self._reader = sleeper.reference
        try:
            await anyio.wait_readable(instance.fileno())
        finally:
            self._reader = None
        if len(self._sleepers) == 1 and instance.leave_unread():
            return True
        self._reading = _thread.get_ident()
        try:
            instance.drain()
        finally:
            self._reading = None
        return False

    def _hand_over(self) -> None:
        if self._reader is None:
            for reference in self._sleepers:
                successor = reference()
                if successor is not None:
                    _line.wake(successor.event)
                    break


def _waker(reference: weakref.ref[Sleeper]) -> Callable[[], None]:
    def wake() -> None:
        sleeper = reference()
        if sleeper is not None:
            sleeper.wake()

    return wake


def caller_from_threads() -> Callable[[Callable[[], object]], object]:
    """What has the loop that runs here call something, from any thread."""
    asyncio = sys.modules.get('asyncio')
    if asyncio is not None and asyncio._get_running_loop() is not None:
        soon: Any = asyncio.get_running_loop().call_soon_threadsafe
    else:
        soon = sys.modules['trio'].lowlevel.current_trio_token().run_sync_soon
    return soon  # type: ignore[no-any-return]
