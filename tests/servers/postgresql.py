"""A PostgreSQL server of our own, on a loopback port, until it is stopped."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any, Self

from servers.parent import die_with_parent
from servers.ports import free_port

LONG = 30.0  # seconds: only ever reached by a failure
#: where Debian keeps what it does not put on PATH
_DEBIAN = '/usr/lib/postgresql'
_OPTIONS = {
    'fsync': 'off',
    'full_page_writes': 'off',
    'max_connections': '120',
    'shared_buffers': '16MB',
    'deadlock_timeout': '100ms',
    'autovacuum': 'off',
    'log_min_messages': 'fatal',
}


class CannotStart(Exception):
    """There is no PostgreSQL here; the text says why."""


def programs() -> pathlib.Path:
    """The directory of `initdb` and `postgres`."""
    versions = pathlib.Path(_DEBIAN).glob('*/bin/postgres')
    found = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    on_path = shutil.which('postgres')
    if found is None and on_path is not None:
        found = pathlib.Path(on_path)
    if found is None or not (found.parent / 'initdb').exists():
        raise CannotStart(
            'install it with apt-get install postgresql, or put its bin '
            'directory on PATH'
        )
    return found.parent


def _account() -> dict[str, Any]:
    """Who runs the server, for `subprocess`: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ('postgres', 'nobody'):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {
                'user': found.pw_uid,
                'group': found.pw_gid,
                'extra_groups': [],
            }
    raise CannotStart('it does not run as root, and nobody else is here')


class Daemon:
    """A server process with a directory and a port of its own."""

    def __init__(self) -> None:
        self.account = _account()
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix='portalocker'))
        if self.account:
            os.chown(
                self.directory, self.account['user'], self.account['group']
            )
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *command: object) -> None:
        """Run one command to its end, as the server's user."""
        done = subprocess.run(
            list(map(str, command)),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=LONG,
            **self.account,
        )
        if done.returncode:
            raise CannotStart(f'{command[0]}: {done.stdout.decode()}')

    def spawn(self, *command: object) -> None:
        """Start the server; it ends with this process."""
        with open(self.directory / 'log', 'ab') as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509
                **self.account,
            )

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + LONG
        while not is_ready():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CannotStart(self.log())
            time.sleep(0.01)

    def log(self) -> str:
        """What the server wrote."""
        return (self.directory / 'log').read_text('utf-8', 'replace')

    def signal(self, number: int) -> None:
        """Send the server a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def end(self, number: int) -> None:
        """Stop the server and reap it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            try:
                self.process.wait(LONG)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    def remove(self) -> None:
        """Remove all that it wrote."""
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgreSQL(Daemon):
    """One PostgreSQL, with the role and the database `postgres`."""

    def __init__(self, **options: str) -> None:
        self.programs = programs()
        super().__init__()
        self._options = {**_OPTIONS, **options}
        self.data = self.directory / 'data'
        try:
            self.create()
            self.start()
        except BaseException:
            self.stop()
            raise
        self.version = self._version()

    def create(self) -> None:
        """Make its data directory."""
        self.run(
            self.programs / 'initdb', '-D', self.data, '-U', 'postgres',
            '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync',
        )  # fmt: skip

    def start(self) -> None:
        """Start it, on the same port as before."""
        settings = [
            word
            for name, value in self._options.items()
            for word in ('-c', f'{name}={value}')
        ]
        self.spawn(
            self.programs / 'postgres', '-D', self.data, '-p', self.port,
            # no socket of its own in the directory: its path may be too long
            '-h', '127.0.0.1', '-k', '', *settings,
        )  # fmt: skip
        self.wait_until(self._answers)

    def halt(self, number: int = signal.SIGQUIT) -> None:
        """Stop it so that it can start again; SIGQUIT is a crash."""
        self.end(number)

    def stop(self) -> None:
        """Stop it and remove all that it wrote."""
        self.end(signal.SIGQUIT)
        self.remove()

    @property
    def url(self) -> str:
        """Where it is, for libpq."""
        return self.url_at('127.0.0.1', self.port)

    @staticmethod
    def url_at(host: str, port: int) -> str:
        """The same through another port."""
        return f'postgresql://postgres@{host}:{port}/postgres'

    def connect(self, **options: Any) -> Any:
        """Open a connection of psycopg that commits each statement."""
        import psycopg

        return psycopg.connect(self.url, autocommit=True, **options)

    def _answers(self) -> bool:
        import psycopg

        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _version(self) -> str:
        with self.connect() as connection:
            row = connection.execute('SHOW server_version').fetchone()
        return str(row[0]).partition(' ')[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
