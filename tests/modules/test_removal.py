"""A lock file that is removed with its lock."""

from __future__ import annotations

import gc
import os
import pathlib
import sys
import time
from typing import Any

import pytest

import portalocker
from portalocker import _acquisition, _opening, _removal
from portalocker import portalocker as module
from portalocker.exceptions import LockLost

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

import fcntl

EX, SH, NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    lock_file = tmp_path / 'file.lock'
    lock_file.touch()
    return str(lock_file)


@pytest.fixture
def companion(path: str) -> str:
    name = path + '.companion'
    pathlib.Path(name).touch()
    return name


# reap


def test_what_nobody_holds_is_reaped_with_its_companions(
    path: str, companion: str
) -> None:
    assert _removal.reap(path, (companion, companion + '.missing'))
    assert os.listdir(os.path.dirname(path)) == []


@pytest.mark.parametrize('kind', [EX, SH])
def test_what_somebody_holds_is_left(
    kind: int, path: str, companion: str
) -> None:
    with open(path) as fh:
        fcntl.flock(fh, kind)
        assert not _removal.reap(path, (companion,))
    assert os.path.exists(path)
    assert os.path.exists(companion)


def test_nothing_is_made_to_be_reaped(path: str) -> None:
    os.unlink(path)
    assert not _removal.reap(path)
    assert not os.path.exists(path)


def test_a_link_or_a_fifo_is_not_reaped(path: str) -> None:
    link = path + '.link'
    os.symlink(path, link)
    assert not _removal.reap(link)
    assert os.path.islink(link) and os.path.exists(path)


def test_a_file_replaced_while_it_is_reaped_stays(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.lock

    def lock(file: Any, flags: Any) -> None:
        real(file, flags)
        os.unlink(path)
        pathlib.Path(path).write_text('foreign')

    monkeypatch.setattr(module, 'lock', lock)
    assert not _removal.reap(path)
    assert pathlib.Path(path).read_text() == 'foreign'


def test_where_locks_belong_to_the_process_nothing_is_reaped(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, 'LOCKER', fcntl.lockf)
    with open(path, 'r+') as fh:
        fcntl.lockf(fh, EX)
        assert not _removal.reap(path)
    assert os.path.exists(path)


def test_a_directory_that_forbids_it_is_no_reason_to_raise(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(name: str) -> None:
        raise PermissionError('no')

    monkeypatch.setattr(os, 'unlink', forbid)
    assert not _removal.reap(path)


# unlink_if_there


def test_unlinking_what_is_gone_does_nothing(path: str) -> None:
    _removal.unlink_if_there(path)
    _removal.unlink_if_there(path)
    assert not os.path.exists(path)


def test_where_open_files_cannot_be_unlinked_it_is_tried_again(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [PermissionError('open')] * 2
    pauses: list[float] = []
    real = os.unlink

    def unlink(name: str) -> None:
        if refusals:
            raise refusals.pop()
        real(name)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'unlink', unlink)
        patch.setattr(os, 'name', 'nt')
        patch.setattr(time, 'sleep', pauses.append)
        _removal.unlink_if_there(path)
    assert not os.path.exists(path)
    assert len(pauses) == 2


def test_a_file_that_stays_open_stays(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def unlink(name: str) -> None:
        tries.append(name)
        raise PermissionError('open')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'unlink', unlink)
        patch.setattr(os, 'name', 'nt')
        patch.setattr(time, 'sleep', lambda seconds: None)
        _removal.unlink_if_there(path)
    assert len(tries) == _removal._UNLINK_TRIES
    assert os.path.exists(path)


def test_elsewhere_a_refusal_is_final(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(name: str) -> None:
        raise PermissionError('no')

    with monkeypatch.context() as patch:
        patch.setattr(os, 'unlink', forbid)
        with pytest.raises(PermissionError):
            _removal.unlink_if_there(path)


# remove_held


def test_the_holder_removes_its_file(path: str, companion: str) -> None:
    with open(path) as fh:
        fcntl.flock(fh, EX)
        _removal.remove_held(fh, path, (companion,), is_shared=False)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_path_that_leads_elsewhere_is_not_ours(
    path: str, companion: str
) -> None:
    with open(path) as fh:
        fcntl.flock(fh, EX)
        os.unlink(path)
        pathlib.Path(path).touch()
        with pytest.raises(LockLost, match='not unlinking'):
            _removal.remove_held(fh, path, (companion,), is_shared=False)
    assert os.path.exists(path)
    assert os.path.exists(companion)


def test_the_last_of_the_shared_holders_removes(
    path: str, companion: str
) -> None:
    with open(path) as first, open(path) as second:
        fcntl.flock(first, SH)
        fcntl.flock(second, SH)
        _removal.remove_held(first, path, (companion,), is_shared=True)
        assert os.path.exists(path)
        assert os.path.exists(companion)
        fcntl.flock(first, fcntl.LOCK_UN)
        _removal.remove_held(second, path, (), is_shared=True)
        assert not os.path.exists(path)


@pytest.mark.skipif(
    not hasattr(fcntl, 'F_OFD_SETLK') or sys.platform != 'linux',
    reason='needs tickets',
)
def test_a_file_that_others_wait_for_is_left_to_them(
    path: str, companion: str
) -> None:
    from portalocker import _wakeup_queue

    with open(path, 'r+') as holder, open(path, 'r+') as waiter:
        fcntl.flock(holder, EX)
        opened = os.fstat(waiter.fileno())
        ticket = _wakeup_queue.take_ticket(waiter.fileno(), opened, 1)
        assert ticket is not None
        _removal.remove_held(holder, path, (companion,), is_shared=False)
        ticket.drop()
        ticket.wake_successors()
    assert os.path.exists(path)
    assert not os.path.exists(companion)


def test_a_holder_can_ask_whether_its_file_is_still_there(
    path: str,
) -> None:
    with open(path) as fh:
        _removal.check_not_lost(fh, path)
        os.unlink(path)
        with pytest.raises(LockLost, match='compromised'):
            _removal.check_not_lost(fh, path)


# remains


class Handle:
    """Like a file: it can be referenced weakly."""

    closed = True


def test_what_is_released_leaves_nothing_to_do(path: str) -> None:
    with open(path) as fh:
        remains = _removal.Remains(fh, path, (), is_shared=False)
        assert remains in _removal._remains.values()
        remains.detach()
        remains.detach()
        assert remains not in _removal._remains.values()
    del fh
    gc.collect()
    assert os.path.exists(path)


def test_a_collected_handle_is_reaped(path: str) -> None:
    handle = Handle()
    remains = _removal.Remains(handle, path, (), is_shared=False)
    del handle
    gc.collect()
    assert not os.path.exists(path)
    assert remains not in _removal._remains.values()


def test_a_collected_handle_does_not_take_the_file_of_the_next_holder(
    path: str,
) -> None:
    handle = Handle()
    remains = _removal.Remains(handle, path, (), is_shared=False)
    with open(path) as successor:
        fcntl.flock(successor, EX)
        del handle
        gc.collect()
        assert os.path.exists(path)
    assert remains not in _removal._remains.values()


@pytest.mark.parametrize('system', ['posix', 'nt'])
def test_what_is_held_at_the_end_is_removed_and_closed(
    system: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fh = open(path)  # noqa: SIM115
    fcntl.flock(fh, EX)
    remains = _removal.Remains(fh, path, (), is_shared=False)
    with monkeypatch.context() as patch:
        patch.setattr(os, 'name', system)
        remains.remove()
    assert fh.closed
    assert not os.path.exists(path)


def test_what_was_closed_by_hand_is_reaped_at_the_end(path: str) -> None:
    handle = Handle()
    _removal.Remains(handle, path, (), is_shared=False).remove()
    assert not os.path.exists(path)


def test_importing_the_package_registers_no_end() -> None:
    import subprocess

    program = (
        'import atexit; before = atexit._ncallbacks(); import portalocker; '
        'assert atexit._ncallbacks() == before'
    )
    root = str(pathlib.Path(portalocker.__file__).parent.parent)
    subprocess.run(
        [sys.executable, '-P', '-c', program],
        env={**os.environ, 'PYTHONPATH': root},
        check=True,
    )


# opening


def test_a_handle_that_is_closed_already_closes_quietly(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    _opening.close_quietly(fd)
    _opening.close_quietly(fd)
    fh = open(path)  # noqa: SIM115
    _opening.close_quietly(fh)
    _opening.close_quietly(fh)
    assert fh.closed


def test_the_status_of_handles_and_descriptors(path: str) -> None:
    with open(path) as fh:
        for thing in (fh, fh.fileno()):
            status = _acquisition.status_of(thing)
            assert os.path.samestat(status, os.stat(path))
