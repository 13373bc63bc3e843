"""The places of a semaphore as something to contend for."""

from __future__ import annotations

import os
import time

from . import (
    _acquisition,
    _file_identity,
    _listening,
    _opening,
    _signal_handlers,
    _wakeup,
    constants,
    exceptions,
    portalocker,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Generator, Iterable, Sequence
    from typing import Any, Protocol, TypeVar

    from . import _holdings
    from ._acquisition import Ticking

    Taken = TypeVar('Taken')

    class PlaceHolder(Protocol):
        """A semaphore: it takes one of the places for itself."""

        # The place it has
        lock: Any
        # What it is called
        name: object
        # Seconds to wait where nobody says how long
        timeout: float

        @property
        def _has_place(self) -> bool: ...

        def get_filenames(self) -> Sequence[pathlib.Path]: ...

        def _ticking(self, timeout: Any, interval: Any) -> Ticking: ...

        def try_lock(self, filenames: Sequence[pathlib.Path]) -> bool: ...

        def release(self) -> None: ...

        def _try_place(
            self, filename: Any, opener: Callable[[str, int], int]
        ) -> bool: ...


_TRY = constants.LockFlags.EXCLUSIVE | constants.LockFlags.NON_BLOCKING


# (directory, name) -> path; asked for at every `acquire()`
_known_paths: dict[tuple[Any, str], pathlib.Path] = {}
_MOST_KNOWN = 4096


def path_of_place(directory: Any, name: str) -> pathlib.Path:
    """The path of a file that is a place, made once."""
    known = _known_paths.get((directory, name))
    if known is not None:
        return known
    import pathlib

    if len(_known_paths) >= _MOST_KNOWN:
        _known_paths.clear()
    made = pathlib.Path(directory) / name
    return _known_paths.setdefault((directory, name), made)


def hold_of(semaphore: PlaceHolder) -> _holdings.Holding | None:
    """The hold on the place that the semaphore has, if it has one."""
    place = semaphore.lock  # None: another thread gave it back
    return place and place._holdings.own()  # type: ignore[no-any-return]


def _or_give_back(semaphore: PlaceHolder, take: Callable[[], Taken]) -> Taken:
    """What `take()` gives; if it raises, no place is kept but a known one."""
    known = semaphore.lock
    try:
        return take()
    except BaseException:  # a signal handler may come late
        if semaphore.lock is not known and hold_of(semaphore) is not None:
            semaphore.release()
        raise


def try_one(semaphore: Any) -> bool:
    """Have the semaphore take a place if one is free; whether it did."""
    return _or_give_back(
        semaphore,
        lambda: _acquisition.try_counted(
            semaphore,
            lambda: bool(semaphore.try_lock(semaphore.get_filenames())),
            lambda: hold_of(semaphore),
        ),
    )


def try_these(semaphore: PlaceHolder, filenames: Iterable[Any]) -> bool:
    """Have it take one of these places if one is free; whether it did."""
    return _or_give_back(
        semaphore,
        lambda: any(
            semaphore._try_place(filename, _opening.nofollow_opener)
            for filename in filenames
        ),
    )


def take_one(semaphore: PlaceHolder, timeout: Any, interval: Any) -> None:
    """Have it take a place, waiting for its turn."""
    _or_give_back(
        semaphore, lambda: Places(semaphore).take_one(timeout, interval)
    )


def _hand_over(tried: dict[str, int]) -> Callable[[str, int], int]:
    """The opener of a place that is locked already."""

    # Kept by the place: it must not lead to the semaphore, which has the place
    def opener(path: str, flags: int) -> int:
        if path not in tried:
            return _opening.nofollow_opener(path, flags)
        # No call: a signal handler that raises would lose it
        fd = tried[path]
        del tried[path]
        return fd

    return opener


def already_has_place(semaphore: PlaceHolder) -> exceptions.AlreadyActive:
    """The error of who takes a second place with one object."""
    return exceptions.AlreadyActive(
        f'Already locked: this object has a place of the semaphore '
        f'{semaphore.name!r}; release it, or make another object'
    )


class Places:
    """The files of a semaphore, as a `Door`.

    The first file carries the line; whoever's turn it is tries them all.
    Raises `AlreadyActive` where the semaphore has one already.
    """

    _gives_way = False
    # Path -> descriptor; none for one that is not made to the end
    _tried: dict[str, int] = {}  # noqa: RUF012 - each has its own

    def __init__(self, semaphore: PlaceHolder) -> None:
        # Kept while we wait: to close them would wake us, and all who wait
        self._tried = {}
        if semaphore._has_place:
            raise already_has_place(semaphore)
        self._semaphore = semaphore
        self.paths = paths = semaphore.get_filenames()
        self._path = paths[0]
        self._has_place = False
        #: our place in line, nanoseconds; None: now
        self.arrival: int | None = None
        self._contender: _acquisition.Contender | None = None
        # Open exactly while we know that we have to stand in line
        self._line: _signal_handlers.Kept | None = None

    def __del__(self) -> None:
        """A signal handler cut off the wait."""
        self._close_tried()

    def _close_tried(self) -> None:
        tried = self._tried
        for path in list(tried):
            # No call between: each is closed once
            fd = tried[path]
            del tried[path]
            os.close(fd)

    def _get_fh(self) -> _signal_handlers.Kept:
        kept = _signal_handlers.Kept()
        kept.fd = _opening.nofollow_opener(
            os.fspath(self._path), os.O_RDWR | os.O_CREAT
        )
        return kept

    def _get_lock(self, fh: _signal_handlers.Kept) -> None:
        if self._has_place:  # the first file was replaced while we took it
            return
        if self._semaphore._has_place:
            raise already_has_place(self._semaphore)
        if not any(map(self._take, self.paths)):
            raise exceptions.AlreadyLocked
        self._has_place = True

    def _take(self, path: pathlib.Path) -> bool:
        return self._is_free(
            os.path.abspath(path)
        ) and self._semaphore._try_place(path, _hand_over(self._tried))

    def _is_free(self, path: str) -> bool:
        """Lock the file of a place, without waiting and without a close."""
        fd = self._tried.get(path)
        if fd is None or not _file_identity.still_names(path, os.fstat(fd)):
            self._tried[path] = _opening.nofollow_opener(
                path, os.O_RDWR | os.O_CREAT | os.O_APPEND
            )
            if fd is not None:
                os.close(fd)
        try:
            portalocker.lock(self._tried[path], _TRY)
        except exceptions.AlreadyLocked:
            return False
        return True

    def take_one(
        self, timeout: float | None, check_interval: float | None
    ) -> None:
        """Have the semaphore take a place, waiting for our turn."""
        semaphore, phases_of = self._semaphore, _listening.listener
        if timeout is None:
            timeout = semaphore.timeout
        if phases_of is None:
            self._take_one(timeout, check_interval)
            return
        with _listening.Acquiring(phases_of(semaphore)) as acquiring:
            self._take_one(timeout, check_interval)
            acquiring.holds(hold_of(semaphore))

    def _take_one(self, timeout: float, check_interval: float | None) -> None:
        if not self.take_now(may_wait=timeout > 0):
            ticking = self._semaphore._ticking(timeout, check_interval)
            _acquisition.wait_for(self, self._semaphore, ticking)

    def take_now(self, may_wait: bool) -> bool:
        """Have the semaphore take a place if one is free, and none waits.

        Whether it did; if not we have to wait, or else raise `AlreadyLocked`.
        """
        if may_wait and portalocker.locks_open_files():
            return self._take_now_or_wait()
        if self._semaphore.try_lock(self.paths):
            return True
        if may_wait:
            return False
        raise self._all_taken(None)

    def _take_now_or_wait(self) -> bool:
        line = self._get_fh()
        if _acquisition.must_wait(
            self, line.fd, os.fstat(line.fd)
        ) or not self._semaphore.try_lock(self.paths):
            self._line = line
            return False
        line.close()
        return True

    def pause(self, seconds: float) -> None:
        """Sleep until a place may be free, or for `seconds`."""
        if self._contender is None:
            time.sleep(seconds)
        else:
            self._contender.pause(seconds)

    def naps(self, seconds: float) -> Generator[_wakeup.Nap, bool, None]:
        """The sleeps of `pause()`, for whoever sleeps in another way."""
        if self._contender is None:
            yield _wakeup.Nap(seconds)
        else:
            yield from self._contender.naps(seconds)

    def attempts(self, ticking: Ticking) -> Generator[float, None, None]:
        """The plan of `take_one()`: whoever follows it spends the pauses."""
        line, self._line = self._line, None
        if line is None:
            yield from self._poll(ticking)
        else:
            yield from self._wait_in_line(line, ticking)

    def _poll(self, ticking: Ticking) -> Generator[float, None, None]:
        # To close a file of the line would drop the lock we have on it
        started = time.perf_counter()
        pauses: list[float] = []
        for _ in ticking(pauses.append):
            while pauses:
                yield pauses.pop()
            if self._semaphore.try_lock(self.paths):
                return
        raise self._all_taken(time.perf_counter() - started)

    def _all_taken(self, waited: float | None) -> exceptions.AlreadyLocked:
        failure = exceptions.AlreadyLocked()
        _acquisition.explain(failure, self.paths, waited)
        return failure

    def _wait_in_line(
        self, line: _signal_handlers.Kept, ticking: Ticking
    ) -> Generator[float, None, None]:
        self._contender = _acquisition.Contender(
            self,
            line,
            os.fstat(line.fd),
            is_shared=True,
            also=self.paths[1:],
            arrival=self.arrival,
        )
        try:
            line, _ = yield from self._contender.attempts(ticking)
        except BaseException as failure:
            if self._has_place:  # got with the first file gone, then failed
                self._semaphore.release()
            if isinstance(failure, exceptions.AlreadyLocked):
                failure.args = ()
            raise
        finally:
            self._contender = None  # else a cycle would keep the semaphore
            self._close_tried()
        line.close()
