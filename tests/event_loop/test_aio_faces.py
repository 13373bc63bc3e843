"""The locks for an event loop have the names of those for threads."""

from __future__ import annotations

import copy
import inspect
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from aio_kinds import KINDS, every_kind, is_free

import portalocker
from portalocker import aio, filelock, read_write

PAIRS: dict[str, tuple[type, type]] = {
    'Lock': (portalocker.Lock, aio.Lock),
    'RLock': (portalocker.RLock, aio.RLock),
    'ReadWriteLock': (read_write.ReadWriteLock, aio.ReadWriteLock),
    'BoundedSemaphore': (portalocker.BoundedSemaphore, aio.BoundedSemaphore),
    'NamedBoundedSemaphore': (
        portalocker.NamedBoundedSemaphore,
        aio.NamedBoundedSemaphore,
    ),
    'FileLock': (filelock.FileLock, aio.FileLock),
}
MAKE: dict[str, Callable[[type, pathlib.Path], Any]] = {
    'BoundedSemaphore': lambda kind, path: kind(
        2, path.name, directory=path.parent
    ),
    'NamedBoundedSemaphore': lambda kind, path: kind(
        2, path.name, directory=path.parent
    ),
}
# Whose acquire() gives something else, or whose wait ends in another way
OTHER_PARAMETERS = {'poll_intervall', 'cancel_check'}


def both(name: str, path: pathlib.Path) -> tuple[Any, Any]:
    make = MAKE.get(name, lambda kind, path: kind(path))
    return make(PAIRS[name][0], path), make(PAIRS[name][1], path)


def public(lock: Any) -> set[str]:
    return {name for name in dir(lock) if not name.startswith('_')}


@pytest.mark.parametrize('name', PAIRS)
def test_every_name_is_there(name: str, path: pathlib.Path) -> None:
    ours, theirs = both(name, path)
    assert public(ours) <= public(theirs)


@pytest.mark.parametrize('side', ['read', 'write'])
def test_every_name_of_a_side_is_there(side: str, path: pathlib.Path) -> None:
    ours, theirs = both('ReadWriteLock', path)
    assert public(getattr(ours, side)()) <= public(getattr(theirs, side)())


@pytest.mark.parametrize(
    'name', [name for name in PAIRS if name != 'FileLock']
)
def test_parameters_are_the_same(name: str) -> None:
    sync, task = (inspect.signature(kind) for kind in PAIRS[name])
    assert list(sync.parameters.values()) == list(task.parameters.values())


@pytest.mark.parametrize(
    'name', [name for name in PAIRS if name != 'ReadWriteLock']
)
def test_parameters_of_verbs_are_the_same(name: str) -> None:
    for verb in ('acquire', 'try_acquire', 'release'):
        sync, task = (
            [
                parameter.replace(annotation=inspect.Parameter.empty)
                for key, parameter in inspect.signature(
                    getattr(kind, verb)
                ).parameters.items()
                if key not in OTHER_PARAMETERS
            ]
            for kind in PAIRS[name]
        )
        assert sync == task, verb


def test_options_of_a_file_lock_are_checked(path: pathlib.Path) -> None:
    with pytest.raises(TypeError, match='no_such_option'):
        aio.FileLock(path, no_such_option=1)
    with pytest.raises(TypeError, match='lifetime'):
        aio.FileLock(path, lifetime=1)


SETTINGS = {
    'Lock': {'timeout': 3.5, 'check_interval': 0.5, 'fail_when_locked': True},
    'BoundedSemaphore': {
        'timeout': 3.5, 'check_interval': 0.5, 'fail_when_locked': False,
        'maximum': 3, 'name': 'another', 'filename_pattern': '{number}',
        'directory': '/somewhere',
    },
    'FileLock': {'timeout': 3.5, 'poll_interval': 0.5, 'blocking': False},
}  # fmt: skip


@pytest.mark.parametrize('name', SETTINGS)
def test_what_is_set_is_what_acquire_uses(
    name: str, path: pathlib.Path
) -> None:
    _, lock = both(name, path)
    for setting, value in SETTINGS[name].items():
        assert getattr(lock, setting) != value
        setattr(lock, setting, value)
        assert getattr(lock, setting) == value
        assert getattr(lock._half, setting) == value


def test_what_says_where_a_lock_is_cannot_be_set(path: pathlib.Path) -> None:
    lock = aio.Lock(path)
    with pytest.raises(AttributeError):
        lock.filename = 'elsewhere'  # type: ignore[misc]


COPIES: dict[str, Callable[[Any], Any]] = {
    'copy': copy.copy,
    'deepcopy': copy.deepcopy,
    'pickle': lambda lock: pickle.loads(pickle.dumps(lock)),
}


@every_kind
@pytest.mark.parametrize('how', COPIES)
def test_copy_is_a_lock_of_its_own_that_holds_nothing(
    kind: str, how: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = KINDS[kind](path)
        async with lock:
            other = COPIES[how](lock)
            assert type(other) is type(lock)
            if kind != 'read':
                assert not other.try_acquire()
            if kind != 'rlock':
                other.release()
            assert not is_free(path)
        assert other.try_acquire()
        assert lock.timeout == other.timeout
        other.release()

    run(main)


@pytest.mark.parametrize('how', COPIES)
def test_copy_of_a_read_write_lock_has_sides_that_belong_together(
    how: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.ReadWriteLock(path, timeout=2.5)
        async with lock.write():
            other = COPIES[how](lock)
            assert not other.read().try_acquire()
        assert other.filename == lock.filename
        assert other.write().timeout == 2.5
        async with other.write():
            other.downgrade()
            assert other.read().fh is not None

    run(main)


@pytest.mark.parametrize('how', COPIES)
def test_one_object_for_each_path_where_that_is_asked_for(
    how: str, path: pathlib.Path
) -> None:
    lock = aio.FileLock(path, is_singleton=True)
    assert aio.FileLock(str(path), is_singleton=True) is lock
    assert COPIES[how](lock) is lock
    assert aio.FileLock(path) is not lock
    with pytest.raises(ValueError, match='differing'):
        aio.FileLock(path, 3, is_singleton=True)
