"""What the tests on Windows share."""

from __future__ import annotations

import ctypes
import importlib.util
import pathlib
import sys

import pytest
import windows_lock_process as processes

from portalocker import _windows_lockers

WAYS = ('pywin32', 'ctypes')


def runs_under_wine() -> bool:
    """Wine is not Windows: its locks are advisory."""
    return hasattr(ctypes.WinDLL('ntdll'), 'wine_get_version')


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        'markers', 'mandatory_locks: wants locks that bar readers and writers'
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not runs_under_wine():
        return
    skip = pytest.mark.skip(reason='the locks of Wine are advisory')
    for item in items:
        if item.get_closest_marker('mandatory_locks') is not None:
            item.add_marker(skip)


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """An existing file with three lines, 12 bytes each."""
    file = tmp_path / 'file.txt'
    file.write_bytes(b''.join(b'the line %d\r\n' % n for n in range(3)))
    return file


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch) -> str:
    """How LockFileEx is reached."""
    if request.param == 'ctypes':
        monkeypatch.setitem(sys.modules, 'win32file', None)
    elif importlib.util.find_spec('win32file') is None:
        pytest.skip('pywin32 is not installed')
    return request.param


@pytest.fixture(params=sorted(processes.LOCKERS))
def locker(
    request: pytest.FixtureRequest, way: str
) -> _windows_lockers.Win32Locker | _windows_lockers.MsvcrtLocker:
    """Each locker, each way."""
    return processes.LOCKERS[request.param]()
