"""SeqLock: readers look again after a write."""

from __future__ import annotations

from typing import Any

import pytest
from crew import Crew, in_thread, until


@pytest.fixture
def lock(sync: Any) -> Any:
    return sync.SeqLock()


def test_a_token_is_good_until_the_next_write(lock: Any) -> None:
    token = lock.begin_read()
    assert token % 2 == 0
    assert lock.end_read(token) is True
    assert lock.end_read(token) is True
    lock.lock_write()
    assert lock.end_read(token) is False
    lock.unlock_write()
    assert lock.end_read(token) is False
    later = lock.begin_read()
    assert later > token
    assert lock.end_read(later) is True


def test_an_abandoned_write_spoils_no_token(lock: Any) -> None:
    token = lock.begin_read()
    lock.lock_write()
    assert not lock.end_read(token)
    lock.abandon_write()
    assert lock.end_read(token)


@pytest.mark.parametrize('end', ['unlock_write', 'abandon_write'])
def test_misuse_changes_nothing(lock: Any, end: str) -> None:
    token = lock.begin_read()
    with pytest.raises(RuntimeError, match='release unlocked lock'):
        getattr(lock, end)()
    assert lock.end_read(token)
    with lock.write():
        pass
    assert lock.begin_read() == token + 2


def test_writers_exclude_each_other(lock: Any) -> None:
    count = 0

    def add() -> None:
        nonlocal count
        for _ in range(300):
            with lock.write():
                before = count
                for _ in range(3):
                    pass
                count = before + 1

    with Crew() as crew:
        for _ in range(4):
            crew.start(add)
    assert count == 1200


def test_a_block_publishes(lock: Any) -> None:
    token = lock.begin_read()
    with lock.write() as write:
        assert type(write).__name__ == 'SeqLockWrite'
    assert lock.begin_read() == token + 2
    with pytest.raises(ZeroDivisionError), lock.write():
        _ = 1 / 0
    assert lock.begin_read() == token + 4


def test_a_block_may_abandon(lock: Any) -> None:
    token = lock.begin_read()
    with lock.write() as write:
        write.abandon()
        assert lock.end_read(token)
        with pytest.raises(RuntimeError, match='abandon'):
            write.abandon()
    assert lock.end_read(token)
    with pytest.raises(RuntimeError, match='abandon'):
        write.abandon()
    with pytest.raises(RuntimeError, match='abandon'):
        lock.write().abandon()
    with lock.write():
        pass


def test_a_reader_waits_for_the_end_of_a_write(lock: Any) -> None:
    seen = []
    with Crew() as crew:
        lock.lock_write()
        for _ in range(3):
            crew.start(lambda: seen.append(lock.begin_read()))
        assert seen == []
        lock.unlock_write()
    assert seen == [2, 2, 2]


def test_the_writer_itself_cannot_wait_for_the_end(lock: Any) -> None:
    with lock.write():
        for read in (
            lock.begin_read,
            lambda: lock.read(int),
            lambda: next(lock.reads()),
        ):
            with pytest.raises(RuntimeError, match='writing'):
                read()
    assert lock.read(int) == 0


def test_read_looks_again(lock: Any) -> None:
    looks = []

    def look() -> int:
        if len(looks) < 2:
            in_thread(write, lock)
        looks.append(1)
        return len(looks)

    assert lock.read(look) == 3


def write(lock: Any) -> None:
    with lock.write():
        pass


def test_a_reader_that_looked_in_vain_makes_writers_wait(lock: Any) -> None:
    """Its last look is one that no writer can spoil."""
    looks: list[int] = []
    with Crew() as crew:

        def look() -> int:
            looks.append(1)
            writer = crew.start(write, lock)
            if len(looks) < 4:
                writer.join()
            return len(looks)

        assert lock.read(look) == 4

        rounds = 0
        for _ in lock.reads():
            rounds += 1
            writer = crew.start(write, lock)
            if rounds < 4:
                writer.join()
        assert rounds == 4
    assert lock.begin_read() == 16


def test_an_error_from_a_torn_state_is_no_error(lock: Any) -> None:
    looks = []

    def look() -> str:
        looks.append(1)
        if len(looks) == 1:
            in_thread(write, lock)
            raise LookupError
        return 'seen'

    assert lock.read(look) == 'seen'
    with pytest.raises(LookupError):
        lock.read({}.popitem)
    write(lock)


def test_an_error_in_the_last_look_lets_writers_write(lock: Any) -> None:
    def look() -> None:
        in_thread(write, lock)
        raise LookupError

    looks = []

    def fail_at_last() -> None:
        looks.append(1)
        if len(looks) == 4:
            raise LookupError
        in_thread(write, lock)

    with pytest.raises(LookupError):
        lock.read(fail_at_last)
    write(lock)


def test_leaving_the_loop_lets_writers_write(lock: Any) -> None:
    for _ in lock.reads():
        break
    write(lock)
    for looks, _ in enumerate(lock.reads(), 1):
        if looks == 4:
            break
        in_thread(write, lock)
    write(lock)


def test_after_fork_ends_a_write(lock: Any) -> None:
    before = lock.begin_read()
    assert lock.after_fork() is False
    assert lock.end_read(before)
    lock.lock_write()
    assert lock.after_fork() is True
    later = lock.begin_read()
    assert later % 2 == 0
    assert later > before + 1
    with pytest.raises(RuntimeError):
        lock.unlock_write()
    write(lock)


def test_after_fork_frees_what_a_reader_kept(lock: Any) -> None:
    lock._lock_read()
    assert lock.after_fork() is False
    write(lock)


def test_repr(lock: Any) -> None:
    write(lock)
    assert (
        repr(lock)
        == f'<portalocker.pysync.SeqLock at {id(lock):#x}: sequence=2>'
    )


def test_a_writer_waits_for_the_writer(lock: Any) -> None:
    entered = []

    def enter() -> None:
        with lock.write():
            entered.append(1)

    with Crew() as crew:
        with lock.write():
            crew.start(enter)
            assert not entered
        until(lambda: entered)
