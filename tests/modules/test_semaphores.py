"""`BoundedSemaphore` and `NamedBoundedSemaphore`: a few holders at a time."""

from __future__ import annotations

import errno
import gc
import math
import os
import pathlib
import random
import sys
import tempfile
import threading
import warnings
from typing import Any

import pytest
from states import is_locked, wait_until

import portalocker
from portalocker import portalocker as module
from portalocker import utils
from portalocker.exceptions import AlreadyActive, AlreadyLocked, LockException

if sys.platform == 'win32':
    pytest.skip('the POSIX half', allow_module_level=True)

import fcntl

SHORT, LONG = 0.05, 30.0  # seconds; LONG is reached by a failure only


class Semaphores:
    """Semaphores of one name in one directory."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory

    def __call__(
        self, maximum: int = 2, name: object = 'jobs', **options: Any
    ) -> portalocker.BoundedSemaphore:
        return portalocker.BoundedSemaphore(
            maximum, name, directory=self.directory, **options
        )


@pytest.fixture
def semaphore(tmp_path: pathlib.Path) -> Semaphores:
    return Semaphores(tmp_path)


# names


def test_a_semaphore_without_a_name_is_deprecated() -> None:
    for name in ((), ('',), (None,), (0,), ('bounded_semaphore',)):
        with pytest.warns(DeprecationWarning, match='name') as caught:
            portalocker.BoundedSemaphore(1, *name)
        assert [warning.filename for warning in caught] == [__file__]


def test_a_named_semaphore_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        portalocker.BoundedSemaphore(1, 'name')
        portalocker.NamedBoundedSemaphore(1)
        portalocker.NamedBoundedSemaphore(1, 'name')


def test_random_names_are_not_those_of_a_seeded_generator() -> None:
    names = set()
    for _ in range(8):
        random.seed(42)
        names.add(portalocker.NamedBoundedSemaphore(1).name)
    assert len(names) == 8
    assert all(str(name).startswith('bounded_semaphore.') for name in names)


def test_semaphores_of_one_random_name_are_one(
    tmp_path: pathlib.Path,
) -> None:
    first = portalocker.NamedBoundedSemaphore(1, directory=tmp_path)
    second = portalocker.NamedBoundedSemaphore(
        1, first.name, directory=tmp_path, timeout=0
    )
    with first, pytest.raises(AlreadyLocked):
        second.acquire()
    assert isinstance(first, portalocker.BoundedSemaphore)


def test_whatever_can_be_formatted_is_a_name(semaphore: Semaphores) -> None:
    number = hash('key')
    with semaphore(1, number):
        with pytest.raises(AlreadyLocked):
            semaphore(1, number, timeout=0).acquire()
        with semaphore(1, 'other', timeout=0):
            pass


def test_file_names_follow_the_pattern(tmp_path: pathlib.Path) -> None:
    semaphore = portalocker.BoundedSemaphore(
        3, 'jobs', filename_pattern='{number}-{name}.x', directory=tmp_path
    )
    names = [tmp_path / f'{n}-jobs.x' for n in range(3)]
    assert list(semaphore.get_filenames()) == names
    assert semaphore.get_filename(7) == tmp_path / '7-jobs.x'
    assert sorted(semaphore.get_random_filenames()) == names


def test_the_default_pattern_and_directory() -> None:
    semaphore = portalocker.BoundedSemaphore(11, 'jobs')
    directory = pathlib.Path(tempfile.gettempdir())
    assert semaphore.get_filenames()[10] == directory / 'jobs.10.lock'
    assert semaphore.get_filename(3) == directory / 'jobs.03.lock'
    assert semaphore.maximum == 11
    assert semaphore.name == 'jobs'


def test_random_order_is_random_and_a_copy(semaphore: Semaphores) -> None:
    many = semaphore(30)
    orders = {tuple(many.get_random_filenames()) for _ in range(4)}
    assert len(orders) > 1
    assert list(many.get_filenames()) == sorted(many.get_filenames())


@pytest.mark.parametrize('maximum', [0, -1])
def test_nobody_may_hold_is_refused(maximum: int) -> None:
    with pytest.raises(ValueError, match='at least one'):
        portalocker.BoundedSemaphore(maximum, 'name')


# taking and giving back


def test_as_many_as_the_maximum_get_in(semaphore: Semaphores) -> None:
    first, second, third = (semaphore(2, timeout=0) for _ in range(3))
    slot = first.acquire()
    assert isinstance(slot, portalocker.Lock)
    assert first.lock is slot
    assert pathlib.Path(slot.filename) == first.get_filename(0)
    assert is_locked(slot.filename)
    second.acquire()
    with pytest.raises(AlreadyLocked):
        third.acquire()
    first.release()
    assert first.lock is None
    third.acquire()
    assert third.lock is not None
    assert pathlib.Path(third.lock.filename) == first.get_filename(0)
    second.release()
    third.release()


def test_files_stay_and_release_may_be_repeated(
    semaphore: Semaphores, tmp_path: pathlib.Path
) -> None:
    one = semaphore(2)
    one.release()
    with one:
        pass
    one.release()
    assert (tmp_path / 'jobs.00.lock').exists()


def test_taking_a_second_place_is_an_error(semaphore: Semaphores) -> None:
    one = semaphore(2)
    with one as slot:
        for kind in (AlreadyActive, LockException, AssertionError):
            with pytest.raises(kind, match='Already locked'):
                one.acquire()
        assert one.lock is slot
        assert is_locked(slot.filename)
        assert not is_locked(one.get_filename(1))


@pytest.mark.parametrize('fail_when_locked', [True, None])
def test_the_whole_timeout_is_waited_before_it_fails(
    fail_when_locked: bool | None, semaphore: Semaphores
) -> None:
    with semaphore(1), pytest.raises(AlreadyLocked) as caught:
        semaphore(1, timeout=SHORT).acquire(fail_when_locked=fail_when_locked)
    failure = caught.value
    assert failure.args == ()
    assert failure.waited is not None and failure.waited >= SHORT
    assert 'jobs.00.lock' in str(failure)
    if sys.platform == 'linux':
        assert failure.holder is not None
        assert failure.holder.pid == os.getpid()


def test_without_fail_when_locked_the_end_of_the_timeout_is_none(
    semaphore: Semaphores,
) -> None:
    with semaphore(1):
        other = semaphore(1, timeout=SHORT, fail_when_locked=False)
        assert other.acquire() is None
        assert other.lock is None
        assert other.acquire(timeout=0) is None
        with pytest.raises(AlreadyLocked):
            other.acquire(fail_when_locked=True)
    assert other.acquire() is not None
    other.release()


@pytest.mark.parametrize('fail_when_locked', [True, False])
def test_with_never_runs_its_body_without_a_place(
    fail_when_locked: bool, semaphore: Semaphores
) -> None:
    has_run = False
    with (
        semaphore(1),
        pytest.raises(AlreadyLocked) as caught,
        semaphore(1, timeout=0, fail_when_locked=fail_when_locked),
    ):
        has_run = True
    assert not has_run
    assert caught.value.filename is not None


def test_the_arguments_of_acquire_replace_those_of_the_semaphore(
    semaphore: Semaphores,
) -> None:
    with semaphore(1):
        other = semaphore(1, timeout=LONG)
        assert other.acquire(0, 0.001, False) is None


@pytest.mark.parametrize('timeout', [LONG, math.inf])
def test_a_waiter_is_woken_by_any_place(
    timeout: float, semaphore: Semaphores, parked: threading.Semaphore
) -> None:
    first, second = semaphore(2), semaphore(2)
    first.acquire()
    second.acquire()
    third = semaphore(2, timeout=timeout, check_interval=3600)
    thread = threading.Thread(target=third.acquire)
    thread.start()
    assert parked.acquire(timeout=LONG)
    second.release()
    thread.join(LONG)
    assert third.lock is not None
    assert pathlib.Path(third.lock.filename) == third.get_filename(1)
    first.release()
    third.release()


def test_never_more_than_the_maximum_are_in(semaphore: Semaphores) -> None:
    inside: list[int] = []
    counts: list[int] = []
    failures: list[BaseException] = []

    def contend(n: int) -> None:
        try:
            for _ in range(10):
                with semaphore(2, timeout=LONG):
                    inside.append(n)
                    counts.append(len(inside))
                    inside.remove(n)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=contend, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert failures == []
    assert len(counts) == 50
    assert max(counts) <= 2


def test_threads_that_share_an_object_hold_its_place_once(
    semaphore: Semaphores, parked: threading.Semaphore
) -> None:
    blocker = semaphore(1)
    blocker.acquire()
    shared = semaphore(1, timeout=LONG, check_interval=3600)
    outcomes: list[Any] = []

    def contend() -> None:
        try:
            outcomes.append(shared.acquire())
        except LockException as failure:
            outcomes.append(failure)

    threads = [threading.Thread(target=contend) for _ in range(2)]
    for thread in threads:
        thread.start()
        assert parked.acquire(timeout=LONG)
    while parked.acquire(blocking=False):
        pass
    blocker.release()
    # One gets in; the other finds that out, and sleeps on or gives up
    wait_until(
        lambda: (
            len(outcomes) == 2
            or (len(outcomes) == 1 and parked.acquire(blocking=False))
        )
    )
    entered = [one for one in outcomes if isinstance(one, portalocker.Lock)]
    shared.release()
    for thread in threads:
        thread.join(LONG / 2)
        assert not thread.is_alive(), 'it was not woken'
    shared.release()
    assert len(entered) == 1, outcomes
    assert not is_locked(shared.get_filename(0))


# failures


def test_an_error_that_is_no_contention_leaves_nothing_held(
    semaphore: Semaphores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    one = semaphore(2, timeout=LONG)
    with monkeypatch.context() as patch:
        patch.setattr(module, 'LOCKER', refuse)
        with pytest.raises(LockException) as caught:
            one.acquire()
        assert not isinstance(caught.value, AlreadyLocked)
    assert one.lock is None
    with one:
        assert one.lock is not None


def test_a_missing_directory_is_told(tmp_path: pathlib.Path) -> None:
    one = portalocker.BoundedSemaphore(
        2, 'jobs', directory=tmp_path / 'missing', timeout=LONG
    )
    with pytest.raises(FileNotFoundError):
        one.acquire()
    assert one.lock is None


def test_a_planted_link_is_refused(
    semaphore: Semaphores, tmp_path: pathlib.Path
) -> None:
    victim = tmp_path / 'victim'
    (tmp_path / 'jobs.00.lock').symlink_to(victim)
    with pytest.raises(OSError, match='symbolic link'):
        semaphore(1, timeout=0).acquire()
    assert not victim.exists()


def test_a_place_that_cannot_be_opened_leaves_nothing_open(
    semaphore: Semaphores,
) -> None:
    """The first place is held, the second is none."""
    one, other = semaphore(2, timeout=LONG), semaphore(2)
    other.get_filename(1).symlink_to('nowhere')
    with other:
        before = os.listdir('/dev/fd')
        with pytest.raises(OSError, match='symbolic link'):
            one.acquire(check_interval=SHORT)
        assert os.listdir('/dev/fd') == before
    assert one.lock is None


# try_lock


def test_try_lock_takes_the_first_that_is_free(
    semaphore: Semaphores,
) -> None:
    first, second, third = (semaphore(2) for _ in range(3))
    filenames = first.get_filenames()
    assert first.try_lock(reversed(filenames))
    assert first.lock is not None
    assert pathlib.Path(first.lock.filename) == filenames[1]
    assert second.try_lock(filenames)
    assert not third.try_lock(filenames)
    assert third.lock is None
    assert not third.try_lock([])
    first.release()
    second.release()


def test_try_lock_while_holding_keeps_the_first_place(
    semaphore: Semaphores,
) -> None:
    one = semaphore(2)
    with one as slot:
        with pytest.raises(AlreadyActive):
            one.try_lock(one.get_filenames())
        assert one.lock is slot
        assert not is_locked(one.get_filename(1))


def test_a_subclass_may_choose_the_places(semaphore: Semaphores) -> None:
    class Last(portalocker.BoundedSemaphore):
        def try_lock(self, filenames: Any) -> bool:
            return super().try_lock(list(filenames)[-1:])

    one = Last(3, 'jobs', directory=semaphore.directory)
    with one as slot:
        assert pathlib.Path(slot.filename) == one.get_filename(2)


# other lockers, changed files


def test_semaphores_work_where_tickets_do_not(
    semaphore: Semaphores, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(fcntl, 'F_OFD_SETLK'):
        pytest.skip('needs F_OFD_SETLK')
    monkeypatch.setattr(module, 'LOCKER', module.OfdLocker)
    with semaphore(1), pytest.raises(AlreadyLocked):
        semaphore(1, timeout=SHORT, check_interval=0.01).acquire()
    with semaphore(1):
        pass


def test_a_waiter_survives_the_removal_of_the_files(
    semaphore: Semaphores, parked: threading.Semaphore
) -> None:
    first = semaphore(1)
    first.acquire()
    waiting = semaphore(1, timeout=LONG, check_interval=0.01)
    thread = threading.Thread(target=waiting.acquire)
    thread.start()
    assert parked.acquire(timeout=LONG)
    first.get_filename(0).unlink()
    thread.join(LONG)
    assert waiting.lock is not None
    assert is_locked(waiting.get_filename(0))
    first.release()
    waiting.release()


def test_deleting_the_attribute_releases(semaphore: Semaphores) -> None:
    class Owner:
        place = semaphore(1)

    Owner.place.acquire()
    del Owner().place
    assert Owner.__dict__['place'].lock is None
    assert isinstance(Owner.__dict__['place'], utils.LockBase)


@pytest.mark.parametrize('refusals', [3, math.inf])
def test_with_lockers_we_know_nothing_of_the_places_are_polled(
    refusals: float, semaphore: Semaphores, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[Any] = []

    def lock(file: Any, flags: Any) -> None:
        attempts.append(file)
        if len(attempts) <= refusals:
            raise AlreadyLocked

    monkeypatch.setattr(module, 'LOCKER', (lock, lambda file: None))
    one = semaphore(1, timeout=SHORT, check_interval=0.001)
    if refusals == math.inf:
        with pytest.raises(AlreadyLocked):
            one.acquire()
        assert len(attempts) > 2
    else:
        with one:
            assert len(attempts) == refusals + 1


def test_a_place_that_was_waited_for_is_free_as_soon_as_it_is_dropped(
    semaphore: Semaphores, parked: threading.Semaphore
) -> None:
    first, second = semaphore(1), semaphore(1, timeout=LONG)
    first.acquire()
    thread = threading.Thread(target=second.acquire)
    thread.start()
    assert parked.acquire(timeout=LONG)
    first.release()
    thread.join(LONG)
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ResourceWarning)
            del thread, second
        third = semaphore(1)
        assert third.try_acquire()
        third.release()
    finally:
        gc.enable()
