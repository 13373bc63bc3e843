"""Signals: a handler that returns changes nothing, one that raises ends."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from crew import SHORT, Crew, until, until_parked

pytestmark = pytest.mark.skipif(
    sys.platform == 'win32', reason='Windows interrupts nobody'
)


class Boom(Exception):
    """Raised by a signal handler."""


class NotInterrupted(Exception):
    """No signal came while a function ran."""


class Interrupter:
    """Signals for the main thread, while it is inside a function."""

    def __init__(self) -> None:
        self.calls = 0
        self._inside: Any = None
        self._raises = False

    def handle(self, signum: int, frame: Any) -> None:
        while frame is not None and frame.f_code is not self._inside:
            frame = frame.f_back
        if frame is None:
            return  # it came too early, or too late
        self.calls += 1
        if self._raises:
            self._inside = None  # once
            raise Boom

    def during(
        self,
        fn: Callable[[], Any],
        *,
        raises: bool,
        times: int = 1,
        once: Callable[[], Any] = lambda: True,
    ) -> Any:
        """Call `fn` and interrupt it; what it returned, or Boom.

        The first signal is sent when `once()` is true: between two of its
        steps, pure Python promises nothing.
        """
        self._raises = raises
        self.calls = 0

        def inside() -> Any:
            return fn()

        def send() -> None:
            until(once)
            while self._inside is not None and self.calls < times:
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(SHORT / 5)

        main = threading.main_thread().ident
        assert main is not None
        self._inside = inside.__code__
        try:
            with Crew() as crew:
                crew.start(send)
                try:
                    return inside()
                except Boom:
                    return Boom
                finally:
                    self._inside = None
        finally:
            if not self.calls:
                raise NotInterrupted


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    interrupter = Interrupter()
    before = signal.signal(signal.SIGUSR1, interrupter.handle)
    yield interrupter
    signal.signal(signal.SIGUSR1, before)


def held_elsewhere(crew: Crew, lock: Any, until_set: Any) -> None:
    """Let another thread hold `lock` until that event."""
    held = threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            until_set.wait()

    crew.start(hold)
    held.wait()


def locks_of(sync: Any) -> Iterator[Any]:
    for name in ('Mutex', 'RawMutex', 'RecursiveMutex'):
        yield getattr(sync, name)()


def when_awaited(sync: Any, lock: Any) -> Callable[[], Any]:
    """Whether somebody waits for `lock`, where that can be seen."""
    if sync.IMPLEMENTATION == 'pure' and not isinstance(
        lock, (type(sync.RWMutex().reader), type(sync.RWMutex().writer))
    ):
        # one step of the interpreter: nothing to be interrupted between
        return lambda: True
    return lambda: sync.parked_count(lock)


def test_a_raising_handler_ends_the_wait_for_a_lock(
    sync: Any, interrupter: Interrupter
) -> None:
    rw = sync.RWMutex()
    pairs = [(lock, lock) for lock in locks_of(sync)]
    pairs += [(rw.writer, rw.reader), (rw.reader, rw.writer)]
    pairs += [(rw.writer, rw.writer)]
    for held, wanted in pairs:
        release = threading.Event()
        with Crew() as crew:
            held_elsewhere(crew, held, release)
            waits: list[Any] = [wanted.acquire, wanted.__enter__]
            if hasattr(wanted, 'timed'):
                waits.append(lambda wanted=wanted: wanted.acquire(timeout=60))
                waits.append(wanted.timed(60).__enter__)
            once = when_awaited(sync, wanted)
            for wait in waits:
                assert interrupter.during(wait, raises=True, once=once) is Boom
                assert sync.parked_count(rw) == 0
                assert held.locked()
            release.set()
        until(lambda held=held: not held.locked())
        assert wanted.acquire()
        wanted.release()


def test_a_raising_handler_ends_other_waits(
    sync: Any, interrupter: Interrupter
) -> None:
    event, flag, key = sync.Event(), sync.OnceFlag(), object()
    word, mutex, section = sync.AtomicInt(), sync.Mutex(), None
    section = sync.CriticalSection(mutex)
    release = threading.Event()
    with Crew() as crew:
        started = threading.Event()
        crew.start(flag.do, lambda: (started.set(), release.wait()))
        held_elsewhere(crew, mutex, release)
        started.wait()
        for waited, wait in (
            (event, event.wait),
            (event, lambda: event.wait(60)),
            (event, lambda: event.wait_timed(-1)),
            (flag, lambda: flag.do(int)),
            (key, lambda: sync.park(key, lambda: True)),
            (key, lambda: sync.park(key, lambda: True, 60)),
            (word, lambda: sync.park_if(word, 0)),
            (mutex, section.__enter__),
        ):
            once = partial(sync.parked_count, waited)
            if waited is mutex:
                once = when_awaited(sync, mutex)
            assert interrupter.during(wait, raises=True, once=once) is Boom
            for waited in (event, flag, key, word, mutex):
                assert sync.parked_count(waited) == 0
            assert sync.CSThread.current().top() is None
        release.set()
    with section:
        pass
    event.set()
    assert event.wait()
    assert flag.done()


def test_a_writer_that_is_interrupted_lets_the_readers_in(
    sync: Any, interrupter: Interrupter
) -> None:
    rw = sync.RWMutex()
    release = threading.Event()
    entered: list[int] = []

    def read() -> None:
        # behind the writer, which is us
        until(lambda: sync.parked_count(rw))
        with rw.reader:
            entered.append(1)

    with Crew() as crew:
        held_elsewhere(crew, rw.reader, release)
        crew.start(read)
        # us and the reader
        once = lambda: sync.parked_count(rw) == 2  # noqa: E731
        assert interrupter.during(rw.lock, raises=True, once=once) is Boom
        until(lambda: entered)
        release.set()
    assert rw.acquire_write(blocking=False)


def test_a_handler_that_returns_lets_us_wait_on(
    sync: Any, interrupter: Interrupter
) -> None:
    rw = sync.RWMutex()
    locks = [*locks_of(sync), rw.writer, rw.reader]
    for lock in locks:
        release = threading.Event()
        held = rw.writer if lock is rw.reader else lock
        with Crew() as crew:
            held_elsewhere(crew, held, release)

            interrupter.calls = 0

            def end(release: Any = release) -> None:
                until(lambda: interrupter.calls >= 5)
                release.set()

            crew.start(end)
            assert interrupter.during(lock.acquire, raises=False, times=5)
        lock.release()
    event = sync.Event()
    interrupter.calls = 0
    with Crew() as crew:
        crew.start(
            lambda: (until(lambda: interrupter.calls >= 5), event.set())
        )
        assert interrupter.during(
            lambda: event.wait(60), raises=False, times=5
        )


def outlast(interrupter: Interrupter, wait: Callable[[float], Any]) -> Any:
    """What `wait` returns after a time in which there were signals.

    Where the machine is too busy to send one in it, it gets longer.
    """
    timeout = SHORT * 5
    while True:
        try:
            return interrupter.during(
                lambda timeout=timeout: wait(timeout),  # type: ignore[misc]
                raises=False,
                times=9**9,
            )
        except NotInterrupted:
            timeout *= 4


def test_the_time_left_shrinks(sync: Any, interrupter: Interrupter) -> None:
    """Signals that keep coming do not keep a timeout from ending."""
    mutex, rw, event = sync.Mutex(), sync.RWMutex(), sync.Event()
    release = threading.Event()
    with Crew() as crew:
        for lock in (mutex, rw.writer):
            held_elsewhere(crew, lock, release)
        for wait in (
            lambda timeout: mutex.acquire(timeout=timeout),
            lambda timeout: rw.acquire_read(timeout=timeout),
            lambda timeout: rw.acquire_write(timeout=timeout),
            event.wait,
        ):
            assert not outlast(interrupter, wait)
        status = outlast(
            interrupter, lambda timeout: sync.park(event, object, timeout)
        )
        assert status is sync.ParkStatus.TIMEOUT
        release.set()


def test_a_handler_may_set_what_we_wait_for(
    sync: Any, interrupter: Interrupter
) -> None:
    event = sync.Event()
    before = signal.signal(signal.SIGUSR2, lambda *_: event.set())
    try:
        with Crew() as crew:
            main = threading.main_thread().ident
            assert main is not None

            def send() -> None:
                until(lambda: sync.parked_count(event))
                signal.pthread_kill(main, signal.SIGUSR2)

            crew.start(send)
            assert event.wait(60)
    finally:
        signal.signal(signal.SIGUSR2, before)


def when_main_thread_waits(sync: Any, mutex: Any) -> Callable[[], Any]:
    """Whether it does, for a mutex that somebody else holds."""
    if sync.IMPLEMENTATION == 'native':
        return lambda: sync.parked_count(mutex)
    entered: list[int] = []
    acquire = mutex.acquire

    def tell(*args: Any, **options: Any) -> bool:
        entered.append(threading.get_ident())
        return acquire(*args, **options)

    mutex.acquire = tell
    return lambda: threading.main_thread().ident in entered


def test_resumption_is_not_interrupted(
    sync: Any, interrupter: Interrupter
) -> None:
    """The body of a section never runs on without its mutex."""
    outer, inner = sync.Mutex(), sync.Mutex()
    held: list[Any] = []
    with Crew() as crew:

        def intrude() -> None:
            # the section that waits for `inner` gave `outer` back: take it
            # until the main thread has been interrupted
            until(outer.try_lock)
            inner.unlock()
            until(lambda: interrupter.calls)
            held.append('intruder')
            outer.unlock()

        inner.lock()
        with sync.CriticalSection(outer):
            crew.start(intrude)
            section = sync.CriticalSection()
            section.begin(inner)
            once = when_main_thread_waits(sync, outer)
            assert (
                interrupter.during(section.end, raises=True, once=once) is Boom
            )
            assert outer.is_locked()
            assert held == ['intruder']
        assert not outer.is_locked()


def test_interrupted_while_its_waker_is_in_a_callback(
    sync: Any, interrupter: Interrupter
) -> None:
    """It leaves when the callback is over, and the next one is woken."""
    key, woken, claimed = object(), [], threading.Event()

    def wake() -> None:
        until_parked(sync, key, 2)
        assert sync.unpark(key, until_interrupted)

    def until_interrupted(arg: object, has_more: bool) -> None:
        assert (arg, has_more) == ('first', True)
        claimed.set()
        until(lambda: interrupter.calls)

    def second() -> None:
        until_parked(sync, key)
        woken.append(sync.park(key, object))

    with Crew() as crew:
        crew.start(second)
        crew.start(wake)
        ended = interrupter.during(
            lambda: sync.park(key, object, None, 'first'),
            raises=True,
            once=claimed.is_set,
        )
    assert ended is Boom
    assert woken == [sync.ParkStatus.OK]
