"""What holds under pressure: each law is a program of its own.

    python laws.py LAW IMPLEMENTATION [SCALE]

It ends with status 0, or with a traceback: also when it takes too long.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import loading
from crew import Crew, until

LIMIT = 30  # seconds; a law that is broken may hang
LAWS: dict[str, Callable[[Any, int], None]] = {}


def law(fn: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
    LAWS[fn.__name__] = fn
    return fn


def dice() -> random.Random:
    seed = random.randrange(2**32)
    print(f'seed {seed}')
    return random.Random(seed)


def exclusive_blocks(sync: Any) -> list[Callable[[], Any]]:
    """Makers of blocks of which one thread is inside at a time."""
    mutex, raw, rw = sync.Mutex(), sync.RawMutex(), sync.RWMutex()
    recursive, seq = sync.RecursiveMutex(), sync.SeqLock()
    first, second = sync.Mutex(), sync.Mutex()
    word = sync.AtomicInt()

    @contextlib.contextmanager
    def of_a_word() -> Any:
        while word.exchange(1):
            sync.park_if(word, 1, 0.001)
        try:
            yield
        finally:
            word.store(0)
            sync.unpark(word)

    return [
        lambda: mutex,
        lambda: raw,
        lambda: recursive,
        lambda: rw.writer,
        seq.write,
        lambda: sync.CriticalSection(first, second),
        lambda: mutex.timed(LIMIT),
        of_a_word,
    ]


@law
def one_thread_is_inside(sync: Any, scale: int) -> None:
    for block in exclusive_blocks(sync):
        inside = [0, 0]

        def visit(block: Any = block, inside: Any = inside) -> None:
            for _ in range(150 * scale):
                with block():
                    inside[0] += 1
                    before = inside[1]
                    time.sleep(0) if before % 7 == 0 else None
                    assert inside[0] == 1
                    inside[1] = before + 1
                    inside[0] -= 1

        with Crew() as crew:
            for _ in range(4):
                crew.start(visit)
        assert inside == [0, 600 * scale]


@law
def no_wake_up_is_lost(sync: Any, scale: int) -> None:
    for _ in range(200 * scale):
        event, key, is_up = sync.Event(), object(), []

        def wait(key: Any = key, is_up: Any = is_up) -> None:
            while not is_up:
                sync.park(key, lambda: not is_up)

        with Crew() as crew:
            crew.start(event.wait)
            crew.start(wait)
            event.set()
            is_up.append(1)
            sync.unpark_all(key)


def write_on(note: list[int] | None, has_more: bool) -> None:
    if note is not None:
        note.append(1)


@law
def every_wake_up_reaches_somebody(sync: Any, scale: int) -> None:
    """Timeouts that race with unpark(): what is claimed ends with OK."""
    key = object()
    woken = sync.AtomicInt()
    stop = threading.Event()
    received = sync.AtomicInt()
    chance = dice()

    def sleep(seed: int) -> None:
        pauses = random.Random(seed)
        while not stop.is_set():
            note: list[int] = []
            status = sync.park(key, lambda: True, pauses.random() / 2000, note)
            assert (status is sync.ParkStatus.OK) == bool(note)
            received.fetch_add(len(note))

    def wake() -> None:
        for _ in range(1500 * scale):
            if sync.unpark(key, write_on):
                woken.fetch_add()
            if chance.random() < 0.3:
                time.sleep(0.0001)

    with Crew() as crew:
        for n in range(4):
            crew.start(sleep, n)
        wakers = [crew.start(wake) for _ in range(2)]
        for waker in wakers:
            waker.join()
        stop.set()
        until(lambda: not sync.parked_count(key))
    assert received.load() == woken.load()
    assert woken.load()


def enter(side: Any, how: int) -> Any:
    """Enter in one of the ways there are; whether it was possible."""
    if how == 0:
        return side.__enter__()
    return side.acquire(*[(False,), (True, 0.0005), (True, 60)][how - 1])


@law
def writers_are_alone_and_readers_are_not_written_over(
    sync: Any, scale: int
) -> None:
    rw = sync.RWMutex()
    readers, writers = sync.AtomicInt(), sync.AtomicInt()
    together = sync.AtomicInt()
    chance = dice()

    def read() -> None:
        assert writers.load() == 0
        if readers.fetch_add(1):
            together.fetch_add(1)
        time.sleep(0)
        assert writers.load() == 0
        readers.fetch_add(-1)

    def write() -> None:
        assert writers.fetch_add(1) == 0
        assert readers.load() == 0
        time.sleep(0)
        assert readers.load() == 0
        writers.fetch_add(-1)

    def visit(seed: int) -> None:
        options = random.Random(seed)
        for _ in range(250 * scale):
            is_reader = options.random() < 0.7
            side = rw.reader if is_reader else rw.writer
            if not enter(side, options.randrange(4)):
                continue
            if is_reader:
                read()
            else:
                write()
                if options.random() < 0.3:
                    rw.downgrade()
                    side = rw.reader
                    read()
            side.release()

    with Crew() as crew:
        for _ in range(6):
            crew.start(visit, chance.random())
    assert sync.parked_count(rw) == 0
    assert rw.acquire_write(blocking=False)


@law
def readers_do_not_starve_a_writer(sync: Any, scale: int) -> None:
    rw = sync.RWMutex()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            with rw.reader:
                time.sleep(0.0002)

    with Crew() as crew:
        for _ in range(4):
            crew.start(read)
        for _ in range(15 * scale):
            with rw.writer:
                pass
        stop.set()


@law
def writers_do_not_starve_a_reader(sync: Any, scale: int) -> None:
    rw = sync.RWMutex()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with rw.writer:
                time.sleep(0.0002)

    with Crew() as crew:
        for _ in range(4):
            crew.start(write)
        for _ in range(15 * scale):
            with rw.reader:
                pass
        stop.set()


@law
def a_writer_that_gives_up_leaves_nobody_stuck(sync: Any, scale: int) -> None:
    """Readers hold in turns, so that writers always give up."""
    rw = sync.RWMutex()
    gave_up = sync.AtomicInt()
    stop = threading.Event()
    rw.r_lock()

    def write(seed: int) -> None:
        pauses = random.Random(seed)
        while not stop.is_set():
            assert not rw.acquire_write(timeout=pauses.random() / 500)
            gave_up.fetch_add(1)

    def read() -> None:
        for _ in range(40 * scale):
            with rw.reader:
                pass

    with Crew() as crew:
        for n in range(3):
            crew.start(write, n)
        readers = [crew.start(read) for _ in range(3)]
        for reader in readers:
            reader.join()
        until(lambda: gave_up.load() > 10)
        stop.set()
    rw.r_unlock()
    assert rw.acquire_write(blocking=False)


@law
def no_pair_is_torn(sync: Any, scale: int) -> None:
    lock = sync.SeqLock()
    pair = [0, 0]
    stop = threading.Event()

    def write(step: int) -> None:
        while not stop.is_set():
            with lock.write() as change:
                if pair[0] % 3 == 0:
                    change.abandon()
                    continue
                pair[0] += step
                time.sleep(0)
                pair[1] += step
            with lock.write():
                pair[0] += 1
                pair[1] += 1

    def read() -> None:
        for _ in range(40 * scale):
            left, right = lock.read(lambda: (pair[0], pair[1]))
            assert left == right
            for _ in lock.reads():
                left = pair[0]
                time.sleep(0)
                right = pair[1]
            assert left == right

    pair[:] = [1, 1]
    with Crew() as crew:
        for step in (1, 2):
            crew.start(write, step)
        readers = [crew.start(read) for _ in range(3)]
        for reader in readers:
            reader.join()
        stop.set()
    assert pair[0] == pair[1]


@law
def once_means_once(sync: Any, scale: int) -> None:
    chance = dice()
    for _ in range(25 * scale):
        flag = sync.OnceFlag()
        running, done, won = sync.AtomicInt(), [], sync.AtomicInt()

        class Failure(Exception):
            pass

        def fn(
            failure: Any = Failure,
            flag: Any = flag,
            running: Any = running,
            done: Any = done,
        ) -> None:
            assert running.fetch_add(1) == 0
            assert not flag.done()
            assert not done
            time.sleep(0)
            fails = chance.random() < 0.5
            if not fails:
                done.append(1)
            running.fetch_add(-1)
            if fails:
                raise failure

        def attempt(
            failure: Any = Failure,
            flag: Any = flag,
            won: Any = won,
            done: Any = done,
            fn: Any = fn,
        ) -> None:
            while True:
                try:
                    if flag.do(fn):
                        won.fetch_add(1)
                except failure:
                    continue
                assert done
                assert flag.done()
                return

        with Crew() as crew:
            for _ in range(5):
                crew.start(attempt)
        assert won.load() == 1
        assert len(done) == 1


@law
def callbacks_that_raise_break_nothing(sync: Any, scale: int) -> None:
    key = object()
    stop = threading.Event()
    went_on = sync.AtomicInt()

    class Oops(Exception):
        pass

    def check() -> bool:
        if random.random() < 0.3:
            raise Oops
        return True

    def fn(arg: Any, has_more: bool) -> None:
        raise Oops

    def sleep() -> None:
        while not stop.is_set():
            with contextlib.suppress(Oops):
                sync.park(key, check, 0.01)
                went_on.fetch_add(1)

    with Crew() as crew:
        for _ in range(4):
            crew.start(sleep)
        for _ in range(600 * scale):
            with contextlib.suppress(Oops):
                sync.unpark(key, fn)
                raise AssertionError('fn raises')
        stop.set()
        until(lambda: sync.unpark_all(key) == 0)
    assert went_on.load()


@law
def opposite_orders_end(sync: Any, scale: int) -> None:
    mutexes = [sync.Mutex() for _ in range(4)]
    inside = [0] * 4

    def visit(seed: int) -> None:
        choice = random.Random(seed)
        for _ in range(60 * scale):
            outer = choice.sample(range(4), choice.randint(1, 3))
            inner = choice.sample(range(4), choice.randint(1, 3))
            with sync.CriticalSection(*(mutexes[n] for n in outer)):
                enter(outer)
                with sync.CriticalSection(*(mutexes[n] for n in inner)):
                    if not set(inner) & set(outer):
                        enter(inner)
                enter(outer)

    def enter(held: list[int]) -> None:
        for n in held:
            inside[n] += 1
        time.sleep(0)
        for n in held:
            assert inside[n] == 1
            inside[n] -= 1

    with Crew() as crew:
        for n in range(4):
            crew.start(visit, n)
    assert not any(mutex.is_locked() for mutex in mutexes)


@law
def a_waiter_is_handed_the_mutex(sync: Any, scale: int) -> None:
    """Held for 2 ms and taken at once again: it gets in all the same."""
    if not sync.FAIR:
        return
    for _ in range(3 * scale):
        mutex = sync.Mutex()
        entered: list[int] = []

        def visit(mutex: Any = mutex, entered: Any = entered) -> None:
            with mutex:
                entered.append(1)

        with Crew() as crew:
            mutex.lock()
            crew.start(visit)
            if sync.IMPLEMENTATION == 'native':
                until(lambda mutex=mutex: sync.parked_count(mutex))
            releases = 0
            while not entered:
                time.sleep(0.002)
                mutex.unlock()
                releases += 1
                mutex.lock()
            mutex.unlock()
        # three where it has yet to arrive, as the interpreter's own does
        assert releases <= (1 if sync.IMPLEMENTATION == 'native' else 3)


@law
def an_exception_leaves_no_lock_held(sync: Any, scale: int) -> None:
    """A signal handler that raises somewhere in a loop of `with` blocks.

    Python 3.14 runs handlers between `__enter__` and the block.
    """
    if sys.platform == 'win32' or sys.version_info >= (3, 14):
        return
    mutex, recursive = sync.Mutex(), sync.RecursiveMutex()
    blocks: list[tuple[Any, Any]] = [
        (lambda: mutex, mutex.locked),
        (lambda: recursive, recursive.is_locked),
        (sync.RawMutex, lambda: False),
    ]
    if sync.IMPLEMENTATION == 'native':
        rw, seq, first = sync.RWMutex(), sync.SeqLock(), sync.Mutex()
        section = sync.CriticalSection
        blocks += [
            (lambda: rw.reader, rw.reader.locked),
            (lambda: rw.writer, rw.writer.locked),
            (seq.write, lambda: not can_write(seq)),
            (lambda: section(first), first.is_locked),
            (lambda: mutex.timed(60), mutex.locked),
        ]

    class Boom(Exception):
        pass

    def handler(signum: int, frame: Any) -> None:
        raise Boom

    signal.signal(signal.SIGALRM, handler)
    for make, is_held in blocks:
        leaks = 0
        for n in range(120 * scale):
            try:
                delay = 0.00002 + n % 7 / 30000
                signal.setitimer(signal.ITIMER_REAL, delay)
                block = make()
                while True:
                    with block:
                        pass
                    with make():
                        pass
            except Boom:
                pass
            leaks += is_held()
            assert not leaks, (make, block)


def can_write(seq: Any) -> bool:
    entered: list[int] = []

    def write() -> None:
        with seq.write():
            entered.append(1)

    with Crew() as crew:
        crew.start(write)
    return bool(entered)


def churn(sync: Any, stop: Any, key: Any, other: Any, rw: Any) -> None:
    """Use them all until told to stop.

    Not their names in another function: without the GIL, Python 3.13 locks
    what it keeps such names in, and a forked child may find it locked.
    """
    while not stop.is_set():
        sync.park(key, object, 0.0001)
        sync.unpark(other)
        rw.acquire_write(timeout=0.0002) and rw.release_write()
        with rw.reader:
            pass


@law
def a_child_works_whatever_its_parent_did(sync: Any, scale: int) -> None:
    if not hasattr(os, 'fork'):
        return
    keys = [object() for _ in range(8)]
    stop = threading.Event()

    def child() -> None:
        signal.alarm(10)  # faulthandler's thread is not here
        for key in keys:
            assert sync.unpark_all(key) == 0
            sync.park(key, lambda: True, 0)
        fresh = sync.RWMutex()
        with fresh.writer:
            pass
        with Crew() as crew:
            event = sync.Event()
            crew.start(event.wait)
            event.set()

    with Crew() as crew:
        rw = sync.RWMutex()
        for n in range(6):
            crew.start(churn, sync, stop, keys[n], keys[n + 1], rw)
        try:
            for _ in range(10 * scale):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        child()
                        status = 0
                    finally:
                        os._exit(status)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            stop.set()


@law
def a_mixture_ends(sync: Any, scale: int) -> None:
    """All kinds at once, with timeouts, in no order."""
    mutex, rw, event = sync.Mutex(), sync.RWMutex(), sync.Event()
    recursive, seq = sync.RecursiveMutex(), sync.SeqLock()
    word = sync.AtomicInt()
    chance = dice()

    def with_mutex() -> None:
        if mutex.acquire(timeout=0.001):
            word.fetch_add(1)
            mutex.release()

    def with_recursive() -> None:
        with recursive, recursive:
            with_mutex()

    def with_section() -> None:
        with sync.CriticalSection(mutex), sync.suspended():
            with_mutex()

    def with_write() -> None:
        with seq.write(), rw.writer:
            pass

    actions = [
        with_mutex,
        with_recursive,
        with_section,
        with_write,
        lambda: event.wait(0.0001),
        lambda: sync.park(word, lambda: True, 0.0001),
        lambda: sync.unpark_all(word),
        lambda: seq.read(word.load),
        lambda: rw.acquire_read(timeout=0.0005) and rw.release_read(),
        sync.deadlocks,
    ]

    def act(seed: float) -> None:
        choice = random.Random(seed)
        for _ in range(120 * scale):
            choice.choice(actions)()

    with Crew() as crew:
        for _ in range(5):
            crew.start(act, chance.random())
    assert not mutex.is_locked()
    assert not recursive.is_locked()
    assert rw.acquire_write(blocking=False)


def watch(seconds: int) -> None:
    """End with a traceback after so long; this takes a thread.

    A thread that starts takes whatever signal it may. Up to Python 3.12 the
    main thread then learns of it when another thread wants to run, and not
    before: so this one, which never runs Python, must not take any.
    """
    if sys.platform == 'win32':
        faulthandler.dump_traceback_later(seconds, exit=True)
        return
    everything = signal.valid_signals()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    faulthandler.dump_traceback_later(seconds, exit=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def main(name: str, implementation: str, scale: str = '1') -> None:
    watch(LIMIT * int(scale))
    sync = loading.load(implementation)
    assert sync is not None, f'{implementation} is not there'
    # threads that change places often find more
    sys.setswitchinterval(0.0002)
    LAWS[name](sync, int(scale))


if __name__ == '__main__':
    main(*sys.argv[1:])
