"""A file that is the lock: it is held by who made it, until it is removed.

For file systems whose locks do not work. The maker's record is written beside
and linked into place, so the marker appears whole or not at all. Whoever finds
the record of a dead maker takes its place: only one may, the one that makes
the claim file that is named after the dead one's token.
"""

from __future__ import annotations

import os
import time

from .holder import Holder


class Marker:
    """What a marker says of its maker; the fields are None if unreadable."""

    __slots__ = ('birth', 'host', 'pid', 'since', 'text', 'token')

    def __init__(self, text: str) -> None:
        self.text = text
        words = text.splitlines()
        self.pid = int(words[0]) if words and words[0].isdigit() else None
        self.host = words[1] if len(words) > 1 else None
        self.token = words[2] if len(words) > 2 else None
        self.birth = words[3] if len(words) > 3 else None
        self.since: float | None = None
        try:
            self.since = float(words[4])
        except (IndexError, ValueError):
            pass

    @property
    def holder(self) -> Holder | None:
        """Who made it, as it says."""
        if self.pid is None:
            return None
        return Holder(
            self.pid, f'on {self.host}', recorded=True, since=self.since
        )

    def is_of_the_dead(self) -> bool:
        """Whether its maker provably lives no more.

        Provable are only processes of this boot and process id namespace.
        """
        if self.pid is None or not self.birth or self.host != host_name():
            return False
        if self.birth.rpartition(' ')[0] != _world():
            return False
        return self.birth != birth_of(self.pid)


def host_name() -> str:
    """What this machine is called."""
    import socket

    return socket.gethostname()


def _world() -> str:
    """This boot, and this process id namespace; empty where unknown."""
    try:
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as fh:
            boot = fh.read().strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        return ''


def birth_of(pid: int) -> str:
    """A process for all time: its world and when it was started there."""
    world = _world()
    try:
        with open(f'/proc/{pid}/stat', encoding='latin-1') as fh:
            started = fh.read().rpartition(')')[2].split()[19]
    except OSError:
        started = 'none'
    return f'{world} {started}' if world else ''


def read(path: str) -> Marker | None:
    """The marker at `path`; None where there is none."""
    try:
        with open(path, encoding='utf-8', errors='replace') as fh:
            return Marker(fh.read(4096))
    except FileNotFoundError:
        return None


def make(path: str, mode: int | None) -> str | None:
    """Make the marker; gives its token, None where somebody else has one.

    The marker of a maker that is provably dead is replaced.
    """
    token = os.urandom(16).hex()
    beside = f'{path}.{token}'
    record = '\n'.join(
        (
            str(os.getpid()),
            host_name(),
            token,
            birth_of(os.getpid()),
            repr(time.time()),
            '',
        )
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_CLOEXEC', 0)
    fd = os.open(beside, flags, 0o666 if mode is None else mode)
    try:
        try:
            if mode is not None and hasattr(os, 'fchmod'):
                os.fchmod(fd, mode)
            os.write(fd, record.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        if _appear(beside, path) or _inherit(beside, path):
            return token
        return None
    finally:
        _remove(beside)


def _appear(beside: str, path: str) -> bool:
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError:
        # Over a network the answer may be lost while the link was made
        if os.stat(beside).st_nlink == 2:
            return True
        raise
    return True


def _inherit(beside: str, path: str) -> bool:
    """Take the place of a dead maker, if nobody else does."""
    found = read(path)
    if found is None or not found.is_of_the_dead():
        return False
    claim = f'{path}.{found.token}.claim'
    try:
        os.link(beside, claim)
    except FileExistsError:
        return False
    try:
        # Who claimed it before us may be done: then another one is there
        now = read(path)
        if now is None or now.text != found.text:
            return False
        os.replace(beside, path)
        return True
    finally:
        _remove(claim)


def remove(path: str, token: str) -> bool:
    """Remove our marker; False where it is not ours any more."""
    found = read(path)
    if found is None or found.token != token:
        return False
    return _remove(path)


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True
