"""Every lock, and how a law is stated so that it runs against all of them.

A new lock joins by adding one entry to `KINDS`; a law is a test decorated
with `@law(...)`, which names the locks it is not for and says why.
"""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import portalocker
from portalocker import _filelock_soft, filelock, read_write, utils

SHORT = 0.05  # seconds: a wait that is meant to end without the lock
LONG = 15.0  # seconds: only ever reached by a failure
# The timeout of a lock that waits: who is let in by its end only is late
TIMEOUT = 10 * LONG

# Why a law is not for a `SoftFileLock`
MARKER = 'whatever is at its path is the lock, and no file that is locked'
NO_LINE = 'its waiters poll, they stand in no line'

INOTIFY = 'anon_inode:inotify'

EXCLUSIVE = portalocker.LockFlags.EXCLUSIVE
SHARED = portalocker.LockFlags.SHARED
NON_BLOCKING = portalocker.LockFlags.NON_BLOCKING


class Kind:
    """One kind of lock: how it is made, and what it is contended with by."""

    def __init__(
        self,
        name: str,
        make: Callable[..., Any],
        *,
        rival: Callable[..., Any] | None = None,
        locker: str | None = None,
        capacity: int = 1,
        suffix: str = '',
    ) -> None:
        self.name = name
        self._make = make
        self._rival = rival or make
        self.is_shared = rival is not None
        # Its waiters have no tickets
        self.is_unordered = locker is not None
        self.locker = locker
        self.capacity = capacity
        self._suffix = suffix

    @property
    def backend(self) -> str | None:
        """The event loop of its tasks, None for a lock of threads."""
        return BACKENDS.get(self.name.partition('_')[0])

    @property
    def is_of_process(self) -> bool:
        """Whether objects of one process do not exclude each other."""
        return self.locker == 'LockfLocker'

    def __repr__(self) -> str:
        return self.name

    def make(self, path: pathlib.Path, **options: Any) -> Any:
        """Make a lock of this kind that waits, unless options differ."""
        return self._make(path, **{'timeout': TIMEOUT, **options})

    def rival(self, path: pathlib.Path, **options: Any) -> Any:
        """Make a lock that this kind excludes, and that excludes it."""
        return self._rival(path, **{'timeout': TIMEOUT, **options})

    def locked_path(self, path: pathlib.Path) -> pathlib.Path:
        """Return the file that the system locks."""
        return path.with_name(path.name + self._suffix)


def is_semaphore(lock: Any) -> bool:
    lock = getattr(lock, 'blocking_half', lock)
    return isinstance(lock, utils.BoundedSemaphore)


class Descriptor:
    """What a lock holds that opens no file object."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._opened = os.fstat(fd)

    def fileno(self) -> int:
        return self._fd

    @property
    def closed(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._fd), self._opened)
        except OSError:
            return True


class Lawful:
    """A file lock that is asked, and answers, as the other locks do."""

    _descriptor: Descriptor | None = None
    # What it holds
    _hold: Any

    def __init__(
        self,
        path: pathlib.Path,
        timeout: float,
        check_interval: float = 0.25,
        fail_when_locked: bool = False,
    ) -> None:
        super().__init__(  # type: ignore[call-arg]
            path,
            timeout,
            poll_interval=check_interval,
            blocking=not fail_when_locked,
        )

    @property
    def fh(self) -> Descriptor | None:
        if self._hold.owner is None:
            return None
        known = self._descriptor
        if known is None or known.closed or known.fileno() != self._hold.fd:
            self._descriptor = Descriptor(self._hold.fd)
        return self._descriptor


class LawfulOfThreads(Lawful, filelock.BaseFileLock):
    """The same for locks that are not awaited."""

    def acquire(
        self,
        timeout: float | None = None,
        check_interval: float | None = None,
        fail_when_locked: bool | None = None,
    ) -> Any:
        super().acquire(
            timeout,
            check_interval,
            blocking=None if fail_when_locked is None else False,
        )
        return self.fh


class LawfulFileLock(LawfulOfThreads, filelock.FileLock):
    """`FileLock`."""


class LawfulSoftFileLock(LawfulOfThreads, filelock.SoftFileLock):
    """`SoftFileLock`, which has a marker and no descriptor."""

    _marker: Marker | None = None

    @property
    def fh(self) -> Marker | None:  # type: ignore[override]
        if self._hold.owner is None:
            return None
        known = self._marker
        if known is None or known.closed:
            known = self._marker = Marker(self._hold.fd.token)
        return known


class Marker:
    """What a `SoftFileLock` holds."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    @property
    def closed(self) -> bool:
        return self._token not in _filelock_soft._markers


def handle(lock: Any) -> Any:
    """Return the handle of a held lock, None where it is not held."""
    if is_semaphore(lock):
        return None if lock.lock is None else lock.lock.fh
    return lock.fh


def hold(lock: Any, **options: Any) -> Any:
    """Acquire, and return the handle."""
    held = lock.acquire(**options)
    return held.fh if is_semaphore(lock) else held


def try_to_hold(lock: Any) -> bool:
    """Acquire if that needs no waiting; whether it did."""
    if is_semaphore(lock):
        held: bool = lock.try_lock(lock.get_filenames())
    else:
        held = lock.try_acquire()
    return held


def announce_wait(lock: Any, announce: Callable[[], object]) -> Any:
    """Have `announce` called when `lock` is in line and about to sleep."""
    half = getattr(lock, 'blocking_half', lock)
    if isinstance(half, filelock.SoftFileLock):
        _announce_nap(half, announce)
        return lock
    if isinstance(half, filelock.BaseFileLock):
        _announce_pause(half, announce)
        return lock
    waiter = getattr(half, '_sidecar', half)
    usual = waiter._timeout_generator

    def announcing(
        timeout: float | None,
        check_interval: float | None,
        pause: Callable[[float], object] | None = None,
    ) -> Any:
        announced = []

        def announced_pause(seconds: float) -> None:
            if not announced:
                announced.append(True)
                announce()
            (pause or time.sleep)(seconds)

        return usual(timeout, check_interval, announced_pause)

    waiter._timeout_generator = announcing
    return lock


def hold_until_told(make: Callable[[], Any]) -> Callable[[Any], None]:
    """What an actor does that holds a lock; it says 'in'."""

    def body(line: Any) -> None:
        lock = make()
        lock.acquire()
        line.say('in')
        line.hear()
        lock.release()

    return body


def wait_and_leave(make: Callable[[], Any]) -> Callable[[Any], None]:
    """What an actor does that comes into a lock; it says 'waits' before."""

    def body(line: Any) -> None:
        lock = announce_wait(make(), lambda: line.say('waits'))
        lock.acquire()
        lock.release()

    return body


def _announce_pause(lock: Any, announce: Callable[[], object]) -> None:
    usual = lock._attempts

    def attempts(*about: Any) -> Any:
        plan = usual(*about)
        announced = []
        try:
            while True:
                seconds = next(plan)
                if not announced:
                    announced.append(True)
                    announce()
                yield seconds
        except StopIteration as end:
            return end.value
        finally:
            plan.close()

    lock._attempts = attempts


def _announce_nap(lock: Any, announce: Callable[[], object]) -> None:
    usual = lock._wait_for

    def wait_for(*about: Any) -> Any:
        announce()
        return usual(*about)

    lock._wait_for = wait_for


def set_locker(name: str | None) -> Any:
    """Have files locked the way of a kind; return what was set before."""
    engine = portalocker.portalocker
    before = engine.LOCKER
    if name is not None:
        engine.LOCKER = getattr(engine, name)
    return before


def _lock(path: pathlib.Path, **options: Any) -> Any:
    return portalocker.Lock(path, **options)


def _truncating_lock(path: pathlib.Path, **options: Any) -> Any:
    return portalocker.Lock(path, 'w', **options)


def _blocking_lock(path: pathlib.Path, timeout: float, **options: Any) -> Any:
    if timeout == TIMEOUT:  # waits for ever, and says so where one is given
        return portalocker.Lock(path, flags=EXCLUSIVE, **options)
    return portalocker.Lock(path, timeout=timeout, **options)


def _shared_lock(path: pathlib.Path, **options: Any) -> Any:
    flags = SHARED | NON_BLOCKING
    return portalocker.Lock(path, 'a+', flags=flags, **options)


def _rlock(path: pathlib.Path, **options: Any) -> Any:
    return portalocker.RLock(path, **options)


def _temporary(path: pathlib.Path, **options: Any) -> Any:
    options = {'fail_when_locked': False, **options}
    return portalocker.TemporaryFileLock(path, **options)


def _shared_temporary(path: pathlib.Path, **options: Any) -> Any:
    return _temporary(path, flags=SHARED | NON_BLOCKING, **options)


def _pid_file(path: pathlib.Path, **options: Any) -> Any:
    options = {'fail_when_locked': False, **options}
    return portalocker.PidFileLock(path, **options)


def _semaphore(path: pathlib.Path, maximum: int = 1, **options: Any) -> Any:
    return portalocker.BoundedSemaphore(
        maximum, path.name, directory=path.parent, **options
    )


def _semaphore_of_two(path: pathlib.Path, **options: Any) -> Any:
    return _semaphore(path, 2, **options)


def _named_semaphore(path: pathlib.Path, **options: Any) -> Any:
    return portalocker.NamedBoundedSemaphore(
        1, path.name, directory=path.parent, **options
    )


def _read_side(path: pathlib.Path, **options: Any) -> Any:
    return read_write.ReadWriteLock(path, **options).read()


def _write_side(path: pathlib.Path, **options: Any) -> Any:
    return read_write.ReadWriteLock(path, **options).write()


#: what the names of locks for tasks begin with -> their event loop
BACKENDS = {'task': 'asyncio', 'trio': 'trio'}

_OF_TASKS = ('lock', 'rlock', 'read', 'write', 'semaphore', 'filelock')


def _in_loop(prefix: str, name: str) -> Callable[..., Any]:
    def made(path: pathlib.Path, **options: Any) -> Any:
        import loops  # which takes longer than most laws

        return loops.InLoop(
            BACKENDS[prefix], loops.MAKE[name](path, **options)
        )

    return made


def _kind_of_tasks(prefix: str, name: str) -> Kind:
    return Kind(
        f'{prefix}_{name}',
        _in_loop(prefix, name),
        rival=_in_loop(prefix, 'write') if name == 'read' else None,
        suffix='.00.lock' if name == 'semaphore' else '',
    )


def _tasks(*names: str) -> tuple[str, ...]:
    return tuple(f'{prefix}_{name}' for prefix in BACKENDS for name in names)


KINDS = (
    Kind('lock', _lock),
    Kind('truncating', _truncating_lock),
    Kind('blocking', _blocking_lock),
    Kind('shared', _shared_lock, rival=_lock),
    Kind('rlock', _rlock),
    Kind('temporary', _temporary),
    Kind('shared_temporary', _shared_temporary, rival=_temporary),
    Kind('pid_file', _pid_file, suffix='.lock'),
    Kind('semaphore', _semaphore, suffix='.00.lock'),
    # All but one of its places are taken, see the fixture `path`
    Kind(
        'semaphore_of_two', _semaphore_of_two, capacity=2, suffix='.00.lock'
    ),
    Kind('named_semaphore', _named_semaphore, suffix='.00.lock'),
    Kind('read', _read_side, rival=_write_side),
    Kind('write', _write_side),
    *(
        _kind_of_tasks(prefix, name)
        for prefix in BACKENDS
        for name in _OF_TASKS
    ),
    Kind('filelock', LawfulFileLock),
    Kind('soft', LawfulSoftFileLock),
    Kind('ofd', _lock, locker='OfdLocker'),
    Kind('lockf', _lock, locker='LockfLocker'),
    Kind('lockf_semaphore', _semaphore, locker='LockfLocker',
         suffix='.00.lock'),
)  # fmt: skip
KIND_OF = {kind.name: kind for kind in KINDS}

#: names that stand for several locks in `@law(...)`
GROUPS = {
    'readers': ('shared', 'shared_temporary', 'read', *_tasks('read')),
    'sides': ('read', 'write', *_tasks('read', 'write')),
    'counting': ('rlock', *_tasks('rlock')),
    'tasks': _tasks(*_OF_TASKS),
    'task_locks': _tasks('lock'),
    'file_locks': ('filelock', 'soft', *_tasks('filelock')),
    'semaphores': (
        'semaphore', 'semaphore_of_two', 'named_semaphore', 'lockf_semaphore',
        *_tasks('semaphore'),
    ),
    'of_process': ('lockf', 'lockf_semaphore'),
    'record_locks': ('ofd', 'lockf', 'lockf_semaphore'),
    'removed': ('temporary', 'shared_temporary', 'pid_file'),
    'staying': (
        'lock', 'truncating', 'blocking', 'shared', 'rlock', 'semaphore',
        'semaphore_of_two', 'named_semaphore', 'read', 'write', 'filelock',
        'ofd', 'lockf', 'lockf_semaphore', *_tasks(*_OF_TASKS),
    ),
    'exclusive': (
        'lock', 'truncating', 'blocking', 'rlock', 'temporary', 'pid_file',
        'semaphore', 'semaphore_of_two', 'named_semaphore', 'write',
        'filelock', 'soft', 'ofd', 'lockf', 'lockf_semaphore',
        *(_tasks('lock', 'rlock', 'write', 'semaphore', 'filelock')),
    ),
    'plain': (
        'lock', 'truncating', 'blocking', 'shared', 'rlock', 'read', 'write',
        'ofd', 'lockf', *_tasks('lock', 'rlock', 'read', 'write'),
    ),
}  # fmt: skip

#: law -> (locks it runs against, locks it is not for -> why)
LAWS: dict[str, tuple[frozenset[str], dict[str, str]]] = {}


def law(**not_for: str) -> Callable[[Any], Any]:
    """State a test as a law of every lock but those in `not_for`."""
    import pytest

    excused = {
        name: reason
        for key, reason in not_for.items()
        for name in GROUPS.get(key, (key,))
    }
    kinds = [kind for kind in KINDS if kind.name not in excused]

    def stated(test: Any) -> Any:
        key = f'{test.__module__}.{test.__name__}'
        assert key not in LAWS, f'{key} is stated twice'
        LAWS[key] = (frozenset(kind.name for kind in kinds), excused)
        return pytest.mark.parametrize('kind', kinds, ids=str)(test)

    return stated


def open_descriptors() -> dict[str, str]:
    """Return the descriptors of this process, and what they lead to."""
    found = {}
    for number in os.listdir('/proc/self/fd'):
        try:
            found[number] = os.readlink(f'/proc/self/fd/{number}')
        except FileNotFoundError:  # the one that reads the directory
            continue
    return found
