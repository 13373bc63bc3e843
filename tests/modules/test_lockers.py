"""The POSIX lockers, each with its own kind of lock."""

from __future__ import annotations

import errno
import os
import pathlib
import pickle
import subprocess
import sys
import threading
from typing import Any

import pytest
from states import wait_until

import portalocker
from portalocker import LockFlags, _owner
from portalocker import portalocker as module
from portalocker.exceptions import AlreadyLocked, FileToLarge, LockException

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

import fcntl

LONG = 30.0  # seconds, reached by a failure only
EXCLUSIVE = LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING
SHARED = LockFlags.SHARED | LockFlags.NON_BLOCKING

needs_ofd = pytest.mark.skipif(
    not hasattr(fcntl, 'F_OFD_SETLK'), reason='needs F_OFD_SETLK'
)

# argv: path, start, length; says what becomes of the attempt
TRY_RANGE = """
import sys
from portalocker import LockFlags, exceptions, portalocker
with open(sys.argv[1], 'r+') as fh:
    try:
        portalocker.OfdLocker().lock(
            fh,
            LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING,
            start=int(sys.argv[2]),
            length=int(sys.argv[3]),
        )
    except exceptions.AlreadyLocked:
        print('locked')
    else:
        print('free')
"""


def seen_by_another_process(
    path: pathlib.Path, start: int, length: int
) -> str:
    root = pathlib.Path(portalocker.__file__).parent.parent
    return subprocess.run(
        [sys.executable, '-P', '-c', TRY_RANGE, path, str(start), str(length)],
        env={**os.environ, 'PYTHONPATH': str(root)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_a_base_locker_can_be_made_and_does_nothing(first: Any) -> None:
    locker = module.BaseLocker()
    with pytest.raises(NotImplementedError):
        locker.lock(first, EXCLUSIVE)
    with pytest.raises(NotImplementedError):
        locker.unlock(first)


# PosixLocker, FlockLocker, LockfLocker


def test_the_posix_locker_follows_the_global_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    locker = module.PosixLocker()
    assert locker.locker is fcntl.flock
    for function in (fcntl.lockf, lambda fd, flags: None):
        monkeypatch.setattr(module, 'LOCKER', function)
        assert locker.locker is function


@pytest.mark.parametrize(
    'form', [module.PosixLocker, module.PosixLocker(), (print, print)]
)
def test_the_posix_locker_uses_flock_where_the_global_is_no_function(
    form: Any, monkeypatch: pytest.MonkeyPatch, first: Any, second: Any
) -> None:
    monkeypatch.setattr(module, 'LOCKER', form)
    assert module.PosixLocker().locker is fcntl.flock
    module.PosixLocker().lock(first, EXCLUSIVE)
    with pytest.raises(AlreadyLocked):
        module.PosixLocker().lock(second, EXCLUSIVE)
    module.PosixLocker().unlock(first)
    module.PosixLocker().lock(second, EXCLUSIVE)


@pytest.mark.parametrize('locker', [fcntl.flock, fcntl.lockf, print])
def test_the_named_lockers_ignore_the_global_one(
    locker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, 'LOCKER', locker)
    assert module.FlockLocker().locker is fcntl.flock
    assert module.LockfLocker().locker is fcntl.lockf


def test_the_posix_locker_takes_what_lock_takes(first: Any) -> None:
    locker = module.PosixLocker()
    assert locker._get_fd(first) == first.fileno()
    assert locker._get_fd(first.fileno()) == first.fileno()
    with pytest.raises(TypeError):
        locker._get_fd('path')  # type: ignore[arg-type]


def test_flock_belongs_to_the_open_file(
    monkeypatch: pytest.MonkeyPatch, path: pathlib.Path
) -> None:
    monkeypatch.setattr(module, 'LOCKER', module.FlockLocker)
    with portalocker.Lock(path), pytest.raises(AlreadyLocked):
        portalocker.Lock(path, timeout=0).acquire()


@pytest.mark.parametrize('locker', [fcntl.lockf, module.LockfLocker])
def test_lockf_belongs_to_the_process(
    locker: Any, monkeypatch: pytest.MonkeyPatch, path: pathlib.Path
) -> None:
    monkeypatch.setattr(module, 'LOCKER', locker)
    with portalocker.Lock(path), portalocker.Lock(path, timeout=0):
        pass


@pytest.mark.parametrize(('mode', 'flags'), [('a', SHARED), ('r', EXCLUSIVE)])
def test_lockf_needs_a_handle_that_fits_the_kind_of_lock(
    mode: str,
    flags: LockFlags,
    monkeypatch: pytest.MonkeyPatch,
    path: pathlib.Path,
) -> None:
    monkeypatch.setattr(module, 'LOCKER', fcntl.lockf)
    lock = portalocker.Lock(path, mode, timeout=LONG, flags=flags)
    with pytest.raises(LockException) as caught:
        lock.acquire()
    assert not isinstance(caught.value, AlreadyLocked)
    assert caught.value.args[0].errno == errno.EBADF


# OfdLocker


@needs_ofd
def test_ofd_locks_belong_to_the_open_file(first: Any, second: Any) -> None:
    locker = module.OfdLocker()
    locker.lock(first, EXCLUSIVE)
    with pytest.raises(AlreadyLocked) as caught:
        locker.lock(second, EXCLUSIVE)
    assert caught.value.fh is second
    assert caught.value.args[0].errno in (errno.EACCES, errno.EAGAIN)
    locker.unlock(first)
    locker.lock(second, EXCLUSIVE)


@needs_ofd
def test_ofd_locks_outlive_the_close_of_another_handle(
    path: pathlib.Path, first: Any
) -> None:
    module.OfdLocker().lock(first, EXCLUSIVE)
    open(path).close()
    assert seen_by_another_process(path, 0, 0) == 'locked'


@needs_ofd
def test_ofd_locks_can_be_shared(first: Any, second: Any) -> None:
    locker = module.OfdLocker()
    locker.lock(first, SHARED)
    locker.lock(second, SHARED)
    with pytest.raises(AlreadyLocked):
        locker.lock(second, EXCLUSIVE)


@needs_ofd
@pytest.mark.parametrize(
    ('start', 'length', 'state'),
    [
        (0, 10, 'free'),
        (0, 11, 'locked'),
        (19, 1, 'locked'),
        (20, 5, 'free'),
        (20, 0, 'free'),
        (0, 0, 'locked'),
    ],
)
def test_a_byte_range_excludes_what_overlaps_in_other_processes(
    start: int, length: int, state: str, path: pathlib.Path, first: Any
) -> None:
    module.OfdLocker().lock(first, EXCLUSIVE, start=10, length=10)
    assert seen_by_another_process(path, start, length) == state


@pytest.mark.parametrize('name', ['flock', 'FlockLocker', 'OfdLocker'])
def test_what_cannot_be_unlocked_is_told_so(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    locker = fcntl.flock if name == 'flock' else getattr(module, name)
    monkeypatch.setattr(module, 'LOCKER', locker)
    with pytest.raises(
        LockException,
        match=r'^cannot unlock file descriptor 9999: Bad file descriptor$',
    ) as caught:
        portalocker.unlock(9999)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)


@needs_ofd
def test_part_of_a_range_can_be_unlocked(first: Any, second: Any) -> None:
    locker = module.OfdLocker()
    locker.lock(first, EXCLUSIVE, start=10, length=10)
    locker.unlock(first, start=10, length=5)
    locker.lock(second, EXCLUSIVE, start=10, length=5)
    with pytest.raises(AlreadyLocked):
        locker.lock(second, EXCLUSIVE, start=15, length=1)


@needs_ofd
@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc/locks')
def test_an_ofd_lock_without_non_blocking_waits(
    path: pathlib.Path, first: Any, second: Any
) -> None:
    locker = module.OfdLocker()
    locker.lock(first, EXCLUSIVE)
    thread = threading.Thread(
        target=locker.lock, args=(second, LockFlags.EXCLUSIVE)
    )
    thread.start()
    wait_until(lambda: any(r.blocked for r in _owner.lock_rows(str(path))))
    locker.unlock(first)
    thread.join(LONG)
    with pytest.raises(AlreadyLocked):
        locker.lock(first, EXCLUSIVE)


@needs_ofd
def test_a_range_beyond_all_offsets_is_too_large(first: Any) -> None:
    with pytest.raises(FileToLarge):
        module.OfdLocker().lock(
            first, EXCLUSIVE, start=(1 << 63) - 1, length=2
        )


@needs_ofd
def test_a_range_before_the_file_is_refused_by_the_system(
    first: Any,
) -> None:
    with pytest.raises(LockException) as caught:
        module.OfdLocker().lock(first, EXCLUSIVE, start=-1, length=1)
    assert caught.value.args[0].errno == errno.EINVAL


@needs_ofd
def test_an_ofd_lock_needs_a_handle_that_fits(path: pathlib.Path) -> None:
    with open(path) as reader:
        with pytest.raises(LockException) as caught:
            module.OfdLocker().lock(reader, EXCLUSIVE)
        assert caught.value.args[0].errno == errno.EBADF
        module.OfdLocker().lock(reader, SHARED)


@needs_ofd
@pytest.mark.parametrize('form', [module.OfdLocker, module.OfdLocker()])
def test_lock_objects_can_be_locked_by_ofd_locks(
    form: Any, monkeypatch: pytest.MonkeyPatch, path: pathlib.Path
) -> None:
    monkeypatch.setattr(module, 'LOCKER', form)
    with portalocker.Lock(path):
        assert seen_by_another_process(path, 0, 1) == 'locked'
        with pytest.raises(AlreadyLocked):
            portalocker.Lock(path, timeout=0.01, check_interval=0).acquire()
    assert seen_by_another_process(path, 0, 1) == 'free'


def test_a_system_without_ofd_locks_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.delattr(fcntl, 'F_OFD_SETLK', raising=False)
    with pytest.raises(LockException, match='open-file-description'):
        module.OfdLocker().lock(first, EXCLUSIVE)
