"""Who holds a lock and who waits for it, as the kernel's lock table says."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import children
import pytest
from states import wait_until

from portalocker import _owner, constants
from portalocker.holder import Holder

if sys.platform != 'linux':
    pytest.skip('only Linux shows its locks', allow_module_level=True)

import fcntl

from portalocker import _record_lock

LONG = 30.0  # seconds, reached by a failure only

START = """
import fcntl, os, struct, sys, time
fh = open(sys.argv[1], 'r+')
def record(kind, start, length=1):
    return struct.pack('hhqqi4x', kind, 0, start, length, 0)
"""
READY = "\nprint('in', flush=True)\nsys.stdin.read()\n"

FLOCK = 'fcntl.flock(fh, fcntl.LOCK_EX)'
FLOCK_SHARED = 'fcntl.flock(fh, fcntl.LOCK_SH)'
POSIX = 'fcntl.lockf(fh, fcntl.LOCK_EX)'
OFD = 'fcntl.fcntl(fh, fcntl.F_OFD_SETLK, record(fcntl.F_WRLCK, 0))'


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    lock_file = tmp_path / 'file.lock'
    lock_file.touch()
    return str(lock_file)


@contextlib.contextmanager
def process(action: str, path: str, *words: str) -> Iterator[int]:
    """A process that has done `action`; it ends with the block."""
    with children.program(START + action + READY, path, *words) as child:
        yield child.pid


@contextlib.contextmanager
def blocked_process(action: str, path: str) -> Iterator[int]:
    """A process that sleeps in the kernel's lock call; killed at the end."""
    child = subprocess.Popen([sys.executable, '-c', START + action, path])
    try:
        wait_until(lambda: any(r.blocked for r in _owner.lock_rows(path)))
        yield child.pid
    finally:
        child.kill()
        child.wait()


def ticket(path: str, arrival: int) -> int:
    """Stand in line as a waiter of this package does; the descriptor."""
    fd = os.open(path, os.O_RDWR)
    request = _record_lock.pack_range(
        fcntl.F_WRLCK, constants.TICKET_BASE + arrival, 1
    )
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    return fd


def pids(holders: tuple[Holder, ...]) -> list[int]:
    return [holder.pid for holder in holders]


@pytest.mark.parametrize('action', [FLOCK, POSIX])
def test_holder_is_named_with_its_command(path: str, action: str) -> None:
    with process(action, path, 'some words') as pid:
        (holder,) = _owner.holders_of(path)
    assert holder.pid == pid
    assert not holder.shared
    assert not holder.recorded
    assert holder.command is not None
    assert holder.command.startswith(sys.executable)


def test_nobody_holds_a_file_after_its_holder_ended(path: str) -> None:
    with process(FLOCK, path):
        pass
    assert _owner.holders_of(path, deep=True) == ()


def test_all_shared_holders_are_named_lowest_pid_first(path: str) -> None:
    with (
        process(FLOCK_SHARED, path) as one,
        process(FLOCK_SHARED, path) as two,
    ):
        holders = _owner.holders_of(path)
    assert pids(holders) == sorted([one, two])
    assert all(holder.shared for holder in holders)


def test_descriptor_and_path_give_the_same_answer(path: str) -> None:
    with process(FLOCK, path) as pid, open(path) as fh:
        assert pids(_owner.holders_of(fh.fileno())) == [pid]
        assert pids(_owner.holders_of(path)) == [pid]


def test_other_files_of_the_holder_do_not_count(
    path: str, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / 'other'
    other.touch()
    with process(FLOCK, path):
        assert _owner.holders_of(str(other), deep=True) == ()


def test_a_process_with_several_locks_is_named_once(path: str) -> None:
    three = f'{FLOCK}\nfcntl.lockf(fh, 2, 1)\nfcntl.lockf(fh, 2, 1, 5)'
    with process(three, path) as pid:
        assert len(_owner.lock_rows(path)) == 3
        assert pids(_owner.holders_of(path)) == [pid]


def test_holder_of_an_open_file_lock_is_found_by_a_deep_look(
    path: str,
) -> None:
    with process(OFD, path) as pid:
        assert _owner.holders_of(path) == ()
        assert any(row.is_held for row in _owner.lock_rows(path))
        assert pids(_owner.holders_of(path, deep=True)) == [pid]


def test_child_that_keeps_the_lock_of_its_dead_parent_is_found(
    path: str,
) -> None:
    """The lock belongs to the open file; its taker is gone."""
    program = f"""{START}{FLOCK}
child = os.fork()
if child:
    print(child, flush=True)
    os._exit(0)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, '-c', program, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as taker:
        assert taker.stdin is not None
        assert taker.stdout is not None
        child = int(taker.stdout.readline())
        taker.wait()
        assert _owner.holders_of(path) == ()
        assert pids(_owner.holders_of(path, deep=True)) == [child]
        taker.stdin.close()
        taker.stdout.read()  # ends with the child


def test_waiters_are_listed_in_the_order_of_their_arrival(path: str) -> None:
    now = time.monotonic_ns()
    fds = [ticket(path, now - seconds * 10**9) for seconds in (5, 9, 1)]
    waiters = _owner.waiters_of(path)
    for fd in fds:
        os.close(fd)
    seconds = [waiter.waiting or 0 for waiter in waiters]
    assert seconds[0] >= 9
    assert [seconds[0] - n for n in seconds] == pytest.approx([0, 4, 8])
    assert {(waiter.pid, waiter.command) for waiter in waiters} == {
        (None, None)
    }


def test_waiters_in_the_kernel_come_after_those_in_line() -> None:
    def row(start: int, *, blocked: bool) -> _owner.LockRow:
        return _owner.LockRow(
            'OFDLCK', pid=None, shared=False, start=start, blocked=blocked
        )

    base = constants.TICKET_BASE
    rows = [row(7, blocked=True), row(base, blocked=False)]
    rows += [row(3, blocked=True), row(5, blocked=False)]
    waiting = [waiter.waiting for waiter in _owner.waiters_in(rows)]
    assert waiting[0] is not None
    assert waiting[1:] == [None, None]


def test_waiter_with_a_ticket_is_no_holder(path: str) -> None:
    fd = ticket(path, time.monotonic_ns())
    assert _owner.holders_of(path, deep=True) == ()
    (waiter,) = _owner.waiters_of(path, deep=True)
    assert waiter.pid == os.getpid()
    os.close(fd)
    assert _owner.waiters_of(path, deep=True) == ()


def test_record_lock_among_the_tickets_holds_nothing(path: str) -> None:
    action = f'fcntl.lockf(fh, fcntl.LOCK_EX, 1, {constants.TICKET_BASE})'
    with process(action, path):
        assert len(_owner.lock_rows(path)) == 1
        assert _owner.holders_of(path) == ()
        assert _owner.waiters_of(path) == ()


def test_arrival_in_the_future_is_no_negative_wait(path: str) -> None:
    fd = ticket(path, time.monotonic_ns() + 10**12)
    (waiter,) = _owner.waiters_of(path)
    os.close(fd)
    assert waiter.waiting == 0


@pytest.mark.parametrize(
    ('holding', 'waiting', 'shared'),
    [(FLOCK, FLOCK_SHARED, True), (POSIX, POSIX, False)],
)
def test_process_that_sleeps_in_the_kernel_is_a_waiter(
    path: str, holding: str, waiting: str, shared: bool
) -> None:
    with (
        process(holding, path) as holder,
        blocked_process(waiting, path) as pid,
    ):
        (waiter,) = _owner.waiters_of(path)
        assert pids(_owner.holders_of(path)) == [holder]
    assert waiter.pid == pid
    assert waiter.shared is shared
    assert waiter.waiting is None
    assert waiter.command is not None


def test_looking_drops_no_record_lock_of_this_process(path: str) -> None:
    with open(path, 'r+') as fh:
        fcntl.lockf(fh, fcntl.LOCK_EX)
        for _ in range(2):
            holders = _owner.holders_of(path, deep=True)
            assert pids(holders) == [os.getpid()]


def test_looking_wakes_nobody_who_watches_the_file(path: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert inotify >= 0
    try:
        every_event = 0xFFF
        assert libc.inotify_add_watch(inotify, path.encode(), every_event) > 0
        assert _owner.lock_rows(path, deep=True) == ()
        with pytest.raises(BlockingIOError):
            os.read(inotify, 4096)
        with open(path):
            pass
        assert os.read(inotify, 4096)
    finally:
        os.close(inotify)


def test_a_process_that_vanished_has_no_command() -> None:
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    row = _owner.LockRow(
        'FLOCK', pid=child.pid, shared=False, start=0, blocked=False
    )
    assert _owner.holders_in([row]) == (Holder(child.pid, None),)


def test_control_characters_of_a_command_are_escaped(path: str) -> None:
    program = 'import sys; print(flush=True); sys.stdin.read()'
    with subprocess.Popen(
        [sys.executable, '-c', program, 'a\nb\x1b[31m\u202e'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        command = _owner._command_of(child.pid)
        child.stdin.close()
    assert command is not None
    assert command.endswith(r'a\nb\x1b[31m\u202e')


def test_long_command_is_cut(path: str) -> None:
    with process(FLOCK, path, 'x' * 5000):
        (holder,) = _owner.holders_of(path)
    assert holder.command is not None
    assert holder.command.endswith('...')
    # what is cut may hold line ends, which are escaped after the cut
    assert len(holder.command) <= 2 * 200


@pytest.mark.parametrize(
    'strange', [-1, 10**6, 'no/such/file', 'a\0b', '', '\udcff']
)
def test_what_cannot_be_looked_at_has_no_holders(strange: int | str) -> None:
    assert _owner.holders_of(strange) == ()
    assert _owner.waiters_of(strange, deep=True) == ()
    assert not os.path.exists('no')


@pytest.mark.parametrize(
    'hidden', ['/proc/locks', '/proc/self/mountinfo', '/proc/self/fdinfo/']
)
def test_no_holders_where_proc_is_forbidden(
    path: str, monkeypatch: pytest.MonkeyPatch, hidden: str
) -> None:
    read = _owner._read_proc

    def forbid(name: str) -> bytes:
        if name.startswith(hidden):
            raise PermissionError(13, 'Permission denied', name)
        return read(name)

    with process(FLOCK, path):
        assert _owner.holders_of(path)
        monkeypatch.setattr(_owner, '_read_proc', forbid)
        assert _owner.holders_of(path) == ()


def test_other_processes_that_hide_are_skipped(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listdir = os.listdir

    def hide(name: str) -> list[str]:
        if name.endswith('/fdinfo'):
            raise PermissionError(13, 'Permission denied', name)
        return listdir(name)

    with process(OFD, path):
        monkeypatch.setattr(os, 'listdir', hide)
        assert _owner.holders_of(path, deep=True) == ()
        (row,) = _owner.lock_rows(path, deep=True)
    assert row.is_held
    assert row.pid is None


def test_the_device_is_that_of_the_mount(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems tell stat() another device."""
    texts = {
        '/proc/locks': b'1: FLOCK  ADVISORY  READ 1 00:2a:99 0 EOF\n'
        b'2: FLOCK  ADVISORY  WRITE 1 00:2c:99 0 EOF\n',
        '/proc/self/mountinfo': b'1 0 0:44 / / rw - a a rw\n'
        b'31 0 0:42 / /mnt rw - overlay overlay rw\n',
    }
    fdinfo = b'pos:\t0\nflags:\t02100000\nmnt_id:\t31\nino:\t99\n'
    monkeypatch.setattr(
        _owner, '_read_proc', lambda name: texts.get(name, fdinfo)
    )
    assert [row.shared for row in _owner.lock_rows(path)] == [True]


@pytest.mark.parametrize(
    'line',
    [
        b'1: LEASE  ACTIVE    READ 7 fe:00:99 0 EOF',
        b'1: DELEG  ACTIVE    READ 7 fe:00:99 0 EOF',
        b'1: FLOCK  ADVISORY  WRITE 7 <none>:0 0 EOF',
        b'1: FLOCK',
        b'1:',
        b'',
    ],
)
def test_what_is_no_lock_is_no_row(line: bytes) -> None:
    row = _owner._parse_lock_line(line)
    assert row is None or not list(_owner._rows_in(line, b' fe:00:99 '))


def test_lock_line_is_read_as_the_kernel_writes_it() -> None:
    row = _owner._parse_lock_line(
        b'12:   -> POSIX  ADVISORY  READ  17 fe:00:42 5 100'
    )
    assert row is not None
    assert (row.kind, row.pid, row.start) == ('POSIX', 17, 5)
    assert row.shared
    assert row.blocked


@pytest.mark.parametrize('number', [0, -1])
def test_unknown_process_has_no_number(number: int) -> None:
    row = _owner._parse_lock_line(
        b'1: OFDLCK ADVISORY  WRITE %d fe:00:42 0 EOF' % number
    )
    assert row is not None
    assert row.pid is None


def test_killed_waiter_is_out_of_the_line(path: str) -> None:
    action = (
        'fcntl.fcntl(fh, fcntl.F_OFD_SETLK, record(fcntl.F_WRLCK, '
        f'{constants.TICKET_BASE} + time.monotonic_ns()))'
    )
    with process(action, path) as pid:
        assert [w.pid for w in _owner.waiters_of(path, deep=True)] == [pid]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _owner.waiters_of(path))


def test_waiter_tells_what_is_known() -> None:
    text = str(_owner.Waiter(12, 'make', waiting=2.5))
    assert text == 'pid 12 (make), waiting for 2.5 s'
    assert str(_owner.Waiter(None)) == 'unknown process'
