"""`python -m portalocker who` names the holders of a lock on a server."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from actors import Line, Stage
from scenes import wait_until_in_line
from servers.postgresql import PostgreSQL

from portalocker import __main__
from portalocker.constants import LockFlags

pytest.importorskip('portalocker.postgres')
Make = Callable[..., Any]


def who(*words: str) -> int:
    try:
        __main__.main(['who', *words])
    except SystemExit as end:
        return int(str(end.code))
    return 0


def test_holder_and_waiter_are_listed(
    make: Make,
    stage: Stage,
    admin: Any,
    server: PostgreSQL,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def wait(line: Line) -> None:
        with make('a b/c', flags=LockFlags.SHARED):
            pass

    url = f'{server.url}/a%20b/c'
    with make('a b/c'):
        stage.thread(wait)
        wait_until_in_line(admin)
        assert who(url) == 0
        table = capsys.readouterr().out.splitlines()
        assert who('--json', url) == 0
        (facts,) = json.loads(capsys.readouterr().out)
    assert table[0].split() == [
        *('LOCK', 'ROLE', 'KIND', 'PID', 'HOST', 'SINCE', 'LABEL')
    ]
    ours = [str(os.getpid()), socket.gethostname()]
    assert table[1].split()[:6] == ['a', 'b/c', 'holder', 'exclusive', *ours]
    assert table[2].split()[:6] == ['a', 'b/c', 'waiter', 'shared', *ours]
    assert facts['lock'] == 'a b/c' and facts['held']
    assert facts['holders'][0]['pid'] == os.getpid()
    assert facts['waiters'][0]['shared'] is True


def test_free_lock_and_file_are_listed_apart(
    server: PostgreSQL,
    tmp_path: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / 'file'
    path.touch()
    assert who(str(path), f'{server.url}/jobs') == 1
    files, servers = capsys.readouterr().out.split('\n\n')
    row = files.splitlines()[-1]
    assert row.startswith(f'{path} ')
    assert row.removeprefix(str(path)).split()[0] == 'free'
    assert servers.split()[-7:-5] == ['jobs', 'free']


@pytest.mark.parametrize(
    ('url', 'cause'),
    [
        ('ftp://host/x', 'no server is known for ftp://'),
        ('postgresql://host', 'a lock is named as'),
        ('postgresql://host/db/', 'a lock is named as'),
        ('redis://host/', 'a lock is named as'),
        ('postgresql://me:secret@127.0.0.1:1/db/jobs', 'refused'),
    ],
)
def test_what_cannot_be_told_is_said(
    server: PostgreSQL,
    url: str,
    cause: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert who(url) == 2
    error = capsys.readouterr().err
    assert cause in error
    assert 'secret' not in error
    assert error.count('\n') == 1
