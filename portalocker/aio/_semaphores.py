"""Semaphores for tasks: at most so many holders, between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _places, exceptions, utils
from . import _face, _waiting

if TYPE_CHECKING:
    import pathlib
    import types as python_types
    from collections.abc import Iterable, Sequence

    from .. import types


class _Attempt(_waiting.Attempt[utils.Lock | None]):
    def __init__(
        self,
        lock: BoundedSemaphore,
        seconds: float,
        check_interval: float | None,
    ) -> None:
        semaphore = self._semaphore = lock._half
        super().__init__(lock, semaphore.get_filename(0), seconds)
        self._check_interval = check_interval

    def begin(self, seconds: float) -> utils.Lock | None:
        semaphore = self._semaphore
        places = _places.Places(semaphore)
        if places.take_now(seconds > 0):
            return semaphore.lock
        ticking = semaphore._ticking(seconds, self._check_interval)
        raise _waiting.MustWait(places, places.attempts(ticking))

    def finish(self, taken: None) -> utils.Lock | None:
        return self._semaphore.lock

    def new_hold(self) -> Any:
        return _places.hold_of(self._semaphore)


class BoundedSemaphore(_face.Face):
    """At most `maximum` holders at a time, between processes and tasks.

    `portalocker.BoundedSemaphore` for an event loop: same parameters, same
    files, same order of arrival. One object holds one place.

    >>> import anyio, tempfile
    >>> async def main():
    ...     there = tempfile.mkdtemp()
    ...     async with BoundedSemaphore(2, 'doc', directory=there) as place:
    ...         return place.fh.closed
    >>> anyio.run(main)
    False
    """

    _half: utils.BoundedSemaphore

    #: seconds to wait, see `portalocker.utils.LockBase`
    timeout: _face.OfHalf[float] = _face.OfHalf()
    #: seconds between two attempts, at most
    check_interval: _face.OfHalf[float] = _face.OfHalf()
    #: whether the end of the timeout is an error
    fail_when_locked: _face.OfHalf[bool] = _face.OfHalf()
    #: how many may hold it
    maximum: _face.OfHalf[int] = _face.OfHalf()
    #: what the semaphore is called
    name: _face.OfHalf[object] = _face.OfHalf()
    #: what its files are called
    filename_pattern: _face.OfHalf[str] = _face.OfHalf()
    #: where its files are
    directory: _face.OfHalf[Any] = _face.OfHalf()

    def __init__(
        self,
        maximum: int,
        name: object = 'bounded_semaphore',
        filename_pattern: str = '{name}.{number:02d}.lock',
        directory: types.Filename | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = True,
    ) -> None:
        self._half = utils.BoundedSemaphore(
            maximum,
            name,
            filename_pattern,
            directory,
            timeout,
            check_interval,
            fail_when_locked,
        )

    @property
    def lock(self) -> utils.Lock | None:
        """The place that this object holds, or None."""
        return self._half.lock

    def get_filenames(self) -> Sequence[pathlib.Path]:
        """The paths of all files of the semaphore, in order."""
        return self._half.get_filenames()

    def get_random_filenames(self) -> Sequence[pathlib.Path]:
        """The same paths in random order."""
        return self._half.get_random_filenames()

    def get_filename(self, number: int) -> pathlib.Path:
        """The path of the file with this number."""
        return self._half.get_filename(number)

    async def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> utils.Lock | None:
        """Take a place and return its `Lock`.

        Waits for `timeout` seconds at most, in the event loop, also with
        `fail_when_locked`; then raises `AlreadyLocked`, or returns None
        without it. It is a checkpoint; cancelled, it holds nothing. Raises
        `AlreadyActive` where this object has a place already.
        """
        if timeout is None:
            timeout = self._half.timeout
        try:
            return await _waiting.acquire(
                _Attempt(self, timeout, check_interval)
            )
        except exceptions.AlreadyLocked:
            if utils.coalesce(fail_when_locked, self.fail_when_locked):
                raise
            return None

    def try_acquire(self) -> bool:
        """Take a place if one is free now; whether we have one.

        It never waits, and is no checkpoint.
        """
        return self._half.try_acquire()

    def try_lock(self, filenames: Iterable[types.Filename]) -> bool:
        """Take one of these places if one is free; whether we did."""
        return self._half.try_lock(filenames)

    def release(self) -> None:
        """Give the place back, at once; does nothing where there is none."""
        self._half.release()

    async def __aenter__(self) -> utils.Lock:
        place = await self.acquire(fail_when_locked=True)
        assert place is not None
        return place

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> None:
        self.release()


class NamedBoundedSemaphore(BoundedSemaphore):
    """A `BoundedSemaphore` that gets a name nobody else has if none is given.

    The name is in `name`; pass it on to those that shall share the semaphore.
    The parameters are those of `BoundedSemaphore`.
    """

    def __init__(
        self,
        maximum: int,
        name: object = None,
        filename_pattern: str = '{name}.{number:02d}.lock',
        directory: types.Filename | None = None,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = True,
    ) -> None:
        self._half = utils.NamedBoundedSemaphore(
            maximum,
            name,
            filename_pattern,
            directory,
            timeout,
            check_interval,
            fail_when_locked,
        )
