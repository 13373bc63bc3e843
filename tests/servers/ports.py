"""Where servers of the tests can listen."""

from __future__ import annotations

import random
import socket

# Below those that systems lend to clients: a port that is free stays free
# until the server is up, however many connections others open meanwhile
_LOWEST, _HIGHEST = 10_000, 32_000


def free_port() -> int:
    """A port that was free a moment ago; two callers hardly get one."""
    while True:
        port = random.SystemRandom().randrange(_LOWEST, _HIGHEST)
        try:
            socket.create_server(('127.0.0.1', port)).close()
        except OSError:
            continue
        return port
