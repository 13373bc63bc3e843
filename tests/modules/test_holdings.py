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


class Closable:
    def __init__(self) -> None:
        self.closings = 0

    def close(self) -> None:
        self.closings += 1

    detach = close


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
    holdings[_holdings.current_claimant()] = mine
    assert holdings.own() is mine
    assert in_another_thread(holdings.own) is None


def test_a_hold_whose_handle_is_closed_is_over() -> None:
    turn, remains = Closable(), Closable()
    closed = _holdings.Holding(io.StringIO(), turn)
    closed.remains = remains
    holdings = _holdings.Holdings({_holdings.current_claimant(): closed})
    assert not closed.is_over()
    closed.fh.close()
    assert closed.is_over()
    assert holdings.own() is None
    assert not holdings
    assert turn.closings == 1


def test_the_next_in_line_is_woken_once() -> None:
    turn, remains = Closable(), Closable()
    holding = _holdings.Holding(io.StringIO(), turn)
    holding.remains = remains
    holding.pass_on()
    holding.pass_on()
    assert (turn.closings, remains.closings) == (1, 1)


def test_each_hold_is_taken_out_once(mine: _holdings.Holding) -> None:
    other = _holdings.Holding(io.StringIO(), None)
    stranger = in_another_thread(_holdings.Claimant)
    holdings = _holdings.Holdings(
        {_holdings.current_claimant(): mine, stranger: other}
    )
    assert holdings.any_handle() in (mine.fh, other.fh)
    assert {holdings.take_any(), holdings.take_any()} == {mine, other}
    assert holdings.take_any() is None
    assert holdings.any_handle() is None


def test_only_the_outermost_block_leaves(mine: _holdings.Holding) -> None:
    holdings = _holdings.Holdings({_holdings.current_claimant(): mine})
    holdings.enter()
    holdings.enter()
    assert not in_another_thread(holdings.leave)
    assert in_another_thread(holdings.enter) is None
    assert not holdings.leave()
    assert holdings.leave()
