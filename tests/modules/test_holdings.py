"""Which threads hold a lock object, and with which handle."""

from __future__ import annotations

import gc
import io
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from portalocker import _holdings


class Recorder:
    """What a hold has to give back: it records how that is done."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def close(self) -> None:
        self.calls.append('close')

    def clean_up(self) -> None:
        self.calls.append('clean_up')

    def detach(self) -> None:
        self.calls.append('detach')


def in_another_thread(task: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(task()))
    thread.start()
    thread.join()
    return results.pop()


@pytest.fixture
def mine() -> _holdings.Holding:
    return _holdings.Holding(io.StringIO(), None)


def test_a_thread_keeps_its_token() -> None:
    assert _holdings.current_claimant() is _holdings.current_claimant()


def test_threads_have_different_tokens() -> None:
    first = in_another_thread(_holdings.current_claimant)
    second = in_another_thread(_holdings.current_claimant)
    assert first is not second
    assert _holdings.current_claimant() not in (first, second)


def test_a_token_goes_with_its_thread() -> None:
    reference = weakref.ref(in_another_thread(_holdings.current_claimant))
    gc.collect()
    assert reference() is None


def test_a_hold_belongs_to_the_thread_that_took_it(
    mine: _holdings.Holding,
) -> None:
    holdings = _holdings.Holdings()
    assert holdings.own() is None
    holdings.put(mine)
    assert holdings.own() is mine
    assert in_another_thread(holdings.own) is None


def test_a_hold_whose_handle_is_closed_is_over() -> None:
    turn, remains = Recorder(), Recorder()
    closed = _holdings.Holding(io.StringIO(), turn)
    closed.remains = remains
    holdings = _holdings.Holdings()
    holdings.put(closed)
    assert not closed.is_over()
    closed.fh.close()
    assert closed.is_over()
    assert holdings.own() is None
    # It stays to be released, once
    assert list(holdings.values()) == [closed]
    assert turn.calls == ['close', 'clean_up']
    assert remains.calls == ['detach']


def test_the_next_in_line_is_woken_before_we_clean_up_once() -> None:
    turn, remains = Recorder(), Recorder()
    holding = _holdings.Holding(io.StringIO(), turn)
    holding.remains = remains
    holding.pass_on()
    assert (turn.calls, remains.calls) == (['close'], [])
    holding.clean_up()
    holding.clean_up()
    holding.pass_on()
    assert turn.calls == ['close', 'close', 'clean_up']
    assert remains.calls == ['detach']


def test_a_hold_without_a_turn_passes_nothing_on(
    mine: _holdings.Holding,
) -> None:
    mine.pass_on()
    mine.clean_up()


def test_whoever_never_acquired_takes_each_hold_of_others_once(
    mine: _holdings.Holding,
) -> None:
    other = _holdings.Holding(io.StringIO(), None)
    holdings = _holdings.Holdings()
    in_another_thread(lambda: holdings.put(mine))
    in_another_thread(lambda: holdings.put(other))
    assert holdings.any_handle() in (mine.fh, other.fh)
    taken = {holdings.take_from_another() for _ in range(2)}
    assert taken == {mine, other}
    assert holdings.take_from_another() is None
    assert holdings.any_handle() is None


@pytest.mark.parametrize('has_held', [True, False])
def test_whoever_acquired_takes_nothing_from_others(
    has_held: bool, mine: _holdings.Holding
) -> None:
    holdings = _holdings.Holdings()
    if has_held:
        holdings.put(_holdings.Holding(io.StringIO(), None))
        holdings.pop(_holdings.current_claimant())
    else:
        holdings.note_user()
    in_another_thread(lambda: holdings.put(mine))
    assert holdings.take_from_another() is None
    assert holdings.any_handle() is mine.fh


def test_a_hold_that_is_forgotten_leaves_those_of_others(
    mine: _holdings.Holding,
) -> None:
    holdings = _holdings.Holdings()
    theirs = _holdings.Holding(io.StringIO(), None)
    holdings.put(mine)
    in_another_thread(lambda: holdings.put(theirs))
    holdings.forget(theirs)
    assert list(holdings.values()) == [mine]
    holdings.forget(theirs)
    holdings.forget(mine)
    assert not holdings


def test_whoever_acquired_releases_its_own_hold_only(
    mine: _holdings.Holding,
) -> None:
    holdings = _holdings.Holdings()
    theirs = _holdings.Holding(io.StringIO(), None)
    in_another_thread(lambda: holdings.put(theirs))
    assert holdings.to_release() is theirs
    holdings.put(mine)
    assert holdings.to_release() is mine
    holdings.forget(mine)
    assert holdings.to_release() is None
    assert list(holdings.values()) == [theirs], 'nothing was taken out'


def test_a_thread_acts_as_another_claimant_for_one_block(
    mine: _holdings.Holding,
) -> None:
    myself = _holdings.current_claimant()
    other = _holdings.Claimant()
    holdings = _holdings.Holdings()
    with _holdings.ActingAs(other):
        assert _holdings.current_claimant() is other
        holdings.put(mine)
    assert _holdings.current_claimant() is myself
    assert holdings.own() is None
    assert holdings[other] is mine


def test_a_child_that_forgot_all_has_never_acquired(
    mine: _holdings.Holding,
) -> None:
    holdings = _holdings.Holdings()
    holdings.put(mine)
    assert holdings.forget_all() == [mine]
    assert not holdings
    in_another_thread(lambda: holdings.put(mine))
    assert holdings.take_from_another() is mine


def test_holds_are_over_when_every_handle_is_closed(
    mine: _holdings.Holding,
) -> None:
    holdings = _holdings.Holdings()
    theirs = _holdings.Holding(io.StringIO(), None)
    holdings.put(mine)
    in_another_thread(lambda: holdings.put(theirs))
    mine.fh.close()
    assert not holdings.are_over()
    theirs.fh.close()
    assert holdings.are_over()


def test_few_users_are_remembered() -> None:
    holdings = _holdings.Holdings()
    for _ in range(3):
        holdings._users.update(
            _holdings.Claimant() for _ in range(_holdings._MOST_USERS)
        )
        holdings.note_user()
        assert len(holdings._users) <= _holdings._MOST_USERS


def test_only_the_outermost_block_leaves(mine: _holdings.Holding) -> None:
    holdings = _holdings.Holdings()
    holdings.put(mine)
    holdings.enter()
    holdings.enter()
    assert not in_another_thread(holdings.leave)
    assert in_another_thread(holdings.enter) is None
    assert not holdings.leave()
    assert holdings.leave()
