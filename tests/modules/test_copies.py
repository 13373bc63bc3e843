"""A copy of a lock, pickled or not, is another lock on the same path."""

from __future__ import annotations

import contextlib
import copy
import os
import pathlib
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from children import in_child

import portalocker

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS: dict[str, Callable[[str], Any]] = {
    'Lock': portalocker.Lock,
    'Lock, truncating': lambda path: portalocker.Lock(path, 'w'),
    'RLock': portalocker.RLock,
    'TemporaryFileLock': portalocker.TemporaryFileLock,
    'PidFileLock': portalocker.PidFileLock,
    'BoundedSemaphore': lambda path: portalocker.BoundedSemaphore(
        1, os.path.basename(path), directory=os.path.dirname(path), timeout=0
    ),
}
COPIES: dict[str, Callable[[Any], Any]] = {
    'pickle': lambda lock: pickle.loads(pickle.dumps(lock)),
    'copy': copy.copy,
    'deepcopy': copy.deepcopy,
}


@pytest.fixture(params=KINDS)
def lock(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Any:
    made = KINDS[request.param](str(tmp_path / 'lock'))
    yield made
    with contextlib.suppress(portalocker.LockException):  # of an RLock
        made.release()


@pytest.fixture(params=COPIES)
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return COPIES[request.param]


def test_of_a_held_lock_holds_nothing_and_is_kept_out(
    lock: Any, copied: Callable[[Any], Any]
) -> None:
    assert lock.try_acquire()
    other = copied(lock)
    with contextlib.suppress(portalocker.LockException):  # of an RLock
        other.release()
    assert not other.try_acquire()
    lock.release()
    assert other.try_acquire()
    assert not lock.try_acquire()
    other.release()


def test_that_is_dropped_leaves_the_hold_alone(
    lock: Any, copied: Callable[[Any], Any]
) -> None:
    assert lock.try_acquire()
    copied(lock)
    assert not copied(lock).try_acquire()


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork')
def test_is_released_in_a_forked_child(
    lock: Any, copied: Callable[[Any], Any]
) -> None:
    other = copied(lock)
    assert other.try_acquire()

    def try_it() -> None:
        assert not other.try_acquire()

    in_child(try_it)
    assert not lock.try_acquire()
    other.release()
