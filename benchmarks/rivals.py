"""One adapter for each library, used as its documentation says."""

from __future__ import annotations

import fcntl
import functools
import importlib
import os
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol


class Lockable(Protocol):
    """What every adapter hands out."""

    def acquire(self) -> Any:
        """Wait for the lock and take it."""

    def release(self) -> Any:
        """Let go."""


class Rival:
    """A library: where it comes from and which locks it offers."""

    name = ''
    #: what pip has to install; None: nothing
    requirement: str | None = None
    #: what a user imports
    module_name = ''
    #: whether threads have one object that they can share
    is_shareable = True
    #: whether it is the tree around this folder
    is_ours = False
    #: how a program begins that holds one lock, at `sys.argv[2]`
    first_lock = ''
    #: how one begins that makes temporary files
    temporary_files = ''
    #: how one begins that uses a re-entrant `FileLock`
    file_lock_import = ''
    #: whether two threads with a `file_lock()` each exclude each other
    excludes_threads = True
    #: whether threads wait for each other with a `read_write()` each
    sides_exclude_threads = True
    #: whether the holder of a `file_lock()` may take it again
    counts_levels = False

    @property
    def distribution(self) -> str:
        """What is installed, without the version that was asked for."""
        return (self.requirement or '').partition('==')[0]

    @functools.cached_property
    def module(self) -> Any:
        """The imported library."""
        return importlib.import_module(self.module_name)

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return the library's ordinary lock, with its default settings."""
        raise NotImplementedError

    def guard(self, path: str) -> AbstractContextManager[Any]:
        """Return what users write after `with`, made anew each time."""
        raise NotImplementedError

    def try_out(self) -> None:
        """Fail where what is imported is not the library."""
        self.lock(os.devnull, 1)

    def between_threads(self) -> dict[str, Any]:
        """Return `words`, as users write them, and the `objects` in them.

        The words are `mutex`, `read` and `write`, which stand behind
        `with`, and `wait`: for an event that is set. Any may be missing.
        """
        return {'words': {}, 'objects': {}}

    def file_lock(self, path: str, timeout: float) -> Lockable:
        """Return the lock between processes, and threads, that counts."""
        return self.lock(path, timeout)

    def count_waits(self, wanted: bool) -> bool:
        """Switch wait counters on or off; whether the library has any."""
        return False

    def reentrant(self, path: str) -> Lockable | None:
        """Return a lock that its holder may take again."""
        return None

    def temporary(self, path: str) -> Lockable | None:
        """Return a lock whose file exists only while it is held."""
        return None

    def read_write(self, path: str) -> tuple[Lockable, Lockable] | None:
        """Return the two sides of a read-write lock."""
        return None

    def task_lock(self, path: str, kind: str) -> Any:
        """Return a lock whose `acquire()` a task of asyncio awaits.

        `kind` is one of `event_loop.KINDS`.
        """
        return None

    def pid(self, path: str) -> Lockable | None:
        """Return a lock that publishes the process id of its holder."""
        return None


class KernelLock:
    """Open, block in `flock` without a timeout, unlock, close."""

    def __init__(self, path: str) -> None:
        self.path = path

    def acquire(self) -> None:
        """Open the file, then wait in the kernel."""
        self.fh: IO[str] = open(self.path, 'a')  # noqa: SIM115
        fcntl.flock(self.fh, fcntl.LOCK_EX)

    def release(self) -> None:
        """Unlock, then close."""
        fcntl.flock(self.fh, fcntl.LOCK_UN)
        self.fh.close()


class KernelSide:
    """One kind of kernel lock, for a descriptor that is opened anew."""

    def __init__(self, path: str, kind: int) -> None:
        self.path = path
        self.kind = kind

    def acquire(self) -> None:
        """Open the file, then lock it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self.fd = os.open(self.path, flags, 0o666)
        fcntl.flock(self.fd, self.kind)

    def release(self) -> None:
        """Unlock, then close."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)


class FastenersSide:
    """One side of an `InterProcessReaderWriterLock`."""

    def __init__(self, lock: Any, side: str) -> None:
        self.acquire = getattr(lock, f'acquire_{side}_lock')
        self.release = getattr(lock, f'release_{side}_lock')


class FilelockSide:
    """One side of a `ReadWriteLock` of filelock."""

    def __init__(self, lock: Any, side: str) -> None:
        self.acquire = getattr(lock, f'acquire_{side}')
        self.release = lock.release


class Floor(Rival):
    """The kernel's own lock: what nobody can undercut."""

    name = 'flock'
    module_name = 'fcntl'
    is_shareable = False
    first_lock = (
        'import fcntl; fh = open(sys.argv[2], "a"); '
        'fcntl.flock(fh, fcntl.LOCK_EX); fh.close()'
    )
    temporary_files = 'import tempfile'

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return a lock that waits in the kernel."""
        return KernelLock(path)

    def file_lock(self, path: str, timeout: float) -> Lockable:
        """Return the same on a bare descriptor."""
        return KernelSide(path, fcntl.LOCK_EX)

    def read_write(self, path: str) -> tuple[Lockable, Lockable]:
        """Return the kernel's shared and exclusive lock."""
        return (
            KernelSide(path, fcntl.LOCK_SH),
            KernelSide(path, fcntl.LOCK_EX),
        )


class Bare(Rival):
    """The least programs, in Python, that keep our promises."""

    name = 'bare'
    module_name = 'least_file_lock'
    counts_levels = True

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return the least `Lock`."""
        lock: Lockable = self.module.BareLock(path)
        return lock

    def guard(self, path: str) -> AbstractContextManager[Any]:
        """Return a new one."""
        guard: AbstractContextManager[Any] = self.module.BareLock(path)
        return guard

    def file_lock(self, path: str, timeout: float) -> Lockable:
        """Return the least `FileLock`."""
        lock: Lockable = self.module.BareFileLock(path)
        return lock


class Portalocker(Rival):
    """This library; `Released` has the same names."""

    name = 'ours'
    module_name = 'portalocker'
    is_ours = True
    first_lock = (
        'import portalocker; lock = portalocker.Lock(sys.argv[2]); '
        'lock.acquire(); lock.release()'
    )
    temporary_files = 'import portalocker.tempfile'
    file_lock_import = 'import portalocker.filelock'
    counts_levels = True

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return a `Lock`."""
        lock: Lockable = self.module.Lock(path, timeout=timeout)
        return lock

    def guard(self, path: str) -> AbstractContextManager[Any]:
        """Return a new `Lock`."""
        guard: AbstractContextManager[Any] = self.module.Lock(path)
        return guard

    def file_lock(self, path: str, timeout: float) -> Lockable:
        """Return a `FileLock`."""
        room = importlib.import_module('portalocker.filelock')
        lock: Lockable = room.FileLock(path, timeout)
        return lock

    def count_waits(self, wanted: bool) -> bool:
        """Count, or stop counting."""
        counters = importlib.import_module('portalocker.wait_counters')
        counters.enable() if wanted else counters.disable()
        return True

    def reentrant(self, path: str) -> Lockable:
        """Return an `RLock`."""
        lock: Lockable = self.module.RLock(path)
        return lock

    def temporary(self, path: str) -> Lockable:
        """Return a `TemporaryFileLock`."""
        lock: Lockable = self.module.TemporaryFileLock(path)
        return lock

    def pid(self, path: str) -> Lockable:
        """Return a `PidFileLock`."""
        lock: Lockable = self.module.utils.PidFileLock(path)
        return lock

    def read_write(self, path: str) -> tuple[Lockable, Lockable] | None:
        """Return both sides of a `ReadWriteLock`."""
        room = importlib.import_module('portalocker.read_write')
        lock = room.ReadWriteLock(path)
        return lock.read(), lock.write()

    def task_lock(self, path: str, kind: str) -> Any:
        """Return the lock of `portalocker.aio`."""
        aio = importlib.import_module('portalocker.aio')
        if kind in {'read', 'write'}:
            return getattr(aio.ReadWriteLock(path), kind)()
        if kind == 'semaphore':
            folder, name = os.path.split(path)
            return aio.BoundedSemaphore(4, name, directory=folder)
        return getattr(aio, kind)(path)

    def between_threads(self) -> dict[str, Any]:
        """Return the primitives of `pysync`, of one implementation."""
        pysync = importlib.import_module('portalocker.pysync')
        if self.implementation != pysync.IMPLEMENTATION:
            raise ImportError(f'pysync is {pysync.IMPLEMENTATION} here')
        event = pysync.Event()
        event.set()
        return {
            'words': {
                'mutex': 'mutex',
                'read': 'rw.reader',
                'write': 'rw.writer',
                'wait': 'event.wait()',
            },
            'objects': {
                'mutex': pysync.Mutex(),
                'rw': pysync.RWMutex(),
                'event': event,
            },
        }

    #: of `pysync`
    implementation = 'native'


class Pure(Portalocker):
    """This library without its extension."""

    name = 'pure'
    implementation = 'pure'

    def between_threads(self) -> dict[str, Any]:
        """Return the primitives of `pysync`, written in Python."""
        os.environ['PORTALOCKER_NO_EXTENSIONS'] = '1'
        return super().between_threads()


class Released(Portalocker):
    """The newest released library of the same import name."""

    def read_write(self, path: str) -> None:
        """It has none."""

    def task_lock(self, path: str, kind: str) -> None:
        """It has none."""

    def file_lock(self, path: str, timeout: float) -> Lockable:
        """It has none but the ordinary lock."""
        return self.lock(path, timeout)

    name = 'portalocker'
    requirement = 'portalocker'
    is_ours = counts_levels = False
    temporary_files = ''
    file_lock_import = ''


class Filelock(Rival):
    """`filelock.FileLock`."""

    name = 'filelock'
    requirement = 'filelock'
    module_name = 'filelock'
    first_lock = (
        'import filelock; lock = filelock.FileLock(sys.argv[2]); '
        'lock.acquire(); lock.release()'
    )
    file_lock_import = 'import filelock; filelock.FileLock'
    sides_exclude_threads = False  # another thread's wish raises
    counts_levels = True

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return a `FileLock`."""
        lock: Lockable = self.module.FileLock(path, timeout=timeout)
        return lock

    def guard(self, path: str) -> AbstractContextManager[Any]:
        """Return a new `FileLock`."""
        guard: AbstractContextManager[Any] = self.module.FileLock(path)
        return guard

    def reentrant(self, path: str) -> Lockable:
        """Return a `FileLock`: it counts."""
        return self.lock(path, 5)

    def read_write(self, path: str) -> tuple[Lockable, Lockable]:
        """Return both sides of its `ReadWriteLock`."""
        lock = self.module.ReadWriteLock(path + '.db')
        return FilelockSide(lock, 'read'), FilelockSide(lock, 'write')

    def task_lock(self, path: str, kind: str) -> Any:
        """Return an `AsyncFileLock`."""
        return self.module.AsyncFileLock(path) if kind == 'FileLock' else None


class OlderFilelock(Filelock):
    """The same library as it was before it knew how to wait and to fork."""

    name = 'filelock 3.12'
    requirement = 'filelock==3.12.4'

    def read_write(self, path: str) -> None:
        """It has none."""


class FastenersLock:
    """`InterProcessLock` with the timeout given once."""

    def __init__(self, lock: Any, timeout: float) -> None:
        self.acquire = functools.partial(lock.acquire, timeout=timeout)
        self.release = lock.release


class Fasteners(Rival):
    """`fasteners.InterProcessLock`."""

    name = 'fasteners'
    requirement = 'fasteners'
    module_name = 'fasteners'
    first_lock = (
        'import fasteners; lock = fasteners.InterProcessLock(sys.argv[2]); '
        'lock.acquire(); lock.release()'
    )
    is_shareable = False  # it says so: not thread-safe
    excludes_threads = sides_exclude_threads = False

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return an `InterProcessLock`."""
        return FastenersLock(self.module.InterProcessLock(path), timeout)

    def read_write(self, path: str) -> tuple[Lockable, Lockable]:
        """Return both sides of an `InterProcessReaderWriterLock`."""
        return _fasteners_sides(self.module, path)

    def guard(self, path: str) -> AbstractContextManager[Any]:
        """Return a new `InterProcessLock`."""
        guard: AbstractContextManager[Any] = self.module.InterProcessLock(path)
        return guard

    def between_threads(self) -> dict[str, Any]:
        """Return a `ReaderWriterLock`."""
        return {
            'words': {'read': 'rw.read_lock()', 'write': 'rw.write_lock()'},
            'objects': {'rw': self.module.ReaderWriterLock()},
        }


def _fasteners_sides(module: Any, path: str) -> tuple[Lockable, Lockable]:
    lock = module.InterProcessReaderWriterLock(path)
    return FastenersSide(lock, 'read'), FastenersSide(lock, 'write')


class OsloLock:
    """A lock with a name, entered as a context: there is no object."""

    def __init__(self, oslo: Oslo, path: str) -> None:
        self.oslo = oslo
        self.path = path

    def acquire(self) -> None:
        """Enter a new context."""
        self.held = self.oslo.guard(self.path)
        self.held.__enter__()

    def release(self) -> None:
        """Leave the context."""
        self.held.__exit__(None, None, None)


class Oslo(Rival):
    """`oslo_concurrency.lockutils.lock(..., external=True)`: no timeout."""

    name = 'oslo'
    requirement = 'oslo.concurrency'
    module_name = 'oslo_concurrency.lockutils'
    first_lock = (
        'import os; from oslo_concurrency import lockutils\n'
        'folder, name = os.path.split(sys.argv[2])\n'
        'with lockutils.lock(name, external=True, lock_path=folder): pass'
    )
    is_shareable = False

    def lock(self, path: str, timeout: float) -> Lockable:
        """Return a named external lock."""
        return OsloLock(self, path)

    def guard(self, path: str) -> AbstractContextManager[Any]:
        """Return the context of a named external lock."""
        directory, name = os.path.split(path)
        guard: AbstractContextManager[Any] = self.module.lock(
            name, external=True, lock_path=directory
        )
        return guard


class Threading(Rival):
    """The standard library; where readers are wanted, an exclusive lock."""

    name = 'threading'
    module_name = 'threading'

    def try_out(self) -> None:
        """Make a lock."""
        self.module.Lock()

    def between_threads(self) -> dict[str, Any]:
        """Return a `Lock` and an `Event`."""
        event = self.module.Event()
        event.set()
        return {
            'words': {
                'mutex': 'lock',
                'read': 'lock',
                'write': 'lock',
                'wait': 'event.wait()',
            },
            'objects': {'lock': self.module.Lock(), 'event': event},
        }


class ReaderWriterLock(Rival):
    """One of the kinds of lock of `readerwriterlock`."""

    requirement = 'readerwriterlock'
    module_name = 'readerwriterlock.rwlock'

    def __init__(self, name: str) -> None:
        self.name = name

    def between_threads(self) -> dict[str, Any]:
        """Return the lock whose name is ours."""
        return {
            'words': {'read': 'rw.gen_rlock()', 'write': 'rw.gen_wlock()'},
            'objects': {'rw': getattr(self.module, self.name)()},
        }


class Aiologic(Rival):
    """`aiologic`: locks that threads and tasks can share."""

    name = 'aiologic'
    requirement = 'aiologic'
    module_name = 'aiologic'

    def between_threads(self) -> dict[str, Any]:
        """Return a `Lock` and an `Event`."""
        event = self.module.Event()
        event.set()
        return {
            'words': {'mutex': 'lock', 'wait': 'event.wait()'},
            'objects': {'lock': self.module.Lock(), 'event': event},
        }


#: in the order of the tables: the floor first, then ours
RIVALS: dict[str, Rival] = {
    rival.name: rival
    for rival in (
        Floor(),
        Portalocker(),
        Bare(),
        Released(),
        Filelock(),
        OlderFilelock(),
        Fasteners(),
        Oslo(),
        Threading(),
        Pure(),
        ReaderWriterLock('RWLockFair'),
        ReaderWriterLock('RWLockRead'),
        ReaderWriterLock('RWLockWrite'),
        Aiologic(),
    )
}
