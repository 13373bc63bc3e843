"""What users may rely on: every public name, its parameters, its defaults.

A change here is a change for users: it belongs into the CHANGELOG.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import os
import pathlib
import subprocess
import sys
import tomllib
import types as python_types
import typing

import pytest
from package_source import ROOT, run_bare

import portalocker
import portalocker.constants
import portalocker.exceptions
import portalocker.portalocker
import portalocker.types
import portalocker.utils
from portalocker.constants import LockFlags

#: module: what it offers, which is also its `__all__` where it has one
OFFERS = {
    'portalocker': {
        'LOCK_EX',
        'LOCK_NB',
        'LOCK_SH',
        'LOCK_UN',
        'AlreadyActive',
        'AlreadyLocked',
        'BoundedSemaphore',
        'DeadlockError',
        'DestinationExists',
        'FileToLarge',
        'Holder',
        'Lock',
        'LockException',
        'LockFlags',
        'LockLost',
        'LockLostError',
        'NamedBoundedSemaphore',
        'PidFileLock',
        'RLock',
        'RedisLock',
        'RemoteHolder',
        'TemporaryFileLock',
        '__author__',
        '__email__',
        '__version__',
        'lock',
        'open_atomic',
        'unlock',
        'write_bytes_atomic',
        'write_text_atomic',
    },
    'portalocker.atomic': {
        'open_atomic',
        'replace_directory',
        'update_atomic',
        'write_bytes_atomic',
        'write_text_atomic',
    },
    'portalocker.reapers': {'private_directory', 'reap'},
    'portalocker.utils': {'Lock', 'open_atomic'},
}

#: names beyond `__all__` that users import from where they live
ALSO = {
    'portalocker': {
        'constants',
        'exceptions',
        'portalocker',
        'utils',
    },
    'portalocker.constants': {'LOCK_EX', 'LOCK_NB', 'LOCK_SH', 'LOCK_UN'},
    'portalocker.exceptions': {
        'AlreadyLocked',
        'BaseLockException',
        'FileToLarge',
        'LockException',
    },
    'portalocker.portalocker': {
        'LOCKER',
        'BaseLocker',
        'FlockLocker',
        'LockCallable',
        'LockfLocker',
        'MsvcrtLocker',
        'OfdLocker',
        'PosixLocker',
        'UnlockCallable',
        'Win32Locker',
        'lock',
        'unlock',
    },
    'portalocker.types': {
        'IO',
        'FileArgument',
        'FileOpenKwargs',
        'Filename',
        'HasFileno',
        'Mode',
    },
    'portalocker.utils': {
        'DEFAULT_CHECK_INTERVAL',
        'DEFAULT_FAIL_WHEN_LOCKED',
        'DEFAULT_TIMEOUT',
        'LOCK_METHOD',
        'BoundedSemaphore',
        'LockBase',
        'NamedBoundedSemaphore',
        'PidFileLock',
        'RLock',
        'TemporaryFileLock',
        'coalesce',
        'logger',
    },
    'portalocker.__about__': {'get_version'},
    'portalocker.__main__': {
        'base_path',
        'combine',
        'dist_path',
        'main',
        'src_path',
    },
}

EX_NB = LockFlags.EXCLUSIVE | LockFlags.NON_BLOCKING
WAITING = '(timeout=None, check_interval=None, fail_when_locked=None)'

SIGNATURES = {
    '__about__.get_version': '()',
    '__main__._clean_line': '(line, names)',
    '__main__._read_file': '(path, seen_files)',
    '__main__.combine': '(args)',
    '__main__.main': '(argv=None)',
    'exceptions.BaseLockException': (
        '(*args, fh=None, filename=None, holders=(), waited=None, **kwargs)'
    ),
    'portalocker.BaseLocker.lock': '(self, file_obj, flags)',
    'portalocker.BaseLocker.unlock': '(self, file_obj)',
    'portalocker.FlockLocker.lock': '(self, file_obj, flags)',
    'portalocker.FlockLocker.unlock': '(self, file_obj)',
    'portalocker.MsvcrtLocker.lock': '(self, file_obj, flags)',
    'portalocker.MsvcrtLocker.unlock': '(self, file_obj)',
    'portalocker.PosixLocker._get_fd': '(self, file_obj)',
    'portalocker.PosixLocker.lock': '(self, file_obj, flags)',
    'portalocker.PosixLocker.unlock': '(self, file_obj)',
    'portalocker.Win32Locker._get_os_handle': '(self, fd)',
    'portalocker.Win32Locker.lock': '(self, file_obj, flags)',
    'portalocker.Win32Locker.unlock': '(self, file_obj)',
    'portalocker._prepare_windows_file': '(file_obj)',
    'portalocker._restore_windows_file_pos': '(file_io_obj, original_pos)',
    'portalocker.lock': '(file, flags)',
    'portalocker.unlock': '(file)',
    'atomic.replace_directory': (
        "(source, destination, *, durable='file', allow_gap=False)"
    ),
    'atomic.update_atomic': (
        '(filename, change, binary=True, *, default=None, timeout=None, '
        'encoding=None, errors=None, newline=None, **options)'
    ),
    'atomic.write_bytes_atomic': '(filename, content, **options)',
    'atomic.write_text_atomic': '(filename, content, **options)',
    'reapers.private_directory': "(name='portalocker', dir=None)",
    'reapers.reap': "(dir=None, prefix='', min_age=0, dry_run=False)",
    'utils.BoundedSemaphore': (
        "(maximum, name='bounded_semaphore', "
        "filename_pattern='{name}.{number:02d}.lock', directory=None, "
        'timeout=None, check_interval=None, fail_when_locked=True)'
    ),
    'utils.BoundedSemaphore.acquire': WAITING,
    'utils.BoundedSemaphore.get_filename': '(self, number)',
    'utils.BoundedSemaphore.get_filenames': '(self)',
    'utils.BoundedSemaphore.get_random_filenames': '(self)',
    'utils.BoundedSemaphore.release': '(self)',
    'utils.BoundedSemaphore.try_lock': '(self, filenames)',
    'utils.Lock': (
        "(filename, mode='a', timeout=None, check_interval=0.25, "
        f'fail_when_locked=False, flags={EX_NB!r}, **file_open_kwargs)'
    ),
    'utils.Lock._get_fh': '(self)',
    'utils.Lock._get_lock': '(self, fh)',
    'utils.Lock._prepare_fh': '(self, fh)',
    'utils.Lock.acquire': WAITING,
    'utils.Lock.release': '(self)',
    'utils.Lock.try_acquire': '(self)',
    'utils.LockBase': WAITING,
    'utils.LockBase.__delete__': '(self, instance)',
    'utils.LockBase.__exit__': '(self, exc_type, exc_value, traceback)',
    'utils.LockBase._timeout_generator': (
        '(self, timeout, check_interval, pause=None)'
    ),
    'utils.LockBase.acquire': WAITING,
    'utils.LockBase.release': '(self)',
    'utils.NamedBoundedSemaphore': (
        '(maximum, name=None, '
        "filename_pattern='{name}.{number:02d}.lock', directory=None, "
        'timeout=None, check_interval=None, fail_when_locked=True)'
    ),
    'utils.PidFileLock': (
        "(filename='.pid', timeout=5, check_interval=0.25, "
        f'fail_when_locked=True, flags={EX_NB!r})'
    ),
    'utils.PidFileLock.acquire': WAITING,
    'utils.PidFileLock.read_pid': '(self)',
    'utils.PidFileLock.release': '(self)',
    'utils.RLock': (
        "(filename, mode='a', timeout=5, check_interval=0.25, "
        f'fail_when_locked=False, flags={EX_NB!r})'
    ),
    'utils.RLock.acquire': WAITING,
    'utils.RLock.release': '(self)',
    'utils.TemporaryFileLock': (
        "(filename='.lock', timeout=5, check_interval=0.25, "
        f'fail_when_locked=True, flags={EX_NB!r})'
    ),
    'utils.TemporaryFileLock.release': '(self)',
    'utils.coalesce': '(*args, test_value=None)',
    'utils.open_atomic': (
        '(filename, binary=True, *, overwrite=False, mode=None, '
        "encoding=None, errors=None, newline=None, durable='file', "
        "preserve=('mode', 'owner', 'xattr'), follow_symlinks=True, "
        'make_parents=True)'
    ),
}


@pytest.mark.parametrize('module', OFFERS)
def test_all_is_exactly_the_list(module: str) -> None:
    offered = importlib.import_module(module).__all__
    assert set(offered) == OFFERS[module]
    assert len(offered) == len(OFFERS[module])


@pytest.mark.parametrize(
    ('module', 'name'),
    [
        (module, name)
        for module, names in [*OFFERS.items(), *ALSO.items()]
        for name in sorted(names - {'RedisLock'})  # see below
    ],
)
def test_name_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize('path', sorted(SIGNATURES))
def test_signature_is_as_promised(path: str) -> None:
    expected = SIGNATURES[path]
    found = _signature_of(path)
    if expected == WAITING and path.endswith('.acquire'):
        expected = '(self, ' + WAITING[1:]
    assert found == expected


def _signature_of(path: str) -> str:
    """Return the parameters and defaults of a callable, types left out."""
    module, *names = path.split('.')
    found: typing.Any = importlib.import_module(f'portalocker.{module}')
    for name in names:
        found = getattr(found, name)
    signature = inspect.signature(found)
    bare = signature.replace(
        parameters=[
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in signature.parameters.values()
        ],
        return_annotation=inspect.Signature.empty,
    )
    return str(bare)


def test_flags_are_the_words_of_the_system() -> None:
    fcntl = pytest.importorskip('fcntl')
    for name in ('LOCK_EX', 'LOCK_SH', 'LOCK_NB', 'LOCK_UN'):
        bare = getattr(portalocker.constants, name)
        assert type(bare) is int
        assert bare == getattr(fcntl, name)
        assert getattr(portalocker, name) is LockFlags(bare)
    assert {flag.name for flag in LockFlags} == {
        'EXCLUSIVE',
        'NON_BLOCKING',
        'SHARED',
        'UNBLOCK',
    }


def test_defaults_are_as_promised() -> None:
    assert portalocker.utils.DEFAULT_TIMEOUT == 5
    assert portalocker.utils.DEFAULT_CHECK_INTERVAL == 0.25
    assert portalocker.utils.DEFAULT_FAIL_WHEN_LOCKED is False
    assert portalocker.utils.LOCK_METHOD == EX_NB


@pytest.mark.parametrize(
    ('name', 'bases'),
    [
        ('BaseLockException', (Exception,)),
        ('LockException', ('BaseLockException',)),
        ('AlreadyLocked', ('LockException',)),
        ('FileToLarge', ('LockException',)),
    ],
)
def test_exceptions_descend_as_promised(
    name: str, bases: tuple[str | type, ...]
) -> None:
    known = portalocker.exceptions
    expected = tuple(
        getattr(known, base) if isinstance(base, str) else base
        for base in bases
    )
    assert getattr(known, name).__bases__ == expected
    assert getattr(known, name).LOCK_FAILED == 1


def test_locks_descend_as_promised() -> None:
    utils = portalocker.utils
    assert inspect.isabstract(utils.LockBase)
    assert issubclass(utils.Lock, utils.LockBase)
    assert issubclass(utils.RLock, utils.Lock)
    assert issubclass(utils.TemporaryFileLock, utils.Lock)
    assert issubclass(utils.PidFileLock, utils.TemporaryFileLock)
    assert issubclass(utils.BoundedSemaphore, utils.LockBase)
    assert issubclass(utils.NamedBoundedSemaphore, utils.BoundedSemaphore)


def test_names_of_the_face_are_those_of_the_rooms() -> None:
    assert portalocker.Lock is portalocker.utils.Lock
    assert portalocker.open_atomic is portalocker.utils.open_atomic
    assert portalocker.lock is portalocker.portalocker.lock
    assert portalocker.unlock is portalocker.portalocker.unlock
    assert isinstance(portalocker.portalocker, python_types.ModuleType)


def test_semaphore_slots_are_in_the_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    slots = portalocker.NamedBoundedSemaphore(2, name='x').get_filenames()
    assert [pathlib.Path(slot) for slot in slots] == [
        tmp_path / 'x.00.lock',
        tmp_path / 'x.01.lock',
    ]


def test_modes_are_a_flat_literal() -> None:
    modes = set(typing.get_args(portalocker.types.Mode))
    assert {'r', 'rb', 'w', 'w+b', 'a', 'ab', 'x', 'xb', 'U'} <= modes
    assert all(isinstance(mode, str) for mode in modes)


def test_open_kwargs_are_those_of_open() -> None:
    assert set(portalocker.types.FileOpenKwargs.__annotations__) == {
        'buffering',
        'closefd',
        'encoding',
        'errors',
        'newline',
        'opener',
    }


def test_logger_has_the_name_that_applications_silence() -> None:
    logger: logging.Logger = portalocker.utils.logger
    assert logger.name == 'portalocker.utils'


def test_version_is_the_projects() -> None:
    pyproject = tomllib.loads((ROOT / 'pyproject.toml').read_text())
    version = pyproject['project']['version']
    assert portalocker.__version__ == version
    from_tree = 'import portalocker; print(portalocker.__version__)'
    assert run_bare(from_tree, ROOT).strip() == version


def test_timeout_may_be_infinite(tmp_path: pathlib.Path) -> None:
    with portalocker.Lock(tmp_path / 'lock', timeout=math.inf) as fh:
        assert not fh.closed


def test_package_says_it_is_typed() -> None:
    assert (ROOT / 'portalocker' / 'py.typed').is_file()


def test_redis_lock_without_its_client_says_what_to_install() -> None:
    code = """
import portalocker
try:
    portalocker.RedisLock('channel')
except ImportError as error:
    print(error)
"""
    assert 'portalocker[redis]' in run_bare(code, ROOT)


def test_module_runs_as_a_command() -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'portalocker', '--help'],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for word in ('run', 'who', 'reap', 'counters', 'combine'):
        assert word in done.stdout


@pytest.mark.parametrize(
    ('module', 'extra'),
    [
        ('prometheus', 'portalocker[prometheus]'),
        ('open_telemetry', 'portalocker[opentelemetry]'),
    ],
)
def test_exporter_without_its_client_says_what_to_install(
    module: str, extra: str
) -> None:
    code = f"""
try:
    import portalocker.exporters.{module}
except ModuleNotFoundError as error:
    print(error, error.name)
"""
    told = run_bare(code, ROOT)
    assert told.startswith('cannot export to '), told
    assert f'pip install "{extra}"' in told
