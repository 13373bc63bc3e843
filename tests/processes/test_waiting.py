"""Who waits is woken by whatever frees the file, not by a clock.

No waiter here looks by itself within an hour, and all of them give up long
before: only a wake-up can end a wait.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import children
import pytest
from contenders import LONG, SHARED, Contender
from states import is_locked, wait_until

import portalocker
from portalocker import (
    LockFlags,
    _owner,
    _wakeup,
    _wakeup_filesystem,
    _wakeup_inotify,
    _wakeup_queue,
)
from portalocker import portalocker as module
from portalocker.exceptions import AlreadyLocked

if sys.platform != 'linux':
    pytest.skip('wake-ups of Linux', allow_module_level=True)

SHORT = 0.05


@pytest.fixture
def fresh_rooms(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned about file systems is forgotten."""
    monkeypatch.setattr(_wakeup_filesystem, '_locality', {})
    monkeypatch.setattr(_wakeup, '_is_orderly', {})


class WaitingThread(threading.Thread):
    """A thread that waits for the lock; its failure reaches the test."""

    def __init__(self, path: pathlib.Path, **options: Any) -> None:
        super().__init__()
        options = {'timeout': LONG, 'check_interval': 3600, **options}
        self.lock = portalocker.Lock(path, **options)
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        started = time.perf_counter()
        try:
            self.lock.acquire()
            # the last try, at the deadline, is no wake-up
            assert time.perf_counter() - started < LONG, 'it was not woken'
        except BaseException as failure:
            self.failure = failure

    def finish(self) -> None:
        self.join(2 * LONG)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure


def tickets(path: pathlib.Path) -> list[_owner.LockRow]:
    return [row for row in _owner.lock_rows(str(path)) if row.is_ticket]


@contextlib.contextmanager
def held(path: pathlib.Path) -> Iterator[int]:
    """A descriptor of this process that holds the lock."""
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


# who lets go, and how


def test_a_release_wakes(path: pathlib.Path) -> None:
    lock = portalocker.Lock(path)
    lock.acquire()
    with Contender(path) as waiter:
        assert waiter.said() == 'parked on file'
        lock.release()
        assert waiter.said_at_last() == 'in'


@pytest.mark.parametrize('unlocks_first', [True, False])
def test_a_close_wakes(unlocks_first: bool, path: pathlib.Path) -> None:
    with held(path) as fd, Contender(path) as waiter:
        assert waiter.said() == 'parked on file'
        if unlocks_first:
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)
        assert waiter.said_at_last() == 'in'


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_the_death_of_the_holder_wakes(
    number: signal.Signals, path: pathlib.Path
) -> None:
    with Contender(path) as holder:
        assert holder.said() == 'in'
        with Contender(path) as waiter:
            assert waiter.said() == 'parked on file'
            holder.process.send_signal(number)
            assert waiter.said_at_last() == 'in'


def is_in(contender: Contender, path: pathlib.Path) -> bool:
    return contender.pid in [h.pid for h in _owner.holders_of(str(path))]


@pytest.mark.skipif(shutil.which('flock') is None, reason='needs flock(1)')
def test_a_foreign_program_that_lets_go_wakes(path: pathlib.Path) -> None:
    foreign = subprocess.Popen(
        ['flock', str(path), 'sh', '-c', 'echo in; read line'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with foreign, Contender(path) as waiter:
        assert foreign.stdout is not None
        assert foreign.stdout.readline() == 'in\n'
        assert waiter.said() == 'parked on file'
        foreign.communicate('\n')
        assert waiter.said_at_last() == 'in'


@pytest.mark.skipif(shutil.which('flock') is None, reason='needs flock(1)')
def test_a_foreign_program_is_kept_out(path: pathlib.Path) -> None:
    with portalocker.Lock(path):
        attempt = subprocess.run(
            ['flock', '-n', str(path), 'true'], check=False
        )
        assert attempt.returncode == 1
    subprocess.run(['flock', '-n', str(path), 'true'], check=True)


@pytest.mark.parametrize('flags', ['LockFlags.EXCLUSIVE', None])
def test_a_waiter_without_a_deadline_is_woken(
    flags: str | None, path: pathlib.Path
) -> None:
    prepare = "options['timeout'] = float('inf')"
    if flags:
        prepare = f"options['flags'] = {flags}; options['timeout'] = None"
    with held(path) as fd, Contender(path, prepare) as waiter:
        assert waiter.said() == 'parked on file'
        os.close(fd)
        assert waiter.said_at_last() == 'in'


# the line


def test_the_line_is_served_first_come_first_served(
    path: pathlib.Path,
) -> None:
    with contextlib.ExitStack() as stack:
        fd = stack.enter_context(held(path))
        waiters = []
        for n in range(4):
            waiter = stack.enter_context(Contender(path))
            assert waiter.said() == (
                'parked on predecessor' if n else 'parked on file'
            )
            waiters.append(waiter)
        assert len(tickets(path)) == 4
        os.close(fd)
        for waiter in waiters:
            assert waiter.said_at_last() == 'in'
            assert is_in(waiter, path)
            waiter.go_on()
            assert waiter.said() == 'out'
        assert tickets(path) == []
        assert not is_locked(path)


def leave_by_kill(waiter: Contender) -> None:
    waiter.kill()


def leave_by_interrupt(waiter: Contender) -> None:
    waiter.interrupt()
    assert waiter.said_at_last() == 'interrupted'


@pytest.mark.parametrize('leave', [leave_by_kill, leave_by_interrupt])
@pytest.mark.parametrize('position', [0, 1, 2])
def test_whoever_leaves_the_line_blocks_nobody_behind(
    leave: Callable[[Contender], None],
    position: int,
    path: pathlib.Path,
) -> None:
    with contextlib.ExitStack() as stack:
        fd = stack.enter_context(held(path))
        waiters = []
        for _ in range(3):
            waiter = stack.enter_context(Contender(path))
            assert waiter.said().startswith('parked')
            waiters.append(waiter)
        leave(waiters.pop(position))
        wait_until(lambda: len(tickets(path)) == 2)
        os.close(fd)
        for waiter in waiters:
            assert waiter.said_at_last() == 'in'
            waiter.go_on()
            assert waiter.said() == 'out'


def test_a_predecessor_that_gives_up_lets_its_successor_look(
    path: pathlib.Path,
) -> None:
    # The first one is woken by its deadline, the second by the first
    impatient = "options['timeout'] = 1.0"
    with held(path) as fd, Contender(path, impatient) as first:
        assert first.said() == 'parked on file'
        with Contender(path) as second:
            assert second.said() == 'parked on predecessor'
            assert first.said_at_last() == 'gave up'
            assert second.said() == 'parked on file'
            os.close(fd)
            assert second.said_at_last() == 'in'


def test_the_last_try_is_made_whoever_is_before(
    path: pathlib.Path, parked: threading.Semaphore
) -> None:
    with held(path) as fd, open(path, 'r+') as stopped:
        # A ticket whose owner never moves
        number = (1 << 62) + 1
        request = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, number, 1, 0)
        fcntl.fcntl(stopped, fcntl.F_OFD_SETLK, request)
        thread = WaitingThread(path, timeout=0.5)
        assert parked.acquire(timeout=LONG)
        os.close(fd)
        thread.finish()
        thread.lock.release()


def test_a_stopped_waiter_delays_the_line_for_two_intervals_at_most(
    path: pathlib.Path, parked: threading.Semaphore
) -> None:
    with held(path) as fd, Contender(path) as stopped:
        assert stopped.said() == 'parked on file'
        stopped.stop()
        thread = WaitingThread(path, check_interval=SHORT)
        assert parked.acquire(timeout=LONG)
        os.close(fd)
        thread.finish()
        assert is_locked(path)
        thread.lock.release()
        stopped.resume()
        assert stopped.said_at_last() == 'in'


@pytest.mark.parametrize('has_waited_here_before', [True, False])
def test_a_newcomer_joins_the_line(
    has_waited_here_before: bool,
    path: pathlib.Path,
    parked: threading.Semaphore,
) -> None:
    if has_waited_here_before:
        with held(path) as fd:
            earlier = WaitingThread(path)
            assert parked.acquire(timeout=LONG)
            os.close(fd)
            earlier.finish()
            earlier.lock.release()
        while parked.acquire(blocking=False):
            pass
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Contender(path))
        assert first.said() == 'in'
        second = stack.enter_context(Contender(path))
        assert second.said() == 'parked on file'
        second.stop()
        first.go_on()
        assert first.said_at_last() == 'out'
        # The file is free, but it is not for us yet
        newcomer = WaitingThread(path)
        try:
            wait_until(
                lambda: (
                    newcomer.lock.fh is not None
                    or parked.acquire(blocking=False)
                )
            )
            assert newcomer.lock.fh is None
        finally:
            second.resume()
            if newcomer.lock.fh is not None:
                newcomer.lock.release()
            second_said = second.said_at_last()
            second.go_on()
            newcomer.finish()
            newcomer.lock.release()
        assert second_said == 'in'


def test_a_run_of_readers_comes_in_together_and_before_the_writer_behind(
    path: pathlib.Path,
) -> None:
    with contextlib.ExitStack() as stack:
        fd = stack.enter_context(held(path))
        contenders = []
        for prepare in (SHARED, SHARED, SHARED, '', SHARED):
            contender = stack.enter_context(Contender(path, prepare))
            assert contender.said().startswith('parked')
            contenders.append(contender)
        *readers, writer, late_reader = contenders
        os.close(fd)
        for reader in readers:
            assert reader.said_at_last() == 'in'
        # All of them are in; the writer and who came after it are not
        assert len(tickets(path)) == 2
        for reader in readers:
            reader.go_on()
        assert writer.said_at_last() == 'in'
        assert is_in(writer, path)
        writer.go_on()
        assert late_reader.said_at_last() == 'in'


def test_tickets_are_gone_when_everybody_is_through(
    path: pathlib.Path, parked: threading.Semaphore
) -> None:
    with held(path) as fd:
        threads = [WaitingThread(path) for _ in range(3)]
        for _ in threads:
            assert parked.acquire(timeout=LONG)
        assert len(tickets(path)) == 3
        with pytest.raises(AlreadyLocked):
            portalocker.Lock(path, timeout=SHORT).acquire()
        assert len(tickets(path)) == 3
        os.close(fd)
    left = list(threads)
    while left:
        wait_until(lambda: any(t.lock.fh is not None for t in left))
        for thread in [t for t in left if t.lock.fh is not None]:
            thread.lock.release()
            thread.finish()
            left.remove(thread)
    assert _owner.lock_rows(str(path)) == ()
    assert path.read_bytes() == b''


# how much a waiter does


@pytest.mark.parametrize('has_company', [False, True])
def test_a_waiter_makes_a_handful_of_attempts(
    has_company: bool, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[Any] = []
    real = module.lock

    def lock(file: Any, flags: LockFlags) -> None:
        attempts.append(file)
        real(file, flags)

    with contextlib.ExitStack() as stack:
        stack.enter_context(held(path))
        if has_company:
            first = stack.enter_context(Contender(path))
            assert first.said() == 'parked on file'
        monkeypatch.setattr(module, 'lock', lock)
        with pytest.raises(AlreadyLocked):
            portalocker.Lock(path, timeout=1).acquire()
    assert 2 <= len(attempts) <= 12


def test_a_waiter_leaves_no_descriptor_behind(path: pathlib.Path) -> None:
    def wait_in_vain() -> None:
        with pytest.raises(AlreadyLocked):
            portalocker.Lock(path, timeout=SHORT).acquire()

    with held(path), Contender(path) as first:
        assert first.said() == 'parked on file'
        wait_in_vain()  # makes the inotify instance, which is kept
        before = sorted(os.listdir('/proc/self/fd'))
        for _ in range(3):
            wait_in_vain()
        assert sorted(os.listdir('/proc/self/fd')) == before


class Interrupted(Exception):
    """A signal came."""


def test_a_signal_ends_the_wait_and_leaves_nothing(
    path: pathlib.Path, parked: threading.Semaphore
) -> None:
    is_over = threading.Event()

    def interrupt() -> None:
        parked.acquire(timeout=LONG)
        # A signal just before the sleep would be noticed after it only
        while not is_over.wait(0.02):
            os.kill(os.getpid(), signal.SIGUSR1)

    def raise_once(number: int, frame: object) -> None:
        if not is_over.is_set():
            is_over.set()
            raise Interrupted

    before = len(os.listdir('/proc/self/fd'))
    usual = signal.signal(signal.SIGUSR1, raise_once)
    thread = threading.Thread(target=interrupt)
    try:
        with held(path):
            thread.start()
            with pytest.raises(Interrupted):
                portalocker.Lock(
                    path, timeout=LONG, check_interval=3600
                ).acquire()
            assert tickets(path) == []
    finally:
        is_over.set()
        thread.join(LONG)
        signal.signal(signal.SIGUSR1, usual)
    # the inotify instance may be new
    assert len(os.listdir('/proc/self/fd')) <= before + 1


def test_a_waiter_follows_the_file_that_replaces_the_one_it_waits_for(
    path: pathlib.Path,
) -> None:
    with portalocker.TemporaryFileLock(path), Contender(path) as first:
        assert first.said() == 'parked on file'
        with Contender(path) as second:
            assert second.said() == 'parked on predecessor'
            path.unlink()
            path.touch()
            # whoever is woken looks where the path leads now
            first.process.send_signal(signal.SIGKILL)
            assert second.said_at_last() == 'in'
            assert is_locked(path)


# where the best way is missing


def no_inotify(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_wakeup_inotify, 'process_instance', lambda: None)


def no_watches(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(28, 'no more watches')

    patch.setattr(_wakeup_inotify.Instance, 'watch_open_file', refuse)


def no_sockets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_wakeup_queue, '_listen', lambda address: None)
    patch.setattr(_wakeup_queue, '_connect', lambda address: None)


def no_new_sockets(patch: pytest.MonkeyPatch) -> None:
    def refuse() -> socket.socket:
        raise PermissionError('sockets are forbidden here')

    patch.setattr(_wakeup_queue, '_unix_socket', refuse)


def no_tickets(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_wakeup_queue, '_GET_LOCK', None)


def no_locality(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_wakeup_filesystem, '_file_system_type', lambda fd: b'nfs4')


def nothing(patch: pytest.MonkeyPatch) -> None:
    no_inotify(patch)
    no_sockets(patch)
    no_tickets(patch)


MISSING = [
    no_inotify,
    no_watches,
    no_sockets,
    no_new_sockets,
    no_tickets,
    no_locality,
    nothing,
]


@pytest.mark.usefixtures('fresh_rooms')
@pytest.mark.parametrize('missing', MISSING)
def test_without_the_best_way_everybody_gets_in_one_at_a_time(
    missing: Callable[[pytest.MonkeyPatch], None],
    path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing(monkeypatch)
    inside: list[int] = []
    most_inside = 0
    failures: list[BaseException] = []

    def contend(n: int) -> None:
        nonlocal most_inside
        try:
            for _ in range(5):
                with portalocker.Lock(path, timeout=LONG, check_interval=0.02):
                    inside.append(n)
                    most_inside = max(most_inside, len(inside))
                    inside.remove(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=contend, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    assert failures == []
    assert most_inside == 1
    assert _owner.lock_rows(str(path)) == ()


def enter_in_turn(
    path: pathlib.Path,
    parked: threading.Semaphore,
    look: Callable[[], object],
) -> list[int]:
    """Three wait; `look`; then they come in, in the order that is returned."""
    entered: list[int] = []

    def come_and_go(n: int) -> None:
        with portalocker.Lock(path, timeout=LONG, check_interval=3600):
            entered.append(n)

    with held(path) as fd:
        threads = []
        for n in range(3):
            thread = threading.Thread(target=come_and_go, args=(n,))
            thread.start()
            threads.append(thread)
            assert parked.acquire(timeout=LONG)
        look()
        os.close(fd)
        for thread in threads:
            thread.join(LONG / 2)
            assert not thread.is_alive(), 'it was not woken'
    return entered


@pytest.mark.usefixtures('fresh_rooms')
@pytest.mark.parametrize('missing', [no_sockets, no_new_sockets])
def test_without_sockets_the_line_is_kept_by_inotify_and_looks(
    missing: Callable[[pytest.MonkeyPatch], None],
    path: pathlib.Path,
    parked: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing(monkeypatch)
    order = enter_in_turn(path, parked, lambda: None)
    assert order == [0, 1, 2]


@pytest.mark.usefixtures('fresh_rooms')
@pytest.mark.parametrize('missing', [no_tickets])
def test_without_tickets_waiters_are_woken_in_any_order(
    missing: Callable[[pytest.MonkeyPatch], None],
    path: pathlib.Path,
    parked: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing(monkeypatch)

    def stands_in_no_line() -> None:
        assert tickets(path) == []

    entered = enter_in_turn(path, parked, stands_in_no_line)
    assert sorted(entered) == [0, 1, 2]


@pytest.mark.usefixtures('fresh_rooms')
@pytest.mark.parametrize('missing', [no_inotify, no_watches, no_locality])
def test_where_nothing_wakes_the_file_is_looked_at_again(
    missing: Callable[[pytest.MonkeyPatch], None],
    path: pathlib.Path,
    parked: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing(monkeypatch)
    with held(path) as fd:
        thread = WaitingThread(path, check_interval=0.02)
        assert parked.acquire(timeout=LONG)
        os.close(fd)
        thread.finish()
    thread.lock.release()


@pytest.mark.usefixtures('fresh_rooms')
def test_on_a_network_file_system_there_is_neither_line_nor_watch(
    path: pathlib.Path,
    parked: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_locality(monkeypatch)
    monkeypatch.setattr(
        _wakeup_inotify,
        'process_instance',
        lambda: pytest.fail('inotify does not hear of other hosts'),
    )
    with held(path) as fd:
        thread = WaitingThread(path, check_interval=0.02)
        assert parked.acquire(timeout=LONG)
        assert tickets(path) == []
        os.close(fd)
        thread.finish()
    thread.lock.release()


def test_a_record_lock_of_another_program_means_waiting_without_a_ticket(
    path: pathlib.Path, parked: threading.Semaphore
) -> None:
    with children.record_locker(path, 'fcntl.LOCK_EX'):
        with held(path) as fd:
            thread = WaitingThread(path)
            assert parked.acquire(timeout=LONG)
            assert tickets(path) == []
            os.close(fd)
            thread.finish()
        thread.lock.release()
        # nor does it keep a newcomer out
        portalocker.Lock(path, timeout=0).acquire().close()


def test_other_lockers_wait_without_tickets_and_are_woken(
    path: pathlib.Path,
    parked: threading.Semaphore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, 'LOCKER', module.OfdLocker)
    holder = portalocker.Lock(path)
    holder.acquire()
    thread = WaitingThread(path)
    assert parked.acquire(timeout=LONG)
    assert tickets(path) == []
    holder.release()
    thread.finish()
    thread.lock.release()


@pytest.mark.parametrize(
    'prepare',
    [
        '_wakeup_inotify.process_instance = lambda: None',
        '_wakeup_queue._listen = _wakeup_queue._connect = lambda a: None',
        '_wakeup_queue._GET_LOCK = None',
    ],
)
def test_processes_with_and_without_the_best_way_exclude_each_other(
    prepare: str, path: pathlib.Path
) -> None:
    prepare += "; options['check_interval'] = 0.02"
    with held(path) as fd, Contender(path, prepare) as odd:
        assert odd.said().startswith('parked')
        with Contender(path, "options['check_interval'] = 0.02") as usual:
            assert usual.said().startswith('parked')
            os.close(fd)
            wait_until(lambda: is_in(odd, path) or is_in(usual, path))
            first, second = (odd, usual) if is_in(odd, path) else (usual, odd)
            assert first.said_at_last() == 'in'
            assert not is_in(second, path)
            first.go_on()
            assert second.said_at_last() == 'in'
