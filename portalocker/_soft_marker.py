"""A file that is the lock: it is held by who made it, until it is removed.

For file systems whose locks do not work. The maker's record is written beside
and linked into place, so the marker appears whole or not at all; where there
are no links it is made in place, and a maker that dies meanwhile leaves one
that nobody understands. Whoever finds the record of a dead maker takes its
place: only one may, the one that makes the claim file that is named after the
dead one's token.
"""

from __future__ import annotations

import errno
import os
import time

from . import _signal_handlers
from .holder import Holder

_LINES = 5
_LONGEST = 4096
# A link leads elsewhere, a FIFO makes who opens it wait
_UNTRUSTED = getattr(os, 'O_NOFOLLOW', 0) | getattr(os, 'O_NONBLOCK', 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, 'O_CLOEXEC', 0)
# Of a file system without links
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP)


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
        # What is being written may be cut short
        if len(self.text.splitlines(keepends=True)) < _LINES or (
            not self.text.endswith('\n')
        ):
            return False
        if self.pid is None or not self.birth or self.host != host_name():
            return False
        if not self.token or not self.token.isalnum():  # it names a file
            return False
        if self.birth.rpartition(' ')[0] != _world():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # it is not ours
            pass
        # Its number may have passed to another process, if we may look
        found = birth_of(self.pid)
        return bool(found) and found != self.birth


def host_name() -> str:
    """What this machine is called."""
    import socket

    return socket.gethostname()


def _world() -> str:
    """This boot, and the namespaces of our process id and of the clock.

    Empty where /proc is missing, or shows another namespace.
    """
    try:
        if os.readlink('/proc/self') != str(os.getpid()):
            return ''
        with open('/proc/sys/kernel/random/boot_id', encoding='ascii') as fh:
            boot = fh.read().strip()
        return f'{boot} {_namespace("pid")} {_namespace("time")}'
    except OSError:
        return ''


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f'/proc/self/ns/{kind}')
    except FileNotFoundError:  # an old kernel
        return kind


def birth_of(pid: int) -> str:
    """A process for all time: its world and when it was started there.

    Empty where that is not known.
    """
    world = _world()
    try:
        with open(f'/proc/{pid}/stat', 'rb') as fh:
            started = fh.read().rpartition(b')')[2].split()[19].decode()
    except (OSError, IndexError):
        return ''
    return world and f'{world} {started}'


def read(path: str) -> Marker | None:
    """The marker at `path`; None where there is none."""
    try:
        with open(
            path, encoding='utf-8', errors='replace', opener=_look
        ) as fh:
            return Marker(fh.read(_LONGEST))
    except FileNotFoundError:
        return None
    except OSError as error:
        # Somebody has it, who hides it from us or made something else
        if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):
            return Marker('')
        raise


def _look(path: str, flags: int) -> int:
    return _signal_handlers.open_kept(path, flags | _UNTRUSTED)


def make(path: str, mode: int | None, token: str) -> bool:
    """Make the marker, with this token; False where somebody else has one.

    The marker of a maker that is provably dead is replaced. Whatever is
    raised, there is none of ours.
    """
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
    written = record.encode()
    try:
        try:
            _write_new(beside, written, mode)
            return _appear(beside, path, written, mode) or _inherit(
                beside, path
            )
        finally:
            _remove(beside)
    except BaseException:
        remove(path, token)
        _remove(beside)  # a signal handler may have been faster
        raise


def _write_new(path: str, written: bytes, mode: int | None) -> None:
    fd = _signal_handlers.open_kept(
        path, _NEW, 0o666 if mode is None else mode
    )
    try:
        if mode is not None and hasattr(os, 'fchmod'):
            os.fchmod(fd, mode)
        os.write(fd, written)
    except BaseException:
        _remove(path)
        raise
    finally:
        os.close(fd)


def _appear(beside: str, path: str, written: bytes, mode: int | None) -> bool:
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError as error:
        # Over a network the answer may be lost while the link was made
        if os.stat(beside).st_nlink == 2:
            return True
        if error.errno not in _NO_LINKS:
            raise
        try:
            _write_new(path, written, mode)
        except FileExistsError:
            return False
    return True


def _inherit(beside: str, path: str) -> bool:
    """Take the place of a dead maker, if nobody else does."""
    found = read(path)
    if found is None or not found.is_of_the_dead():
        return False
    # A lock like this one: who dies with the claim is inherited from as well
    claim = os.path.join(os.path.dirname(path), f'.{found.token}.claim')
    token = os.urandom(16).hex()
    if not make(claim, None, token):
        return False
    try:
        # Who claimed it before us may be done: then another one is there
        now = read(path)
        if now is None or now.text != found.text:
            return False
        os.replace(beside, path)
        return True
    finally:
        remove(claim, token)


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
