"""One lock is one lock; weak references see it go."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest

NAMES = (
    'AtomicInt',
    'CriticalSection',
    'Event',
    'Mutex',
    'OnceCell',
    'OnceFlag',
    'RWMutex',
    'RawMutex',
    'RecursiveMutex',
    'SeqLock',
)


@pytest.fixture(params=(*NAMES, 'reader', 'writer'))
def make(request: pytest.FixtureRequest, sync: Any) -> Any:
    name = request.param
    if name in NAMES:
        return getattr(sync, name)
    return lambda: getattr(sync.RWMutex(), name)


@pytest.mark.parametrize('duplicate', [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_cannot_be_duplicated(make: Any, duplicate: Any) -> None:
    with pytest.raises(TypeError, match=r'cannot copy portalocker\.pysync'):
        duplicate(make())


def test_weak_references_see_it_go(make: Any) -> None:
    thing = make()
    reference = weakref.ref(thing)
    assert reference() is thing
    del thing
    gc.collect()
    assert reference() is None


def test_it_is_gone_without_the_collector(sync: Any) -> None:
    gc.disable()
    try:
        for name in NAMES:
            reference = weakref.ref(getattr(sync, name)())
            assert reference() is None, name
    finally:
        gc.enable()


def test_wrong_arguments_are_refused(make: Any, sync: Any) -> None:
    with pytest.raises(TypeError):
        make('unexpected')


def test_constructors_without_options(sync: Any) -> None:
    for name in NAMES:
        with pytest.raises(TypeError):
            getattr(sync, name)(unexpected=1)
