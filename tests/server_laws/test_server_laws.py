"""What is true of every lock on a server.

Actors are ordered by what the server says of them: who holds, who waits.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from actors import leave_child_behind
from server_locks import KIND_OF, LAWS, LONG, SHORT, InTask, law
from states import wait_until as until

from portalocker import exceptions, wait_counters

ROUNDS = 8
TOGETHER = 'readers are inside together'
NO_ORDER = 'a newcomer may be faster'
ONE_LOOP = 'its client belongs to one event loop'
UNCLOSED = 'its client warns where it is dropped while it is open'


def until_in_line(lock, count: int = 1) -> None:
    until(lambda: len(lock.waiters()) == count)


def holder_of(lock):
    """A body: hold until told otherwise."""

    def body(line) -> None:
        lock.acquire()
        line.say('in')
        line.hear()
        lock.release()

    return body


# Exclusion


@law()
def test_second_process_enters_only_after_first_left(
    make, rival, stage
) -> None:
    first = stage.process(holder_of(rival()))
    first.expect('in')
    second = stage.process(holder_of(make()))
    until_in_line(make())
    assert not make().try_acquire()
    first.tell()
    second.expect('in')
    assert not rival().try_acquire()
    second.tell()
    first.finish()
    second.finish()
    assert make().holders() == make().waiters() == ()


def visitor_of(make, witness):
    """Who enters again and again, with an object of its own."""

    def body(line) -> None:
        lock = make()
        line.hear()
        for _ in range(ROUNDS):
            with lock, witness:
                lock.ensure_held()

    return body


def three_begin_at_once(start, body, witness) -> None:
    """Processes or threads: each is inside as often as it has to be."""
    visitors = [start(body) for _ in range(3)]
    for visitor in visitors:
        visitor.tell()
    for visitor in visitors:
        visitor.finish()
    assert len(witness.journal()) == 2 * 3 * ROUNDS


@law(readers=TOGETHER)
def test_one_process_at_a_time(make, stage, witness) -> None:
    three_begin_at_once(stage.process, visitor_of(make, witness), witness)


@law(readers=TOGETHER)
def test_one_thread_at_a_time_with_an_object_each(
    make, stage, witness
) -> None:
    three_begin_at_once(stage.thread, visitor_of(make, witness), witness)


@law(readers=TOGETHER, redis_tasks=ONE_LOOP)
def test_one_thread_at_a_time_with_one_object(make, stage, witness) -> None:
    """The others wait, or are told that the object is in use."""
    lock = make()

    def body(line) -> None:
        line.hear()
        entered = 0
        while entered < ROUNDS:
            try:
                lock.acquire()
            except exceptions.AlreadyActive:
                time.sleep(0.0005)
                continue
            with witness:
                entered += 1
            lock.release()

    three_begin_at_once(stage.thread, body, witness)
    assert not lock.locked


@law(exclusive='it is held alone')
def test_readers_are_inside_together(make, rival, stage) -> None:
    readers = [stage.process(holder_of(make())) for _ in range(3)]
    for reader in readers:
        reader.expect('in')
    assert len(make().holders()) == 3
    assert not rival().try_acquire()
    for reader in readers:
        reader.tell()
        reader.finish()
    with rival():
        assert not make().try_acquire()


@law()
def test_names_do_not_touch_each_other(make, rival, name) -> None:
    with rival(), make(name + ' besides', timeout=0):
        pass


# Giving up


@law()
def test_waiter_gives_up_at_the_end_of_its_timeout(make, rival, stage) -> None:
    holder = stage.process(holder_of(rival()))
    holder.expect('in')
    lock = make()
    with pytest.raises(exceptions.AlreadyLocked) as caught:
        lock.acquire(timeout=SHORT)
    assert caught.value.waited is not None
    assert caught.value.waited >= SHORT
    assert not lock.locked
    assert lock.waiters() == (), 'it does not stand in line any more'
    holder.tell()
    holder.finish()
    with lock:
        assert lock.locked


@law()
def test_failure_names_lock_and_holder_and_can_be_sent(
    make, rival, stage, name
) -> None:
    holder = stage.process(holder_of(rival()))
    holder.expect('in')
    with pytest.raises(exceptions.AlreadyLocked) as caught:
        make().acquire(timeout=SHORT)
    assert caught.value.filename == name
    assert {found.pid for found in caught.value.holders} == {holder.pid}
    assert f'pid {holder.pid}' in str(caught.value)
    sent = pickle.loads(pickle.dumps(caught.value))
    assert type(sent) is type(caught.value)
    assert str(sent) == str(caught.value)
    holder.tell()
    holder.finish()


@law()
def test_no_wait_where_none_is_wanted(make, rival, stage) -> None:
    holder = stage.process(holder_of(rival()))
    holder.expect('in')
    for given in ({'timeout': 0}, {'fail_when_locked': True}):
        with pytest.raises(exceptions.AlreadyLocked) as caught:
            make().acquire(**given)
        assert caught.value.waited is None
        with pytest.raises(exceptions.AlreadyLocked):
            make(**given).acquire()
    assert make().try_acquire() is False
    holder.tell()
    holder.finish()
    lock = make()
    assert lock.try_acquire() is True
    assert not rival().try_acquire()
    lock.release()


@law()
def test_interrupt_ends_the_wait_and_leaves_nothing(
    make, rival, stage
) -> None:
    def body(line) -> None:
        lock = make()
        line.hear()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        assert not lock.locked
        line.say('interrupted')
        line.hear()
        with lock:
            pass

    with rival() as lock:
        waiter = stage.process(body)
        waiter.tell()
        until_in_line(lock)
        waiter.signal(signal.SIGINT)
        waiter.expect('interrupted')
        until(lambda: not lock.waiters())
    waiter.tell()
    waiter.finish()


# In turn


@law(readers='readers enter together', redis_barging=NO_ORDER)
def test_first_come_is_first_served(make, stage, witness) -> None:
    def waiter(n: int):
        def body(line) -> None:
            with make():
                witness.note(str(n))

        return body

    line = []
    with make() as lock:
        for n in range(4):
            line.append(stage.process(waiter(n)))
            until_in_line(lock, n + 1)
    for process in line:
        process.finish()
    assert witness.journal() == ['0', '1', '2', '3']


@law()
def test_release_wakes_the_waiter(make, rival, stage) -> None:
    """It does not come by looking now and then."""
    with rival() as lock:
        options = {'check_interval': 10 * LONG}
        waiter = stage.process(holder_of(make(**options)))
        until_in_line(lock)
    waiter.expect('in')
    waiter.tell()
    waiter.finish()


# Death


@law()
def test_waiter_enters_when_the_holder_is_killed(make, rival, stage) -> None:
    holder = stage.process(holder_of(rival()))
    holder.expect('in')
    waiter = stage.process(holder_of(make()))
    until_in_line(make())
    holder.kill()
    waiter.expect('in')
    waiter.tell()
    waiter.finish()


@law()
def test_killed_waiter_is_passed_over(make, rival, stage) -> None:
    with rival() as lock:
        killed = stage.process(holder_of(make()))
        until_in_line(lock)
        behind = stage.process(holder_of(make()))
        until_in_line(lock, 2)
        killed.kill()
    behind.expect('in')
    behind.tell()
    behind.finish()


@law()
def test_lock_is_free_after_the_end_of_its_process(make, rival, stage) -> None:
    def body(line) -> None:
        lock = make()
        lock.acquire()
        line.say('in')
        line.hear()
        os._exit(0)

    holder = stage.process(body)
    holder.expect('in')
    assert not rival().try_acquire()
    holder.tell()
    assert holder.reap() == 0
    with rival():
        pass


@law(redis_tasks=UNCLOSED)
def test_lock_that_nobody_refers_to_is_free(make, rival) -> None:
    lock = make()
    lock.acquire()
    del lock
    gc.collect()
    with rival():
        pass


@law(redis_tasks=UNCLOSED)
def test_lock_in_a_cycle_is_free_after_collection(make, rival) -> None:
    lock = make()
    lock.acquire()
    box = [lock]
    box.append(box)
    del lock, box
    gc.collect()
    with rival():
        pass


# Fork


@law()
def test_child_starts_released_and_disturbs_nothing(
    make, rival, stage
) -> None:
    box = [make()]
    lock = box[0]
    lock.acquire()
    deeds = (
        lambda: None,
        lock.release,
        lambda: lock.__exit__(None, None, None),
        lambda: (box.clear(), gc.collect()),
    )
    for deed in deeds:

        def child(line, deed=deed) -> None:
            assert not lock.locked
            deed()

        stage.process(child).finish()
        lock.verify()
        assert lock.locked
    assert not rival().try_acquire()
    lock.release()


@law()
def test_child_uses_the_object_as_its_own(make, rival, stage) -> None:
    lock = make()
    lock.acquire()

    def child(line) -> None:
        assert rival().try_acquire() is False
        line.say('refused')
        line.hear()
        with lock:
            lock.verify()

    process = stage.process(child)
    process.expect('refused')
    lock.verify()
    lock.release()
    process.tell()
    process.finish()


@law()
def test_lock_of_a_killed_parent_is_free_while_its_child_lives(
    make, rival, stage
) -> None:
    def body(line) -> None:
        lock = make()
        lock.acquire()
        child = leave_child_behind(line)
        line.say(child)
        line.hear()

    parent = stage.process(body)
    said = [parent.listen(), parent.listen()]
    said.remove('child lives')
    assert not rival().try_acquire()
    parent.kill()
    try:
        with rival():
            pass
    finally:
        os.kill(said[0], signal.SIGKILL)


# Again and again


@law()
def test_lock_can_be_used_again(make, rival) -> None:
    lock = make()
    for _ in range(3):
        lock.acquire()
        assert lock.locked
        lock.ensure_held()
        lock.verify()
        assert not rival().try_acquire()
        lock.release()
        assert not lock.locked
        assert rival().holders() == ()


@law(
    redis_reentrant='it counts',
)
def test_second_acquire_of_a_held_object_is_refused(make, rival) -> None:
    with make() as lock:
        with pytest.raises(exceptions.AlreadyActive):
            lock.acquire()
        assert not rival().try_acquire()
    with rival():
        pass


@law()
def test_block_that_fails_lets_go_and_tells_its_failure(make, rival) -> None:
    with pytest.raises(LookupError, match='of the block'), make():
        raise LookupError('of the block')
    with rival():
        pass


@law()
def test_release_of_what_is_not_held_does_nothing(make, rival) -> None:
    bystander = make()
    bystander.release()
    with rival() as lock:
        bystander.release()
        lock.verify()


@law(redis_reentrant='each thread counts for itself', redis_tasks=ONE_LOOP)
def test_another_thread_may_release(make, rival, stage) -> None:
    lock = make()
    lock.acquire()
    stage.thread(lambda line: lock.release()).finish()
    assert not lock.locked
    with rival():
        pass


def copied(lock):
    if isinstance(lock, InTask):
        return InTask(copy.copy(lock.lock))
    return copy.copy(lock)


@law()
def test_copy_holds_nothing(make, rival) -> None:
    lock = make()
    lock.acquire()
    twin = copied(lock)
    assert not twin.locked
    twin.release()
    del twin
    gc.collect(1)  # it is young; a full one may take as long as a lease
    lock.verify()
    assert not rival().try_acquire()
    lock.release()
    twin = copied(lock)
    with twin:
        assert not lock.locked


# Tokens


def as_number(token) -> int:
    return token[0] if isinstance(token, tuple) else token


@law()
def test_tokens_grow_from_hold_to_hold(make, rival) -> None:
    tokens = []
    for lock in (make(), rival(), make(), rival()):
        assert lock.token is None
        with lock:
            tokens.append(as_number(lock.token))
        assert lock.token is None
    assert tokens == sorted(set(tokens))


# Loss


@law()
def test_loss_is_told_by_everybody_once(make, server, kind) -> None:
    told = []
    lock = make(on_lost=told.append)
    lock.acquire()
    token = as_number(lock.token)
    server.end_connection_of(lock)
    until(lambda: lock.lost and told)
    assert not lock.locked
    with pytest.raises(exceptions.LockLostError):
        lock.ensure_held()
    with pytest.raises(exceptions.LockLostError):
        lock.verify()
    with pytest.raises(exceptions.LockLostError) as caught:
        lock.release()
    assert caught.value.token == token
    lock.release()  # once is enough
    assert lock.lost, 'until the next time'
    with lock:
        assert not lock.lost
        assert as_number(lock.token) > token
    assert len(told) == 1


@law()
def test_loss_is_raised_at_the_end_of_a_block(make, server) -> None:
    lock = make()

    def block() -> None:
        with lock:
            server.end_connection_of(lock)
            until(lambda: lock.lost)

    with pytest.raises(exceptions.LockLostError):
        block()


@law()
def test_failure_of_a_block_is_not_masked_by_a_loss(make, server) -> None:
    lock = make()

    def block() -> None:
        with lock:
            server.end_connection_of(lock)
            until(lambda: lock.lost)
            raise LookupError('of the block')

    with pytest.raises(LookupError, match='of the block'):
        block()


@law()
def test_ensure_held_of_what_was_never_held_is_no_loss(make) -> None:
    lock = make()
    with pytest.raises(exceptions.LockException) as caught:
        lock.ensure_held()
    assert not isinstance(caught.value, exceptions.LockLostError)
    assert not lock.lost


# Who


@law()
def test_holders_and_waiters_are_told(make, rival, stage, kind) -> None:
    holder = stage.process(holder_of(make()))
    holder.expect('in')
    waiter = stage.process(holder_of(rival()))
    lock = make()
    until_in_line(lock)
    (found,) = lock.holders()
    assert found.pid == holder.pid
    assert found.shared is kind.is_shared
    assert found.host
    assert abs(found.since - time.time()) < 60
    (found,) = lock.waiters()
    assert found.pid == waiter.pid
    assert not found.shared
    holder.tell()
    waiter.expect('in')
    waiter.tell()
    for process in (holder, waiter):
        process.finish()


# Counting


@pytest.fixture
def counted(name) -> Iterator[Callable[..., Any]]:
    """Have a lock report under the name of this test, and read that."""
    wait_counters.enable()

    def counted(what: Any) -> Any:
        if isinstance(what, str):
            return wait_counters.WaitCounter(f'{name}.{what}').snapshot()
        lock = what.lock if isinstance(what, InTask) else what
        lock.counter_name = name
        return what

    yield counted
    wait_counters.disable()


@law()
def test_wait_and_hold_are_counted(make, rival, stage, counted) -> None:
    def body(line) -> None:
        lock = counted(make())
        lock.acquire()
        line.say('in')
        line.hear()
        lock.release()
        line.say('out')
        line.hear()

    holder = stage.process(holder_of(rival()))
    holder.expect('in')
    waiter = stage.thread(body)
    until(lambda: counted('enter').active)
    assert counted('region').started == 0
    holder.tell()
    waiter.expect('in')
    entered = counted('enter')
    assert (entered.active, entered.started, entered.contended) == (0, 1, 1)
    assert (entered.timeouts, entered.cancelled, entered.errors) == (0, 0, 0)
    assert counted('region').active == 1
    assert counted('exit').started == 0
    waiter.tell()
    waiter.expect('out')
    assert (counted('region').active, counted('region').started) == (0, 1)
    assert counted('exit').started == 1
    waiter.tell()
    waiter.finish()
    holder.finish()


@law()
def test_lock_that_is_free_is_not_contended(make, counted) -> None:
    lock = counted(make())
    with lock:
        pass
    assert lock.try_acquire()
    assert counted('region').active == 1
    lock.release()
    assert counted('enter').started == 2
    assert counted('enter').contended == 0
    assert counted('region').started == counted('exit').started == 2


@law()
def test_refusal_is_counted_as_out_of_time(
    make, rival, stage, counted
) -> None:
    holder = stage.process(holder_of(rival()))
    holder.expect('in')
    lock = counted(make())
    for wish in ({'fail_when_locked': True}, {'timeout': SHORT}):
        with pytest.raises(exceptions.AlreadyLocked):
            lock.acquire(**wish)
    assert not lock.try_acquire()
    entered = counted('enter')
    assert (entered.active, entered.started) == (0, 3)
    assert (entered.timeouts, entered.contended) == (3, 3)
    assert counted('region').started == 0
    holder.tell()
    holder.finish()


@law(redis_reentrant='it may be acquired again')
def test_refused_use_is_counted_as_an_error(make, counted) -> None:
    with counted(make()) as lock:
        with pytest.raises(exceptions.AlreadyActive):
            lock.acquire()
        assert counted('enter').errors == 1
        assert counted('region').active == 1
    assert counted('region').started == 1


@law()
def test_interrupt_is_counted_as_cancelled(
    make, rival, stage, counted
) -> None:
    def body(line) -> None:
        lock = counted(make())
        line.hear()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        entered = counted('enter')
        assert (entered.active, entered.cancelled) == (0, 1)
        line.say('interrupted')
        line.hear()

    with rival() as lock:
        waiter = stage.process(body)
        waiter.tell()
        until_in_line(lock)
        waiter.signal(signal.SIGINT)
        waiter.expect('interrupted')
    waiter.tell()
    waiter.finish()


@law(redis_reentrant='what was lost has to be released first')
def test_region_of_a_lost_hold_ends_with_its_release(
    make, server, counted
) -> None:
    lock = counted(make())
    for end in (lock.release, lock.acquire):
        lock.acquire()
        server.end_connection_of(lock)
        until(lambda: lock.lost)
        with contextlib.suppress(exceptions.LockLostError):
            end()
    assert counted('region').active == 1
    assert counted('region').started == 3
    lock.release()
    assert counted('region').active == 0


@law(redis_tasks=UNCLOSED)
def test_region_of_a_lock_that_nobody_refers_to_ends(make, counted) -> None:
    lock = counted(make())
    lock.acquire()
    del lock
    gc.collect()
    until(lambda: not counted('region').active)
    assert counted('region').started == 1


# No lock escapes


@pytest.mark.parametrize('name', KIND_OF)
def test_every_lock_is_under_most_laws(name: str) -> None:
    under = sum(name in covered for covered, _ in LAWS.values())
    assert under > len(LAWS) / 2


def test_every_lock_is_under_every_law_or_excused() -> None:
    for covered, excused in LAWS.values():
        assert covered | excused.keys() == KIND_OF.keys()
        assert all(excused.values())
