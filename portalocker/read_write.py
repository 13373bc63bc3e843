"""A lock that many readers share, or one writer has alone.

>>> import os, tempfile
>>> lock = ReadWriteLock(os.path.join(tempfile.mkdtemp(), 'lock'))
>>> with lock.read():
...     'others may read now'
'others may read now'
"""

from __future__ import annotations

import io
import os

from . import (
    _holdings,
    _wakeup,
    constants,
    exceptions,
    portalocker,
    utils,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types as python_types
    from typing import IO, Any

    from . import types

__all__ = ['ReadSide', 'ReadWriteLock', 'WriteSide']

_SHARE = constants.LockFlags.SHARED | constants.LockFlags.NON_BLOCKING


class _Side(utils.Lock):
    """What both sides of a read-write lock have in common.

    `_holdings` are the holds of this side, `_others` those of the other one:
    a thread has one at most in both together.
    """

    _refusal = ''
    _of_the_hold = utils.Lock._of_the_hold | {'_others'}

    def _start_released(self) -> None:
        super()._start_released()
        # One alone has no other side; see ReadWriteLock
        self._others = self._new_holdings()

    # What a hold of any thread has open: there is one truth, the holdings
    @property
    def fh(self) -> IO[Any] | None:
        """The open lock file of a hold of this side, or None."""
        return self._holdings.any_handle()  # type: ignore[no-any-return]

    @fh.setter
    def fh(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, fh: IO[Any] | None
    ) -> None:
        pass

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> IO[Any]:
        """Take this side and return the open lock file; see `Lock.acquire`.

        Raises `AlreadyActive` at once where this thread holds the other side.
        """
        if self._others:
            self._refuse_to_change_sides()
        return super().acquire(timeout, check_interval, fail_when_locked)

    def try_acquire(self) -> bool:
        """Take this side if it is free now; see `Lock.try_acquire`.

        A reader is refused also while a writer waits. Raises `AlreadyActive`
        where this thread holds the other side.
        """
        if self._others:
            self._refuse_to_change_sides()
        return super().try_acquire()

    def _refuse_to_change_sides(self) -> None:
        if self._others.own() is not None:
            raise exceptions.AlreadyActive(
                self._refusal.format(self._path), filename=self._path
            )

    def _get_fh(self) -> Any:
        try:
            return io.FileIO(self._path, 'a+')
        except OSError as error:
            try:  # a lock needs no more, where the file is there
                return io.FileIO(self._path, 'r')
            except OSError:
                raise error from None


class ReadSide(_Side):
    """The shared side of a `ReadWriteLock`: what `read()` gives."""

    # A reader that came by a try, again and again, would starve writers
    _gives_way = True
    _refusal = (
        'cannot read {!r}: this thread writes it, and would wait for itself; '
        'downgrade() turns its lock into a shared one'
    )


class WriteSide(_Side):
    """The exclusive side of a `ReadWriteLock`: what `write()` gives."""

    _refusal = (
        'cannot write {!r}: this thread reads it, and would wait for itself; '
        'release it first, and look again at what was read'
    )

    def release(self) -> None:
        """Let the lock go, also after `downgrade()`; see `Lock.release`."""
        holding = self._downgraded() if self._others else None
        if holding is None:
            super().release()
        elif self._others.pop(self._others.claimant(), None) is holding:
            self._let_go(holding)

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: python_types.TracebackType | None,
    ) -> Any:
        if self._others and self._downgraded() is not None:
            if self._others.leave():
                self.release()
            return None
        return super().__exit__(exc_type, exc_value, traceback)

    def _downgraded(self) -> _holdings.Holding | None:
        """What this thread took to write, and shares by now."""
        holding = self._others.get(self._others.claimant())
        return holding if holding and holding.is_downgraded else None

    def _downgrade(self) -> None:
        holding = self._holdings.own()
        if holding is None:
            raise exceptions.LockException(
                f'cannot downgrade {self._path!r}: this thread does not '
                'write it',
                filename=self._path,
            )
        try:
            _share(holding.fh)
        except exceptions.AlreadyLocked as failure:
            self.release()
            raise exceptions.LockLost(
                f'cannot downgrade {self._path!r}: the system let somebody '
                'else in meanwhile; the lock is released',
                filename=self._path,
            ) from failure
        holding.is_downgraded = True
        self._others.put(holding)
        self._holdings.pop(self._holdings.claimant(), None)
        holding.clean_up()  # wakes the next in line
        if portalocker.locks_open_files():
            _wakeup.nudge(holding.fh.fileno())


def _share(fh: Any) -> None:
    """Convert the exclusive lock that `fh` holds."""
    portalocker.lock(fh, _SHARE)
    if os.name == 'nt':
        # Windows stacks the two, and the first unlock is the exclusive one's
        portalocker.unlock(fh)


class ReadWriteLock:
    """A lock on a file, shared by readers or held by one writer.

    `read()` and `write()` are its two sides: lock objects with `acquire()`,
    `try_acquire()`, `release()` and `with`, like `Lock`, between processes
    and between the threads of each. The kernel's own lock is used, so other
    programs that use `flock` take part; the content of the file is left
    alone.

    Who waits is served first come, first served, readers that stand in line
    together enter together. So a writer that waits is not passed by readers
    that come later, and readers are not passed by writers that come later:
    nobody starves. A reader that only tries (`try_acquire()`, a timeout of
    zero, `fail_when_locked`) is refused while a writer waits. Where waiters
    cannot stand in line (see the explanation of waiting) readers that overlap
    without end keep a writer out.

    `filename`
        the path of the lock file; it is created where it is missing, and
        stays.
    `timeout`, `check_interval`, `fail_when_locked`
        of both sides, see `LockBase`; each `acquire()` may have its own.

    A thread that reads cannot write as well: two of them would wait for each
    other for ever. It is refused at once with `AlreadyActive`.

    >>> import os, tempfile
    >>> lock = ReadWriteLock(os.path.join(tempfile.mkdtemp(), 'lock'))
    >>> with lock.write():
    ...     lock.read().fh is None
    ...     lock.downgrade()
    ...     lock.read().fh is None
    True
    False
    """

    _sides: tuple[type[ReadSide], type[WriteSide]] = ReadSide, WriteSide

    def __init__(
        self,
        filename: types.Filename,
        timeout: float | None = None,
        check_interval: float | None = utils.DEFAULT_CHECK_INTERVAL,
        fail_when_locked: bool = utils.DEFAULT_FAIL_WHEN_LOCKED,
    ) -> None:
        reading, writing = self._sides
        rest = timeout, check_interval, fail_when_locked
        self._reader = reading(filename, 'a', *rest, _SHARE)
        self._writer = writing(filename, 'a', *rest, utils.LOCK_METHOD)
        self._reader._others = self._writer._holdings
        self._writer._others = self._reader._holdings

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is a lock of its own, which holds nothing."""
        side = self._reader
        options = side.timeout, side.check_interval, side.fail_when_locked
        return type(self), (side.filename, *options)

    @property
    def filename(self) -> str:
        """The path of the lock file, as it was given."""
        return self._reader.filename

    def read(self) -> ReadSide:
        """The side that is shared; the same object each time."""
        return self._reader

    def write(self) -> WriteSide:
        """The side that is exclusive; the same object each time."""
        return self._writer

    def downgrade(self) -> None:
        """Turn the write lock of this thread into a read lock, without a gap.

        Nobody writes in between: what was written is what is read. Readers
        that wait come in. It never waits. The hold is the reader's from then
        on; `release()` of either side lets it go, and so does the end of the
        block that wrote.

        Raises `LockException` where this thread does not write, and
        `LockLost` where the system gave the lock to somebody else meanwhile,
        which Linux never does; then nothing is held.
        """
        self._writer._downgrade()
