"""`python -m portalocker who` names the holders of a lock on Redis."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from portalocker import __main__
from portalocker import redis as portalocker_redis


def test_holder_is_listed(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = portalocker_redis.RedisLock(
        'who jobs', redis_kwargs={'port': server.port}
    )
    with lock:
        __main__.main(['who', f'redis://127.0.0.1:{server.port}/who%20jobs'])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:6] == [
        *('who', 'jobs', 'holder', 'exclusive'),
        *(str(os.getpid()), socket.gethostname()),
    ]
    lock.get_connection().close()
    portalocker_redis.close_sessions()


def test_server_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(['who', 'redis://me:secret@127.0.0.1:1/jobs'])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert 'refused' in error and 'secret' not in error
