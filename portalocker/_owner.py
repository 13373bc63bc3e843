"""Who holds the locks of a file and who waits for them, as Linux tells.

Read from /proc only: `/proc/locks` lists every granted and every blocked lock
with the device and the inode of its file, `/proc/PID/fdinfo` the locks of one
descriptor (see proc_locks(5) and proc_pid_fdinfo(5)). The lock file itself is
never opened for reading or writing: closing it would drop the record locks
of this process and wake every waiter.

Other systems do not tell; there, and where /proc is missing or forbidden,
every answer is empty.
"""

from __future__ import annotations

import os
import sys
import time

from . import _signal_handlers, constants
from .holder import Holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: what a command line is cut to, in characters
_COMMAND_LENGTH = 200

#: FLOCK, record locks of a process, record locks of an open file; leases are
#: no locks
_LISTED_KINDS = frozenset(('FLOCK', 'POSIX', 'OFDLCK'))

#: PROC_PID_INIT_INO, see pid_namespaces(7)
_FIRST_PID_NAMESPACE = 'pid:[4026531836]'

#: a position before that, in seconds since the epoch, is no stamp
_OLDEST_STAMP = 1_700_000_000


class Waiter:
    """A process that waits for a lock.

    `pid`
        its process id, or None where the system does not tell.
    `command`
        its command line as one string, or None where it cannot be read.
    `waiting`
        seconds it has been waiting, or None where that is not known.
    `shared`
        whether it wants a shared lock, or None where that is not known.

    >>> print(Waiter(4122, 'python worker.py', waiting=1.25))
    pid 4122 (python worker.py), waiting for 1.25 s
    """

    __slots__ = ('command', 'pid', 'shared', 'waiting')

    def __init__(
        self,
        pid: int | None,
        command: str | None = None,
        *,
        waiting: float | None = None,
        shared: bool | None = None,
    ) -> None:
        self.pid = pid
        self.command = command
        self.waiting = waiting
        self.shared = shared

    def __str__(self) -> str:
        text = 'unknown process' if self.pid is None else f'pid {self.pid}'
        if self.command:
            text += f' ({self.command})'
        if self.waiting is not None:
            text += f', waiting for {self.waiting:.3g} s'
        return text

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({self.pid}, {self.command!r}, '
            f'waiting={self.waiting}, shared={self.shared})'
        )


class LockRow:
    """One line of the kernel's lock table.

    `kind` is `'FLOCK'`, `'POSIX'` or `'OFDLCK'`; `pid` is None where the
    table does not name the process; `start` is the first byte that is locked;
    `blocked` tells a request that sleeps in the kernel from a granted lock.
    """

    __slots__ = ('blocked', 'kind', 'pid', 'shared', 'start')

    def __init__(
        self,
        kind: str,
        *,
        pid: int | None,
        shared: bool,
        start: int,
        blocked: bool,
    ) -> None:
        self.kind = kind
        self.pid = pid
        self.shared = shared
        self.start = start
        self.blocked = blocked

    @property
    def is_ticket(self) -> bool:
        """Whether this is how a waiter of this package stands in line."""
        return self.kind == 'OFDLCK' and self.start >= constants.TICKET_BASE

    @property
    def is_held(self) -> bool:
        """Whether this lock keeps others out."""
        return not self.blocked and self.start < constants.TICKET_BASE

    def without_pid(self) -> tuple[str, bool, int, bool]:
        """Everything but the process, to compare two sources."""
        return self.kind, self.shared, self.start, self.blocked


def holders_of(
    fd_or_path: int | str, *, deep: bool = False
) -> tuple[Holder, ...]:
    """Return the processes that hold a lock on a file, lowest pid first.

    Counts flock, POSIX record locks and OFD locks; a process is named once.
    A lock whose process the system does not name (an OFD lock, a lock whose
    taker died after a fork, a process of another container) is left out
    unless `deep` is true: then the descriptors of all processes that we may
    look into are searched, which takes milliseconds to seconds.

    Never raises and never waits for a lock. Empty where the system does not
    tell. The answer may be outdated when it arrives.

    >>> holders_of('/no/such/file')
    ()
    """
    return holders_in(lock_rows(fd_or_path, deep=deep))


def waiters_of(
    fd_or_path: int | str, *, deep: bool = False
) -> tuple[Waiter, ...]:
    """Return who waits for a lock on a file.

    First the waiters of this package in the order they arrived, then those
    that sleep in the kernel. The system does not name the first kind: their
    pid is None unless `deep` is true (see `holders_of`).

    Never raises and never waits for a lock.

    >>> waiters_of('/no/such/file')
    ()
    """
    return waiters_in(lock_rows(fd_or_path, deep=deep))


def holders_in(rows: Iterable[LockRow]) -> tuple[Holder, ...]:
    """Return the processes that hold a lock according to `rows`."""
    shared_of: dict[int, bool] = {}
    for row in rows:
        if row.is_held and row.pid is not None:
            shared_of[row.pid] = shared_of.get(row.pid, True) and row.shared
    return tuple(
        Holder(pid, _command_of(pid), shared=shared_of[pid])
        for pid in sorted(shared_of)
    )


def waiters_in(rows: Iterable[LockRow]) -> tuple[Waiter, ...]:
    """Return who waits according to `rows`, first come first."""
    waiting = [row for row in rows if row.blocked or row.is_ticket]
    # blocked requests carry no time of arrival: they keep the kernel's order
    waiting.sort(
        key=lambda row: (row.blocked, 0 if row.blocked else row.start)
    )
    now = time.monotonic_ns()
    return tuple(_as_waiter(row, now) for row in waiting)


def lock_rows(
    fd_or_path: int | str, *, deep: bool = False
) -> tuple[LockRow, ...]:
    """Return the lines of the kernel's lock table for one file.

    Takes what `holders_of` takes and promises what it promises.
    """
    if sys.platform != 'linux':
        return ()
    try:
        inode_mark = _inode_mark(fd_or_path)
        listed = list(_rows_in(_read_proc('/proc/locks'), inode_mark))
        for row in listed:
            # flock names who took the lock; a child may have inherited it
            if row.pid is not None and not _exists(row.pid):
                row.pid = None
        if not deep:
            return tuple(listed)
        found = list(_rows_of_descriptors(inode_mark))
    except (OSError, ValueError):
        return ()
    return tuple(_named_by(found, listed))


def stamp(fd: int) -> None:
    """Leave at a lock that was just taken since when it is held.

    The time is the position of its descriptor, in milliseconds, which the
    system tells of every descriptor. Nothing is written, but whoever writes
    through it has to go to the beginning first.
    """
    try:
        os.lseek(fd, int(time.time() * 1000), os.SEEK_SET)
    except OSError:  # the file system has no such positions
        pass


def since_when(holder: Holder, path: str) -> Holder:
    """The holder, with the time since when, where it was stamped.

    Never raises; looks at every descriptor of that process.
    """
    if sys.platform != 'linux':
        return holder
    try:
        inode_mark = _inode_mark(path)
        texts = list(_descriptor_texts(f'/proc/{holder.pid}/fdinfo'))
    except (OSError, ValueError):
        return holder
    now = time.time()
    for text in texts:
        if any(row.is_held for row in _rows_in(text, inode_mark)):
            position = int(text.split(None, 2)[1])
            if _OLDEST_STAMP <= position / 1000 <= now + 1:
                holder.since = position / 1000
    return holder


def can_tell() -> bool:
    """Return whether this system shows its locks; an empty answer may lie."""
    return sys.platform == 'linux' and os.access('/proc/locks', os.R_OK)


def shows_all() -> bool:
    """Whether the lock table leaves nobody out.

    It does not show what processes outside of our PID namespace hold; only
    the first namespace of the system has nothing outside.
    """
    try:
        return os.readlink('/proc/self/ns/pid') == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def named_in_its_file(pid: int) -> Holder:
    """Who holds what the table does not list, according to a pid file."""
    is_elsewhere = can_tell() and not shows_all()
    return Holder(pid, recorded=True, elsewhere=is_elsewhere)


def _exists(pid: int) -> bool:
    """Whether there is such a process, ours or not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is not ours
        pass
    return True


def _as_waiter(row: LockRow, now: int) -> Waiter:
    """A row of the lock table as a waiter; `now` in monotonic ns."""
    command = None if row.pid is None else _command_of(row.pid)
    if row.blocked:
        return Waiter(row.pid, command, shared=row.shared)
    arrival = row.start - constants.TICKET_BASE
    return Waiter(row.pid, command, waiting=max(0, now - arrival) / 1e9)


def _named_by(
    found: list[LockRow], listed: list[LockRow]
) -> Iterator[LockRow]:
    """The listed rows, those without a process replaced by found ones."""
    known = {(row.pid, row.without_pid()) for row in listed}
    found_anywhere = {row.without_pid() for row in found}
    for row in listed:
        if row.pid or row.without_pid() not in found_anywhere:
            yield row
    for row in found:
        if (row.pid, row.without_pid()) not in known:
            known.add((row.pid, row.without_pid()))
            yield row


def _rows_of_descriptors(inode_mark: bytes) -> Iterator[LockRow]:
    """The locks of every descriptor of every process we may look into."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        for text in _descriptor_texts(f'/proc/{pid}/fdinfo'):
            if inode_mark in text:
                for row in _rows_in(text, inode_mark):
                    row.pid = int(pid)
                    yield row


def _descriptor_texts(directory: str) -> Iterator[bytes]:
    """What the system tells of each descriptor of a process that lives."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        try:
            yield _read_proc(f'{directory}/{name}')
        except OSError:
            continue  # closed meanwhile, or none of our business


def _rows_in(text: bytes, inode_mark: bytes) -> Iterator[LockRow]:
    """The locks in a text of /proc that carry this device and inode."""
    for line in text.splitlines():
        if inode_mark in line:
            row = _parse_lock_line(line.removeprefix(b'lock:'))
            if row is not None:
                yield row


def _parse_lock_line(line: bytes) -> LockRow | None:
    """Read `4: -> FLOCK  ADVISORY  WRITE 17 fe:00:42 0 EOF`; see proc(5)."""
    words = line.decode('ascii', 'replace').split()[1:]
    blocked = words[:1] == ['->']
    if blocked:
        del words[0]
    if len(words) != 7 or words[0] not in _LISTED_KINDS:
        return None
    pid = int(words[3])
    return LockRow(
        words[0],
        # 0 and -1: not known, not named, or not in our pid namespace
        pid=pid if pid > 0 else None,
        shared=words[2] == 'READ',
        start=int(words[5]),
        blocked=blocked,
    )


def _inode_mark(fd_or_path: int | str) -> bytes:
    """The ` device:inode ` by which the lock table knows a file."""
    if sys.platform != 'linux':
        raise OSError('cannot read the lock table: only Linux has one')
    if isinstance(fd_or_path, int):
        return _mark_of_descriptor(fd_or_path)
    # closing an O_PATH descriptor drops no lock and wakes no waiter
    fd = _signal_handlers.open_kept(fd_or_path, os.O_PATH)
    try:
        return _mark_of_descriptor(fd)
    finally:
        os.close(fd)


def _mark_of_descriptor(fd: int) -> bytes:
    """Like `_inode_mark`, of an open file."""
    status = os.fstat(fd)
    # btrfs and overlayfs show stat() another device, and sometimes another
    # inode, than the lock table
    fields = {
        line.partition(b':')[0]: line.partition(b':')[2]
        for line in _read_proc(f'/proc/self/fdinfo/{fd}').splitlines()
    }
    inode = int(fields.get(b'ino', status.st_ino))
    mount_id = fields.get(b'mnt_id', b'').strip()
    major, minor = _device_of_mount(mount_id) or _device_of(status)
    return f' {major:02x}:{minor:02x}:{inode} '.encode()


def _device_of(status: os.stat_result) -> tuple[int, int]:
    """Major and minor of the device that stat() told."""
    if sys.platform == 'win32':
        raise OSError('cannot take a device apart: Windows has none')
    return os.major(status.st_dev), os.minor(status.st_dev)


def _device_of_mount(mount_id: bytes) -> tuple[int, int] | None:
    """Major and minor of a mount; None where it is not in our namespace."""
    for line in _read_proc('/proc/self/mountinfo').splitlines():
        words = line.split(b' ', 3)
        if words[0] == mount_id:
            major, _, minor = words[2].partition(b':')
            return int(major), int(minor)
    return None


def _command_of(pid: int) -> str | None:
    """The command line of a process on one line, or None."""
    try:
        words = _read_proc(f'/proc/{pid}/cmdline')
    except OSError:
        return None
    line = words.rstrip(b'\0').replace(b'\0', b' ')
    text = line.decode('utf-8', 'surrogateescape')
    if len(text) > _COMMAND_LENGTH:
        text = text[: _COMMAND_LENGTH - 3] + '...'
    return ''.join(map(printable, text)) or None


def printable(character: str) -> str:
    """Return a character as it is, or escaped where it may do harm.

    >>> printable('a'), len(printable(chr(27)))
    ('a', 4)
    """
    return character if character.isprintable() else ascii(character)[1:-1]


def _read_proc(path: str) -> bytes:
    """The content of a file of the system."""
    with open(path, 'rb') as fh:
        return fh.read()
