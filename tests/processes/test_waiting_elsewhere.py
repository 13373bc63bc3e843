"""A waiter gets its lock wherever it runs, and whatever it is refused.

Real namespaces, limits and refusals of the kernel. Where something wakes, the
check interval is an hour: only a wake-up can end a wait.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator

import forbidden
import pytest
from contenders import Contender

import portalocker
from portalocker import _owner

if sys.platform != 'linux':
    pytest.skip('namespaces are of Linux', allow_module_level=True)

AS_ROOT_OF_ITS_OWN = ('unshare', '--user', '--map-root-user')
AS_INIT = (
    *AS_ROOT_OF_ITS_OWN,
    *('--pid', '--fork', '--kill-child', '--mount-proc'),
)

#: other namespaces that share the file, and the line with us
IN_ONE_LINE = {
    'user': AS_ROOT_OF_ITS_OWN,
    'pid': AS_INIT,
    'mount': (*AS_ROOT_OF_ITS_OWN, '--mount'),
    'host names, ipc, time': (
        *AS_ROOT_OF_ITS_OWN,
        *('--uts', '--ipc', '--cgroup'),
    ),
}
#: sockets of one network namespace are not seen in another
OUT_OF_REACH = {
    'network': (*AS_ROOT_OF_ITS_OWN, '--net'),
    'container': (*AS_INIT, '--net', '--uts', '--ipc', '--cgroup'),
}

#: a place where waiters can only look
BARE = {
    'no /proc': 'mount -t tmpfs none /proc',
    'no inotify instances': 'echo 0 >/proc/sys/user/max_inotify_instances',
    'no inotify watches': 'echo 0 >/proc/sys/user/max_inotify_watches',
}


def after(command: str) -> tuple[str, ...]:
    """A place of its own where `command` was run."""
    return (
        *(*AS_ROOT_OF_ITS_OWN, '--mount'),
        *('sh', '-ec', f'{command}; exec "$@"', 'sh'),
    )


@functools.cache
def refusal(around: tuple[str, ...]) -> str | None:
    """Why there is no such place on this machine, if so."""
    if shutil.which('unshare') is None:
        return 'no unshare(1)'
    attempt = subprocess.run(
        [*around, 'true'], check=False, capture_output=True, text=True
    )
    if attempt.returncode:
        return f'this machine forbids it: {attempt.stderr.strip()}'
    return None


def elsewhere(around: tuple[str, ...]) -> tuple[str, ...]:
    """`around`, or a skipped test where this machine forbids it."""
    reason = refusal(around)
    if reason is not None:
        pytest.skip(reason)
    return around


def forbidding(
    call: str, error: int, second_argument: int | None = None
) -> str:
    """What a contender runs first so that `call` is refused to it."""
    if call not in forbidden.KNOWN:
        pytest.skip(f'number of {call} unknown on {os.uname().machine}')
    here = str(pathlib.Path(forbidden.__file__).parent)
    return (
        f'sys.path.append({here!r}); import forbidden; '
        f'forbidden.forbid({call!r}, {error}, {second_argument})'
    )


@contextlib.contextmanager
def held(path: pathlib.Path) -> Iterator[portalocker.Lock]:
    lock = portalocker.Lock(path)
    lock.acquire()
    try:
        yield lock
    finally:
        lock.release()


@pytest.mark.parametrize('place', [*IN_ONE_LINE, *OUT_OF_REACH])
def test_a_waiter_elsewhere_is_woken_by_a_release_here(
    place: str, path: pathlib.Path
) -> None:
    around = elsewhere({**IN_ONE_LINE, **OUT_OF_REACH}[place])
    with held(path) as lock, Contender(path, around=around) as waiter:
        assert waiter.said() == 'parked on file'
        lock.release()
        assert waiter.said_at_last() == 'in'


@pytest.mark.parametrize('place', [*IN_ONE_LINE, *OUT_OF_REACH])
@pytest.mark.parametrize('dies', [True, False])
def test_a_waiter_here_is_woken_by_a_holder_elsewhere(
    dies: bool, place: str, path: pathlib.Path
) -> None:
    around = elsewhere({**IN_ONE_LINE, **OUT_OF_REACH}[place])
    with Contender(path, around=around) as holder:
        assert holder.said() == 'in'
        with Contender(path) as waiter:
            assert waiter.said() == 'parked on file'
            if dies:
                holder.kill()
            else:
                holder.go_on()
            assert waiter.said_at_last() == 'in'


def come_in_turn(
    path: pathlib.Path, *waiting: tuple[tuple[str, ...], str]
) -> None:
    """Wait, each in its surroundings and in that way; come in, in order."""
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(held(path))
        waiters = []
        for around, said in waiting:
            waiter = stack.enter_context(Contender(path, around=around))
            assert waiter.said() == said
            waiters.append(waiter)
        lock.release()
        for waiter in waiters:
            assert waiter.said_at_last() == 'in'
            waiter.go_on()


@pytest.mark.parametrize('place', IN_ONE_LINE)
def test_who_waits_here_and_elsewhere_stands_in_one_line(
    place: str, path: pathlib.Path
) -> None:
    around = elsewhere(IN_ONE_LINE[place])
    behind = 'parked on predecessor'
    come_in_turn(
        path,
        *(((), 'parked on file'), (around, behind)),
        *(((), behind), (around, behind)),
    )


@pytest.mark.parametrize('place', OUT_OF_REACH)
def test_whoever_cannot_reach_its_predecessor_comes_after_it_all_the_same(
    place: str, path: pathlib.Path
) -> None:
    around = elsewhere(OUT_OF_REACH[place])
    first = 'parked on file'
    come_in_turn(path, ((), first), (around, first), ((), first))


@pytest.mark.parametrize('place', BARE)
def test_where_nothing_can_wake_a_waiter_looks(
    place: str, path: pathlib.Path
) -> None:
    around = elsewhere(after(BARE[place]))
    prepare = "options['check_interval'] = 0.02"
    with held(path) as lock, Contender(path, prepare, around) as waiter:
        assert waiter.said() == 'parked on clock'
        lock.release()
        assert waiter.said_at_last() == 'in'
        # nor does its release wake by itself whoever comes now
        with Contender(path) as later:
            assert later.said() == 'parked on file'
            waiter.go_on()
            assert later.said_at_last() == 'in'


@pytest.mark.parametrize('place', list(BARE)[1:])
def test_without_inotify_the_line_still_wakes(
    place: str, path: pathlib.Path
) -> None:
    around = elsewhere(after(BARE[place]))
    with held(path) as lock, Contender(path) as first:
        assert first.said() == 'parked on file'
        with Contender(path, around=around) as second:
            assert second.said() == 'parked on predecessor'
            lock.release()
            assert first.said_at_last() == 'in'
            first.go_on()
            assert second.said_at_last() == 'in'


@pytest.mark.parametrize('error', ['ENOSYS', 'EMFILE'])
@pytest.mark.parametrize('call', ['inotify_init1', 'inotify_add_watch'])
def test_a_waiter_that_is_refused_inotify_looks(
    call: str, error: str, path: pathlib.Path
) -> None:
    prepare = forbidding(call, getattr(errno, error))
    prepare += "; options['check_interval'] = 0.02"
    with held(path) as lock, Contender(path, prepare) as waiter:
        assert waiter.said() == 'parked on clock'
        lock.release()
        assert waiter.said_at_last() == 'in'


@pytest.mark.parametrize('error', ['ENOSYS', 'EPERM', 'EMFILE'])
@pytest.mark.parametrize('call', ['socket', 'bind'])
def test_a_waiter_that_is_refused_sockets_is_woken_and_keeps_its_turn(
    call: str, error: str, path: pathlib.Path
) -> None:
    prepare = forbidding(call, getattr(errno, error))
    with held(path) as lock, Contender(path, prepare) as refused:
        assert refused.said() == 'parked on file'
        with Contender(path) as behind:
            assert behind.said() == 'parked on file'  # nobody to connect to
            lock.release()
            assert refused.said_at_last() == 'in'
            refused.go_on()
            assert behind.said_at_last() == 'in'


def test_a_waiter_that_is_refused_tickets_stands_in_no_line_and_is_woken(
    path: pathlib.Path,
) -> None:
    prepare = forbidding('fcntl', errno.EINVAL, fcntl.F_OFD_GETLK)
    with held(path) as lock, Contender(path) as usual:
        assert usual.said() == 'parked on file'
        with Contender(path, prepare) as refused:
            assert refused.said() == 'parked on file'
            rows = _owner.lock_rows(str(path))
            assert [row.is_ticket for row in rows].count(True) == 1
            usual.interrupt()
            assert usual.said_at_last() == 'interrupted'
            lock.release()
            assert refused.said_at_last() == 'in'


def test_a_waiter_that_is_refused_everything_looks(
    path: pathlib.Path,
) -> None:
    refusals = [
        forbidding('socket', errno.ENOSYS),
        forbidding('inotify_init1', errno.ENOSYS),
        forbidding('fcntl', errno.EINVAL, fcntl.F_OFD_GETLK),
        forbidding('fcntl', errno.EINVAL, fcntl.F_OFD_SETLK),
    ]
    prepare = '; '.join([*refusals, "options['check_interval'] = 0.02"])
    with held(path) as lock, Contender(path, prepare) as waiter:
        assert waiter.said() == 'parked on clock'
        lock.release()
        assert waiter.said_at_last() == 'in'
