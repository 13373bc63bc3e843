"""One inotify instance a process: each thread is woken for its own file."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pathlib
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from states import wait_until

import portalocker
from portalocker import (
    _after_fork,
    _wakeup,
    _wakeup_inotify,
    _wakeup_poll,
    _wakeup_queue,
)
from portalocker._wakeup_inotify import Instance, Interest

if sys.platform != 'linux':
    pytest.skip('inotify is of Linux', allow_module_level=True)

SHORT, LONG = 0.05, 20.0  # seconds; LONG is reached by a failure only


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> list[pathlib.Path]:
    paths = [tmp_path / f'{n}.lock' for n in range(4)]
    for path in paths:
        path.touch()
    return paths


@pytest.fixture
def instance() -> Iterator[Instance]:
    instance = Instance()
    yield instance
    for sleeper in Sleeper.all_of_this_test:
        os.close(sleeper.fd)
    Sleeper.all_of_this_test.clear()
    instance.close()


@pytest.fixture
def fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has no instance yet."""
    with monkeypatch.context() as patch:
        patch.setattr(_wakeup_inotify, '_instances', {})
        yield
        for instance in _wakeup_inotify._instances.values():
            instance.close()


class Sleeper(threading.Thread):
    """A thread that waits for an interest of its own.

    Its file stays open until the test ends: a close would be an event.
    """

    all_of_this_test: ClassVar[list[Sleeper]] = []

    def __init__(
        self, instance: Instance, path: pathlib.Path, seconds: float = LONG
    ) -> None:
        super().__init__()
        self.instance = instance
        self.interest = Interest()
        self.seconds = seconds
        self.was_woken: bool | None = None
        self.fd = os.open(path, os.O_RDONLY)
        self.all_of_this_test.append(self)
        instance.watch_open_file(self.interest, self.fd)
        self.start()

    def run(self) -> None:
        self.was_woken = self.instance.wait(self.interest, self.seconds)

    def finish(self) -> bool | None:
        self.join(2 * LONG)
        assert not self.is_alive()
        self.instance.forget(self.interest)
        return self.was_woken


def close_one(path: pathlib.Path) -> None:
    os.close(os.open(path, os.O_RDONLY))


def watched_inodes(instance: Instance) -> set[int]:
    text = pathlib.Path(f'/proc/self/fdinfo/{instance.fd}').read_text()
    return {
        int(word.removeprefix('ino:'), 16)
        for line in text.splitlines()
        if line.startswith('inotify')
        for word in line.split()
        if word.startswith('ino:')
    }


def inotify_instances() -> int:
    links = []
    for name in os.listdir('/proc/self/fd'):
        try:
            links.append(os.readlink(f'/proc/self/fd/{name}'))
        except FileNotFoundError:
            continue
    return links.count('anon_inode:inotify')


def event(watch: int, mask: int) -> bytes:
    return struct.pack('iIII', watch, mask, 0, 0)


# threads


def test_threads_share_one_instance_and_each_is_woken_for_its_own_file(
    paths: list[pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
    fresh_process: None,
) -> None:
    parked = threading.Semaphore(0)
    real = Instance.wait

    def wait(self: Instance, interest: Interest, seconds: float) -> bool:
        parked.release()
        return real(self, interest, seconds)

    monkeypatch.setattr(Instance, 'wait', wait)
    before = inotify_instances()
    holders = [portalocker.Lock(path) for path in paths]
    waiters = [
        portalocker.Lock(path, timeout=LONG, check_interval=3600)
        for path in paths
    ]
    threads = [threading.Thread(target=lock.acquire) for lock in waiters]
    for holder, thread in zip(holders, threads, strict=True):
        holder.acquire()
        thread.start()
        assert parked.acquire(timeout=LONG)
    assert inotify_instances() == before + 1
    for n in (2, 0, 3, 1):
        holders[n].release()
        threads[n].join(LONG / 2)
        assert waiters[n].fh is not None
        assert sum(thread.is_alive() for thread in threads) == sum(
            lock.fh is None for lock in waiters
        )
    for lock in waiters:
        lock.release()
    assert inotify_instances() == before + 1


def test_all_who_wait_for_one_file_are_woken(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    sleepers = [Sleeper(instance, paths[0]) for _ in range(3)]
    stranger = Sleeper(instance, paths[1])
    wait_until(lambda: len(instance._parked) == 4)
    close_one(paths[0])
    assert [sleeper.finish() for sleeper in sleepers] == [True] * 3
    assert not stranger.interest.is_woken
    close_one(paths[1])
    assert stranger.finish() is True


def test_the_leader_that_is_woken_hands_over(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    sleepers = []
    for n, path in enumerate(paths):
        sleepers.append(Sleeper(instance, path))
        wait_until(lambda n=n: len(instance._parked) == n + 1)
    # The first one leads; whoever follows has to lead in its turn
    for path, sleeper in zip(paths, sleepers, strict=True):
        wait_until(lambda: instance._leader is not None)
        close_one(path)
        assert sleeper.finish() is True
    assert instance._leader is None
    assert not instance._parked


def test_the_leader_whose_time_is_up_hands_over(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    leader = Sleeper(instance, paths[0], SHORT)
    wait_until(lambda: instance._parked or leader.was_woken is not None)
    follower = Sleeper(instance, paths[1])
    assert leader.finish() is False
    wait_until(lambda: instance._leader is follower.interest)
    close_one(paths[1])
    assert follower.finish() is True


def test_a_follower_whose_time_is_up_leaves(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    leader = Sleeper(instance, paths[0])
    wait_until(lambda: instance._leader is leader.interest)
    assert Sleeper(instance, paths[1], SHORT).finish() is False
    close_one(paths[0])
    assert leader.finish() is True


def test_a_leader_that_is_interrupted_hands_over(
    instance: Instance,
    paths: list[pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    may_interrupt = threading.Event()
    real = _wakeup_poll.wait_readable

    def wait_readable(thing: Any, seconds: float) -> bool:
        if threading.current_thread() is threading.main_thread():
            assert may_interrupt.wait(LONG)
            raise KeyboardInterrupt
        return real(thing, seconds)

    monkeypatch.setattr(_wakeup_poll, 'wait_readable', wait_readable)
    followers: list[Sleeper] = []

    def follow() -> None:
        wait_until(lambda: instance._leader is not None)
        followers.append(Sleeper(instance, paths[1]))
        wait_until(lambda: len(instance._parked) == 2)
        may_interrupt.set()

    helper = threading.Thread(target=follow)
    helper.start()
    interest = Interest()
    with open(paths[0]) as fh:
        instance.watch_open_file(interest, fh.fileno())
        with pytest.raises(KeyboardInterrupt):
            instance.wait(interest, LONG)
        helper.join(LONG)
        (follower,) = followers
        wait_until(lambda: instance._leader is follower.interest)
        close_one(paths[1])
        assert follower.finish() is True
        instance.forget(interest)


def test_an_event_that_another_thread_reads_still_wakes_the_leader(
    instance: Instance,
    paths: list[pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_about_to_poll, may_poll = threading.Event(), threading.Event()
    real = _wakeup_poll.wait_readable
    slept_in_vain: list[bool] = []

    def wait_readable(thing: Any, seconds: float) -> bool:
        is_about_to_poll.set()
        assert may_poll.wait(LONG)
        # what is lost would be lost for as long as it sleeps
        is_readable = real(thing, min(seconds, 1.0))
        slept_in_vain.append(not is_readable)
        return is_readable

    monkeypatch.setattr(_wakeup_poll, 'wait_readable', wait_readable)
    leader = Sleeper(instance, paths[0])
    assert is_about_to_poll.wait(LONG)
    close_one(paths[0])
    newcomer = Interest()
    with open(paths[1]) as fh:
        instance.watch_open_file(newcomer, fh.fileno())
        may_poll.set()
        assert leader.finish() is True
    instance.forget(newcomer)
    assert not any(slept_in_vain)


# events


def test_a_wake_up_before_the_sleep_is_not_lost(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    interest = Interest()
    with open(paths[0]) as fh:
        instance.watch_open_file(interest, fh.fileno())
        close_one(paths[0])
        instance.drain()
        assert instance.wait(interest, LONG)
        assert not instance.wait(interest, 0)
        close_one(paths[0])
        assert instance.wait(interest, LONG)
    instance.forget(interest)


def test_what_happened_before_we_watched_wakes_nobody(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    first = Interest()
    with open(paths[0]) as fh:
        instance.watch_open_file(first, fh.fileno())
        instance.forget(first)  # the watch stays for the next one
        close_one(paths[0])
        second = Interest()
        instance.watch_open_file(second, fh.fileno())
        assert not instance.wait(second, 0)
        instance.drain()
        assert not second.is_woken
    instance.forget(second)


def test_a_wake_up_on_the_way_to_sleep_is_not_lost(
    instance: Instance,
    paths: list[pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interest = Interest()
    real = instance._mutex

    class Overtaken:
        """Another thread reads the instance just before we lock it."""

        def __enter__(self) -> None:
            real.acquire()
            interest.is_woken = True

        def __exit__(self, *exc_info: object) -> None:
            real.release()

    monkeypatch.setattr(instance, '_mutex', Overtaken())
    monkeypatch.setattr(
        _wakeup_poll,
        'wait_readable',
        lambda *_: pytest.fail('it sleeps although it was woken'),
    )
    assert instance.wait(interest, LONG)


def test_one_that_is_woken_may_forget_others(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    woken: list[int] = []

    def on_wake(n: int) -> None:
        woken.append(n)
        instance.forget(interests[0])

    interests = [Interest(lambda n=n: on_wake(n)) for n in range(3)]  # type: ignore[misc]
    for interest in interests:
        instance.watch_path(interest, os.fsencode(paths[0]))
    close_one(paths[0])
    instance.drain()
    assert woken == [0, 1, 2]
    for interest in interests:
        instance.forget(interest)


def test_paths_can_be_watched_too(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    interest = Interest()
    for path in paths:
        instance.watch_path(interest, os.fsencode(path))
    for path in paths:
        close_one(path)
        assert instance.wait(interest, LONG)
    instance.forget(interest)
    assert not instance._interests


def test_a_path_that_cannot_be_watched_is_an_error(
    instance: Instance, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(FileNotFoundError, match='watch the lock file'):
        instance.watch_path(Interest(), os.fsencode(tmp_path / 'missing'))


def test_lost_events_wake_everybody(
    instance: Instance,
    paths: list[pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleepers = [Sleeper(instance, path) for path in paths]
    wait_until(lambda: len(instance._parked) == len(paths))
    real = os.read

    def read(fd: int, size: int) -> bytes:
        if fd != instance.fd:
            return real(fd, size)
        real(fd, size)  # lost
        return event(-1, _wakeup_inotify._IN_Q_OVERFLOW)

    monkeypatch.setattr(os, 'read', read)
    close_one(paths[0])
    assert [sleeper.finish() for sleeper in sleepers] == [True] * len(paths)


def test_an_event_wakes_whoever_watches_and_nobody_else(
    instance: Instance,
    paths: list[pathlib.Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interest = Interest()
    instance.watch_path(interest, os.fsencode(paths[0]))
    (watch,) = interest.watches
    with monkeypatch.context() as patch:
        events = event(999, 8) + event(watch, 8)
        patch.setattr(os, 'read', lambda *_: events)
        instance.drain()
    assert interest.is_woken
    instance.forget(interest)


@pytest.mark.parametrize('happens', ['unlink', 'rename', 'read', 'write'])
def test_what_may_free_the_path_or_the_file_wakes(
    happens: str, instance: Instance, paths: list[pathlib.Path]
) -> None:
    interest = Interest()
    with open(paths[0]) as fh:
        instance.watch_open_file(interest, fh.fileno())
        if happens == 'unlink':
            paths[0].unlink()
        elif happens == 'rename':
            paths[0].rename(f'{paths[0]}.moved')
        else:
            mode = os.O_RDONLY if happens == 'read' else os.O_WRONLY
            os.close(os.open(paths[0], mode))
        instance.drain()
        assert interest.is_woken
    instance.forget(interest)


def test_who_is_told_that_there_is_something_may_leave_it_unread(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    interest = Interest()
    instance.watch_path(interest, os.fsencode(paths[0]))
    close_one(paths[0])
    assert instance.leave_unread()
    assert not interest.is_woken
    instance.drain_unread()  # before somebody sleeps
    assert interest.is_woken
    interest.is_woken = False
    close_one(paths[0])
    instance.drain_unread()  # nothing was left: it does not look
    assert not interest.is_woken
    assert instance.leave_unread()
    assert instance.wait(interest, LONG)
    interest.is_woken = False
    close_one(paths[0])
    assert instance.wait(interest, LONG)  # it sleeps alone: unread again
    assert not interest.is_woken
    instance.drain_unread()
    assert interest.is_woken
    instance.forget(interest)


def test_nothing_is_left_unread_to_one_that_sleeps(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    sleeper = Sleeper(instance, paths[0])
    wait_until(lambda: instance._parked)
    assert not instance.leave_unread()
    close_one(paths[0])
    assert sleeper.finish() is True


def test_who_parks_without_end_can_be_woken() -> None:
    interest = Interest()
    interest.unpark()
    interest.unpark()  # it goes on already
    interest.park(float('inf'))


def test_an_instance_that_is_closed_is_silent(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    interest = Interest()
    closed = Instance()
    closed.watch_path(interest, os.fsencode(paths[0]))
    closed.close()
    closed.drain()
    assert not closed.wait(interest, LONG)


def test_whoever_does_not_park_is_called(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    calls: list[int] = []
    interest = Interest(lambda: calls.append(threading.get_ident()))
    instance.watch_path(interest, os.fsencode(paths[0]))
    assert instance.fileno() == instance.fd
    close_one(paths[0])
    instance.drain()
    assert calls == [threading.get_ident()]
    instance.forget(interest)
    close_one(paths[0])
    instance.drain()
    assert len(calls) == 1


def test_reading_nothing_does_not_block(instance: Instance) -> None:
    instance.drain()


# watches


def test_the_watch_of_a_file_is_kept_for_the_next_waiter(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    watches = set()
    for _ in range(3):
        interest = Interest()
        with open(paths[0]) as fh:
            instance.watch_open_file(interest, fh.fileno())
            watches.update(interest.watches)
            instance.forget(interest)
    assert len(watches) == 1
    assert watched_inodes(instance) == {os.stat(paths[0]).st_ino}


def test_few_watches_are_kept(
    instance: Instance, tmp_path: pathlib.Path
) -> None:
    for n in range(_wakeup_inotify._IDLE_WATCHES + 5):
        path = tmp_path / f'many.{n}'
        path.touch()
        interest = Interest()
        with open(path) as fh:
            instance.watch_open_file(interest, fh.fileno())
        instance.forget(interest)
        instance.forget(interest)
    assert len(watched_inodes(instance)) == _wakeup_inotify._IDLE_WATCHES


def test_a_watch_that_others_need_stays(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    first, second = Interest(), Interest()
    for interest in (first, second):
        instance.watch_path(interest, os.fsencode(paths[0]))
    instance.forget(first)
    assert not first.watches
    assert not instance._idle
    close_one(paths[0])
    instance.drain()
    assert second.is_woken
    assert not first.is_woken
    instance.forget(second)


def test_a_watch_that_is_used_again_is_not_idle(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    idle = Interest()
    instance.watch_path(idle, os.fsencode(paths[0]))
    instance.forget(idle)
    assert len(instance._idle) == 1
    used = Interest()
    instance.watch_path(used, os.fsencode(paths[0]))
    assert not instance._idle
    instance.forget(used)


def test_one_that_was_interrupted_before_it_was_entered_is_forgotten(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    other, interest = Interest(), Interest()
    instance.watch_path(other, os.fsencode(paths[0]))
    interest.watches.extend(other.watches)
    instance.forget(interest)
    close_one(paths[0])
    instance.drain()
    assert other.is_woken
    instance.forget(other)


def test_the_watch_of_a_file_that_is_gone_is_forgotten(
    instance: Instance, paths: list[pathlib.Path]
) -> None:
    interest = Interest()
    with open(paths[0]) as fh:
        instance.watch_open_file(interest, fh.fileno())
        instance.forget(interest)
        assert len(instance._idle) == 1
        paths[0].unlink()
    instance.drain()
    assert not instance._idle


# where there is none


def test_a_process_makes_one_instance_and_keeps_it(
    fresh_process: None,
) -> None:
    first = _wakeup_inotify.process_instance()
    assert first is not None
    assert _wakeup_inotify.process_instance() is first
    assert not os.get_inheritable(first.fd)


def test_when_the_user_has_no_more_instances_there_is_none_for_now(
    monkeypatch: pytest.MonkeyPatch, fresh_process: None
) -> None:
    real = ctypes.CDLL

    class Exhausted:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._libc = real(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            if name == 'inotify_init1':
                return self.refuse
            return getattr(self._libc, name)

        def refuse(self, flags: int) -> int:
            ctypes.set_errno(24)
            return -1

    with monkeypatch.context() as patch:
        patch.setattr(ctypes, 'CDLL', Exhausted)
        assert _wakeup_inotify.process_instance() is None
        with pytest.raises(OSError, match='inotify instance') as caught:
            Instance()
        assert caught.value.errno == 24
    assert _wakeup_inotify.process_instance() is not None


def test_where_libc_has_no_inotify_there_is_none(
    monkeypatch: pytest.MonkeyPatch, fresh_process: None
) -> None:
    class Empty:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            pass

    monkeypatch.setattr(ctypes, 'CDLL', Empty)
    assert _wakeup_inotify.process_instance() is None


def test_a_forked_child_has_no_instance_of_its_parent(
    fresh_process: None,
) -> None:
    first = _wakeup_inotify.process_instance()
    assert first is not None
    pid = os.fork()
    if not pid:
        is_closed = False
        try:
            os.fstat(first.fd)
        except OSError:
            is_closed = True
        is_gone = not _wakeup_inotify._instances
        second = _wakeup_inotify.process_instance()
        works = second is not None and second is not first
        os._exit(0 if is_closed and is_gone and works else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert _wakeup_inotify.process_instance() is first


# a place in line, seen from inside


def test_a_place_without_watches_polls(
    paths: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wakeup_inotify, 'process_instance', lambda: None)
    slept: list[float] = []
    monkeypatch.setattr(time, 'sleep', slept.append)
    with open(paths[0], 'r+') as fh:
        place = _wakeup.Place(
            fh.fileno(), os.stat(paths[0]), 1, is_ordered=False
        )
        place.join()
        assert place.may_try()
        assert not place.may_try()
        place.wait(LONG)
        assert place.may_try()
        place.wait(LONG)
        place.leave()
    assert len(slept) == 2
    assert 0.0007 < slept[0] <= 0.001
    assert 0.0014 < slept[1] <= 0.002


def test_after_a_close_a_place_tries_a_few_times_before_it_sleeps_again(
    paths: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(paths[0], 'r+') as fh:
        place = _wakeup.Place(
            fh.fileno(), os.stat(paths[0]), 1, is_ordered=False
        )
        place.join()
        close_one(paths[0])
        place.wait(LONG)
        slept: list[float] = []
        with monkeypatch.context() as patch:
            patch.setattr(time, 'sleep', slept.append)
            for _ in _wakeup._PROBE_PAUSES_SECONDS:
                place.wait(LONG)
        assert slept == sorted(_wakeup._PROBE_PAUSES_SECONDS)
        place.leave()


def test_the_child_of_a_place_forgets_it(paths: list[pathlib.Path]) -> None:
    fd = os.open(paths[0], os.O_RDWR)
    place = _wakeup.Place(fd, os.stat(paths[0]), 1, is_ordered=True)
    place.join()
    keeper = os.dup(fd)
    place._forget_parent()
    assert _after_fork._parted.pop() == fd
    place.leave()
    with open(paths[0], 'r+') as other:
        assert _wakeup_queue.somebody_waits(other.fileno())
        os.close(keeper)
        os.close(fd)
        assert not _wakeup_queue.somebody_waits(other.fileno())
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_place_that_is_interrupted_as_it_is_taken_leaves_nothing(
    paths: list[pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    waiting = set(_after_fork.waiting)
    with open(paths[0], 'r+') as fh, open(paths[0]) as newcomer:
        place = _wakeup.Place(
            fh.fileno(), os.stat(paths[0]), 1, is_ordered=True
        )
        with monkeypatch.context() as patch:
            patch.setattr(_wakeup_queue.Ticket, 'follow', interrupt)
            with pytest.raises(KeyboardInterrupt):
                place.join()
        place.leave()
        assert not _wakeup_queue.somebody_waits(newcomer.fileno())
    assert _after_fork.waiting == waiting


@pytest.mark.parametrize(
    ('is_parked', 'leads'), [(True, True), (True, False), (False, True)]
)
def test_an_interest_that_did_not_step_down_is_forgotten_with_its_watch(
    is_parked: bool,
    leads: bool,
    instance: Instance,
    paths: list[pathlib.Path],
) -> None:
    interest = Interest()
    instance.watch_path(interest, os.fsencode(paths[0]))
    if is_parked:
        instance._parked[interest] = None
    if leads:
        instance._leader = interest
    instance.forget(interest)
    assert instance._leader is None
    assert not instance._parked


def test_of_two_instances_that_are_made_at_once_one_is_kept(
    monkeypatch: pytest.MonkeyPatch, fresh_process: None
) -> None:
    made: list[Instance] = []

    class Raced(Instance):
        def __init__(self) -> None:
            super().__init__()
            made.append(Instance())  # by a signal handler, just now
            _wakeup_inotify._instances[None] = made[0]

    before = inotify_instances()
    monkeypatch.setattr(_wakeup_inotify, 'Instance', Raced)
    assert _wakeup_inotify.process_instance() is made[0]
    assert inotify_instances() == before + 1
