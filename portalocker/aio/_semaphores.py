"""Semaphores for tasks: at most so many holders, between processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import exceptions, utils
from . import _waiting

if TYPE_CHECKING:
    import types as python_types

    from .. import types


class BoundedSemaphore:
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

    _semaphore: utils.BoundedSemaphore

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
        self._semaphore = utils.BoundedSemaphore(
            maximum,
            name,
            filename_pattern,
            directory,
            timeout,
            check_interval,
            fail_when_locked,
        )

    @property
    def name(self) -> object:
        """What the semaphore is called."""
        return self._semaphore.name

    @property
    def lock(self) -> utils.Lock | None:
        """The place that this object holds, or None."""
        return self._semaphore.lock

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
        semaphore = self._semaphore
        patience = semaphore.timeout if timeout is None else timeout

        def attempt(remaining: float) -> utils.Lock | None:
            places = semaphore._contend()
            if not places.take_now(remaining > 0):
                ticking = semaphore._ticking(remaining, check_interval)
                raise _waiting.MustWait(places, places.attempts(ticking))
            return semaphore.lock

        try:
            return await _waiting.acquire(
                str(semaphore.get_filename(0)),
                attempt,
                lambda _: semaphore.lock,
                patience,
            )
        except exceptions.AlreadyLocked:
            if utils.coalesce(fail_when_locked, semaphore.fail_when_locked):
                raise
            return None

    def try_acquire(self) -> bool:
        """Take a place if one is free now; whether we have one."""
        return self._semaphore.try_acquire()

    def release(self) -> None:
        """Give the place back, at once; does nothing where there is none."""
        self._semaphore.release()

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
        self._semaphore = utils.NamedBoundedSemaphore(
            maximum,
            name,
            filename_pattern,
            directory,
            timeout,
            check_interval,
            fail_when_locked,
        )
