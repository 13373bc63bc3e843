"""Wait counters of a running process, for `python -m portalocker counters`.

>>> with show() as view:
...     isinstance(read(os.getpid()), dict)
True
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading

from .. import _after_fork, wait_counters

TYPE_CHECKING = False
if TYPE_CHECKING:
    import types
    from typing import Any, Self

__all__ = ['View', 'processes', 'read', 'show']

_LISTEN_SECONDS = 5.0


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


class View:
    """Shows the counters of this process until `close()` or its end."""

    def __init__(self) -> None:
        self._path = os.path.join(_directory(), str(os.getpid()))
        self._listener = _local_socket()
        try:
            try:
                os.unlink(self._path)  # of a process with our number
            except FileNotFoundError:
                pass
            self._listener.bind(self._path)
            self._listener.listen()
        except BaseException:
            self._listener.close()
            raise
        _after_fork.forget_in_child(self)
        self._thread = threading.Thread(
            target=self._serve, name='portalocker counters', daemon=True
        )
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with connection:
                connection.settimeout(_LISTEN_SECONDS)
                try:
                    connection.sendall(_as_json())
                except OSError:  # whoever asked is gone
                    continue

    def close(self) -> None:
        """Show them no more, and wait for the thread to end."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        # Wakes accept() in the other thread, which close() does not
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._thread.join()

    def _forget_parent(self) -> None:
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()


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
    """The processes of this user that show their counters."""
    return sorted(
        int(name) for name in os.listdir(_directory()) if name.isdigit()
    )


def read(pid: int) -> dict[str, dict[str, Any]]:
    """The counters of a process that shows them, by name.

    Waits some seconds at most. Raises `OSError` where it shows none.
    """
    with _local_socket() as connection:
        connection.settimeout(_LISTEN_SECONDS)
        connection.connect(os.path.join(_directory(), str(pid)))
        chunks = []
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    answer: dict[str, dict[str, Any]] = json.loads(b''.join(chunks))
    return answer
