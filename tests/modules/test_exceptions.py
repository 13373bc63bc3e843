"""What each failure knows about itself, and how it says so."""

from __future__ import annotations

import errno
import os
import pathlib
import pickle

import pytest

from portalocker import exceptions
from portalocker.holder import Holder

LOCK_FAILURES = [
    exceptions.BaseLockException,
    exceptions.LockException,
    exceptions.AlreadyLocked,
    exceptions.FileToLarge,
    exceptions.AlreadyActive,
    exceptions.LockLost,
]


def contention() -> BlockingIOError:
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def test_each_failure_is_what_its_users_catch() -> None:
    assert issubclass(exceptions.BaseLockException, Exception)
    assert issubclass(exceptions.LockException, exceptions.BaseLockException)
    for special in LOCK_FAILURES[2:]:
        assert issubclass(special, exceptions.LockException)
    assert issubclass(exceptions.AlreadyActive, AssertionError)
    assert issubclass(exceptions.DestinationExists, FileExistsError)
    assert issubclass(exceptions.DestinationExists, AssertionError)


@pytest.mark.parametrize('kind', LOCK_FAILURES)
def test_a_bare_failure_knows_nothing(
    kind: type[exceptions.BaseLockException],
) -> None:
    failure = kind()
    assert kind.LOCK_FAILED == 1
    assert kind.strerror is None
    assert failure.args == ()
    assert failure.fh is None
    assert failure.strerror is None
    assert failure.filename is None
    assert failure.holders == ()
    assert failure.holder is None
    assert failure.waited is None
    assert str(failure) == ''


def test_unknown_keywords_are_ignored() -> None:
    failure = exceptions.LockException('text', strerror='ignored', other=1)
    assert failure.args == ('text',)
    assert failure.strerror is None


def test_strerror_is_the_second_argument_if_it_is_text() -> None:
    assert exceptions.LockException(1, 'words').strerror == 'words'
    assert exceptions.LockException(1, 2).strerror is None


def test_strerror_is_taken_from_the_systems_error() -> None:
    error = contention()
    assert exceptions.AlreadyLocked(error).strerror == error.strerror


def test_unwrapping_single_arguments_leads_to_the_errno() -> None:
    failure: BaseException = exceptions.AlreadyLocked(
        exceptions.LockException(contention())
    )
    while not isinstance(failure, IOError):
        (failure,) = failure.args
    assert failure.errno == errno.EAGAIN


@pytest.mark.parametrize('kind', LOCK_FAILURES)
def test_a_failure_with_an_open_file_can_be_pickled(
    kind: type[exceptions.BaseLockException], tmp_path: pathlib.Path
) -> None:
    with open(tmp_path / 'file', 'w') as fh:
        failure = kind(
            contention(),
            fh=fh,
            filename='/run/app.lock',
            holders=(Holder(7, 'worker'),),
            waited=1.5,
        )
        copy = pickle.loads(pickle.dumps(failure))
    assert type(copy) is kind
    assert copy.fh is None
    assert copy.args[0].errno == errno.EAGAIN
    assert copy.strerror == failure.strerror
    assert copy.filename == '/run/app.lock'
    assert copy.holders == (Holder(7, 'worker'),)
    assert copy.waited == 1.5
    assert str(copy) == str(failure)


def test_a_descriptor_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(exceptions.LockException('text', fh=5)))
    assert copy.fh == 5


def test_destination_exists_can_be_pickled() -> None:
    failure = exceptions.DestinationExists(errno.EEXIST, 'exists', '/a')
    copy = pickle.loads(pickle.dumps(failure))
    assert (copy.errno, copy.filename) == (errno.EEXIST, '/a')


def test_text_says_verb_file_and_cause() -> None:
    failure = exceptions.LockException(contention(), filename='/a.lock')
    assert str(failure) == (
        f"cannot lock '/a.lock': {os.strerror(errno.EAGAIN)}"
    )


def test_text_names_every_holder_and_how_long_we_waited() -> None:
    failure = exceptions.AlreadyLocked(
        contention(),
        filename='/a.lock',
        holders=(Holder(7, 'worker'), Holder(8)),
        waited=5.00234,
    )
    assert failure.holder == Holder(7, 'worker')
    assert str(failure) == (
        "cannot lock '/a.lock': held by pid 7 (worker), pid 8; waited 5 s"
    )


def test_text_names_the_file_by_its_handle(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / 'file')
    with open(path, 'w') as fh:
        failure = exceptions.LockException(contention(), fh=fh)
        assert repr(path) in str(failure)


def test_a_handle_without_a_textual_name_is_not_named() -> None:
    error = contention()
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, 'wb') as fh:
        assert str(exceptions.LockException(error, fh=fh)) == str(error)


def test_text_without_words_of_the_system_uses_the_arguments() -> None:
    failure = exceptions.LockException(EOFError('gone'), filename='/a')
    assert str(failure) == "cannot lock '/a': gone"


def test_text_without_any_cause_still_names_the_file() -> None:
    failure = exceptions.AlreadyLocked(filename='/a')
    assert str(failure) == "cannot lock '/a': somebody else holds it"


def test_a_text_of_its_own_is_kept() -> None:
    failure = exceptions.LockLost('cannot rely on it', filename='/a')
    assert str(failure) == 'cannot rely on it'


def test_lost_lock_keeps_its_token_across_processes() -> None:
    failure = exceptions.LockLostError('gone', filename='jobs', token=7)
    copied = pickle.loads(pickle.dumps(failure))
    assert isinstance(copied, exceptions.LockLost)
    assert (copied.token, copied.filename, str(copied)) == (7, 'jobs', 'gone')
