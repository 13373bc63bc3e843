"""Counters count each wait once, whatever ends it."""

from __future__ import annotations

import errno
import gc
import signal
import threading

import pytest
from children import in_child

import portalocker
from portalocker import exceptions, wait_counters
from portalocker.filelock import FileLock, Timeout
from portalocker.wait_counters import WaitCounter, snapshot


@pytest.fixture
def counter(request) -> WaitCounter:
    return WaitCounter(f'test.{request.node.name}')


@pytest.fixture
def lock(tmp_path, request):
    """A lock that is counted under a name of its own."""
    wait_counters.enable()
    lock = FileLock(tmp_path / 'lock')
    lock.counter_name = f'test.{request.node.name}'
    yield lock
    wait_counters.disable()


def phase(lock, name):
    return snapshot()[f'{lock.counter_name}.{name}']


def sibling(lock, **options):
    other = FileLock(lock.lock_file, **options)
    other.counter_name = lock.counter_name
    return other


def test_guard_counts_one_wait(counter) -> None:
    with counter.guard() as entered:
        assert entered is None
        reading = counter.snapshot()
        assert (reading.active, reading.started) == (1, 1)
        assert sum(reading.histogram) == 0
    reading = counter.snapshot()
    assert (reading.active, reading.started) == (0, 1)
    assert sum(reading.histogram) == 1
    assert reading.longest == reading.total > 0


def test_counters_of_one_name_are_one(counter) -> None:
    with WaitCounter(counter.name).guard():
        assert counter.snapshot().active == 1


def test_exit_works_without_arguments_and_only_once(counter) -> None:
    guard = counter.guard()
    guard.__exit__()
    guard.__enter__()
    guard.__exit__()
    guard.__exit__()
    guard.__exit__(None, None, None)
    assert counter.snapshot().started == 1
    assert counter.snapshot().active == 0


def test_guard_may_be_entered_in_its_own_block(counter) -> None:
    guard = counter.guard()
    with guard, guard:
        assert counter.snapshot().active == 2
    assert counter.snapshot().started == 2
    assert counter.snapshot().active == 0


def test_forgotten_guard_ends(counter) -> None:
    counter.guard().__enter__()
    gc.collect()
    assert counter.snapshot().active == 0
    assert counter.snapshot().started == 1


class Cancelled(Exception):
    pass


@pytest.mark.parametrize(
    ('failure', 'field'),
    [
        (TimeoutError, 'timeouts'),
        (exceptions.AlreadyLocked, 'timeouts'),
        (KeyboardInterrupt, 'cancelled'),
        (Cancelled, 'cancelled'),
        (ZeroDivisionError, 'errors'),
    ],
)
def test_ends_are_told_apart(counter, failure, field) -> None:
    with pytest.raises(failure), counter.guard():
        raise failure
    reading = counter.snapshot().as_dict()
    assert reading['started'] == 1
    for name in ('timeouts', 'cancelled', 'errors'):
        assert reading[name] == (name == field)


def test_threads_lose_nothing_also_when_they_ended(counter) -> None:
    def body() -> None:
        for _ in range(500):
            with counter.guard():
                pass

    for _ in range(10):  # more threads than cells are kept for
        threads = [threading.Thread(target=body) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert counter.snapshot().started == 10 * 8 * 500
    assert counter.snapshot().active == 0
    tally = wait_counters._tally(counter.name)
    assert len(tally._cells) <= wait_counters._MANY_CELLS + 8


def test_wait_may_end_in_another_thread(counter) -> None:
    guard = counter.guard()
    guard.__enter__()
    thread = threading.Thread(target=guard.__exit__)
    thread.start()
    thread.join()
    assert counter.snapshot().active == 0
    assert counter.snapshot().started == 1


def test_signal_handler_counts_in_between(counter) -> None:
    rings = []

    def ring(*_: object) -> None:
        rings.append(1)
        with counter.guard():
            pass

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    rounds = 0
    try:
        while len(rings) < 50:
            with counter.guard():
                rounds += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert counter.snapshot().started == rounds + len(rings)
    assert counter.snapshot().active == 0


def test_names_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(wait_counters, '_tallies', {})
    monkeypatch.setattr(wait_counters, '_MOST_NAMES', 3)
    monkeypatch.setattr(wait_counters, '_of_thread', wait_counters._OfThread())
    for n in range(10):
        with WaitCounter(f'n{n}').guard():
            pass
    assert set(snapshot()) == {'n0', 'n1', 'n2', wait_counters.OTHERS}
    assert snapshot()[wait_counters.OTHERS].started == 7


def test_name_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match='a name is a str'):
        WaitCounter(b'name')  # type: ignore[arg-type]


def test_child_waits_for_nothing_and_keeps_the_totals(counter) -> None:
    with counter.guard():
        pass
    guard = counter.guard()

    def leave() -> None:
        for _ in range(2):
            reading = counter.snapshot()
            assert (reading.active, reading.started) == (0, 1)
            guard.__exit__()

    with guard:
        in_child(leave)
        assert counter.snapshot().active == 1


# -- the faults that are known of such counters


def test_nested_blocks_are_one_region(lock) -> None:
    with lock:
        with lock:
            assert phase(lock, 'region').active == 1
        assert phase(lock, 'region').active == 1
    assert phase(lock, 'region').started == 1
    assert phase(lock, 'region').active == 0
    assert phase(lock, 'enter').started == 2
    assert phase(lock, 'exit').started == 2


def test_inner_entry_that_fails_does_not_end_the_region(lock) -> None:
    with lock:
        with pytest.raises(Timeout):
            sibling(lock).acquire(timeout=0)
        assert phase(lock, 'region').active == 1
        assert phase(lock, 'region').started == 1
    assert phase(lock, 'region').active == 0


def test_threads_of_one_object_have_a_region_each(lock) -> None:
    inside = threading.Event()

    def body() -> None:
        with lock:
            inside.set()

    thread = threading.Thread(target=body)
    with lock:
        thread.start()
        while not phase(lock, 'enter').active:
            pass
        assert phase(lock, 'region').active == 1
    thread.join()
    assert inside.is_set()
    assert phase(lock, 'region').started == 2
    assert phase(lock, 'region').active == 0
    assert phase(lock, 'enter').contended == 1


def test_calls_without_a_block_are_counted(lock) -> None:
    lock.acquire()
    assert phase(lock, 'region').active == 1
    lock.release()
    with lock.acquire():
        pass
    assert phase(lock, 'region').started == 2
    assert phase(lock, 'region').active == 0
    assert phase(lock, 'exit').started == 2


def test_release_that_fails_does_not_end_the_region(lock, monkeypatch) -> None:
    def refuse(fd: int) -> None:
        raise exceptions.LockException(OSError(5, 'refused')) from OSError(
            5, 'refused'
        )

    lock.acquire()
    monkeypatch.setattr(lock, '_unlock', refuse)
    with pytest.raises(OSError, match='refused'):
        lock.release()
    assert lock.is_locked
    assert phase(lock, 'region').active == 1
    assert phase(lock, 'exit').errors == 1
    monkeypatch.undo()
    lock.release()
    assert phase(lock, 'region').active == 0
    assert phase(lock, 'region').started == 1


def test_file_system_without_locks_is_an_error_without_a_region(
    lock, monkeypatch
) -> None:
    def no_locks(fd: int, flags: int) -> None:
        raise OSError(errno.ENOSYS, 'not implemented')

    class Rebased(FileLock):
        """A subclass with counters of its own, as PyTorch has one."""

        def __enter__(self):
            return super().__enter__()

        def __exit__(self, *exc_info):
            super().__exit__(*exc_info)

    rebased = Rebased(lock.lock_file)
    rebased.counter_name = lock.counter_name
    with monkeypatch.context() as patch:
        patch.setattr(portalocker.portalocker, '_flock', no_locks)
        patch.setattr(portalocker.portalocker, 'LOCKER', no_locks)
        with pytest.raises(NotImplementedError), rebased:
            raise AssertionError
    assert type(rebased) is Rebased
    assert not rebased.is_locked
    assert phase(lock, 'enter').errors == 1
    assert phase(lock, 'region').started == 0
    with rebased:  # nothing was left behind
        assert phase(lock, 'region').active == 1


def test_release_of_what_is_not_held_is_not_counted(lock) -> None:
    lock.__exit__(None, None, None)
    lock.release(force=True)
    assert f'{lock.counter_name}.exit' not in snapshot()


def test_forced_release_ends_the_region_at_once(lock) -> None:
    with lock, lock:
        lock.release(force=True)
        assert phase(lock, 'region').active == 0
    assert phase(lock, 'region').started == 1


def test_lock_that_is_dropped_ends_its_region(lock) -> None:
    other = sibling(lock)
    other.acquire()
    del other
    gc.collect()
    assert phase(lock, 'region').active == 0
    assert phase(lock, 'region').started == 1


@pytest.mark.parametrize('options', [{'blocking': False}, {'timeout': 0.01}])
def test_timeout_is_a_contended_entry_without_a_region(lock, options) -> None:
    with lock, pytest.raises(Timeout):
        sibling(lock).acquire(**options)
    enter = phase(lock, 'enter')
    assert (enter.started, enter.timeouts, enter.contended) == (2, 1, 1)
    assert phase(lock, 'region').started == 1


def test_hold_that_nobody_counted_when_it_began_has_no_region(lock) -> None:
    wait_counters.disable()
    lock.acquire()
    wait_counters.enable()
    lock.release()
    assert f'{lock.counter_name}.region' not in snapshot()


def test_hold_is_counted_to_its_end_when_counting_ends(lock) -> None:
    with lock:
        wait_counters.disable()
    assert phase(lock, 'region').active == 0
    assert phase(lock, 'region').started == 1


def test_default_name_is_that_of_the_specification(tmp_path) -> None:
    wait_counters.enable()
    try:
        with FileLock(tmp_path / 'lock'):
            pass
    finally:
        wait_counters.disable()
    for name in ('enter', 'region', 'exit'):
        assert snapshot()[f'pytorch.filelock.{name}'].started >= 1


# -- sinks


def test_sink_is_told_of_every_beginning_and_end(lock) -> None:
    events = []

    def sink(name: str):
        events.append(('begin', name.rpartition('.')[2]))
        return lambda: events.append(('end', name.rpartition('.')[2]))

    wait_counters.add_sink(sink)
    try:
        with lock:
            pass
    finally:
        wait_counters.remove_sink(sink)
    assert events == [
        ('begin', 'enter'), ('end', 'enter'),
        ('begin', 'region'), ('begin', 'exit'),
        ('end', 'region'), ('end', 'exit'),
    ]  # fmt: skip
    with lock:
        pass
    assert len(events) == 6


def test_sink_that_raises_harms_no_lock(lock, caplog) -> None:
    def sink(name: str):
        raise ZeroDivisionError

    wait_counters.add_sink(sink)
    with lock:
        assert phase(lock, 'region').active == 1
    assert 'it is removed' in caplog.text
    assert not wait_counters._sinks


class Interrupted(BaseException):
    """What a signal handler may raise, at any moment."""


@pytest.mark.parametrize('verb', ['acquire', 'try_acquire'])
@pytest.mark.parametrize('moment', ['enter', 'region'])
def test_interrupted_while_it_is_told_the_lock_is_not_held(
    lock, verb, moment
) -> None:
    def interrupt() -> None:
        raise Interrupted

    def sink(name: str):
        if moment == 'region' and name.endswith('.region'):
            interrupt()
        # The end of the first phase is told with the lock held
        return interrupt if moment == 'enter' else lambda: None

    wait_counters.add_sink(sink)
    try:
        with pytest.raises(Interrupted):
            getattr(lock, verb)()
    finally:
        wait_counters.remove_sink(sink)
    assert not lock.is_locked
    assert sibling(lock).try_acquire()
    assert phase(lock, 'region').active == 0


def test_interrupted_entry_of_a_holder_undoes_itself_alone(lock) -> None:
    def interrupt() -> None:
        raise Interrupted

    with lock:
        wait_counters.add_sink(lambda name: interrupt)
        try:
            with pytest.raises(Interrupted):
                lock.acquire()
        finally:
            wait_counters.remove_sink(*wait_counters._sinks)
        assert lock.lock_counter == 1
        assert phase(lock, 'region').active == 1
    assert phase(lock, 'region').active == 0
