"""open_atomic for tasks: the disk is waited for in a worker thread."""

from __future__ import annotations

import _thread
from typing import TYPE_CHECKING, Any, AnyStr, Generic

import anyio
import anyio.lowlevel
import anyio.to_thread

from .. import utils
from . import _loop

if TYPE_CHECKING:
    import types
    from collections.abc import Callable
    from typing import Literal, Unpack, overload

    from .._publication import AnyPath, Options, TextOptions

# What a worker thread has not begun when it is cancelled
_NOT_BEGUN: Any = object()


class open_atomic(Generic[AnyStr]):  # noqa: N801 - as `open` is
    """Write a file that appears whole under its name, or not at all.

    `portalocker.open_atomic` for an event loop, with its parameters and
    errors. The block is given an `anyio.AsyncFile`; what waits for the disk
    does so in a worker thread, one at a time.

    Cancelled in the block, or when it is left, nothing is published; once the
    publication has begun it is brought to its end, and the cancellation
    raised afterwards.

    >>> import anyio, os, tempfile
    >>> async def main():
    ...     path = os.path.join(tempfile.mkdtemp(), 'result.txt')
    ...     async with open_atomic(path, binary=False) as file:
    ...         await file.write('all of it')
    ...     return await anyio.Path(path).read_text()
    >>> anyio.run(main)
    'all of it'
    """

    if TYPE_CHECKING:

        @overload
        def __init__(
            self: open_atomic[bytes],
            filename: AnyPath,
            binary: Literal[True] = True,
            **options: Unpack[Options],
        ) -> None: ...
        @overload
        def __init__(
            self: open_atomic[str],
            filename: AnyPath,
            binary: Literal[False],
            **options: Unpack[TextOptions],
        ) -> None: ...
        @overload
        def __init__(
            self: open_atomic[Any],
            filename: AnyPath,
            binary: bool = True,
            **options: Unpack[TextOptions],
        ) -> None: ...

    def __init__(
        self, filename: AnyPath, binary: bool = True, **options: Any
    ) -> None:
        self._writing: Any = utils.open_atomic(filename, binary, **options)

    async def __aenter__(self) -> anyio.AsyncFile[AnyStr]:
        file, cancelled = await _run_whole(self._writing.__enter__)
        if cancelled is not None:
            if file is not _NOT_BEGUN:
                self._discard(cancelled)
            raise cancelled
        return anyio.wrap_file(file)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if exc_value is not None:
            self._discard(exc_value)
            return
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
        except BaseException as failure:
            self._discard(failure)
            raise
        done, cancelled = await _run_whole(
            lambda: self._writing.__exit__(None, None, None)
        )
        if cancelled is not None:
            if done is _NOT_BEGUN:
                self._discard(cancelled)
            raise cancelled

    def _discard(self, failure: BaseException) -> None:
        # Not in a thread: it waits for nothing, and must not be cancelled
        self._writing.__exit__(type(failure), failure, failure.__traceback__)


async def _run_whole(
    function: Callable[[], Any],
) -> tuple[Any, BaseException | None]:
    """Call `function` in a thread; its result, and what cancelled us."""
    # asyncio's Task.cancel() respects no shield: then we wait for the end, or
    # the result is _NOT_BEGUN
    outcome: list[tuple[Any, BaseException | None]] = []
    ended = anyio.Event()
    soon = _loop.caller_from_threads()
    # Whoever takes it decides: the thread, that it runs; we, that it does not
    decision = _thread.allocate_lock()

    def body() -> None:
        if not decision.acquire(blocking=False):
            return
        try:
            outcome.append((function(), None))
        except BaseException as error:  # noqa: BLE001 - raised below
            outcome.append((None, error))
        soon(ended.set)

    cancelled = None
    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(body)
        except BaseException as failure:  # noqa: BLE001 - returned
            if decision.acquire(blocking=False):
                return _NOT_BEGUN, failure
            cancelled = failure
            while not ended.is_set():
                try:
                    await ended.wait()
                except BaseException as again:  # noqa: BLE001 - too
                    cancelled = again
    result, error = outcome.pop()
    if error is not None:
        raise error
    return result, cancelled
