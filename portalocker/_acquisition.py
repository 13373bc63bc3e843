"""Open, lock, verify, close: how the file at a path comes to be held.

One place for every lock on files; the caller brings the verbs as a `Door`.
"""

from __future__ import annotations

import errno
import os
import time
from stat import ST_DEV, ST_NLINK

from . import (
    _file_identity,
    _listening,
    _opening,
    _owner,
    _signal_handlers,
    _wakeup,
    exceptions,
    portalocker,
)
from ._wakeup import crowded, with_lines
from ._wakeup_queue import somebody_waits
from .constants import EXCLUSIVE_TRY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from typing import Any, Protocol, TypeVar

    from . import _holdings

    Result = TypeVar('Result')
    Result_co = TypeVar('Result_co', covariant=True)

    # Gives the attempts, and spends the time between them in what it is given
    Ticking = Callable[[Callable[[float], object]], Iterator[int]]

    class HasPlan(Protocol[Result_co]):
        """Whoever has a plan: a `Contender`, or `Places`."""

        #: a place in line: nanoseconds of the monotonic clock
        arrival: Any

        def attempts(
            self, ticking: Ticking
        ) -> Generator[float, None, Result_co]: ...

        def pause(self, seconds: float) -> None: ...

        def naps(
            self, seconds: float
        ) -> Generator[_wakeup.Nap, bool, None]: ...

    class AtPath(Protocol):
        """What is at a path."""

        # Where the file is that `_get_fh()` opens
        _path: Any
        # Whether it shares, and lets in first whoever waits not to share
        _gives_way: bool

    class Door(AtPath, Protocol):
        """What has to be opened and locked."""

        def _get_fh(self) -> Any: ...

        def _get_lock(self, fh: Any) -> Any: ...

    class DescriptorDoor(AtPath, Protocol):
        """A door that opens bare descriptors; to wait, kept ones."""

        # Whether waiters stand in line there, as far as we know
        _has_line: bool
        # Opens what may be opened without further ado
        _openings: Iterable[int]

        def _get_fh(self) -> _signal_handlers.Kept: ...

        # What the usual way to open did not do
        def _open_there(self) -> int: ...


def descriptor_of(fh: Any) -> int:
    """The descriptor of an open handle."""
    return fh if isinstance(fh, int) else fh.fileno()


def status_of(fh: Any) -> os.stat_result:
    """Device and inode of an open handle."""
    return os.fstat(descriptor_of(fh))


def try_to_hold(door: Door, fh: Any, opened: os.stat_result) -> bool:
    """Lock `fh` without waiting; False if its path leads elsewhere by now.

    Raises `AlreadyLocked` on contention, another `LockException` otherwise.
    """
    door._get_lock(fh)
    return _file_identity.still_names(door._path, opened) or is_at_its_path(
        door, fh, opened
    )


def is_at_its_path(door: AtPath, fh: Any, opened: os.stat_result) -> bool:
    """Whether the path that `fh` was opened by still leads to its file."""
    path = getattr(fh, 'name', None)
    if not isinstance(path, (str, bytes)):
        path = door._path
    return _file_identity.still_names(path, opened)


# For a path that leads to another file each time: others take it and remove
# it faster than we come
_MOST_TRIES_AT_ONCE = 100
_LAST_TRY_AT_ONCE = _MOST_TRIES_AT_ONCE - 1
# Whether it is the last one
_TRIES_AT_ONCE = (*(False,) * _LAST_TRY_AT_ONCE, True)


def open_and_try(
    door: Door, may_wait: bool
) -> tuple[Any, os.stat_result | None]:
    """Open the file, and hold it if it is free and nobody is before us.

    Gives the open file, with its status exactly if we have to wait for it.
    """
    for n in range(_MOST_TRIES_AT_ONCE):
        fh = door._get_fh()
        try:
            fd = fh.fileno()
            opened = os.fstat(fd)
            if may_wait:
                if must_wait(door, fd, opened) or n == _LAST_TRY_AT_ONCE:
                    return fh, opened
            elif door._gives_way and writer_waits(fd, opened):
                raise _contention()
            if try_to_hold(door, fh, opened):
                return fh, None
            _opening.close_quietly(fh)
        except exceptions.AlreadyLocked:
            if may_wait:
                return fh, opened
            _opening.close_quietly(fh)
            raise
        except BaseException:
            _opening.close_quietly(fh)
            raise
    raise _contention()


def open_descriptor_and_try(
    door: DescriptorDoor, may_wait: bool
) -> tuple[Any, os.stat_result | None]:
    """`open_and_try` for a door that opens bare descriptors, in fewer calls.

    Gives the descriptor; where we have to wait for it a kept one, with its
    status.
    """
    # Frames are avoided here: a free lock costs five system calls, and little
    # beside them
    for is_last in _TRIES_AT_ONCE:
        fd = -1
        try:
            for fd in door._openings:  # noqa: B007
                break
        except OSError as error:  # there is more to do, or to say
            _signal_handlers.let_pass(error)
        if fd < 0:
            fd = door._open_there()
        try:
            if may_wait and (
                somebody_waits(fd)
                if door._has_line and not crowded and not is_last
                else is_last or _must_wait_there(door, fd)
            ):
                raise _contention()
            take: Any = portalocker._flock
            if portalocker.LOCKER is not take:
                take = portalocker.lock
            take(fd, EXCLUSIVE_TRY)
            opened = os.fstat(fd)
            # Who unlinks or replaces a lock file holds its lock, and leaves
            # no name to a file that had one (but on network file systems)
            if (
                opened[ST_NLINK] == 1 and opened[ST_DEV] in with_lines
            ) or is_at_its_path(door, fd, opened):
                # No call between a lock that was taken and our caller: a
                # signal handler that raises would leave it to nobody
                return fd, None
        except BaseException as error:  # noqa: BLE001 - or it is raised
            try:
                kept, opened = _to_wait_for(fd, error, may_wait)
            except BaseException:
                os.close(fd)
                raise
            kept.fd = fd
            return kept, opened
        os.close(fd)
    raise _contention()


def _to_wait_for(
    fd: int, error: BaseException, may_wait: bool
) -> tuple[_signal_handlers.Kept, os.stat_result]:
    """What `fd` is to become, and its status; or raise what there is."""
    if may_wait and _is_contention(error):
        return _signal_handlers.Kept(), os.fstat(fd)
    if isinstance(error, OSError):  # of flock
        raise portalocker._lock_failure(error, fd) from error
    raise error


def _is_contention(error: BaseException) -> bool:
    """Whether it says, in our words or the system's, that others hold."""
    if isinstance(error, OSError):
        return error.errno in portalocker._CONTENTION
    return isinstance(error, exceptions.AlreadyLocked)


def _must_wait_there(door: DescriptorDoor, fd: int) -> bool:
    """`must_wait`, and note whether waiters stand in line there."""
    opened = os.fstat(fd)
    door._has_line = portalocker.uses_flock() and _wakeup.is_orderly(
        fd, opened.st_dev
    )
    return must_wait(door, fd, opened)


def must_wait(door: AtPath, fd: int, opened: os.stat_result) -> bool:
    """Whether there is a line that we have to join."""
    if _wakeup.crowded and door._path in _wakeup.crowded:
        return True  # then we shall see
    return _wakeup.must_queue(fd, opened.st_dev) and portalocker.uses_flock()


def let_go(
    holding: _holdings.Holding,
    path: str,
    log: Callable[[str, Exception], object],
) -> None:
    """Flush, unlock, wake the next in line, close.

    Raises, after the release, where data could not be written; other failures
    are told to `log`. What a signal handler raises comes out as well; then
    `holding.end()` does the rest.
    """
    if holding.counted is not None:
        with _listening.Releasing(holding):
            let_go(holding, path, log)
        return
    fh = holding.fh
    unwritten: OSError | None = None
    try:
        fh.flush()
    except OSError as error:
        _signal_handlers.let_pass(error)
        unwritten = error
    except ValueError:  # closed by hand: there is nothing to let go
        holding.clean_up()
        return
    _unlock(fh, log)
    if holding.turn is not None:
        holding.pass_on()
    try:
        fh.close()
    except (OSError, ValueError) as error:
        if isinstance(error, OSError):
            _signal_handlers.let_pass(error)
        if unwritten is None:
            log('close', error)
    if holding.turn is not None or holding.remains is not None:
        holding.clean_up()
    if unwritten is not None:
        unwritten.add_note(
            f'cannot write what was buffered for {path!r}; its lock is '
            'released'
        )
        raise unwritten


def _unlock(fh: Any, log: Callable[[str, Exception], object]) -> None:
    try:
        portalocker.unlock(fh)
    except exceptions.LockException as error:
        log('unlock', error)
    except Exception as error:  # whatever LOCKER raises
        if portalocker.uses_ours():  # a signal handler did
            raise
        log('unlock', error)


def writer_waits(fd: int, opened: os.stat_result) -> bool:
    """Whether somebody waits for the file who does not want to share it."""
    return portalocker.uses_flock() and _wakeup.must_give_way(
        fd, opened.st_dev
    )


def _contention() -> exceptions.AlreadyLocked:
    error = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return exceptions.AlreadyLocked(error)


def explain(
    failure: exceptions.AlreadyLocked,
    paths: Iterable[Any],
    waited: float | None = None,
) -> None:
    """Tell the failure what only we know: the file, its holders."""
    failure.fh = None
    failure.waited = waited
    failure.holders = ()
    for path in paths:
        failure.filename = failure.filename or os.fspath(path)
        failure.holders += _owner.holders_of(os.fspath(path))


def follow(
    plan: Generator[float, None, Result], pause: Callable[[float], object]
) -> Result:
    """Follow a plan to its end, spending its pauses in `pause`."""
    try:
        while True:
            pause(next(plan))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        plan.close()


def try_counted(
    lock: Any, take: Callable[[], bool], hold_of: Callable[[], Any]
) -> bool:
    """Whether `take` takes the lock, without waiting; counters are told.

    `hold_of` gives the hold that is new then, or None.
    """
    phases_of = _listening.listener
    if phases_of is None or not getattr(lock, '_is_counted', True):
        return take()
    is_taken = False
    try:
        with _listening.Acquiring(phases_of(lock)) as acquiring:
            is_taken = take()
            if not is_taken:
                raise _contention()
            acquiring.holds(hold_of())
    except exceptions.AlreadyLocked:
        return False
    except BaseException:  # a signal handler, or a sink
        if is_taken:
            lock.release()
        raise
    return True


def wait_for(waiter: HasPlan[Result], lock: Any, ticking: Ticking) -> Result:
    """Follow the plan of a waiter in this thread; counters are told.

    `ticking(pause)` gives the ticks and spends the time between them in
    `pause`. Raises `AlreadyLocked` when they are over. Whatever is raised,
    nothing stays open and nobody waits behind us.
    """
    return _listening.wait_counted(
        lock, lambda: follow(waiter.attempts(ticking), waiter.pause)
    )


class Contender:
    """One `acquire()` that has to wait for its turn."""

    _place: _wakeup.Place | None = None

    def __init__(
        self,
        door: Door,
        fh: Any,
        opened: os.stat_result,
        *,
        is_shared: bool,
        also: Iterable[Any] = (),
        arrival: int | None = None,
    ) -> None:
        self._door = door
        self._is_shared = is_shared
        self._also = also
        #: our place in line: nanoseconds of the monotonic clock
        self.arrival = time.monotonic_ns() if arrival is None else arrival
        self._has_waited = False
        self._is_last_try = False
        self._failure: exceptions.AlreadyLocked | None = None
        # fh is open, and _place belongs to it, while we contend
        self._fh = fh
        self._opened = opened

    def attempts(
        self, ticking: Ticking
    ) -> Generator[float, None, tuple[Any, _wakeup.Turn | None]]:
        """The plan of a wait: whoever follows it spends the pauses."""
        started = time.perf_counter()
        pauses: list[float] = []
        try:
            self._join_line()
            for _ in ticking(pauses.append):
                while pauses:
                    yield pauses.pop()
                if self._is_our_turn() and self._try_to_hold():
                    return self._fh, self._come_in()
            # Out of time: one try, whoever is before us, wherever the file is
            self._is_last_try = True
            if not self._gives_way() and self._try_to_hold():
                return self._fh, self._come_in()
            raise self._failure or _contention()
        except exceptions.AlreadyLocked as failure:
            self.close()
            waited = time.perf_counter() - started
            explain(failure, [self._door._path, *self._also], waited)
            raise
        except BaseException:
            self.close()
            raise
        finally:
            # Its traceback leads to us: a cycle would keep the handle open
            self._failure = None

    def close(self) -> None:
        """Give up, or give back what nobody was told of: nothing stays."""
        self._leave_line()
        fh, self._fh = self._fh, None
        if fh is not None:
            _opening.close_quietly(fh)

    def __del__(self) -> None:
        """A signal handler cut off whoever was to close it."""
        self._leave_line()

    def pause(self, seconds: float) -> None:
        """Sleep until the file may be free, or for `seconds`."""
        assert self._place is not None
        self._has_waited = True
        self._place.wait(seconds)

    def naps(self, seconds: float) -> Generator[_wakeup.Nap, bool, None]:
        """The sleeps of `pause()`, for whoever sleeps in another way."""
        assert self._place is not None
        self._has_waited = True
        return self._place.naps(seconds)

    def _gives_way(self) -> bool:
        place = self._place
        return (
            self._door._gives_way
            and place is not None
            and place.is_behind_writer()
        )

    def _is_our_turn(self) -> bool:
        return self._place is not None and self._place.may_try()

    def _hears_nothing(self) -> bool:
        place = self._place
        return not self._is_last_try and place is not None and place.is_quiet()

    def _try_to_hold(self) -> bool:
        for _ in range(2):
            try:
                if try_to_hold(self._door, self._fh, self._opened):
                    return True
            except exceptions.AlreadyLocked as failure:
                self._failure = failure
                if self._hears_nothing() or is_at_its_path(
                    self._door, self._fh, self._opened
                ):
                    return False
            self._reopen()
            # Before we sleep: a wake-up comes for what happens from now on
            if not self._is_our_turn():
                break
        return False

    def _reopen(self) -> None:
        """Contend for the file that is at the path now."""
        self._leave_line()
        # In this order: what is closed is never closed a second time
        left, self._fh = self._fh, self._door._get_fh()
        _opening.close_quietly(left)
        self._opened = status_of(self._fh)
        self._join_line()

    def _join_line(self) -> None:
        self._place = _wakeup.Place(
            descriptor_of(self._fh),
            self._opened,
            self.arrival,
            is_ordered=portalocker.uses_flock(),
            is_shared=self._is_shared,
            also=self._also,
        )
        self._place.join()

    def _leave_line(self) -> None:
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _come_in(self) -> _wakeup.Turn | None:
        place = self._place
        assert place is not None
        note = _wakeup.note_crowd if self._has_waited else _wakeup.note_quiet
        note(self._door._path)
        turn = place.got_in()
        self._place = None
        if not self._is_shared:
            return turn
        # The next may be a reader as well
        turn.close()
        turn.clean_up()
        return None
