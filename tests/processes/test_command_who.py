"""`python -m portalocker who` looks at real holders and waiters."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from states import wait_until

from portalocker import __main__, _owner, utils
from portalocker.commands import who

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONG = 60.0  # seconds, reached by a failure only
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT)}

linux_only = pytest.mark.skipif(
    sys.platform != 'linux', reason='only Linux shows its locks'
)

#: locks the file and stays until its input ends
LOCKER = """
import sys, portalocker
flags = getattr(portalocker.LockFlags, sys.argv[2])
lock = portalocker.Lock(
    sys.argv[1], timeout=600, flags=flags | portalocker.LOCK_NB)
with lock:
    print('in', flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    lock_file = tmp_path / 'file.lock'
    lock_file.touch()
    return str(lock_file)


# As a container does, if we may: processes of its own, none of ours
IN_A_CONTAINER = ('unshare', '--pid', '--fork', '--mount-proc')
CAN_CONTAIN = (
    shutil.which('unshare') is not None
    and subprocess.run([*IN_A_CONTAINER, 'true'], check=False).returncode == 0
)


@contextlib.contextmanager
def locker(
    path: str, kind: str = 'EXCLUSIVE', *, waits: bool = False
) -> Iterator[int]:
    """A process that holds the lock, or one that waits for it."""
    with subprocess.Popen(
        [sys.executable, '-c', LOCKER, path, kind],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if waits:
            before = len(_owner.waiters_of(path))
            wait_until(lambda: len(_owner.waiters_of(path)) > before)
        else:
            assert process.stdout.readline() == 'in\n'
        yield process.pid
        if waits:
            process.kill()
        process.stdin.close()
        process.stdout.read()


def ask(
    *words: str, prefix: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, '-m', 'portalocker', 'who', *words],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


def ask_json(*words: str) -> Any:
    return json.loads(ask('--json', *words).stdout)


@linux_only
class TestLinux:
    def test_holder_and_waiters_are_shown_in_order(self, path: str) -> None:
        with (
            locker(path) as holder,
            locker(path, waits=True) as first,
            locker(path, waits=True) as second,
        ):
            done = ask(path)
            (report,) = ask_json(path)
        assert done.returncode == 0
        heading, *lines = done.stdout.splitlines()
        assert heading.split() == list(who._HEADINGS)
        named = len(str(path))  # it may have spaces
        shown = [line[named:].split()[:3] for line in lines]
        assert shown == [
            ['holder', 'exclusive', str(holder)],
            ['waiter', '?', str(first)],
            ['waiter', '?', str(second)],
        ]
        assert report['file'] == path
        assert report['held'] is True
        assert report['unknown_holders'] is False
        assert [item['pid'] for item in report['holders']] == [holder]
        waiters = report['waiters']
        assert [item['pid'] for item in waiters] == [first, second]
        assert waiters[0]['waiting'] > waiters[1]['waiting'] > 0
        assert sys.executable in waiters[0]['command']

    def test_all_shared_holders_are_shown(self, path: str) -> None:
        with locker(path, 'SHARED') as one, locker(path, 'SHARED') as two:
            (report,) = ask_json(path)
        holders = report['holders']
        assert [item['pid'] for item in holders] == sorted([one, two])
        assert all(item['shared'] for item in holders)

    @pytest.mark.skipif(
        not CAN_CONTAIN,
        reason='we may make no PID namespace',
    )
    def test_holder_outside_of_our_container_is_not_overlooked(
        self, path: str
    ) -> None:
        with locker(path):
            inside = ask(path, prefix=IN_A_CONTAINER)
        assert inside.returncode == who.HELD
        line = inside.stdout.splitlines()[1]
        assert line.split() == [path, 'holder', '?', '?', '-', '?']
        inside = ask(path, prefix=IN_A_CONTAINER)
        assert inside.returncode == who.FREE

    @pytest.mark.skipif(
        not CAN_CONTAIN,
        reason='we may make no PID namespace',
    )
    def test_number_of_another_container_is_marked_as_such(
        self, path: str
    ) -> None:
        program = (
            'import sys, portalocker\n'
            'try:\n'
            '    portalocker.PidFileLock(sys.argv[1]).acquire()\n'
            'except portalocker.AlreadyLocked as failure:\n'
            '    print(failure, failure.holder.elsewhere)\n'
        )
        with utils.PidFileLock(path):
            done = subprocess.run(
                [*IN_A_CONTAINER, sys.executable, '-c', program, path],
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                check=True,
            )
        assert f'held by pid {os.getpid()}, as recorded' in done.stdout
        assert done.stdout.endswith('in another PID namespace True\n')

    def test_status_is_1_where_nobody_holds(self, path: str) -> None:
        done = ask(path)
        assert done.returncode == 1
        assert 'free' in done.stdout
        (report,) = ask_json(path)
        assert report['held'] is False

    def test_status_is_0_where_one_of_several_is_held(
        self, path: str, tmp_path: pathlib.Path
    ) -> None:
        other = tmp_path / 'other'
        other.touch()
        with locker(path) as holder:
            done = ask(str(other), path)
            reports = ask_json(str(other), path)
        assert done.returncode == 0
        assert [report['held'] for report in reports] == [False, True]
        assert str(holder) in done.stdout

    def test_holder_of_an_open_file_lock_is_named(self, path: str) -> None:
        import fcntl

        from portalocker import _record_lock

        with open(path, 'r+') as fh:
            request = _record_lock.pack_range(fcntl.F_WRLCK, 0, 0)
            fcntl.fcntl(fh, fcntl.F_OFD_SETLK, request)
            (report,) = ask_json(path)
        assert [item['pid'] for item in report['holders']] == [os.getpid()]

    def test_holder_that_nobody_names_is_shown_as_unknown(
        self,
        path: str,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        row = _owner.LockRow(
            'OFDLCK', pid=None, shared=False, start=0, blocked=False
        )
        monkeypatch.setattr(_owner, 'lock_rows', lambda *_, **__: (row,))
        __main__.main(['who', path])
        line = capsys.readouterr().out.splitlines()[1]
        assert line[len(str(path)) :].split() == [
            *('holder', '?', '?', '-', '?')
        ]

    def test_pid_file_leads_to_the_lock_beside_it(
        self, tmp_path: pathlib.Path
    ) -> None:
        pid_file = tmp_path / 'daemon.pid'
        with utils.PidFileLock(str(pid_file)):
            for name in (pid_file, f'{pid_file}.lock'):
                (report,) = ask_json(str(name))
                pids = [item['pid'] for item in report['holders']]
                assert pids == [os.getpid()]
                assert report['holders'][0]['recorded'] is False

    def test_stale_pid_file_holds_nothing(
        self, tmp_path: pathlib.Path
    ) -> None:
        pid_file = tmp_path / 'daemon.pid'
        pid_file.write_text(str(os.getpid()))
        assert ask(str(pid_file)).returncode == 1

    def test_looking_does_not_disturb(self, path: str) -> None:
        import fcntl

        with open(path, 'r+') as fh:
            fcntl.flock(fh, fcntl.LOCK_EX)
            for _ in range(2):
                assert ask(path).returncode == 0


def test_missing_file_is_an_error_that_names_it(
    path: str, tmp_path: pathlib.Path
) -> None:
    missing = str(tmp_path / 'missing')
    done = ask(missing, path)
    assert done.returncode == 2
    assert repr(missing) in done.stderr
    assert not os.path.exists(missing)
    assert path in done.stdout
    assert not ask(missing).stdout
    assert ask_json(missing) == []


def test_names_cannot_play_tricks_on_the_terminal(
    tmp_path: pathlib.Path,
) -> None:
    if sys.platform != 'linux':
        pytest.skip('no such file name')
    lock_file = tmp_path / 'a\x1b[31m\nb\udcff'
    lock_file.touch()
    done = ask(str(lock_file))
    assert r'a\x1b[31m\nb\udcff' in done.stdout
    assert ask_json(str(lock_file))[0]['file'] == str(lock_file)


class TestSystemsThatDoNotTell:
    @pytest.fixture(autouse=True)
    def _silent_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_owner, 'can_tell', lambda: False)
        monkeypatch.setattr(_owner, 'lock_rows', lambda *_, **__: ())

    def test_what_a_pid_file_says_is_marked_as_such(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pid_file = tmp_path / 'daemon.pid'
        pid_file.write_text('4121')
        __main__.main(['who', str(pid_file)])
        line = capsys.readouterr().out.splitlines()[1]
        shown = line[len(str(pid_file)) :].split()
        assert shown[:3] == ['recorded', '?', '4121']
        __main__.main(['who', '--json', str(pid_file)])
        (report,) = json.loads(capsys.readouterr().out)
        assert report['holders'] == [
            {'pid': 4121, 'command': None, 'shared': False, 'recorded': True}
        ]

    def test_any_other_file_is_an_error(
        self, path: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            __main__.main(['who', path])
        assert caught.value.code == 2
        assert 'cannot tell' in capsys.readouterr().err
