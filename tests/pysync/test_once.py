"""OnceFlag, OnceCell and @once: one succeeds, all know."""

from __future__ import annotations

from typing import Any

import pytest
from crew import Crew, until_parked


class Failure(BaseException):
    """Not even an Exception."""


def test_the_first_call_runs_and_the_others_do_not(sync: Any) -> None:
    flag = sync.OnceFlag()
    calls: list[Any] = []

    def fn(*args: Any, **kwargs: Any) -> None:
        assert not flag.done()
        calls.append((args, kwargs))

    assert not flag.done()
    assert flag.do(fn, 1, two=2) is True
    assert flag.done()
    assert flag.do(fn, 3) is False
    assert calls == [((1,), {'two': 2})]


def test_who_comes_meanwhile_waits(sync: Any) -> None:
    flag = sync.OnceFlag()
    may_end = sync.Event()
    started = sync.Event()
    seen = []

    def slow() -> None:
        started.set()
        may_end.wait()

    with Crew() as crew:
        crew.start(lambda: seen.append(flag.do(slow)))
        started.wait()
        assert not flag.done()
        for _ in range(3):
            crew.start(lambda: seen.append(flag.do(slow)))
        until_parked(sync, flag, 3)
        assert seen == []
        assert not flag.done()
        may_end.set()
    assert sorted(seen) == [False, False, False, True]
    assert flag.done()


def test_after_a_failure_one_who_waits_runs_its_own(sync: Any) -> None:
    flag = sync.OnceFlag()
    started, may_end = sync.Event(), sync.Event()
    ran = []

    def fail() -> None:
        started.set()
        may_end.wait()
        raise Failure

    def first() -> None:
        with pytest.raises(Failure):
            flag.do(fail)

    with Crew() as crew:
        crew.start(first)
        started.wait()
        for n in range(3):
            crew.start(flag.do, ran.append, n)
        until_parked(sync, flag, 3)
        may_end.set()
    assert len(ran) == 1
    assert flag.done()


@pytest.mark.parametrize('error', [Failure, ValueError, KeyboardInterrupt])
def test_a_failure_is_seen_by_its_caller_and_forgotten(
    sync: Any, error: type[BaseException]
) -> None:
    flag = sync.OnceFlag()

    def fail() -> None:
        raise error

    for _ in range(2):
        with pytest.raises(error):
            flag.do(fail)
        assert not flag.done()
    assert flag.do(int) is True


def test_its_own_function_cannot_wait_for_itself(sync: Any) -> None:
    flag = sync.OnceFlag()

    def again() -> None:
        with pytest.raises(RuntimeError, match='already running'):
            flag.do(again)

    assert flag.do(again)
    assert flag.done()


def test_two_flags_nest(sync: Any) -> None:
    outer, inner = sync.OnceFlag(), sync.OnceFlag()
    assert outer.do(lambda: inner.do(int))
    assert inner.done()


def test_repr_of_a_flag(sync: Any) -> None:
    flag = sync.OnceFlag()
    name = f'<portalocker.pysync.OnceFlag at {id(flag):#x}: '
    assert repr(flag) == name + 'not run>'
    seen = []
    flag.do(lambda: seen.append(repr(flag)))
    assert seen == [name + 'running>']
    assert repr(flag) == name + 'done>'


def test_fn_is_a_function(sync: Any) -> None:
    flag = sync.OnceFlag()
    with pytest.raises(TypeError):
        flag.do()
    with pytest.raises(TypeError):
        flag.do(None)
    assert not flag.done()
    assert flag.do(int)


def test_a_cell_keeps_its_value(sync: Any) -> None:
    cell = sync.OnceCell()
    assert not cell.done()
    value = cell.get(object)
    assert cell.done()
    assert cell.get(object) is value


def test_a_cell_forgets_failures(sync: Any) -> None:
    cell = sync.OnceCell()
    with pytest.raises(ZeroDivisionError):
        cell.get(lambda: 1 / 0)
    assert cell.get(lambda: None) is None
    assert cell.done()


def test_a_cell_that_asks_itself(sync: Any) -> None:
    cell = sync.OnceCell()
    with pytest.raises(RuntimeError):
        cell.get(lambda: cell.get(int))
    assert cell.get(lambda: 5) == 5


def test_once_computes_one_value_for_all_threads(sync: Any) -> None:
    calls: list[int] = []
    started = sync.Event()
    may_end = sync.Event()

    @sync.once
    def settings() -> object:
        """Read them."""
        calls.append(1)
        started.set()
        may_end.wait()
        return object()

    seen = []
    with Crew() as crew:
        for _ in range(4):
            crew.start(lambda: seen.append(settings()))
        started.wait()
        may_end.set()
    assert len(calls) == 1
    assert len(set(seen)) == 1
    assert settings.__doc__ == 'Read them.'
    with pytest.raises(TypeError):
        settings('unexpected')
