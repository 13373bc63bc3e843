"""Wait counters of a running process, for `python -m portalocker counters`.

>>> with show() as view:
...     isinstance(read(os.getpid()), dict)
True
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time

from .. import _after_fork, _this_process, wait_counters
from ._until_closed import UntilClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ['View', 'processes', 'read', 'show']

_LISTEN_SECONDS = 5.0
_PAUSE_SECONDS = 0.1
_LONGEST_ADDRESS = 107  # bytes of sun_path, see unix(7)


def _directory() -> str:
    """Where the sockets of this user are; nobody else may look inside."""
    if sys.platform == 'win32':
        raise OSError('cannot show counters: Python has no local sockets here')
    path = os.path.join(
        tempfile.gettempdir(), f'portalocker-counters-{os.getuid()}'
    )
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.stat(path, follow_symlinks=False)
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            f'cannot show counters: {path!r} is not a directory of ours alone'
        )
    return path


def _local_socket() -> socket.socket:
    if sys.platform == 'win32':
        raise OSError('cannot show counters: Python has no local sockets here')
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


@contextlib.contextmanager
def _address(path: str) -> Iterator[str]:
    """A name for the socket at `path` that is short enough, while it lasts."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS or sys.platform != 'linux':
        yield path
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f'/proc/self/fd/{fd}/{name}'
    finally:
        os.close(fd)


class View(UntilClosed):
    """Shows the counters of this process until `close()` or its end.

    Of several the last one that began is asked.
    """

    def __init__(self) -> None:
        self._path = os.path.join(_directory(), str(os.getpid()))
        self._birthplace = _this_process.here
        self._is_over = threading.Event()
        self._listener = _local_socket()
        _after_fork.forget_in_child(self)
        # Under another name until it listens: at its own it answers
        draft = f'{self._path}.{id(self)}'
        try:
            with _address(draft) as address:
                self._listener.bind(address)
            self._listener.listen()
            self._inode = os.stat(draft).st_ino
            os.rename(draft, self._path)
        except BaseException:
            self._listener.close()
            _remove(draft)
            raise
        self._thread = threading.Thread(
            target=self._serve, name='portalocker counters', daemon=True
        )
        self._thread.start()

    def _serve(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is over, or there is no descriptor left
                self._is_over.wait(_PAUSE_SECONDS)
                continue
            with connection:
                connection.settimeout(_LISTEN_SECONDS)
                try:
                    connection.sendall(_as_json())
                except OSError:  # whoever asked is gone
                    continue

    def close(self) -> None:
        """Show them no more, and wait for the thread to end."""
        if not self._birthplace.is_here:  # our parent shows them
            return
        self._is_over.set()
        try:
            if os.stat(self._path).st_ino == self._inode:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        # Wakes accept() in the other thread, which close() does not
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join()
        self._listener.close()

    def _forget_parent(self) -> None:
        self._listener.close()


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _as_json() -> bytes:
    readings = wait_counters.snapshot()
    return json.dumps(
        {name: waits.as_dict() for name, waits in readings.items()}
    ).encode()


def show() -> View:
    """Show the counters of this process to others of the same user.

    From a thread that sleeps until somebody asks. Raises `OSError` where the
    system has no local sockets, or the directory is not ours.
    """
    return View()


def processes() -> list[int]:
    """The processes of this user that show their counters.

    What those that died left behind is removed.
    """
    directory = _directory()
    found = []
    for name in filter(str.isdigit, os.listdir(directory)):
        path = os.path.join(directory, name)
        try:
            with _local_socket() as connection, _address(path) as address:
                connection.settimeout(0)
                connection.connect(address)
        except ConnectionRefusedError:  # nobody listens, and nobody will
            _remove(path)
        except FileNotFoundError:
            pass
        except OSError:  # it has no time at this moment
            found.append(int(name))
        else:
            found.append(int(name))
    return sorted(found)


def read(pid: int) -> dict[str, dict[str, Any]]:
    """The counters of a process that shows them, by name.

    Waits some seconds at most. Raises `OSError` where it shows none.
    """
    until = time.monotonic() + _LISTEN_SECONDS
    with _local_socket() as connection:
        connection.settimeout(_LISTEN_SECONDS)
        with _address(os.path.join(_directory(), str(pid))) as address:
            connection.connect(address)
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
            connection.settimeout(max(0.001, until - time.monotonic()))
    try:
        answer: dict[str, dict[str, Any]] = json.loads(b''.join(chunks))
    except ValueError as error:
        raise ConnectionError(
            f'cannot read the counters of process {pid}: it ended in the '
            'middle of its answer'
        ) from error
    return answer
