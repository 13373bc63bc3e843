"""CriticalSection: suspended while its thread waits, and never deadlocked."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from crew import SHORT, Crew, in_thread, until, until_parked


@pytest.fixture
def mutexes(sync: Any) -> list[Any]:
    """Three, in the order in which they are locked."""
    return sorted((sync.Mutex() for _ in range(3)), key=id)


def is_free(mutex: Any) -> bool:
    return not mutex.is_locked()


@pytest.mark.parametrize('count', [1, 2, 3])
def test_it_holds_its_mutexes(sync: Any, mutexes: Any, count: int) -> None:
    wanted = mutexes[:count]
    section = sync.CriticalSection(*wanted)
    for _ in range(2):
        with section as entered:
            assert entered is section
            assert not any(map(is_free, wanted))
            assert sync.CSThread.current().top() is section
        assert all(map(is_free, mutexes))
        assert sync.CSThread.current().top() is None


def test_seed_shaped(sync: Any, mutexes: Any) -> None:
    a, b, _ = mutexes
    thread = sync.CSThread.current()
    section = sync.CriticalSection()
    assert section.begin(a) is None
    assert a.is_locked()
    assert section.end() is None
    section.begin(a, thread=thread)
    section.end(thread=thread)
    section.begin_mutex2(b, a)
    assert a.is_locked() and b.is_locked()
    section.end()
    section.begin_mutex2(a, a, thread=thread)
    assert a.is_locked()
    section.end(thread)
    assert is_free(a) and is_free(b)


def test_equal_mutexes_count_once(sync: Any, mutexes: Any) -> None:
    a = mutexes[0]
    with sync.CriticalSection(a, a, a):
        assert a.is_locked()
    assert is_free(a)


def test_misuse_changes_nothing(sync: Any, mutexes: Any) -> None:
    a, b, _ = mutexes
    section = sync.CriticalSection(a)
    with pytest.raises(RuntimeError, match='end'):
        section.end()
    with section:
        with pytest.raises(RuntimeError, match='begin'):
            section.begin(b)
        with pytest.raises(RuntimeError):
            in_thread(section.end)
        with sync.CriticalSection(b) as inner:
            with pytest.raises(RuntimeError, match='innermost'):
                section.end()
            assert a.is_locked() and b.is_locked()
            assert sync.CSThread.current().top() is inner
        assert a.is_locked() and is_free(b)
    assert is_free(a)
    for wrong in (None, 1, sync.RWMutex(), sync.RecursiveMutex()):
        with pytest.raises(TypeError):
            sync.CriticalSection(wrong)
        with pytest.raises(TypeError):
            sync.CriticalSection().begin(wrong)
        with pytest.raises(TypeError):
            sync.CriticalSection().begin_mutex2(a, wrong)
    assert is_free(a)


def test_a_thread_of_sections_is_the_callers(sync: Any, mutexes: Any) -> None:
    with pytest.raises(TypeError):
        sync.CSThread()
    mine = sync.CSThread.current()
    assert sync.CSThread.current() is mine
    foreign = in_thread(sync.CSThread.current)
    assert foreign is not mine
    section = sync.CriticalSection()
    with pytest.raises(RuntimeError):
        section.begin(mutexes[0], thread=foreign)
    with pytest.raises(RuntimeError):
        section.begin_mutex2(*mutexes[:2], thread=foreign)
    assert is_free(mutexes[0])
    section.begin(mutexes[0], thread=mine)
    with pytest.raises(RuntimeError):
        section.end(thread=foreign)
    section.end(thread=mine)


def test_another_thread_waits_outside(sync: Any, mutexes: Any) -> None:
    a, b, c = mutexes
    entered: list[str] = []

    def enter(*wanted: Any) -> None:
        with sync.CriticalSection(*wanted):
            entered.append('in')

    with Crew() as crew, sync.CriticalSection(b):
        crew.start(enter, a, b)
        crew.start(enter, b, c)
        assert entered == []
        assert b.is_locked()
    assert len(entered) == 2
    assert all(map(is_free, mutexes))


def test_a_section_that_waits_suspends_those_around_it(
    sync: Any, mutexes: Any
) -> None:
    a, b, c = mutexes
    c.lock()
    begun: list[Any] = []
    states: list[Any] = []

    def nest() -> None:
        with sync.CriticalSection(a) as outer, sync.CriticalSection(b):
            assert a.is_locked() and b.is_locked()
            begun.append(outer)
            with sync.CriticalSection(c):
                states.append((a.is_locked(), b.is_locked(), repr(outer)))
            states.append((a.is_locked(), b.is_locked(), repr(outer)))
        states.append((a.is_locked(), b.is_locked(), None))
        with outer:
            states.append((a.is_locked(), b.is_locked(), repr(outer)))

    with Crew() as crew:
        crew.start(nest)
        until(lambda: begun and is_free(a) and is_free(b) and c.is_locked())
        # seen from outside: both can be had
        assert a.acquire(timeout=20) and b.acquire(timeout=20)
        c.unlock()
        until(lambda: states)
        a.unlock()
        b.unlock()
    assert [state[:2] for state in states[1:]] == [
        (False, True),
        (False, False),
        (True, False),
    ]
    assert states[0][2].startswith('<suspended portalocker.pysync.Critical')
    assert states[1][2].startswith('<suspended ')
    assert states[3][2].startswith('<held ')
    assert all(map(is_free, mutexes))


def test_the_body_goes_on_when_its_mutex_is_back(
    sync: Any, mutexes: Any
) -> None:
    a, b, _ = mutexes
    b.lock()
    reached: list[str] = []

    def nest() -> None:
        with sync.CriticalSection(a):
            reached.append('begun')
            with sync.CriticalSection(b):
                reached.append('inner')
            reached.append('outer')

    with Crew() as crew:
        crew.start(nest)
        until(lambda: reached and a.acquire(timeout=0.001))
        b.unlock()
        until(lambda: reached == ['begun', 'inner'])
        until(lambda: is_free(b))
        assert len(reached) == 2, 'it goes on without its mutex'
        a.unlock()
    assert reached == ['begun', 'inner', 'outer']
    assert is_free(a)


def test_nested_in_one_that_holds_all_it_wants(
    sync: Any, mutexes: Any
) -> None:
    a, b, _ = mutexes
    with sync.CriticalSection(a, b) as outer:
        for wanted in ((a,), (b,), (b, a)):
            with sync.CriticalSection(*wanted) as inner:
                assert sync.CSThread.current().top() is outer
                assert repr(inner).startswith('<nested ')
            assert a.is_locked() and b.is_locked()
    assert is_free(a) and is_free(b)


def test_nested_then_suspended(sync: Any, mutexes: Any) -> None:
    """A section that does nothing hides no section that must go on."""
    a, b, _ = mutexes
    b.lock()
    begun: list[Any] = []
    done: list[Any] = []

    def nest() -> None:
        with sync.CriticalSection(a):
            with sync.CriticalSection(a):
                begun.append(1)
                with sync.CriticalSection(b):
                    pass
                done.append(a.is_locked())
            done.append(a.is_locked())
        done.append(a.is_locked())

    with Crew() as crew:
        crew.start(nest)
        until(lambda: begun and is_free(a))
        b.unlock()
    assert done == [True, True, False]


def test_wanting_more_than_the_outer_one_has(sync: Any, mutexes: Any) -> None:
    """What the thread itself holds is given back, not waited for."""
    a, b, c = mutexes
    with sync.CriticalSection(b):
        with sync.CriticalSection(b, a):
            assert a.is_locked() and b.is_locked()
            with sync.CriticalSection(c), sync.CriticalSection(a):
                assert a.is_locked()
            assert a.is_locked() and b.is_locked()
        assert b.is_locked() and is_free(a)
    assert all(map(is_free, mutexes))


def test_mutexes_are_locked_in_one_order(sync: Any, mutexes: Any) -> None:
    """While one is awaited, those that come before it are held."""
    a, b, c = mutexes
    b.lock()
    for wanted in itertools.permutations(mutexes):
        with Crew() as crew:
            crew.start(enter_and_leave, sync, wanted)
            # it holds `a` and waits for `b`; `c` comes last
            until(lambda: a.is_locked() and not c.is_locked())
            for _ in range(20):
                assert c.acquire(timeout=0.001)
                c.unlock()
                assert a.is_locked()
            b.unlock()
        b.lock()
    b.unlock()


def enter_and_leave(sync: Any, wanted: Any) -> None:
    with sync.CriticalSection(*wanted):
        pass


def test_opposite_orders_do_not_deadlock(sync: Any, mutexes: Any) -> None:
    a, b, c = mutexes
    count = 0

    def cross(*wanted: Any) -> None:
        nonlocal count
        for _ in range(100):
            with sync.CriticalSection(*wanted):
                before = count
                for _ in range(3):
                    pass
                count = before + 1

    def nest(first: Any, second: Any) -> None:
        for _ in range(100):
            with sync.CriticalSection(first), sync.CriticalSection(second):
                pass

    with Crew() as crew:
        for wanted in ((a, b), (b, a), (c, b, a), (b, c, a)):
            crew.start(cross, *wanted)
        for pair in ((a, b), (b, a), (c, a), (a, c)):
            crew.start(nest, *pair)
    assert count == 400
    assert all(map(is_free, mutexes))


@pytest.mark.parametrize(
    'wait',
    [
        lambda sync, key, event, rw: sync.park(key, lambda: True),
        lambda sync, key, event, rw: event.wait(),
        lambda sync, key, event, rw: rw.acquire_write(),
        lambda sync, key, event, rw: rw.acquire_read(timeout=20),
    ],
    ids=('park', 'event', 'writer', 'reader'),
)
def test_other_waits_suspend_too(sync: Any, mutexes: Any, wait: Any) -> None:
    a, b, _ = mutexes
    key, event, rw = object(), sync.Event(), sync.RWMutex()
    rw.lock()
    seen: list[Any] = []

    def nest() -> None:
        with sync.CriticalSection(a), sync.CriticalSection(b):
            wait(sync, key, event, rw)
            seen.append((a.is_locked(), b.is_locked()))
        seen.append((a.is_locked(), b.is_locked()))

    with Crew() as crew:
        crew.start(nest)
        until(lambda: sync._waits() and is_free(a) and is_free(b))
        sync.unpark(key)
        event.set()
        rw.unlock()
    assert seen == [(False, True), (False, False)]


def test_a_native_mutex_that_is_awaited_suspends(
    sync: Any, mutexes: Any
) -> None:
    if sync.IMPLEMENTATION == 'pure':
        pytest.skip('there the interpreter keeps the waiters')
    for wanted in (sync.Mutex(), sync.RecursiveMutex(), sync.RawMutex()):
        may_end = sync.Event()
        held = sync.Event()
        with Crew() as crew:

            def hold(lock: Any = wanted, held: Any = held, end: Any = may_end):
                with lock:
                    held.set()
                    end.wait()

            def nest(lock: Any = wanted) -> None:
                with sync.CriticalSection(mutexes[0]), lock:
                    assert mutexes[0].is_locked()

            crew.start(hold)
            held.wait()
            crew.start(nest)
            until_parked(sync, wanted)
            until(lambda: is_free(mutexes[0]))
            may_end.set()


def test_waits_that_the_package_does_not_know(sync: Any, mutexes: Any) -> None:
    a, b, _ = mutexes
    with sync.CriticalSection(a), sync.CriticalSection(b):
        with sync.suspended():
            assert is_free(a) and is_free(b)
            with sync.CriticalSection(a):
                assert a.is_locked()
            assert is_free(a) and is_free(b)
        assert is_free(a) and b.is_locked()
    with sync.suspended():
        assert sync.CSThread.current().top() is not None
    assert sync.CSThread.current().top() is None


def test_an_exception_ends_all_sections(sync: Any, mutexes: Any) -> None:
    a, b, _ = mutexes
    with (
        pytest.raises(ZeroDivisionError),
        sync.CriticalSection(a),
        sync.CriticalSection(b),
    ):
        _ = 1 / 0
    assert is_free(a) and is_free(b)
    assert sync.CSThread.current().top() is None


def test_generators_that_interleave_are_refused(
    sync: Any, mutexes: Any
) -> None:
    def hold(mutex: Any) -> Any:
        with sync.CriticalSection(mutex):
            yield

    one, other = hold(mutexes[0]), hold(mutexes[1])
    next(one)
    next(other)
    with pytest.raises(RuntimeError, match='innermost'):
        next(one)
    assert mutexes[0].is_locked() and mutexes[1].is_locked()
    other.close()
    top = sync.CSThread.current().top()
    assert top is not None
    top.end()
    assert all(map(is_free, mutexes))


def test_a_section_has_one_thread_at_a_time(sync: Any, mutexes: Any) -> None:
    """Who comes while another thread has it is refused, or gets it next."""
    section = sync.CriticalSection(*mutexes)
    inside = [0, 0]

    def visit(way: int) -> None:
        for _ in range(300):
            try:
                if way:
                    section.begin_mutex2(mutexes[0], mutexes[1])
                else:
                    section.__enter__()
            except RuntimeError:
                continue
            inside[0] += 1
            assert inside[0] == 1
            inside[1] += 1
            inside[0] -= 1
            section.end()

    with Crew() as crew:
        for n in range(4):
            crew.start(visit, n % 2)
    assert inside[0] == 0 and inside[1]
    assert repr(section).startswith('<idle ')
    assert all(map(is_free, mutexes))


def test_other_threads_cannot_look(sync: Any) -> None:
    ours = sync.CSThread.current()
    with pytest.raises(RuntimeError, match='another thread'):
        in_thread(ours.top)


def test_timeout_of_a_wait_inside_a_section(sync: Any, mutexes: Any) -> None:
    with sync.CriticalSection(mutexes[0]):
        assert not sync.Event().wait(SHORT)
        assert mutexes[0].is_locked()


def test_with_takes_what_it_was_made_with(sync: Any, mutexes: Any) -> None:
    """`begin()` names its mutexes for that once."""
    a, b, c = mutexes
    section = sync.CriticalSection(a)
    section.begin(b)
    assert is_free(a) and not is_free(b)
    section.end()
    with section:
        assert not is_free(a) and is_free(b)
    section.begin_mutex2(b, c)
    section.end()
    with pytest.raises(TypeError):
        section.begin(None)
    with section:
        assert not is_free(a) and is_free(b) and is_free(c)
    empty = sync.CriticalSection()
    empty.begin(a)
    empty.end()
    with empty:
        assert is_free(a)


def test_begun_while_another_thread_waits_in_it(
    sync: Any, mutexes: Any
) -> None:
    """Only one of the two gets it, though they want different mutexes."""
    a, b, _ = mutexes
    section = sync.CriticalSection()
    is_tried = sync.Event()

    def begin_and_end() -> None:
        section.begin(a)
        is_tried.wait()
        section.end()

    a.acquire()
    with Crew() as crew:
        thread = crew.start(begin_and_end)
        until(lambda: is_begun(sync, section, a))
        with pytest.raises(RuntimeError, match='cannot begin'):
            section.begin(b)
        a.release()
        with pytest.raises(RuntimeError, match='cannot end'):
            section.end()
        is_tried.set()
        thread.join()
    assert is_free(a) and is_free(b)


def is_begun(sync: Any, section: Any, mutex: Any) -> bool:
    """Whether a thread has it, and waits for `mutex` or will soon."""
    taken = getattr(section, '_taken', None)  # in pure Python
    return taken.locked() if taken else sync.parked_count(mutex) > 0


def test_only_its_thread_ends_a_nested_one(sync: Any, mutexes: Any) -> None:
    section = sync.CriticalSection()
    with sync.CriticalSection(*mutexes):
        section.begin(mutexes[0])
        with pytest.raises(RuntimeError, match='cannot end'):
            in_thread(section.end)
        section.end()
    assert all(map(is_free, mutexes))


def test_a_mutex_that_was_unlocked_by_others(sync: Any, mutexes: Any) -> None:
    """All else is given back, and the section around it goes on."""
    a, b, c = mutexes
    section = sync.CriticalSection(a, b)
    with sync.CriticalSection(c):
        with Crew() as crew:
            b.acquire()
            crew.start(lambda: (until(lambda: is_free(c)), b.release()))
            section.begin_mutex2(a, b)
        assert is_free(c)
        b.release()
        with pytest.raises(RuntimeError):
            section.end()
        assert is_free(a) and is_free(b) and not is_free(c)
        with section:
            b.release()
            sync.Event().wait(SHORT)
            assert not is_free(a) and not is_free(b)
    assert all(map(is_free, mutexes))
