"""`python -m portalocker who` names the holders of a lock on Redis."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from portalocker import __main__
from portalocker import redis as portalocker_redis
from portalocker.commands import _on_servers


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


@pytest.mark.parametrize(
    ('library', 'url', 'extra'),
    [
        ('redis', 'redis://host/jobs', 'portalocker[redis]'),
        ('psycopg', 'postgresql://host/db/jobs', 'portalocker[postgres]'),
    ],
)
def test_missing_client_library_is_said(
    library: str, url: str, extra: str
) -> None:
    code = (
        f'import sys; sys.modules[{library!r}] = None\n'
        f'from portalocker import __main__; __main__.main(["who", {url!r}])'
    )
    ended = subprocess.run(
        [sys.executable, '-c', code],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert extra in ended.stderr
    assert ended.stderr.count('\n') == 1


def test_database_of_the_server_is_told_by_the_url(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {'port': server.port, 'db': 1}
    lock = portalocker_redis.RedisLock('jobs', redis_kwargs=given)
    url = f'redis://127.0.0.1:{server.port}/jobs'
    with lock:
        __main__.main(['who', url + '?db=1'])
        assert 'holder' in capsys.readouterr().out
        with pytest.raises(SystemExit):  # free
            __main__.main(['who', url])
        assert 'free' in capsys.readouterr().out
        with pytest.raises(SystemExit) as caught:
            __main__.main(['who', url + '?database=1'])
        assert caught.value.code == 2
        assert 'only db=NUMBER' in capsys.readouterr().err
    lock.get_connection().close()


@pytest.mark.parametrize('scheme', ['redis', 'rediss'])
def test_server_that_says_nothing_is_not_waited_for(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    monkeypatch.setattr(_on_servers, 'PATIENCE_SECONDS', 0.05)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SystemExit) as caught:
            __main__.main(['who', f'{scheme}://127.0.0.1:{port}/jobs'])
    assert caught.value.code == 2
    assert 'imeout' in capsys.readouterr().err.replace('timed out', 'timeout')
