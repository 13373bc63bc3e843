"""Which threads hold a lock object, and with which handle."""

from __future__ import annotations

import _thread

from . import _listening

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_threads = _thread._local()
_MOST_USERS = 1000


class Claimant:
    """One thread, as the holder of a lock.

    Thread numbers are used again for new threads; a token never is, as long
    as anybody keeps it.
    """

    __slots__ = ('__weakref__', 'ident')

    def __init__(self) -> None:
        #: the number of the thread; another one may have it later
        self.ident = _thread.get_ident()


def current_claimant() -> Claimant:
    """The token of the calling thread."""
    try:
        token: Claimant = _threads.token
    except AttributeError:
        token = _threads.token = Claimant()
    return token


class ActingAs:
    """A `with` block in which the calling thread stands for a claimant."""

    def __init__(self, claimant: Claimant) -> None:
        self._claimant = claimant
        self._own = current_claimant()

    def __enter__(self) -> None:
        self._own, _threads.token = current_claimant(), self._claimant

    def __exit__(self, *exc_info: object) -> None:
        _threads.token = self._own


class Holding:
    """One thread's hold on a lock."""

    # How many `with` blocks, or acquisitions, of the thread are inside it
    depth = 0
    # What must not stay behind (temporary files)
    remains: Any = None
    # Whether the pid file was written
    has_record = False
    # Who counts it, and when it began, see `_listening`
    counted: Any = None
    region: Any = None
    # Whether it was exclusive, and its holder shares it by now
    is_downgraded = False

    def __init__(self, fh: Any, turn: Any) -> None:
        self.fh = fh
        # Closed when we let go, which wakes the next in line
        self.turn: Any = turn

    def is_over(self) -> bool:
        """Whether somebody closed the handle, which let the lock go."""
        return bool(getattr(self.fh, 'closed', False))

    def pass_on(self) -> None:
        """The lock is let go: wake the next in line."""
        if self.turn is not None:
            self.turn.close()

    def end(self) -> None:
        """A signal handler cut off the release: nobody is kept out by us.

        What stays is removed when the handle is collected.
        """
        try:
            self.fh.close()
        finally:
            if self.turn is not None:
                self.turn.close()
                self.turn.clean_up()
            self.stop_counting()

    def stop_counting(self) -> None:
        """Nobody will release it: what is counted ends now."""
        if self.counted is not None:
            with _listening.Releasing(self):
                pass

    def clean_up(self) -> None:
        """Forget what the hold had to remember."""
        turn, self.turn = self.turn, None
        if turn is not None:
            turn.close()
            turn.clean_up()
        self.stop_counting()
        remains, self.remains = self.remains, None
        if remains is not None:
            remains.detach()


class Holdings(dict[Claimant, Holding]):
    """The holds of one lock object: one, or several shared ones.

    Every operation is one step on the dict, so threads need no lock.
    """

    #: who holds, or does not: the calling thread
    claimant: Callable[[], Claimant] = staticmethod(current_claimant)

    def __init__(self) -> None:
        # Threads that acquired, or tried to: they release their own holds only
        self._users: set[Claimant] = set()

    def note_user(self) -> None:
        """The calling thread acquires for itself."""
        self._users.add(self.claimant())
        if len(self._users) > _MOST_USERS:  # most of them ended long ago
            self._users.clear()

    def put(self, holding: Holding) -> None:
        """The calling thread holds the lock from now on."""
        claimant = self.claimant()
        self[claimant] = holding
        self._users.add(claimant)

    def own(self) -> Holding | None:
        """The hold of the calling thread, unless its handle was closed."""
        holding = self.get(self.claimant())
        if holding is not None and holding.is_over():
            # It stays to be released, unless a new hold takes its place
            holding.clean_up()
            return None
        return holding

    def to_release(self) -> Any:
        """The hold that the calling thread may release, left in its place.

        Its own; another's where it never acquired for itself.
        """
        claimant = self.claimant()
        own = self.get(claimant)
        if own is None and claimant not in self._users:
            return next(iter(list(self.values())), None)
        return own

    def forget(self, holding: Holding) -> None:
        """Take out a hold that ended, whoever's it was."""
        for claimant in list(self):
            if self.get(claimant) is holding:
                del self[claimant]

    def take_own(self) -> Holding | None:
        """Take out the hold of the calling thread, so that it ends once."""
        claimant = self.claimant()
        # No call from here on: a signal handler that raises would have it
        # end never
        try:
            holding = self[claimant]
            del self[claimant]
        except KeyError:  # it has none, or somebody was faster
            return None
        return holding

    def take_from_another(self) -> Holding | None:
        """Take out the hold of another thread, so that it ends once."""
        if self.claimant() in self._users:
            return None  # it released before, or never came in
        for claimant in list(self):
            try:  # as in take_own()
                holding = self[claimant]
                del self[claimant]
            except KeyError:  # it was faster itself
                continue
            return holding
        return None

    def forget_all(self) -> list[Holding]:
        """Take out all holds: nobody used this object, or holds it."""
        self._users.clear()
        holdings = list(self.values())
        self.clear()
        return holdings

    def any_handle(self) -> Any:
        """A handle that is still held, or None."""
        for holding in list(self.values()):
            return holding.fh
        return None

    def are_over(self) -> bool:
        """Whether every handle was closed."""
        return all(holding.is_over() for holding in list(self.values()))

    def enter(self) -> None:
        """The calling thread is one `with` block deeper in."""
        holding = self.get(self.claimant())
        if holding is not None:
            holding.depth += 1

    def leave(self) -> bool:
        """Whether the calling thread leaves its outermost `with` block."""
        holding = self.get(self.claimant())
        if holding is None:
            # Whoever holds by now: it is not ours to release
            return False
        holding.depth -= 1
        return holding.depth <= 0


def enter(lock: Any, holdings: Holdings) -> Any:
    """Acquire for a `with` block, and give what that gave.

    If a signal handler raises there will be no `__exit__`: what this thread
    held before it still holds, and nothing more.
    """
    was_held = bool(holdings) and holdings.own() is not None
    try:
        taken = lock.acquire()
        holdings.enter()
    except BaseException:
        if not was_held and holdings.own() is not None:
            lock.release()
        raise
    return taken


class WhileHeld:
    """A `with` block that runs only while the lock is held."""

    def __init__(self, lock: Any, holdings: Holdings) -> None:
        self._lock = lock
        self._holdings = holdings

    def __enter__(self) -> Any:
        enter(self._lock, self._holdings)
        return self._lock

    def __exit__(self, *exc_info: object) -> None:
        if self._holdings.leave():
            self._lock.release()
