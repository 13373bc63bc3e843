"""Whoever gives up says why, and leaves nothing behind."""

from __future__ import annotations

import os
import pathlib
import pickle

import pytest
from locks import SHORT, handle, hold_until_told, law, try_to_hold

import portalocker
from portalocker import _owner

BLOCKING = 'it waits for ever'
NOT_NAMED = 'the system does not name who holds an OFD lock'


@pytest.fixture
def held(kind, path, stage):
    """A process that holds the lock until it is told otherwise."""
    body = hold_until_told(lambda: kind.rival(path))

    holder = stage.process(body)
    holder.expect('in')
    return holder


def gives_up(lock, **options) -> portalocker.AlreadyLocked:
    with pytest.raises(portalocker.AlreadyLocked) as caught:
        lock.acquire(**options)
    assert handle(lock) is None
    return caught.value


@law()
def test_waiter_gives_up_at_the_end_of_its_timeout(
    kind, path, held, can_enter
) -> None:
    failure = gives_up(kind.make(path, timeout=SHORT))
    assert failure.waited is not None
    assert failure.waited >= SHORT
    held.tell()
    held.finish()
    assert can_enter(path)


@law(blocking=BLOCKING)
def test_timeout_of_the_call_replaces_that_of_the_lock(
    kind, path, held
) -> None:
    gives_up(kind.make(path), timeout=SHORT)


@law(blocking=BLOCKING)
def test_timeout_of_zero_is_one_attempt(kind, path, held, can_enter) -> None:
    gives_up(kind.make(path, timeout=0))
    held.tell()
    held.finish()
    lock = kind.make(path, timeout=0)
    lock.acquire()
    assert not can_enter(path)
    lock.release()


@law(record_locks='tickets are off')
def test_whoever_gave_up_does_not_stand_in_line(
    kind, path, held, can_enter
) -> None:
    gives_up(kind.make(path, timeout=SHORT))
    assert not _owner.waiters_of(str(kind.locked_path(path)))


@law()
def test_failure_names_the_file(kind, path, held) -> None:
    failure = gives_up(kind.make(path, timeout=SHORT))
    assert failure.filename in {str(path), str(kind.locked_path(path))}
    assert str(path) in str(failure)


@law(ofd=NOT_NAMED)
def test_failure_names_the_holder(kind, path, held) -> None:
    failure = gives_up(kind.make(path, timeout=SHORT))
    pids = {holder.pid for holder in failure.holders}
    fillers = {os.getpid()} if kind.capacity > 1 else set()
    assert pids == {held.pid} | fillers
    assert f'pid {held.pid}' in str(failure)


@law()
def test_failure_can_be_sent_to_another_process(kind, path, held) -> None:
    failure = gives_up(kind.make(path, timeout=SHORT))
    copy = pickle.loads(pickle.dumps(failure))
    assert type(copy) is type(failure)
    assert str(copy) == str(failure)


@law(semaphores='there it says what the end of the timeout means')
def test_fail_when_locked_gives_up_at_once(kind, path, held) -> None:
    # With a timeout that would only be reached by a failure
    gives_up(kind.make(path, fail_when_locked=True))
    gives_up(kind.make(path), fail_when_locked=True)


@law(
    plain='acquire raises',
    removed='acquire raises',
    file_locks='acquire raises',
)
def test_semaphore_that_does_not_fail_gives_none(kind, path, held) -> None:
    lock = kind.make(path, timeout=SHORT, fail_when_locked=False)
    assert lock.acquire() is None
    with pytest.raises(portalocker.AlreadyLocked):
        lock.__enter__()
    assert handle(lock) is None


@law()
def test_try_to_hold_says_whether_it_does(kind, path, held, can_enter) -> None:
    lock = kind.make(path)
    assert not try_to_hold(lock)
    assert handle(lock) is None
    held.tell()
    held.finish()
    assert try_to_hold(lock)
    assert not handle(lock).closed
    assert not can_enter(path)
    lock.release()
    assert can_enter(path)


@law(
    semaphores='the files of a semaphore carry nothing',
    removed='its file carries nothing',
    sides='its handle writes no text',
    file_locks='its file carries nothing',
)
def test_loser_changes_nothing_in_the_file(kind, path, stage) -> None:
    def body(line) -> None:
        lock = kind.rival(path)
        with lock as file:
            file.write('of the holder')
            file.flush()
            line.say('in')
            line.hear()

    holder = stage.process(body)
    holder.expect('in')
    gives_up(kind.make(path, timeout=SHORT))
    assert not try_to_hold(kind.make(path))
    assert pathlib.Path(path).read_text(encoding='ascii') == 'of the holder'
    holder.tell()
    holder.finish()


@law()
def test_lock_can_be_taken_after_giving_up(
    kind, path, held, can_enter
) -> None:
    lock = kind.make(path, timeout=SHORT)
    gives_up(lock)
    held.tell()
    held.finish()
    lock.acquire()
    assert not can_enter(path)
    lock.release()
