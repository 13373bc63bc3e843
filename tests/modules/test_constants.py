"""The words of a lock request and their values on each system."""

from __future__ import annotations

import os
import pathlib
import sys
import types

import pytest

import portalocker
from portalocker import constants

SOURCE = pathlib.Path(constants.__file__).read_text('utf-8')


def loaded_where_os_is(
    name: str,
    platform: str,
    monkeypatch: pytest.MonkeyPatch,
    **modules: types.ModuleType,
) -> dict[str, object]:
    namespace: dict[str, object] = {'__name__': 'constants'}
    with monkeypatch.context() as patch:
        for module_name, module in modules.items():
            patch.setitem(sys.modules, module_name, module)
        patch.setattr(sys, 'platform', platform)
        patch.setattr(os, 'name', name)
        exec(compile(SOURCE, constants.__file__, 'exec'), namespace)
    return namespace


@pytest.mark.skipif(os.name != 'posix', reason='values of POSIX')
def test_on_posix_the_flags_are_those_of_fcntl() -> None:
    import fcntl

    assert constants.LockFlags.EXCLUSIVE == constants.LOCK_EX == fcntl.LOCK_EX
    assert constants.LockFlags.SHARED == constants.LOCK_SH == fcntl.LOCK_SH
    assert (
        constants.LockFlags.NON_BLOCKING == constants.LOCK_NB == fcntl.LOCK_NB
    )
    assert constants.LockFlags.UNBLOCK == constants.LOCK_UN == fcntl.LOCK_UN


def test_bare_constants_are_integers_and_public_ones_are_flags() -> None:
    for name in ('LOCK_EX', 'LOCK_SH', 'LOCK_NB', 'LOCK_UN'):
        assert type(getattr(constants, name)) is int
        assert type(getattr(portalocker, name)) is constants.LockFlags
        assert getattr(constants, name) == getattr(portalocker, name)


def test_flags_combine_to_flags() -> None:
    both = constants.LockFlags.SHARED | constants.LockFlags.NON_BLOCKING
    assert isinstance(both, constants.LockFlags)
    assert both == constants.LOCK_SH | constants.LOCK_NB


def test_on_windows_the_flags_are_those_of_msvcrt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    msvcrt = types.ModuleType('msvcrt')
    msvcrt.LK_UNLCK = 0  # type: ignore[attr-defined]
    names = loaded_where_os_is('nt', 'win32', monkeypatch, msvcrt=msvcrt)
    values = [
        names[name] for name in ('LOCK_EX', 'LOCK_SH', 'LOCK_NB', 'LOCK_UN')
    ]
    assert values == [1, 2, 4, 0]


def test_an_unknown_system_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RuntimeError, match="'abacus'"):
        loaded_where_os_is('abacus', 'abacus', monkeypatch)


def test_tickets_lie_beyond_any_data_and_within_the_systems_offsets() -> None:
    years_of_nanoseconds = 100 * 366 * 24 * 3600 * 10**9
    assert constants.TICKET_BASE >= 1 << 62
    assert constants.TICKET_BASE + years_of_nanoseconds < 1 << 63
