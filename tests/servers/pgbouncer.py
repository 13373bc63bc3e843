"""A PgBouncer of our own, in front of a PostgreSQL."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from typing import Self

from servers.postgresql import CannotStart, Daemon, PostgreSQL


class PgBouncer(Daemon):
    """A pooler that lends each `transaction`, or `session`, a connection."""

    def __init__(self, server: PostgreSQL, pool_mode: str) -> None:
        program = shutil.which('pgbouncer', path=os.defpath + ':/usr/sbin')
        if program is None:
            raise CannotStart('install it with apt-get install pgbouncer')
        super().__init__()
        lines = [
            '[databases]',
            f'* = host=127.0.0.1 port={server.port} user=postgres',
            '[pgbouncer]',
            'listen_addr = 127.0.0.1',
            f'listen_port = {self.port}',
            'unix_socket_dir =',
            'auth_type = any',
            f'pool_mode = {pool_mode}',
        ]
        configuration = self.directory / 'pgbouncer.ini'
        configuration.write_text('\n'.join([*lines, '']), encoding='utf-8')
        configuration.chmod(0o644)
        output = subprocess.run(
            [program, '--version'], capture_output=True, text=True, check=True
        ).stdout
        self.version = output.split()[1]
        self.spawn(program, '-q', configuration)
        self.wait_until(self._listens)
        self.url = server.url_at('127.0.0.1', self.port)

    def _listens(self) -> bool:
        try:
            socket.create_connection(('127.0.0.1', self.port)).close()
        except ConnectionRefusedError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end(signal.SIGKILL)
        self.remove()
