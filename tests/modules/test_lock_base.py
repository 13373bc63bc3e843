"""What every lock has: a timeout, two verbs, and a count of attempts."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest

from portalocker import utils


class Clock:
    """A clock that only sleeping, or trying, moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def attempts(self, *args: Any, **kwargs: Any) -> list[float]:
        """When each attempt started."""
        started = self.now
        generator = Switch()._timeout_generator(*args, **kwargs)
        starts = []
        for n, attempt in enumerate(generator):
            assert attempt == n
            starts.append(self.now - started)
        return starts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, 'perf_counter', clock.perf_counter)
    monkeypatch.setattr(time, 'sleep', clock.sleep)
    return clock


class Switch(utils.LockBase):
    """The smallest lock."""

    is_on = False

    def acquire(self, *args: Any, **kwargs: Any) -> str:
        self.is_on = True
        return 'on'

    def release(self) -> None:
        self.is_on = False


# the module's names


def test_a_name_that_the_module_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match='nothing_of_ours'):
        utils.nothing_of_ours  # noqa: B018


# coalesce


def test_coalesce_gives_the_first_that_is_not_the_test_value() -> None:
    assert utils.coalesce(None, None, 3, 4) == 3
    assert utils.coalesce(None, 0) == 0
    assert utils.coalesce(None, False) is False
    assert utils.coalesce(None, '') == ''
    assert utils.coalesce() is None
    assert utils.coalesce(None, None) is None


def test_coalesce_compares_by_identity() -> None:
    nothing: list[int] = []
    also_nothing: list[int] = []
    assert (
        utils.coalesce(nothing, also_nothing, test_value=nothing)
        is also_nothing
    )
    assert utils.coalesce(nothing, test_value=nothing) is None


# arguments


def test_none_means_the_modules_defaults_when_the_lock_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utils, 'DEFAULT_TIMEOUT', 0.125)
    monkeypatch.setattr(utils, 'DEFAULT_CHECK_INTERVAL', 0.0625)
    monkeypatch.setattr(utils, 'DEFAULT_FAIL_WHEN_LOCKED', True)
    for lock in (
        Switch(),
        utils.Lock('path', check_interval=None, fail_when_locked=None),  # type: ignore[arg-type]
        utils.RLock('path', 'a', None, None, None),  # type: ignore[arg-type]
        utils.NamedBoundedSemaphore(1, fail_when_locked=None),
    ):
        assert lock.timeout == 0.125
        assert lock.check_interval == 0.0625
        assert lock.fail_when_locked is True


def test_zero_and_false_are_no_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utils, 'DEFAULT_FAIL_WHEN_LOCKED', True)
    lock = Switch(0, 0, False)
    assert lock.timeout == 0
    assert lock.check_interval == 0
    assert lock.fail_when_locked is False


# verbs


@pytest.mark.parametrize('verb', ['acquire', 'release'])
def test_a_lock_implements_both_verbs(verb: str) -> None:
    half = type('Half', (utils.LockBase,), {verb: lambda self: None})
    for without in (utils.LockBase, half):
        with pytest.raises(TypeError, match='abstract'):
            without()


def test_with_acquires_and_releases() -> None:
    switch = Switch()
    with switch as result:
        assert result == 'on'
        assert switch.is_on
    assert not switch.is_on
    assert switch.__exit__(None, None, None) is None


def test_with_releases_and_passes_on_what_is_raised() -> None:
    switch = Switch()
    with pytest.raises(ZeroDivisionError), switch:
        raise ZeroDivisionError
    assert not switch.is_on


def test_deleting_the_attribute_releases_the_lock_itself() -> None:
    class Owner:
        switch = Switch()

    Owner.switch.acquire()
    del Owner().switch
    assert not Owner.__dict__['switch'].is_on


def test_collecting_a_lock_is_silent() -> None:
    # pytest reports what a destructor raises
    Switch()
    for kind in (utils.Lock, utils.RLock, utils.PidFileLock):
        kind.__new__(kind)  # like a constructor that failed at once


# the count of attempts


def test_the_first_two_attempts_are_back_to_back(clock: Clock) -> None:
    starts = clock.attempts(1.0, 0.25)
    assert starts == [0, 0, 0.25, 0.5, 0.75, 1.0]


def test_the_last_pause_ends_at_the_deadline(clock: Clock) -> None:
    assert clock.attempts(0.5, 3) == [0, 0, 0.5]
    assert clock.sleeps == [0.5]


def test_a_slow_attempt_shortens_the_next_pause(clock: Clock) -> None:
    starts = []
    begun = clock.now
    for attempt in Switch()._timeout_generator(1.0, 0.25):
        starts.append(clock.now - begun)
        if attempt == 1:
            clock.now += 0.125
    assert starts == [0, 0, 0.25, 0.5, 0.75, 1.0]


def test_the_clock_starts_after_the_first_attempt(clock: Clock) -> None:
    generator = Switch()._timeout_generator(0.5, 0.25)
    assert next(generator) == 0
    clock.now += 100
    assert list(generator) == [1, 2, 3]


@pytest.mark.parametrize('timeout', [0, 0.0, -1, -math.inf])
def test_without_time_there_is_one_attempt(
    timeout: float, clock: Clock
) -> None:
    assert clock.attempts(timeout, 0.25) == [0]
    assert clock.sleeps == []


def test_an_infinite_timeout_never_ends(clock: Clock) -> None:
    generator = Switch()._timeout_generator(math.inf, 0.5)
    assert list(itertools.islice(generator, 1000)) == list(range(1000))
    assert clock.sleeps == [0.5] * 998


def test_a_pause_is_a_millisecond_at_least(clock: Clock) -> None:
    clock.attempts(0.125, 0)
    assert set(clock.sleeps[:-1]) == {0.001}


def test_none_means_what_the_lock_was_made_with(clock: Clock) -> None:
    lock = Switch(timeout=0.5, check_interval=0.25)
    assert list(lock._timeout_generator(None, None)) == [0, 1, 2, 3]
    assert clock.sleeps == [0.25, 0.25]


def test_pauses_can_be_spent_elsewhere(clock: Clock) -> None:
    spent: list[float] = []

    def pause(seconds: float) -> None:
        spent.append(seconds)
        clock.now += seconds

    assert clock.attempts(0.5, 0.25, pause) == [0, 0, 0.25, 0.5]
    assert spent == [0.25, 0.25]
    assert clock.sleeps == []


def test_a_timeout_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match='not a number'):
        list(Switch()._timeout_generator(math.nan, 0.25))


def test_a_lock_without_a_number_for_a_timeout_is_not_made() -> None:
    with pytest.raises(ValueError, match='not a number'):
        Switch(math.nan)
    with pytest.raises(ValueError, match='not a number'):
        utils.Lock('path', timeout=math.nan)
    with pytest.raises(TypeError, match="cannot wait for '5'"):
        Switch('5')  # type: ignore[arg-type]
