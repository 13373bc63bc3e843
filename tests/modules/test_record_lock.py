"""`struct flock`: byte ranges for the record locks of fcntl."""

from __future__ import annotations

import importlib.util
import pathlib
import struct
import sys
import tempfile
import types

import pytest

from portalocker import _record_lock

if sys.platform == 'win32':
    pytest.skip('Windows has no fcntl', allow_module_level=True)

import fcntl


def loaded_for(
    platform: str, monkeypatch: pytest.MonkeyPatch
) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(
        'record_lock_copy', _record_lock.__file__
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, 'platform', platform)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('start', [0, 1, 1 << 62, (1 << 63) - 1])
@pytest.mark.parametrize('platform', ['linux', 'darwin'])
def test_a_range_is_unpacked_as_it_was_packed(
    start: int, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = loaded_for(platform, monkeypatch)
    packed = layout.pack_range(fcntl.F_RDLCK, start, 1)
    assert layout.unpack_range(packed) == (fcntl.F_RDLCK, start)


def test_each_system_gets_its_own_layout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    linux = loaded_for('linux', monkeypatch).pack_range(1, 2, 3)
    assert linux == struct.pack('hhqqi4x', 1, 0, 2, 3, 0)
    darwin = loaded_for('darwin', monkeypatch).pack_range(1, 2, 3)
    assert darwin == struct.pack('qqihh', 2, 3, 0, 1, 0)


@pytest.mark.skipif(
    not hasattr(fcntl, 'F_OFD_SETLK'), reason='needs F_OFD_SETLK'
)
def test_the_system_understands_the_layout(tmp_path: pathlib.Path) -> None:
    with (
        tempfile.NamedTemporaryFile(dir=tmp_path) as holder,
        open(holder.name, 'r+b') as other,
    ):
        fcntl.fcntl(
            holder,
            fcntl.F_OFD_SETLK,
            _record_lock.pack_range(fcntl.F_WRLCK, 40, 2),
        )
        answer = fcntl.fcntl(
            other,
            fcntl.F_OFD_GETLK,
            _record_lock.pack_range(fcntl.F_WRLCK, 0, 0),
        )
    assert _record_lock.unpack_range(answer) == (fcntl.F_WRLCK, 40)
