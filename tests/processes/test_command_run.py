"""`python -m portalocker run` with real commands, signals and terminals."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from states import wait_until

from portalocker import _owner

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONG = 60.0  # seconds, reached by a failure only
ENVIRONMENT = {**os.environ, 'PYTHONPATH': str(ROOT)}
RUN = (sys.executable, '-m', 'portalocker', 'run')

posix_only = pytest.mark.skipif(os.name != 'posix', reason='needs POSIX')
linux_only = pytest.mark.skipif(
    sys.platform != 'linux', reason='only Linux shows its locks'
)

#: a command that says it is in and stays until its input ends
STAY = ("print('in', flush=True); import sys; sys.stdin.read(); print('out')",)

Process = subprocess.Popen[str]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / 'file.lock')


def python(program: str) -> tuple[str, ...]:
    """A command that is a Python program."""
    return sys.executable, '-c', program


def run(*words: str, stdin: str = '') -> subprocess.CompletedProcess[str]:
    """`portalocker run` with these words, to its end."""
    return subprocess.run(
        [*RUN, *words],
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )


@contextlib.contextmanager
def started(
    *words: str, prepare: Callable[[], object] | None = None
) -> Iterator[Process]:
    """`portalocker run` with these words, ended with the block."""
    with subprocess.Popen(
        [*RUN, *words],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - we have one thread
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


@contextlib.contextmanager
def holding(*words: str) -> Iterator[Process]:
    """A command that runs until the block ends."""
    with started(*words, '--', *python(*STAY)) as process:
        assert line_of(process) == 'in'
        yield process


def line_of(process: Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def is_held(path: str) -> bool:
    return any(row.is_held for row in _owner.lock_rows(path))


class TestStatus:
    @pytest.mark.parametrize('status', [0, 1, 3, 125, 255])
    def test_is_that_of_the_command(self, path: str, status: int) -> None:
        command = python(f'raise SystemExit({status})')
        assert run(path, '--', *command).returncode == status

    @posix_only
    @pytest.mark.parametrize('name', ['SIGTERM', 'SIGKILL', 'SIGINT'])
    def test_tells_which_signal_killed_the_command(
        self, path: str, name: str
    ) -> None:
        number = int(getattr(signal, name))
        command = python(
            f'import os, signal; signal.signal({number}, signal.SIG_DFL)'
            f' if {number} != 9 else None; os.kill(os.getpid(), {number})'
        )
        assert run(path, '--', *command).returncode == 128 + number

    def test_is_127_where_there_is_no_such_command(self, path: str) -> None:
        done = run(path, '--', 'no-such-command-anywhere')
        assert done.returncode == 127
        assert 'no-such-command-anywhere' in done.stderr
        assert len(done.stderr.splitlines()) == 1

    @posix_only
    def test_is_126_where_the_command_cannot_be_executed(
        self, path: str, tmp_path: pathlib.Path
    ) -> None:
        program = tmp_path / 'program'
        program.write_text('no program')
        for mode in (0o644, 0o755):  # not executable; no format we know
            program.chmod(mode)
            done = run(path, '--', str(program))
            assert done.returncode == 126
            assert str(program) in done.stderr

    def test_is_125_where_the_file_cannot_be_locked(
        self, tmp_path: pathlib.Path
    ) -> None:
        for bad in (tmp_path, tmp_path / 'missing' / 'file.lock'):
            done = run(str(bad), '--', *python("print('ran')"))
            assert done.returncode == 125
            assert repr(str(bad)) in done.stderr
            assert not done.stdout

    @pytest.mark.parametrize(
        'words',
        [
            ('file.lock',),
            ('file.lock', '--'),
            ('--', 'true'),
            ('file.lock', 'another', '--', 'true'),
            ('-n', '-w', '1', 'file.lock', '--', 'true'),
            ('-w', 'nan', 'file.lock', '--', 'true'),
            ('-w', '-1', 'file.lock', '--', 'true'),
            ('-w', 'soon', 'file.lock', '--', 'true'),
            ('-E', '256', 'file.lock', '--', 'true'),
            ('--no-such-option', 'file.lock', '--', 'true'),
        ],
    )
    def test_is_2_where_the_words_make_no_sense(
        self, tmp_path: pathlib.Path, words: tuple[str, ...]
    ) -> None:
        done = subprocess.run(
            [*RUN, *words],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr
        assert not list(tmp_path.iterdir())


class TestCommand:
    def test_has_our_input_and_output(self, path: str) -> None:
        program = (
            'import sys; print(sys.stdin.read()); '
            "print('error', file=sys.stderr)"
        )
        done = run(path, '--', *python(program), stdin='words')
        assert (done.stdout, done.stderr) == ('words\n', 'error\n')

    def test_gets_its_words_as_they_are(self, path: str) -> None:
        words = ['-n', '--', 'a b', '', '--help', '--', '*']
        program = 'import sys; print(sys.argv[1:])'
        done = run(path, '--', *python(program), *words)
        assert done.stdout == f'{words}\n'

    def test_finds_the_content_of_the_lock_file_untouched(
        self, path: str
    ) -> None:
        pathlib.Path(path).write_text('content')
        done = run(path, '--', *python(f'print(open({path!r}).read())'))
        assert done.stdout == 'content\n'

    def test_finds_a_new_lock_file_that_stays(self, path: str) -> None:
        assert run(path, '--', *python('')).returncode == 0
        assert pathlib.Path(path).read_bytes() == b''

    @posix_only
    def test_starts_with_no_signal_blocked(self, path: str) -> None:
        program = (
            'import signal; print(signal.pthread_sigmask(0, ()), '
            "[line for line in open('/proc/self/status') "
            "if line[:7] in ('SigCgt:', 'SigBlk:')] "
            "if __import__('os').path.exists('/proc/self/status') else '')"
        )
        directly = subprocess.run(
            python(program), capture_output=True, text=True, check=True
        )
        assert run(path, '--', *python(program)).stdout == directly.stdout

    @posix_only
    def test_keeps_a_signal_ignored_that_we_ignore(self, path: str) -> None:
        """As under nohup."""
        program = 'import signal; print(signal.getsignal(signal.SIGHUP).name)'
        with started(
            path,
            '--',
            *python(f'{program}\n{STAY[0]}'),
            prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        ) as process:
            assert line_of(process) == 'SIG_IGN'
            assert line_of(process) == 'in'
            process.send_signal(signal.SIGHUP)
            out, _ = process.communicate('')
        assert out == 'out\n'
        assert process.returncode == 0

    @linux_only
    def test_does_not_inherit_the_lock(self, path: str) -> None:
        with holding(path) as process:
            (holder,) = _owner.holders_of(path, deep=True)
            assert holder.pid == process.pid


class TestLock:
    def test_second_command_starts_only_after_the_first_ended(
        self, path: str, tmp_path: pathlib.Path
    ) -> None:
        log = tmp_path / 'log'
        log.touch()
        second = python(f"print('second', file=open({str(log)!r}, 'a'))")
        with holding(path) as first, started(path, '--', *second) as other:
            if sys.platform == 'linux':
                wait_until(lambda: _owner.waiters_of(path))
            with log.open('a') as fh:
                fh.write('first\n')
            first.communicate('')
            other.communicate()
        assert log.read_text() == 'first\nsecond\n'
        assert (first.returncode, other.returncode) == (0, 0)

    @pytest.mark.parametrize(
        ('options', 'status'),
        [
            (('--no-wait',), 1),
            (('-n', '-E', '7'), 7),
            (('-n', '--conflict-exit-code', '0'), 0),
            (('--timeout', '0'), 1),
            (('-w', '0.05', '-E', '75'), 75),
        ],
    )
    def test_conflict_runs_nothing_and_names_the_holder(
        self, path: str, options: tuple[str, ...], status: int
    ) -> None:
        with holding(path) as holder:
            done = run(*options, path, '--', *python("print('ran')"))
        assert done.returncode == status
        assert not done.stdout
        assert len(done.stderr.splitlines()) == 1
        assert repr(path) in done.stderr
        if sys.platform == 'linux':
            assert f'held by pid {holder.pid} ' in done.stderr

    def test_shared_commands_run_side_by_side(self, path: str) -> None:
        with holding('--shared', path), holding('-s', path):
            done = run('-n', path, '--', *python(''))
            assert done.returncode == 1
        assert run('-n', path, '--', *python('')).returncode == 0

    def test_shared_command_waits_for_an_exclusive_one(
        self, path: str
    ) -> None:
        with holding(path):
            assert run('-s', '-n', path, '--', *python('')).returncode == 1

    @posix_only
    def test_waits_for_flock_of_another_program(self, path: str) -> None:
        import fcntl

        with open(path, 'w') as fh:
            fcntl.flock(fh, fcntl.LOCK_EX)
            assert run('-n', path, '--', *python('')).returncode == 1
        assert run('-n', path, '--', *python('')).returncode == 0

    @posix_only
    @pytest.mark.skipif(
        os.name == 'posix' and os.geteuid() == 0, reason='root may write all'
    )
    def test_file_that_we_may_only_read_can_be_locked(self, path: str) -> None:
        pathlib.Path(path).touch(0o444)
        with holding(path):
            assert run('-n', path, '--', *python('')).returncode == 1


#: a command that counts the signals it gets; SIGUSR1 ends it
# A handler may run within a print(), which must not be entered again
COUNT = """
import os, signal, sys
counts = {}
def say(what):
    os.write(1, f'{what}\\n'.encode())
def count(number, frame):
    counts[number] = counts.get(number, 0) + 1
    say(number)
def end(number, frame):
    say(sorted(counts.items()))
    raise SystemExit(17)
for name in sys.argv[1:]:
    signal.signal(getattr(signal, name), count)
signal.signal(signal.SIGUSR1, end)
say('in')
while True:
    signal.pause()
"""


@posix_only
class TestSignals:
    @pytest.mark.parametrize(
        'name',
        [
            *('SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'),
            *('SIGUSR2', 'SIGCONT', 'SIGWINCH', 'SIGALRM'),
        ],
    )
    def test_reach_the_command_once(self, path: str, name: str) -> None:
        number = int(getattr(signal, name))
        with started(path, '--', *python(COUNT), name) as process:
            assert line_of(process) == 'in'
            process.send_signal(number)
            assert line_of(process) == str(number)
            if sys.platform == 'linux':
                assert is_held(path)
            process.send_signal(signal.SIGUSR1)
            assert line_of(process) == str([(number, 1)])
            process.communicate()
        assert process.returncode == 17

    def test_that_end_the_command_end_us_with_its_status(
        self, path: str
    ) -> None:
        with holding(path) as process:
            process.send_signal(signal.SIGTERM)
            process.wait()  # first: the end of its input ends it as well
            process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        assert run('-n', path, '--', *python('')).returncode == 0

    def test_interrupt_ends_the_wait_for_the_lock(self, path: str) -> None:
        with holding(path), started(path, '--', *python('')) as other:
            if sys.platform != 'linux':
                pytest.skip('nobody tells that it waits')
            wait_until(lambda: _owner.waiters_of(path))
            other.send_signal(signal.SIGINT)
            out, error = other.communicate()
            assert not _owner.waiters_of(path)
        assert other.returncode == -signal.SIGINT
        assert not out
        assert not error

    def test_stopped_command_has_not_ended(self, path: str) -> None:
        program = f'import os; print(os.getpid(), flush=True)\n{STAY[0]}'
        with started(path, '--', *python(program)) as process:
            pid = int(line_of(process))
            assert line_of(process) == 'in'
            os.kill(pid, signal.SIGSTOP)
            assert run('-n', path, '--', *python('')).returncode == 1
            os.kill(pid, signal.SIGCONT)
            out, _ = process.communicate('')
        assert out == 'out\n'
        assert process.returncode == 0

    @linux_only
    def test_kill_frees_the_lock_and_ends_the_command(self, path: str) -> None:
        with holding(path) as process:
            process.kill()
            process.wait()  # from here on the command runs no more
            assert not is_held(path)
            out, _ = process.communicate()  # ends with the command
        assert not out
        assert run('-n', path, '--', *python('')).returncode == 0

    def test_ctrl_c_reaches_the_command_once(self, path: str) -> None:
        """The terminal signals the whole group; we must not do it again."""
        import pty

        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(
                sys.executable,
                [*RUN, path, '--', *python(COUNT), 'SIGINT', 'SIGQUIT'],
                ENVIRONMENT,
            )
        with io.FileIO(terminal) as screen:
            try:
                read_until(screen, b'in\r\n')
                # we sleep until the command has seen both: were they passed
                # on, they would come a second time
                os.kill(pid, signal.SIGSTOP)
                os.waitpid(pid, os.WUNTRACED)
                os.write(terminal, b'\x03')
                read_until(screen, b'2\r\n')
                os.write(terminal, b'\x1c')
                read_until(screen, b'3\r\n')
                if sys.platform == 'linux':
                    assert is_held(path)
                os.kill(pid, signal.SIGUSR1)
                os.kill(pid, signal.SIGCONT)
                read_until(screen, b'[(2, 1), (3, 1)]\r\n')
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
            finally:
                _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 17


def read_until(screen: io.FileIO, expected: bytes) -> None:
    """Read what a terminal shows until the expected text is there."""
    shown = b''
    while expected not in shown:
        more = screen.read(1024)
        assert more, shown
        shown += more
