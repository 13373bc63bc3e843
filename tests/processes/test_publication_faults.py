"""Whatever call fails while a file is published, nothing is torn or lost.

First each call that the package makes fails once, in every way a file can
appear; then the system itself refuses a kind of call (a seccomp filter), so
that also what Python's file objects call fails.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import pathlib
import platform
import shutil
import signal
import struct
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import publication_ways as ways
import pytest

if sys.platform != 'linux':
    pytest.skip('seccomp, /proc', allow_module_level=True)

import fcntl

import portalocker
from portalocker import _publication_draft, atomic, reapers

OLD, NEW = b'old' * 5_000, b'new' * 7_000
CODES = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EMFILE)
KILLS = 150
#: every function that stands between us and the system
CALLS = {
    os: (
        *('access', 'chmod', 'close', 'fchmod', 'fchown', 'fdatasync'),
        *('fstat', 'fsync', 'getxattr', 'link', 'listxattr', 'lseek'),
        *('mkdir', 'open', 'read', 'readlink', 'removexattr', 'rename'),
        *('replace', 'rmdir', 'setxattr', 'stat', 'unlink', 'urandom'),
        'write',
    ),
    fcntl: ('flock',),
}


@pytest.fixture
def place() -> Iterator[pathlib.Path]:
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    path = pathlib.Path(tempfile.mkdtemp(dir=memory))
    yield path
    shutil.rmtree(path)


class Faults:
    """The calls of one publication, of which the `nth` fails with `code`."""

    def __init__(self, nth: int | None = None, code: int = 0) -> None:
        self.made: list[str] = []
        self.nth = nth
        self._code = code

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module, names in CALLS.items():
            for name in names:
                patch.setattr(module, name, self._watch(module, name))

    def _watch(self, module: Any, name: str) -> Callable[..., Any]:
        real = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.made.append(name)
            if len(self.made) - 1 != self.nth:
                return real(*args, **kwargs)
            if name == 'close':
                real(*args)  # Linux closes it, whatever it says
            raise OSError(self._code, os.strerror(self._code))

        return call


def _write_new(place: pathlib.Path) -> None:
    with portalocker.open_atomic(place / 'target', durable='full') as fh:
        fh.write(NEW)


def _write_over(place: pathlib.Path) -> None:
    with portalocker.open_atomic(
        place / 'target', overwrite=True, durable='full', mode=0o640
    ) as fh:
        fh.write(NEW)


def _replace(place: pathlib.Path) -> None:
    with portalocker.open_atomic(place / 'target', overwrite=True) as fh:
        fh.write(NEW)


def _change(place: pathlib.Path) -> None:
    atomic.update_atomic(place / 'target', lambda _: NEW, durable='full')


def _change_or_begin(place: pathlib.Path) -> None:
    atomic.update_atomic(
        place / 'target', lambda _: NEW, default=b'', durable='full'
    )


WRITERS = {
    'new': (None, _write_new),
    'over nothing': (None, _replace),
    'over old, with a mode': (OLD, _write_over),
    'over old, keeping all': (OLD, _replace),
    'under a lock': (OLD, _change),
    'under a lock, if there is one': (None, _change_or_begin),
}


@pytest.mark.parametrize('way', ways.WAYS)
@pytest.mark.parametrize('kind', WRITERS)
def test_no_call_that_fails_tears_or_loses(
    place: pathlib.Path, way: str, kind: str
) -> None:
    old, write = WRITERS[kind]
    counted = _publish(place, way, Faults(), old, write)
    assert len(counted.made) > 5
    for nth in range(len(counted.made)):
        code = CODES[nth % len(CODES)]
        _publish(place, way, Faults(nth, code), old, write)


@pytest.mark.parametrize('code', CODES)
def test_no_call_that_fails_in_any_manner_tears_or_loses(
    place: pathlib.Path, code: int
) -> None:
    for old, write in WRITERS.values():
        counted = _publish(place, next(iter(ways.WAYS)), Faults(), old, write)
        for nth in range(len(counted.made)):
            _publish(
                place,
                next(iter(ways.WAYS)),
                Faults(nth, code),
                old,
                write,
            )


def _publish(
    place: pathlib.Path,
    way: str,
    faults: Faults,
    old: bytes | None,
    write: Callable[[pathlib.Path], None],
) -> Faults:
    """Publish with faults, and see that nothing is torn, lost or left."""
    target = place / 'target'
    target.unlink(missing_ok=True)
    if old is not None:
        target.write_bytes(old)
    descriptors = os.listdir('/proc/self/fd')
    failure: OSError | None = None
    with pytest.MonkeyPatch.context() as patch:
        ways.WAYS[way](patch)
        faults.install(patch)
        try:
            write(place)
        except OSError as error:
            failure = error
    if failure is not None:
        failure.__traceback__ = None
    gc.collect(1)
    where = f'{faults.made} {failure!r}'
    assert os.listdir('/proc/self/fd') == descriptors, where
    failed = '' if faults.nth is None else faults.made[faults.nth]
    if failed != 'unlink':
        drafts = filter(_publication_draft.is_draft_name, os.listdir(place))
        assert not list(drafts), where
    if failed in {'link', 'rename', 'replace'} and failure is not None:
        assert getattr(failure, 'filename2', None) is not None, where
    _check(place, old, failure, where)
    return faults


def _check(
    place: pathlib.Path,
    old: bytes | None,
    failure: OSError | None,
    where: str,
) -> None:
    target = place / 'target'
    content = target.read_bytes() if target.exists() else None
    if failure is None:
        assert content == NEW, where
    else:
        assert content in {old, NEW}, where
    reapers.reap(place)
    for name in set(os.listdir(place)) - {'target'}:
        assert failure is not None, where
        # given back whole, and named by the error
        assert failure.filename2 == str(place / name), where
        assert (place / name).read_bytes() == NEW, where
        (place / name).unlink()


def _tree(path: pathlib.Path, content: bytes) -> pathlib.Path:
    (path / 'below').mkdir(parents=True)
    (path / 'file').write_bytes(content)
    (path / 'below' / 'file').write_bytes(content)
    return path


def _content_of(path: pathlib.Path) -> bytes:
    content = (path / 'file').read_bytes()
    assert (path / 'below' / 'file').read_bytes() == content
    return content


@pytest.mark.parametrize('way', ['best of this system', 'no exclusive rename'])
def test_no_call_that_fails_tears_or_loses_a_directory(
    place: pathlib.Path, way: str
) -> None:
    nth = 0
    while _replace_directory(place, way, Faults(nth, CODES[nth % 4])):
        nth += 1
    assert nth > 20


def _replace_directory(place: pathlib.Path, way: str, faults: Faults) -> bool:
    """Replace a directory with faults; whether one has come to pass."""
    site = _tree(place / 'site', OLD)
    new = _tree(place / 'new', NEW)
    descriptors = os.listdir('/proc/self/fd')
    failure: OSError | None = None
    with pytest.MonkeyPatch.context() as patch:
        ways.WAYS[way](patch)
        faults.install(patch)
        try:
            atomic.replace_directory(new, site, durable='full', allow_gap=True)
        except OSError as error:
            failure = error
            failure.__traceback__ = None
    gc.collect(1)
    where = f'{faults.made} {failure!r}'
    assert os.listdir('/proc/self/fd') == descriptors, where
    if _content_of(site) == OLD:
        assert failure is not None, where
        assert _content_of(new) == NEW, where
    left = set(os.listdir(place)) - {'site', 'new'}
    if left:
        assert failure is not None, where
        assert left.pop() in failure.__notes__[0], where
    for path in place.iterdir():
        shutil.rmtree(path)
    return len(faults.made) > (faults.nth or 0)


# -- the system itself refuses ---------------------------------------------

# <asm/unistd_64.h> of x86, <asm-generic/unistd.h> of the others
_NUMBERS = {
    'x86_64': {
        'write': 1,
        'close': 3,
        'fstat': 5,
        'lseek': 8,
        'flock': 73,
        'fsync': 74,
        'fchmod': 91,
        'fchown': 93,
        'flistxattr': 196,
        'openat': 257,
        'newfstatat': 262,
        'unlinkat': 263,
        'renameat': 264,
        'linkat': 265,
        'faccessat2': 439,
    },
    'aarch64': {
        'write': 64,
        'close': 57,
        'fstat': 80,
        'lseek': 62,
        'flock': 32,
        'fsync': 82,
        'fchmod': 52,
        'fchown': 55,
        'flistxattr': 13,
        'openat': 56,
        'newfstatat': 79,
        'unlinkat': 35,
        'renameat': 38,
        'linkat': 37,
        'faccessat2': 439,
    },
}.get(platform.machine(), {})
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2
_RETURN_ERRNO, _RETURN_ALLOW = 0x0005_0000, 0x7FFF_0000


def _refuse_from_now_on(number: int, code: int) -> None:
    """Have the kernel refuse one system call to this process, for ever."""
    steps = (
        (0x20, 0, 0, 0),  # load the number of the call
        (0x15, 0, 1, number),  # not this one: skip one step
        (0x06, 0, 0, _RETURN_ERRNO | code),
        (0x06, 0, 0, _RETURN_ALLOW),
    )
    program = b''.join(struct.pack('=HBBI', *step) for step in steps)
    buffer = ctypes.create_string_buffer(program)
    head = struct.pack('=H6xQ', len(steps), ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    zero = ctypes.c_ulong(0)
    if prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero):
        os._exit(UNABLE)
    if prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_MODE_FILTER), head, zero, zero):
        os._exit(UNABLE)


DONE, REFUSED, WRONG, UNABLE = range(4)


def _publish_refused(
    place: pathlib.Path, number: int, code: int, *, entered: bool, over: bool
) -> int:
    """Publish in a child to which one system call is refused."""
    pid = os.fork()
    if pid == 0:
        outcome = WRONG
        try:
            warnings.simplefilter('ignore')
            writer = portalocker.open_atomic(place / 'target', overwrite=over)
            if not entered:
                _refuse_from_now_on(number, code)
            fh = writer.__enter__()
            if entered:
                _refuse_from_now_on(number, code)
            fh.write(NEW[:10_000])
            fh.write(NEW[10_000:])
            writer.__exit__(None, None, None)
            outcome = DONE
        except OSError as error:
            outcome = REFUSED if error.errno == code else WRONG
        finally:
            os._exit(outcome)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.skipif(not _NUMBERS, reason='numbers of system calls')
@pytest.mark.parametrize('over', [False, True])
@pytest.mark.parametrize('entered', [False, True])
@pytest.mark.parametrize('call', _NUMBERS)
def test_no_system_call_that_is_refused_tears_or_loses(
    place: pathlib.Path, call: str, entered: bool, over: bool
) -> None:
    for code in CODES:
        target = place / 'target'
        target.unlink(missing_ok=True)
        if over:
            target.write_bytes(OLD)
        outcome = _publish_refused(
            place, _NUMBERS[call], code, entered=entered, over=over
        )
        if outcome == UNABLE:
            pytest.skip('no seccomp here')
        content = target.read_bytes() if target.exists() else None
        old = OLD if over else None
        assert outcome in {DONE, REFUSED}
        assert content == NEW if outcome == DONE else content in {old, NEW}
        if call == 'fsync':
            assert (outcome, content) == (REFUSED, old)
        reapers.reap(place)
        for path in place.iterdir():
            if path != target:
                assert path.suffix == '.kept'
                assert path.read_bytes() == NEW
                path.unlink()


# -- kills -----------------------------------------------------------------


def _content(number: int) -> bytes:
    return bytes([number % 251]) * 40_000


def _write_in_parts(path: pathlib.Path, number: int, *, over: bool) -> None:
    with portalocker.open_atomic(path, overwrite=over, durable=False) as fh:
        fh.write(_content(number)[:20_000])
        fh.write(_content(number)[20_000:])


def _new(place: pathlib.Path, number: int) -> None:
    _write_in_parts(place / f'{os.getpid()}.{number}', number, over=False)


def _over(place: pathlib.Path, number: int) -> None:
    _write_in_parts(place / 'target', number, over=True)


def _update(place: pathlib.Path, number: int) -> None:
    atomic.update_atomic(
        place / 'target', lambda _: _content(number), durable=False
    )


@pytest.mark.parametrize(
    'way',
    [
        way
        if way in {'best of this system', 'no nameless files'}
        else pytest.param(way, marks=pytest.mark.stress)
        for way in ways.WAYS
    ],
)
@pytest.mark.parametrize('write', [_new, _over, _update])
def test_kill_leaves_nothing_torn_and_nothing_that_is_not_reaped(
    place: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    write: Callable[[pathlib.Path, int], None],
    way: str,
) -> None:
    ways.WAYS[way](monkeypatch)
    (place / 'target').write_bytes(_content(0))
    for kill in range(KILLS):
        _kill_while(lambda number: write(place, number), kill % 10 / 5000)
        if way == 'best of this system' and write is _new:
            assert not [n for n in os.listdir(place) if n.startswith('.')]
        reapers.reap(place)
        for path in place.iterdir():
            assert not path.name.startswith('.'), path
            content = path.read_bytes()
            assert len(content) == 40_000, path
            assert len(set(content)) == 1, path
            if path.name != 'target':
                path.unlink()


def _kill_while(work: Callable[[int], None], moment: float) -> None:
    """Fork a writer, kill it `moment` seconds after its first file."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for number in range(1_000_000):
                work(number)
                if number == 0:
                    os.write(writer, b'.')
        finally:
            os._exit(1)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b'.'
        threading.Event().wait(moment)
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
