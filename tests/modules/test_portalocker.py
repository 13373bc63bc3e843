"""One descriptor, one lock: `lock()`, `unlock()` and `LOCKER`."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from states import wait_until

import portalocker
from portalocker import LockFlags, _lock_request, _owner, constants
from portalocker import portalocker as module
from portalocker.exceptions import AlreadyLocked, FileToLarge, LockException

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

import fcntl

LONG = 30.0  # seconds, reached by a failure only
EXCLUSIVE = LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING
SHARED = LockFlags.SHARED | LockFlags.NON_BLOCKING


class HasFileno:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


# what is locked


@pytest.mark.parametrize(
    'argument',
    [lambda fh: fh, lambda fh: fh.fileno(), lambda fh: HasFileno(fh.fileno())],
    ids=['file', 'descriptor', 'has fileno'],
)
def test_all_that_stands_for_a_descriptor_can_be_locked(
    argument: Callable[[Any], Any], first: Any, second: Any
) -> None:
    portalocker.lock(argument(first), EXCLUSIVE)
    with pytest.raises(AlreadyLocked):
        portalocker.lock(argument(second), EXCLUSIVE)
    portalocker.unlock(argument(first))
    portalocker.lock(argument(second), EXCLUSIVE)


@pytest.mark.parametrize('thing', [None, 'path', 1.5, object()])
def test_what_is_no_file_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError, match=r'fileno\(\)'):
        portalocker.lock(thing, EXCLUSIVE)
    with pytest.raises(TypeError, match=r'fileno\(\)'):
        portalocker.unlock(thing)


def test_shared_holders_share_and_keep_a_writer_out(
    first: Any, second: Any
) -> None:
    portalocker.lock(first, SHARED)
    portalocker.lock(second, SHARED)
    with pytest.raises(AlreadyLocked):
        portalocker.lock(second, EXCLUSIVE)


def test_locking_a_locked_handle_converts_its_lock(
    first: Any, second: Any
) -> None:
    portalocker.lock(first, EXCLUSIVE)
    portalocker.lock(first, SHARED)
    portalocker.lock(second, SHARED)


def test_closing_the_handle_unlocks(first: Any, second: Any) -> None:
    portalocker.lock(first, EXCLUSIVE)
    first.close()
    portalocker.lock(second, EXCLUSIVE)


def test_unlocking_what_is_not_locked_does_nothing(first: Any) -> None:
    portalocker.unlock(first)
    portalocker.unlock(first)


# waiting in the system


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc/locks')
def test_without_non_blocking_it_waits_for_the_holder(
    path: pathlib.Path, first: Any, second: Any
) -> None:
    portalocker.lock(first, EXCLUSIVE)
    thread = threading.Thread(
        target=portalocker.lock, args=(second, LockFlags.EXCLUSIVE)
    )
    thread.start()
    wait_until(lambda: any(r.blocked for r in _owner.lock_rows(str(path))))
    portalocker.unlock(first)
    thread.join(LONG)
    with pytest.raises(AlreadyLocked):
        portalocker.lock(first, EXCLUSIVE)


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc/locks')
def test_a_signal_ends_the_wait(
    path: pathlib.Path, first: Any, second: Any
) -> None:
    def interrupt() -> None:
        wait_until(lambda: any(r.blocked for r in _owner.lock_rows(str(path))))
        os.kill(os.getpid(), signal.SIGINT)

    portalocker.lock(first, EXCLUSIVE)
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        portalocker.lock(second, LockFlags.EXCLUSIVE)
    thread.join(LONG)


# flags

BAD_FLAGS = [
    (LockFlags.NON_BLOCKING, 'NON_BLOCKING alone.*SHARED or EXCLUSIVE'),
    (LockFlags(0), 'no flags'),
    (LockFlags.EXCLUSIVE | LockFlags.SHARED, 'SHARED and EXCLUSIVE'),
    (EXCLUSIVE | SHARED, 'SHARED and EXCLUSIVE'),
    (LockFlags.UNBLOCK, r'unlock\(\)'),
    (LockFlags.UNBLOCK | EXCLUSIVE, r'unlock\(\)'),
    (0x1000, 'unknown flags: 0x1000'),
]


@pytest.mark.parametrize(('flags', 'words'), BAD_FLAGS)
@pytest.mark.parametrize(
    'lock',
    [
        portalocker.lock,
        lambda file, flags: module.PosixLocker().lock(file, flags),
        lambda file, flags: module.FlockLocker().lock(file, flags),
        lambda file, flags: module.LockfLocker().lock(file, flags),
        lambda file, flags: module.OfdLocker().lock(file, flags),
    ],
    ids=['lock', 'PosixLocker', 'FlockLocker', 'LockfLocker', 'OfdLocker'],
)
def test_flags_that_ask_for_no_lock_are_refused_and_change_nothing(
    lock: Any, flags: Any, words: str, first: Any, second: Any
) -> None:
    portalocker.lock(first, EXCLUSIVE)
    with pytest.raises(RuntimeError, match=words):
        lock(first, flags)
    with pytest.raises(AlreadyLocked):
        portalocker.lock(second, EXCLUSIVE)


def test_flags_are_refused_before_the_system_is_asked(
    monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module, 'LOCKER', lambda *args: asked.append(args))
    for flags, _ in BAD_FLAGS:
        with pytest.raises(RuntimeError):
            portalocker.lock(first, flags)
    assert asked == []


@pytest.mark.parametrize(
    'flags',
    [LockFlags.EXCLUSIVE, LockFlags.SHARED, EXCLUSIVE, SHARED],
)
def test_one_kind_with_or_without_waiting_is_a_request(flags: int) -> None:
    _lock_request.check_flags(flags)
    _lock_request.check_flags(int(flags))


# failures


def test_contention_carries_the_systems_error_and_the_file(
    first: Any, second: Any
) -> None:
    portalocker.lock(first, EXCLUSIVE)
    with pytest.raises(AlreadyLocked) as caught:
        portalocker.lock(second, EXCLUSIVE)
    failure = caught.value
    assert failure.fh is second
    (error,) = failure.args
    assert isinstance(error, OSError)
    assert failure.__cause__ is error
    assert error.errno in (errno.EACCES, errno.EAGAIN)
    assert failure.strerror == error.strerror
    assert repr(second.name) in str(failure)


@pytest.mark.parametrize(
    ('number', 'kind'),
    [
        (errno.EACCES, AlreadyLocked),
        (errno.EAGAIN, AlreadyLocked),
        (errno.EFBIG, FileToLarge),
        (errno.EOVERFLOW, FileToLarge),
        (errno.ENOLCK, LockException),
        (errno.EOPNOTSUPP, LockException),
        (errno.EIO, LockException),
    ],
)
@pytest.mark.parametrize('is_default', [True, False])
def test_each_error_of_the_system_has_its_failure(
    number: int,
    kind: type[LockException],
    is_default: bool,
    monkeypatch: pytest.MonkeyPatch,
    first: Any,
) -> None:
    def refuse(fd: int, flags: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module, 'LOCKER', refuse)
    if is_default:
        monkeypatch.setattr(module, '_flock', refuse)
    for attempt in (
        lambda: portalocker.lock(first, EXCLUSIVE),
        lambda: portalocker.unlock(first),
    ):
        with pytest.raises(LockException) as caught:
            attempt()
        assert type(caught.value) is kind
        assert caught.value.args[0].errno == number
        assert caught.value.__cause__ is caught.value.args[0]
        assert caught.value.fh is first


def test_the_end_of_file_that_nfs_reports_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    def refuse(fd: int, flags: int) -> None:
        raise EOFError('stale')

    monkeypatch.setattr(module, 'LOCKER', refuse)
    for attempt in (
        lambda: portalocker.lock(first, EXCLUSIVE),
        lambda: portalocker.unlock(first),
    ):
        with pytest.raises(LockException) as caught:
            attempt()
        assert type(caught.value) is LockException
        assert isinstance(caught.value.__cause__, EOFError)


def test_a_closed_descriptor_is_a_failure_with_its_errno(
    first: Any,
) -> None:
    fd = os.dup(first.fileno())
    os.close(fd)
    for attempt in (
        lambda: portalocker.lock(fd, EXCLUSIVE),
        lambda: portalocker.unlock(fd),
    ):
        with pytest.raises(LockException) as caught:
            attempt()
        assert not isinstance(caught.value, AlreadyLocked)
        assert caught.value.args[0].errno == errno.EBADF
        assert caught.value.fh == fd


# LOCKER


class CountingLocker(module.BaseLocker):
    made = 0
    calls: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self) -> None:
        type(self).made += 1

    def lock(self, file_obj: Any, flags: LockFlags) -> None:
        self.calls.append(('lock', file_obj, flags))

    def unlock(self, file_obj: Any) -> None:
        self.calls.append(('unlock', file_obj))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    monkeypatch.setattr(CountingLocker, 'calls', [])
    monkeypatch.setattr(CountingLocker, 'made', 0)
    monkeypatch.setattr(module, '_locker_instances', {})
    return CountingLocker.calls


def test_by_default_the_locker_is_flock() -> None:
    assert module.LOCKER is fcntl.flock
    assert portalocker.portalocker is module


@pytest.mark.parametrize(
    'form',
    [
        lambda: CountingLocker,
        CountingLocker,
        lambda: (CountingLocker().lock, CountingLocker().unlock),
    ],
    ids=['class', 'instance', 'pair'],
)
def test_lockers_with_two_verbs_get_what_we_were_given(
    form: Callable[[], Any],
    calls: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    first: Any,
) -> None:
    monkeypatch.setattr(module, 'LOCKER', form())
    portalocker.lock(first, EXCLUSIVE)
    portalocker.unlock(first)
    assert calls == [('lock', first, EXCLUSIVE), ('unlock', first)]


@pytest.mark.parametrize(
    'form',
    [
        lambda calls: lambda *args: calls.append(args),
        lambda calls: CountingLocker,
        lambda calls: CountingLocker(),
        lambda calls: (CountingLocker().lock, CountingLocker().unlock),
    ],
    ids=['function', 'class', 'instance', 'pair'],
)
def test_a_lock_object_uses_every_form(
    form: Callable[[Any], Any],
    calls: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    path: pathlib.Path,
) -> None:
    monkeypatch.setattr(module, 'LOCKER', form(calls))
    with portalocker.Lock(path) as fh:
        assert len(calls) == 1
        assert not fh.closed
    assert len(calls) == 2


def test_a_function_gets_the_descriptor_and_the_flags(
    monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setattr(module, 'LOCKER', lambda *args: calls.append(args))
    portalocker.lock(first, SHARED)
    portalocker.unlock(first)
    fd = first.fileno()
    assert calls == [(fd, SHARED), (fd, constants.LOCK_UN)]


def test_a_locker_class_is_instantiated_once(
    calls: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    first: Any,
) -> None:
    monkeypatch.setattr(module, 'LOCKER', CountingLocker)
    for _ in range(3):
        portalocker.lock(first, EXCLUSIVE)
        portalocker.unlock(first)
    assert CountingLocker.made == 1
    assert len(calls) == 6


def test_each_locker_class_has_an_instance_of_its_own(
    calls: list[tuple[object, ...]],
    monkeypatch: pytest.MonkeyPatch,
    first: Any,
) -> None:
    class Other(CountingLocker):
        calls: ClassVar[list[tuple[object, ...]]] = []

    for locker in (CountingLocker, Other, CountingLocker):
        monkeypatch.setattr(module, 'LOCKER', locker)
        portalocker.lock(first, EXCLUSIVE)
    assert (len(calls), len(Other.calls)) == (2, 1)


def test_rebinding_the_locker_counts_from_the_next_call(
    monkeypatch: pytest.MonkeyPatch, first: Any, second: Any
) -> None:
    portalocker.lock(first, EXCLUSIVE)
    with monkeypatch.context() as patch:
        patch.setattr(module, 'LOCKER', fcntl.lockf)
        portalocker.lock(second, EXCLUSIVE)  # flock does not see it
        portalocker.unlock(second)
    with pytest.raises(AlreadyLocked):
        portalocker.lock(second, EXCLUSIVE)


@pytest.mark.parametrize(
    'locker', [None, 'flock', 7, (), (print,), (print, print, print)]
)
def test_a_locker_that_is_none_is_refused(
    locker: Any, monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.setattr(module, 'LOCKER', locker)
    with pytest.raises(TypeError, match='LOCKER'):
        portalocker.lock(first, EXCLUSIVE)
    with pytest.raises(TypeError, match='LOCKER'):
        portalocker.unlock(first)


def test_on_windows_a_bare_function_is_refused(
    monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.setattr(module, 'LOCKER', lambda *args: None)
    with monkeypatch.context() as patch:
        patch.setattr(sys, 'platform', 'win32')
        with pytest.raises(TypeError, match='LOCKER'):
            portalocker.lock(first, EXCLUSIVE)


def test_errors_of_a_pair_are_its_own(
    monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EAGAIN, 'mine')

    monkeypatch.setattr(module, 'LOCKER', (refuse, refuse))
    with pytest.raises(OSError, match='mine'):
        portalocker.lock(first, EXCLUSIVE)
    with pytest.raises(OSError, match='mine'):
        portalocker.unlock(first)


@pytest.mark.parametrize(
    ('locker', 'is_flock', 'is_per_open_file'),
    [
        (fcntl.flock, True, True),
        (module.FlockLocker, True, True),
        (module.FlockLocker(), True, True),
        (fcntl.lockf, False, False),
        (module.LockfLocker, False, False),
        (module.LockfLocker(), False, False),
        (module.OfdLocker, False, True),
        (module.OfdLocker(), False, True),
        (CountingLocker, False, False),
        ((print, print), False, False),
    ],
)
def test_tickets_are_kept_beside_flock_alone(
    locker: Any,
    is_flock: bool,
    is_per_open_file: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, 'LOCKER', locker)
    assert module.uses_flock() is is_flock
    assert module.locks_open_files() is is_per_open_file


def test_all_names_of_the_specification_are_there() -> None:
    for name in (
        'LOCKER', 'BaseLocker', 'FlockLocker', 'LockCallable', 'LockfLocker',
        'MsvcrtLocker', 'PosixLocker', 'UnlockCallable', 'Win32Locker',
        '_prepare_windows_file', '_restore_windows_file_pos', 'lock',
        'unlock',
    ):  # fmt: skip
        assert hasattr(module, name)
        assert name in module.__all__
