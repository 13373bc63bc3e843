"""AtomicInt: a word of 64 bits."""

from __future__ import annotations

from typing import Any

import pytest
from crew import SHORT, WRONG_TIME, Crew, until_parked

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def test_operations(sync: Any) -> None:
    word = sync.AtomicInt()
    assert word.load() == 0
    assert sync.AtomicInt(-3).load() == -3
    assert word.store(5) is None
    assert word.exchange(7) == 5
    assert word.compare_exchange(5, 1) is False
    assert word.load() == 7
    assert word.compare_exchange(7, 12) is True
    assert word.fetch_add() == 12
    assert word.fetch_add(-3) == 13
    assert word.fetch_and(0b0110) == 10
    assert word.fetch_or(0b1001) == 2
    assert int(word) == word.load() == 11
    assert repr(word) == f'<portalocker.pysync.AtomicInt at {id(word):#x}: 11>'


def test_what_does_not_fit_changes_nothing(sync: Any) -> None:
    word = sync.AtomicInt(HIGHEST)
    for change in (
        lambda: word.fetch_add(1),
        lambda: word.fetch_add(HIGHEST),
        lambda: word.fetch_add(2**64),
        lambda: word.store(HIGHEST + 1),
        lambda: word.exchange(LOWEST - 1),
        lambda: word.compare_exchange(HIGHEST, 2**63),
        lambda: word.fetch_or(2**63),
        lambda: word.fetch_and(2**64),
        lambda: sync.AtomicInt(2**63),
    ):
        with pytest.raises(OverflowError):
            change()
    assert word.load() == HIGHEST
    assert word.fetch_add(LOWEST) == HIGHEST
    assert word.load() == -1
    word.store(LOWEST)
    with pytest.raises(OverflowError):
        word.fetch_add(-1)
    assert word.load() == LOWEST


def test_only_numbers(sync: Any) -> None:
    word = sync.AtomicInt(True)
    assert word.load() == 1
    for wrong in (1.0, '1', None):
        for change in (
            word.store,
            word.exchange,
            word.fetch_add,
            sync.AtomicInt,
        ):
            with pytest.raises(TypeError):
                change(wrong)
    assert word.load() == 1


def test_no_change_is_lost(sync: Any) -> None:
    word, other = sync.AtomicInt(), sync.AtomicInt()

    def change() -> None:
        for _ in range(500):
            word.fetch_add(1)
            while True:
                seen = other.load()
                if other.compare_exchange(seen, seen + 1):
                    break

    with Crew() as crew:
        for _ in range(4):
            crew.start(change)
    assert (word.load(), other.load()) == (2000, 2000)


def test_park_if(sync: Any) -> None:
    word = sync.AtomicInt(1)
    assert sync.park_if(word, 2) is sync.ParkStatus.AGAIN
    assert sync.park_if(word, 1, 0) is sync.ParkStatus.TIMEOUT
    assert sync.park_if(word, 1, SHORT) is sync.ParkStatus.TIMEOUT
    statuses, args = [], []
    with Crew() as crew:
        crew.start(
            lambda: statuses.append(sync.park_if(word, 1, arg='argument'))
        )
        until_parked(sync, word)
        sync.unpark(word, lambda arg, has_more: args.append((arg, has_more)))
    assert statuses == [sync.ParkStatus.OK]
    assert args == [('argument', False)]


def test_park_if_wants_a_word(sync: Any) -> None:
    with pytest.raises(TypeError):
        sync.park_if(1, 1)
    word = sync.AtomicInt()
    with pytest.raises(ValueError, match=WRONG_TIME):
        sync.park_if(word, 0, float('nan'))
    with pytest.raises(OverflowError):
        sync.park_if(word, 0, 1e300)
    assert sync.parked_count(word) == 0


def test_a_mutex_of_a_word_and_the_lot(sync: Any) -> None:
    """The three states of a futex: 0 free, 1 held, 2 held and awaited."""
    word = sync.AtomicInt()
    count = 0

    def add() -> None:
        nonlocal count
        for _ in range(200):
            if not word.compare_exchange(0, 1):
                while word.exchange(2) != 0:
                    sync.park_if(word, 2)
            before = count
            for _ in range(3):
                pass
            count = before + 1
            if word.exchange(0) == 2:
                sync.unpark(word)

    with Crew() as crew:
        for _ in range(4):
            crew.start(add)
    assert count == 800
