"""First come, first served: tickets in the kernel's own lock table."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import children
import pytest
from contenders import LONG, Contender

from portalocker import (
    _owner,
    _wakeup,
    _wakeup_filesystem,
    _wakeup_queue,
    constants,
)
from portalocker._wakeup_queue import Ticket, take_ticket

if sys.platform != 'linux':
    pytest.skip('tickets are of Linux', allow_module_level=True)

BASE = constants.TICKET_BASE


class Line:
    """Waiters for one file, each with a descriptor of its own."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.fds: list[int] = []
        self.tickets: list[Ticket] = []

    def open(self, flags: int = os.O_RDWR) -> int:
        self.fds.append(os.open(self.path, flags))
        return self.fds[-1]

    def take(
        self,
        arrival: int,
        flags: int = os.O_RDWR,
        *,
        is_shared: bool = False,
    ) -> Ticket:
        fd = self.open(flags)
        ticket = take_ticket(fd, os.fstat(fd), arrival, is_shared=is_shared)
        assert ticket is not None
        self.tickets.append(ticket)
        return ticket

    def end(self) -> None:
        for ticket in self.tickets:
            ticket.wake_successors()
            ticket.stop_following()
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def line(path: pathlib.Path) -> Iterator[Line]:
    line = Line(path)
    yield line
    line.end()


def refuse(number: int) -> Any:
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_ticket_is_the_time_of_arrival_and_changes_no_content(
    line: Line, path: pathlib.Path
) -> None:
    ticket = line.take(7)
    assert ticket.number == BASE + 7
    (row,) = _owner.lock_rows(str(path))
    assert row.is_ticket and row.start == BASE + 7
    assert path.read_bytes() == b''


def test_only_others_are_seen_to_wait(line: Line) -> None:
    newcomer = line.open()
    assert not _wakeup_queue.somebody_waits(newcomer)
    ticket = line.take(7)
    assert _wakeup_queue.somebody_waits(newcomer)
    assert not _wakeup_queue.somebody_waits(line.fds[1])
    ticket.drop()
    assert not _wakeup_queue.somebody_waits(newcomer)


@pytest.mark.parametrize('arrival', [0, 7])
def test_a_reader_that_asks_sees_writers_only(
    arrival: int, line: Line
) -> None:
    newcomer = line.open()
    assert not _wakeup_queue.some_writer_waits(newcomer)
    line.take(arrival + 1, is_shared=True)
    assert _wakeup_queue.somebody_waits(newcomer)
    assert not _wakeup_queue.some_writer_waits(newcomer)
    writer = line.take(arrival)
    assert _wakeup_queue.some_writer_waits(newcomer)
    writer.drop()
    assert not _wakeup_queue.some_writer_waits(newcomer)


def test_a_reader_in_line_sees_the_writers_before_it_only(line: Line) -> None:
    newcomer = line.open()

    def waits(before: int) -> bool:
        return _wakeup_queue.some_writer_waits(newcomer, BASE + before)

    assert not waits(before=0)
    line.take(10, is_shared=True)
    line.take(20)
    assert not waits(before=0)
    assert not waits(before=10)
    assert not waits(before=20)
    assert waits(before=21)
    assert waits(before=30)
    writer = line.take(0)
    assert not waits(before=0)
    assert waits(before=1)
    assert _wakeup_queue.somebody_waits(newcomer)
    writer.drop()
    assert not waits(before=1)


def test_the_ticket_of_the_first_moment_is_seen(line: Line) -> None:
    newcomer = line.open()
    first = line.take(0)
    assert _wakeup_queue.somebody_waits(newcomer)
    later = line.take(5)
    assert later.first_ahead() == first.number
    assert later.follow()


def test_tickets_and_flock_do_not_see_each_other(line: Line) -> None:
    line.take(7)
    fcntl.flock(line.open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    line.take(8)


def test_each_waiter_follows_the_one_just_before_it(line: Line) -> None:
    arrivals = [10, 11, 5_000_000, 5_000_001, 900_000_000_000, 10**15]
    tickets = [line.take(arrival) for arrival in arrivals]
    assert not tickets[0].follow()
    assert tickets[0].first_ahead() is None
    for before, ticket in itertools.pairwise(tickets):
        assert ticket._last_ahead() == before.number
        assert ticket.first_ahead() == BASE + 10
        assert ticket.follow()
        assert ticket.predecessor is not None
        before.wake_successors()
        assert ticket.outlive_predecessor(LONG)


def test_a_late_comer_with_an_early_ticket_is_before(line: Line) -> None:
    late = line.take(20)
    early = line.take(10)
    assert late.follow()
    assert not early.follow()


def test_following_lasts_until_the_predecessor_lets_go(line: Line) -> None:
    first, second = line.take(1), line.take(2)
    assert second.follow()
    assert second.follow()
    first.drop()  # it got in: who follows is not woken yet
    assert not second.outlive_predecessor(0)
    assert second.follow()
    first.wake_successors()
    assert second.outlive_predecessor(LONG)
    assert second.predecessor is None
    assert not second.follow()


def test_whoever_loses_its_predecessor_follows_the_next_one_ahead(
    line: Line,
) -> None:
    first, second, third = line.take(1), line.take(2), line.take(3)
    assert third.follow()
    second.drop()
    second.wake_successors()
    assert third.outlive_predecessor(LONG)
    assert third.follow()
    assert third.predecessor is not None
    first.drop()
    first.wake_successors()
    assert third.outlive_predecessor(LONG)
    assert not third.follow()


def test_the_ticket_of_a_killed_waiter_is_gone(
    line: Line, path: pathlib.Path
) -> None:
    holder = line.open()
    fcntl.flock(holder, fcntl.LOCK_EX)
    with Contender(path) as first:
        assert first.said() == 'parked on file'
        second = line.take((1 << 61) - 1)
        assert second.follow()
        assert second.predecessor is not None
        first.kill()
        assert second.outlive_predecessor(LONG)
        assert not second.follow()


def test_two_waiters_of_one_nanosecond_get_neighbouring_tickets(
    line: Line,
) -> None:
    tickets = [line.take(7) for _ in range(_wakeup_queue._TICKET_TRIES)]
    numbers = [BASE + 7 + n for n in range(_wakeup_queue._TICKET_TRIES)]
    assert [ticket.number for ticket in tickets] == numbers
    fd = line.open()
    assert take_ticket(fd, os.fstat(fd), 7) is None
    for before, ticket in itertools.pairwise(tickets):
        assert ticket._last_ahead() == before.number


def test_a_file_opened_for_reading_gets_a_ticket_too(line: Line) -> None:
    reader = line.take(7, os.O_RDONLY)
    assert reader.number == BASE + 7
    assert _wakeup_queue.somebody_waits(line.open())
    writer = line.take(8)
    assert writer.follow()


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EINVAL, errno.EIO])
def test_where_the_system_gives_no_ticket_there_is_none(
    number: int, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    before = len(os.listdir('/proc/self/fd'))
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, 'fcntl', refuse(number))
        assert take_ticket(fd, os.fstat(fd), 7) is None
        assert not _wakeup_queue.has_tickets(fd)
    assert len(os.listdir('/proc/self/fd')) == before
    assert _wakeup_queue.has_tickets(fd)


def test_elsewhere_there_are_no_tickets(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    spec = importlib.util.spec_from_file_location(
        'portalocker.wakeup_queue_elsewhere', _wakeup_queue.__file__
    )
    assert spec is not None and spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(sys, 'platform', 'darwin')
        spec.loader.exec_module(elsewhere)
        assert not elsewhere.has_tickets(fd)
    monkeypatch.setattr(_wakeup_queue, '_GET_LOCK', None)
    assert not _wakeup_queue.has_tickets(fd)


@pytest.mark.parametrize('words', ['fcntl.LOCK_EX', 'fcntl.LOCK_SH'])
def test_a_record_lock_over_the_whole_file_is_nobody_in_line(
    words: str, line: Line, path: pathlib.Path
) -> None:
    with children.record_locker(path, words):
        fd = line.open()
        assert not _wakeup_queue.somebody_waits(fd)
        assert not _wakeup_queue.some_writer_waits(fd)
        assert take_ticket(fd, os.fstat(fd), 7) is None
    ticket = line.take(7)
    assert not ticket.follow()


def test_a_reader_does_not_follow_a_record_lock_over_the_whole_file(
    line: Line, path: pathlib.Path
) -> None:
    with children.record_locker(path, 'fcntl.LOCK_SH'):
        reader = line.take(7, is_shared=True)
        assert reader.first_ahead() is None
        assert not reader.follow()


def test_a_record_lock_beside_the_tickets_does_not_stop_us(
    line: Line, path: pathlib.Path
) -> None:
    ticket = line.take(7)
    with children.record_locker(path, 'fcntl.LOCK_EX, 100, 0'):
        assert not ticket.follow()


def test_one_that_leaves_while_it_is_looked_for_is_before_nobody(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = line.take(1), line.take(10**15)
    real = _wakeup_queue._ticket_between

    def found_too_late(fd: int, start: int, end: int) -> int | None:
        found = real(fd, start, end)
        if found is not None:
            first.drop()
            first.wake_successors()
        return found

    monkeypatch.setattr(_wakeup_queue, '_ticket_between', found_too_late)
    assert second.follow()  # it was there when it was found
    assert second.predecessor is None
    assert not second.follow()


# where sockets are missing


def test_a_predecessor_that_cannot_be_reached_is_still_before_us(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = line.take(1), line.take(2)
    with monkeypatch.context() as patch:
        patch.setattr(_wakeup_queue, '_connect', lambda address: None)
        assert second.follow()
        assert second.predecessor is None
    first.drop()
    first.wake_successors()
    assert not second.follow()


def test_without_descriptors_there_is_a_ticket_without_a_listener(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(_wakeup_queue, '_unix_socket', refuse(errno.EMFILE))
        line.take(1)
        assert _wakeup_queue._connect(b'\0nobody') is None
    second = line.take(2)
    assert second.follow()
    assert second.predecessor is None


def test_an_address_that_is_taken_is_no_error(line: Line) -> None:
    status = os.stat(line.path)
    address = b'\0portalocker-%x-%x-%x' % (
        status.st_dev,
        status.st_ino,
        BASE + 1,
    )
    squatter = _wakeup_queue._listen(address)
    assert squatter is not None
    try:
        ticket = line.take(1)
        assert ticket.number == BASE + 1
        assert _wakeup_queue._listen(address) is None
    finally:
        squatter.close()
    assert _wakeup_queue._connect(address) is None


def test_more_followers_than_can_be_connected_wait_without(
    line: Line,
) -> None:
    first = line.take(1)
    second = line.take(2)
    assert second.follow()
    status = os.stat(line.path)
    address = b'\0portalocker-%x-%x-%x' % (
        status.st_dev,
        status.st_ino,
        first.number,
    )
    connections: list[Any] = []
    try:
        for _ in range(4 * _wakeup_queue._BACKLOG):
            connection = _wakeup_queue._connect(address)
            if connection is None:
                break
            connections.append(connection)
        else:
            pytest.fail('there is no limit')
        third = line.take(3)
        second.drop()
        second.wake_successors()
        assert third.follow()
        assert third.predecessor is None
    finally:
        for connection in connections:
            connection.close()


def test_sockets_are_not_inherited_by_programs(line: Line) -> None:
    line.take(1)
    second = line.take(2)
    assert second.follow()
    assert second.predecessor is not None
    for endpoint in (second.predecessor, second._listener):
        assert not os.get_inheritable(endpoint.fileno())


def test_dropping_a_ticket_of_a_closed_file_does_nothing(
    line: Line,
) -> None:
    ticket = line.take(1)
    os.close(line.fds.pop())
    ticket.drop()
    ticket._fd = -1  # as a closed file object has it
    ticket.drop()


def test_who_stops_following_has_no_predecessor(line: Line) -> None:
    _, second = line.take(1), line.take(2)
    assert second.follow()
    second.stop_following()
    assert second.predecessor is None
    assert second.follow()


def test_closing_a_ticket_twice_does_nothing(line: Line) -> None:
    ticket = line.take(1)
    ticket.wake_successors()
    ticket.wake_successors()


# which file systems


def test_local_is_what_this_kernel_alone_changes(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    for kind, is_local in (
        (b'ext4', True),
        (b'tmpfs', True),
        (b'nfs4', False),
        (b'fuse.sshfs', False),
        (None, False),
    ):
        monkeypatch.setattr(_wakeup_filesystem, '_locality', {})
        monkeypatch.setattr(
            _wakeup_filesystem, '_file_system_type', lambda fd, k=kind: k
        )
        assert _wakeup_filesystem.is_local(fd, 1) is is_local


def test_a_device_is_asked_about_once(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    asked: list[int] = []
    monkeypatch.setattr(_wakeup_filesystem, '_locality', {})
    monkeypatch.setattr(_wakeup_filesystem, '_file_system_type', asked.append)
    for device in (1, 2, 1, 2):
        _wakeup_filesystem.is_local(fd, device)
    assert asked == [fd, fd]


def test_the_type_of_the_mount_is_the_one_stat_tells(line: Line) -> None:
    found = _wakeup_filesystem._file_system_type(line.open())
    assert found is not None
    mounts = pathlib.Path('/proc/mounts').read_bytes().splitlines()
    assert found in [mount.split()[2] for mount in mounts] + [
        *_wakeup_filesystem._FILE_SYSTEM_NUMBERS.values()  # in a chroot
    ]
    proc = os.open('/proc/self/stat', os.O_RDONLY)
    line.fds.append(proc)
    assert _wakeup_filesystem._file_system_type(proc) == b'proc'


def test_where_the_mount_is_not_told_it_is_not_known(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    with monkeypatch.context() as patch:
        patch.setattr(sys, 'platform', 'freebsd14')
        assert _wakeup_filesystem._file_system_type(fd) is None
    monkeypatch.setattr(_wakeup_filesystem, '_field', lambda *args: b'none')
    monkeypatch.setattr(_wakeup_filesystem, '_FILE_SYSTEM_NUMBERS', {})
    assert _wakeup_filesystem._file_system_type(fd) is None


def test_a_chroot_that_is_no_mount_is_known_by_its_number(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    kinds = {_wakeup_filesystem._file_system_type(fd)}
    monkeypatch.setattr(_wakeup_filesystem, '_field', lambda *args: b'none')
    if kinds <= {b'ext2', b'ext3'}:  # they share their number
        kinds = {b'ext4'}
    if kinds <= {*_wakeup_filesystem._FILE_SYSTEM_NUMBERS.values()}:
        assert {_wakeup_filesystem._file_system_type(fd)} == kinds
    proc = os.open('/proc/self/stat', os.O_RDONLY)
    line.fds.append(proc)
    assert _wakeup_filesystem._file_system_type(proc) is None
    closed = os.dup(fd)
    os.close(closed)
    assert _wakeup_filesystem._file_system_type(closed) is None


def test_a_device_that_cannot_be_looked_up_now_is_asked_for_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = line.open()
    device = os.fstat(fd).st_dev
    monkeypatch.setattr(_wakeup_filesystem, '_locality', {})
    with monkeypatch.context() as patch:
        patch.setattr(_wakeup_filesystem, '_field', refuse(errno.EMFILE))
        assert not _wakeup_filesystem.is_local(fd, device)
    assert _wakeup_filesystem._locality == {}
    monkeypatch.setattr(_wakeup_filesystem, '_LOCAL_FILE_SYSTEMS', {None})
    monkeypatch.setattr(_wakeup_filesystem, '_FILE_SYSTEM_NUMBERS', {})
    monkeypatch.setattr(_wakeup_filesystem, '_field', lambda *args: b'none')
    assert _wakeup_filesystem.is_local(fd, device)


def test_a_field_that_is_not_there_is_none(path: pathlib.Path) -> None:
    path.write_bytes(b'pos:\t0\nmnt_id:\t29\n')
    assert _wakeup_filesystem._field(str(path), b'mnt_id:') == b'29'
    assert _wakeup_filesystem._field(str(path), b'ino:') is None


def test_whoever_follows_one_that_gave_up_does_not_pass_the_others(
    path: pathlib.Path,
) -> None:
    with contextlib.ExitStack() as stack:
        places = []
        for _ in range(3):
            file = stack.enter_context(open(path, 'a'))
            fd = file.fileno()
            place = _wakeup.Place(
                fd, os.fstat(fd), time.monotonic_ns(), is_ordered=True
            )
            stack.callback(place.leave)
            place.join()
            places.append(place)
        first, second, third = places
        assert first.may_try()
        second.leave()
        third.wait(0.01)
        assert not third.may_try()
        first.leave()
        third.wait(LONG)
        assert third.may_try()
