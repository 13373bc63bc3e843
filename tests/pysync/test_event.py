"""Event: once, for all, for ever."""

from __future__ import annotations

from typing import Any

import pytest
from crew import SHORT, WRONG_TIME, Crew, in_thread, until_parked


def test_it_happens_once_and_stays(sync: Any) -> None:
    event = sync.Event()
    assert not event.is_set()
    assert event.wait(0) is False
    assert event.wait(-1) is False
    assert event.wait(SHORT) is False
    assert event.wait_timed(0) is False
    assert event.wait_timed(SHORT) is False
    for _ in range(2):
        assert event.set() is None
        assert event.is_set()
        for timeout in (None, -1, 0, SHORT):
            assert event.wait(timeout) is True
            assert event.wait_timed(timeout) is True
    assert event.notify() is None
    assert event.is_set()


@pytest.mark.parametrize(
    ('wait', 'timeouts'),
    [('wait', [(), (None,), (60,)]), ('wait_timed', [(None,), (-1,), (60,)])],
)
@pytest.mark.parametrize('happen', ['set', 'notify'])
def test_all_waiters_go_on(
    sync: Any, wait: str, timeouts: Any, happen: str
) -> None:
    event = sync.Event()
    seen = []
    with Crew() as crew:
        for timeout in timeouts:
            crew.start(
                lambda t: seen.append(getattr(event, wait)(*t)), timeout
            )
        until_parked(sync, event, len(timeouts))
        assert seen == []
        in_thread(getattr(event, happen))
    assert seen == [True] * len(timeouts)


def test_a_wake_up_by_key_is_no_event(sync: Any) -> None:
    event = sync.Event()
    with Crew() as crew:
        crew.start(event.wait)
        until_parked(sync, event)
        assert sync.unpark(event)
        until_parked(sync, event)
        event.set()


def test_a_timed_out_waiter_harms_nobody(sync: Any) -> None:
    event = sync.Event()
    assert not event.wait(SHORT)
    assert sync.parked_count(event) == 0
    with Crew() as crew:
        crew.start(event.wait)
        until_parked(sync, event)
        event.set()


def test_wrong_timeouts(sync: Any) -> None:
    event = sync.Event()
    for wait in (event.wait, event.wait_timed):
        with pytest.raises(OverflowError):
            wait(1e300)
        with pytest.raises(TypeError):
            wait('soon')
    with pytest.raises(ValueError, match=WRONG_TIME):
        event.wait_timed(float('nan'))
    assert sync.parked_count(event) == 0


def test_repr(sync: Any) -> None:
    event = sync.Event()
    assert (
        repr(event) == f'<portalocker.pysync.Event at {id(event):#x}: unset>'
    )
    event.set()
    assert repr(event).endswith(': set>')
