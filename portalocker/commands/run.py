"""`python -m portalocker run`: run a command while holding a lock."""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys

from .. import constants, exceptions, utils

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUMMARY = 'run a command while holding a lock on a file'

#: exit statuses of our own, as env(1) and timeout(1) have them
CANNOT_LOCK, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_SI_KERNEL = 0x80  # <asm-generic/siginfo.h>: sent by the terminal, not by kill


def without_command(words: Sequence[str]) -> list[str]:
    """Return the words before `--` if they are a `run` command, else all.

    >>> without_command(['run', 'file.lock', '--', 'make', '--', 'all'])
    ['run', 'file.lock']
    """
    words = list(words)
    if words[:1] == ['run'] and '--' in words:
        return words[: words.index('--')]
    return words


def command_in(words: Sequence[str]) -> list[str]:
    """Return the words after the first `--`.

    >>> command_in(['run', 'file.lock', '--', 'make', '--', 'all'])
    ['make', '--', 'all']
    """
    return list(words[words.index('--') + 1 :]) if '--' in words else []


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.usage = '%(prog)s [options] LOCKFILE -- COMMAND [ARGUMENT ...]'
    parser.epilog = (
        'Waits for the lock for ever unless told otherwise. Exit status: '
        "the command's; 128 + N if signal N killed it; 125 if the file "
        'cannot be locked at all; 126 if the command cannot be executed; 127 '
        'if there is no such command.'
    )
    parser.add_argument(
        'lock_file', metavar='LOCKFILE', help='created if it is missing'
    )
    parser.add_argument(
        '-s',
        '--shared',
        action='store_true',
        help='hold it beside other shared holders',
    )
    patience = parser.add_mutually_exclusive_group()
    patience.add_argument(
        '-w',
        '--timeout',
        metavar='SECONDS',
        type=_seconds,
        default=math.inf,
        help='give up after so long',
    )
    patience.add_argument(
        '-n',
        '--no-wait',
        action='store_true',
        help='give up at once if it is held',
    )
    parser.add_argument(
        '-E',
        '--conflict-exit-code',
        metavar='N',
        type=_exit_code,
        default=1,
        help='exit status after giving up (default: %(default)s)',
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(
            f'not a number of seconds, 0 or more: {text!r}'
        )
    return seconds


def _exit_code(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 255:
        raise argparse.ArgumentTypeError(f'not between 0 and 255: {text!r}')
    return number


def main(args: argparse.Namespace) -> int:
    """Hold the lock, run `args.command`, return the exit status.

    Blocks until the lock is had (`args.timeout`, `args.no_wait`), then until
    the command ends. The lock ends with this process, however it ends; the
    command does not inherit it.
    """
    if not args.command:
        return _fail(2, 'expected `-- COMMAND` after the lock file')
    try:
        return _run_locked(args)
    except exceptions.AlreadyLocked as error:
        return _fail(args.conflict_exit_code, str(error))
    except exceptions.LockException as error:
        return _fail(CANNOT_LOCK, str(error))
    except KeyboardInterrupt:
        return _die_of_interrupt()


def _run_locked(args: argparse.Namespace) -> int:
    """Wait for the lock and run the command; what the lock raises, raises."""
    run_command = _command_runner(args.command)
    lock = _lock(args)
    try:
        lock.acquire()
    except OSError as error:
        return _fail(
            CANNOT_LOCK, f'cannot open {args.lock_file!r}: {error.strerror}'
        )
    try:
        return run_command()
    except (FileNotFoundError, NotADirectoryError) as error:
        return _fail(NOT_FOUND, _refusal(args.command, error))
    except OSError as error:
        return _fail(CANNOT_EXECUTE, _refusal(args.command, error))
    finally:
        lock.release()


def _fail(status: int, reason: str) -> int:
    print(f'portalocker run: {reason}', file=sys.stderr)
    return status


def _refusal(command: Sequence[str], error: OSError) -> str:
    return f'cannot run {command[0]!r}: {error.strerror}'


def _lock(args: argparse.Namespace) -> utils.Lock:
    """The lock, not held yet."""
    kind = (
        constants.LockFlags.SHARED
        if args.shared
        else constants.LockFlags.EXCLUSIVE
    )
    # a file that we may only read can be locked as well
    is_read_only = os.path.exists(args.lock_file) and not os.access(
        args.lock_file, os.W_OK
    )
    return utils.Lock(
        args.lock_file,
        'r' if is_read_only else 'a',
        timeout=0 if args.no_wait else args.timeout,
        fail_when_locked=args.no_wait,
        flags=kind | constants.LockFlags.NON_BLOCKING,
    )


def _die_of_interrupt() -> int:
    """End as Ctrl-C ends programs, so that whoever started us sees it."""
    if sys.platform != 'win32':
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return 128 + signal.SIGINT


if sys.platform == 'win32':

    def _command_runner(command: Sequence[str]) -> Callable[[], int]:
        """What runs the command."""
        return lambda: _run_on_windows(command)

    def _run_on_windows(command: Sequence[str]) -> int:
        """Run the command; Ctrl-C reaches it without us."""
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            return subprocess.Popen(command).wait()
        finally:
            signal.signal(signal.SIGINT, before)

else:
    #: what is passed on to the command
    _FORWARDED = (
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
        *(signal.SIGCONT, signal.SIGWINCH),
    )

    def _command_runner(command: Sequence[str]) -> Callable[[], int]:
        """What runs the command: all that takes time is done by now."""
        prepare_child = _preparation_of_child()
        return lambda: _run_on_posix(command, prepare_child)

    def _preparation_of_child() -> Callable[[], None]:
        """What the child does between fork and exec."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        parent = os.getpid()
        end_with_parent = _pdeathsig_setter()

        def prepare() -> None:
            end_with_parent()
            if os.getppid() != parent:  # it died before we could say so
                os.kill(os.getpid(), signal.SIGKILL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

        return prepare

    def _pdeathsig_setter() -> Callable[[], object]:
        """Linux: have the kernel kill the caller when its parent dies."""
        if sys.platform != 'linux':
            return lambda: None
        try:
            import ctypes

            prctl = ctypes.CDLL(None).prctl
        except (ImportError, OSError, AttributeError):
            return lambda: None
        return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    def _run_on_posix(
        command: Sequence[str], prepare_child: Callable[[], None]
    ) -> int:
        """Run the command and pass signals on to it until it ends."""
        # Signals stay pending until we ask for them, so none comes at a bad
        # moment. BSD drops pending signals that nobody handles.
        for number in (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH):
            signal.signal(number, lambda *_: None)
        awaited = {*_FORWARDED, signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        try:
            child = subprocess.Popen(
                command,
                preexec_fn=prepare_child,  # noqa: PLW1509 - we have one thread
            )
            while child.poll() is None:
                found, is_from_terminal = _next_signal(awaited)
                # the terminal signals the command as well: not twice
                if found != signal.SIGCHLD and not is_from_terminal:
                    child.send_signal(found)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        status = child.returncode
        return 128 - status if status < 0 else status

    def _next_signal(awaited: set[signal.Signals]) -> tuple[int, bool]:
        """Wait for a signal: which one, and whether the terminal sent it."""
        if sys.platform == 'darwin':
            number = signal.sigwait(awaited)
            return number, number != signal.SIGTERM and _is_in_foreground()
        found = signal.sigwaitinfo(awaited)
        return found.si_signo, found.si_code == _SI_KERNEL

    def _is_in_foreground() -> bool:
        """Whether Ctrl-C at the terminal reaches our process group."""
        try:
            terminal = os.open('/dev/tty', os.O_RDONLY)
        except OSError:
            return False
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        except OSError:
            return False
        finally:
            os.close(terminal)
