"""A holder, as a value."""

from __future__ import annotations

import copy
import pickle

import pytest

from portalocker.holder import Holder, RemoteHolder


def test_text_is_pid_command_and_how_we_know() -> None:
    assert str(Holder(7)) == 'pid 7'
    assert str(Holder(7, 'worker')) == 'pid 7 (worker)'
    assert (
        str(Holder(7, 'worker', recorded=True))
        == 'pid 7 (worker), as recorded in its pid file'
    )


def test_repr_evaluates_to_an_equal_holder() -> None:
    holder = Holder(7, 'worker', shared=True, recorded=True, since=1.5)
    assert eval(repr(holder)) == holder


@pytest.mark.parametrize(
    'other',
    [
        Holder(8, 'worker'),
        Holder(7, 'other'),
        Holder(7, 'worker', shared=True),
        Holder(7, 'worker', recorded=True),
        Holder(7, 'worker', since=1.0),
        (7, 'worker', False, False, None),
    ],
)
def test_holders_that_differ_in_anything_are_not_equal(other: object) -> None:
    assert Holder(7, 'worker') != other


def test_equal_holders_are_one_in_a_set() -> None:
    assert len({Holder(7, 'worker'), Holder(7, 'worker')}) == 1


def test_a_holder_can_be_copied_and_pickled() -> None:
    holder = Holder(7, 'worker', since=1.5)
    assert copy.copy(holder) == holder
    assert pickle.loads(pickle.dumps(holder)) == holder


def test_text_of_a_remote_holder_names_its_host() -> None:
    assert str(RemoteHolder(7, host='web1')) == 'pid 7 on web1'
    assert str(RemoteHolder(host='web1', label='psql')) == (
        'a process on web1 (psql)'
    )
    assert str(RemoteHolder()) == 'a process'


def test_remote_holders_are_values() -> None:
    holder = RemoteHolder(
        7, host='web1', label='nightly', token=3, shared=True, since=1.5
    )
    assert eval(repr(holder)) == holder
    assert pickle.loads(pickle.dumps(holder)) == holder
    assert copy.copy(holder) == holder
    for other in (
        RemoteHolder(8, host='web1', label='nightly', token=3, shared=True),
        RemoteHolder(7, host='web2', label='nightly', token=3, shared=True),
        RemoteHolder(7, host='web1', label='daily', token=3, shared=True),
        RemoteHolder(7, host='web1', label='nightly', token=4, shared=True),
        Holder(7, shared=True, since=1.5),
    ):
        assert other != holder
