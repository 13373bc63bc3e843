"""A forked child holds nothing, and disturbs nothing of its parent."""

from __future__ import annotations

import gc
import multiprocessing
import os

import pytest
from actors import leave_child_behind
from locks import (
    INOTIFY,
    LONG,
    SHORT,
    announce_wait,
    handle,
    hold,
    hold_until_told,
    law,
    open_descriptors,
    try_to_hold,
    wait_and_leave,
)

import portalocker
from portalocker import _owner

NO_TICKETS = 'tickets are off'

OWN_DESCRIPTOR = 'its descriptor is its own'


@law()
def test_child_starts_released(kind, path, stage) -> None:
    lock = kind.make(path)
    lock.acquire()

    def child(line) -> None:
        assert handle(lock) is None

    stage.process(child).finish()
    lock.release()


@law(counting='it says that there is nothing to release')
def test_release_by_the_child_disturbs_nothing(
    kind, path, stage, can_enter
) -> None:
    lock = kind.make(path)
    fh = hold(lock)
    stage.process(lambda line: lock.release()).finish()
    assert not can_enter(path)
    assert kind.locked_path(path).exists()
    assert handle(lock) is fh
    lock.release()
    assert can_enter(path)


@law()
def test_child_that_leaves_the_block_disturbs_nothing(
    kind, path, stage, can_enter
) -> None:
    lock = kind.make(path)
    with lock:
        stage.process(lambda line: lock.__exit__(None, None, None)).finish()
        assert not can_enter(path)
        assert kind.locked_path(path).exists()
    assert can_enter(path)


@law(file_locks=OWN_DESCRIPTOR)
def test_child_that_closes_the_handle_disturbs_nothing(
    kind, path, stage, can_enter
) -> None:
    lock = kind.make(path)
    fh = hold(lock)
    stage.process(lambda line: fh.close()).finish()
    assert not can_enter(path)
    lock.release()


@law()
def test_child_that_drops_the_lock_disturbs_nothing(
    kind, path, stage, can_enter
) -> None:
    box = [kind.make(path)]
    box.append(hold(box[0]))

    def child(line) -> None:
        box.clear()
        gc.collect()

    stage.process(child).finish()
    assert not can_enter(path)
    assert kind.locked_path(path).exists()
    box[0].release()
    assert can_enter(path)


@law(
    semaphores='there is nothing to write',
    sides='it buffers nothing',
    file_locks='its file carries nothing',
)
def test_what_was_buffered_is_written_once(kind, path, stage) -> None:
    lock = kind.make(path)
    fh = hold(lock)
    fh.write('of the parent')

    def child(line) -> None:
        fh.write('of the child')
        with pytest.raises((OSError, ValueError)):
            fh.flush()

    stage.process(child).finish()
    fh.flush()
    text = kind.locked_path(path).read_text(encoding='ascii')
    lock.release()
    assert text == 'of the parent'


@law()
def test_child_uses_the_object_as_its_own(
    kind, path, stage, can_enter
) -> None:
    lock = kind.rival(path)
    # Readers enter beside their parent: let it hold what keeps them out
    inherited = kind.make(path) if kind.is_shared else lock
    lock.acquire()

    def child(line) -> None:
        assert not try_to_hold(inherited)
        announce_wait(inherited, lambda: line.say('waits'))
        assert not hold(inherited).closed
        line.say('in')
        line.hear()
        inherited.release()
        assert handle(inherited) is None

    process = stage.process(child)
    process.expect('waits')
    lock.release()
    process.expect('in')
    assert not can_enter(path)
    process.tell()
    process.finish()
    assert can_enter(path)


@law()
def test_lock_of_a_killed_parent_is_free_while_its_child_lives(
    kind, path, stage, can_enter
) -> None:
    def parent(line) -> None:
        lock = kind.make(path)
        lock.acquire()
        child = leave_child_behind(line)
        os.waitpid(child, 0)

    process = stage.process(parent)
    process.expect('child lives')
    assert not can_enter(path)
    process.kill()
    assert can_enter(path)
    process.tell()  # the child is not ours to reap


@law()
def test_lock_of_a_killed_parent_whose_child_lives_wakes_the_waiter(
    kind, path, stage
) -> None:
    def parent(line) -> None:
        lock = announce_wait(kind.rival(path), lambda: line.say('waits'))
        lock.acquire()
        child = leave_child_behind(line)
        os.waitpid(child, 0)

    waiter = wait_and_leave(lambda: kind.make(path))

    first = kind.make(path)
    first.acquire()
    process = stage.process(parent)
    process.expect('waits')
    first.release()
    process.expect('child lives')
    waiting = stage.process(waiter)
    waiting.expect('waits')
    process.kill()
    waiting.finish()
    process.tell()


@law()
def test_waiter_copied_into_a_child_blocks_nobody(
    kind, path, stage, can_enter
) -> None:
    holder = hold_until_told(lambda: kind.rival(path))

    def waiter(line) -> None:
        lock = announce_wait(kind.make(path), lambda: line.say('waits'))
        lock.acquire()
        line.say('in')
        line.hear()
        lock.release()

    def child(line) -> None:
        line.say('lives')
        line.hear()
        lock = kind.make(path)
        lock.acquire()
        lock.release()

    holding = stage.process(holder)
    holding.expect('in')
    waiting = stage.thread(waiter)
    waiting.expect('waits')
    copy = stage.process(child)
    copy.expect('lives')
    holding.tell()
    waiting.expect('in')
    assert not can_enter(path)
    waiting.tell()
    waiting.finish()
    assert can_enter(path)
    copy.tell()
    copy.finish()
    holding.finish()


@law(record_locks=NO_TICKETS)
def test_waiter_that_gave_up_leaves_no_ticket_with_a_child(
    kind, path, stage
) -> None:
    lock = kind.rival(path)
    lock.acquire()

    def waiter(line) -> None:
        waiting = announce_wait(
            kind.make(path, timeout=4 * SHORT), lambda: line.say('waits')
        )
        with pytest.raises(portalocker.AlreadyLocked):
            waiting.acquire()

    thread = stage.thread(waiter)
    thread.expect('waits')
    child = stage.process(lambda line: (line.say('lives'), line.hear()))
    child.expect('lives')
    thread.finish()
    assert not _owner.waiters_of(str(kind.locked_path(path)))
    lock.release()
    child.tell()
    child.finish()


@law(
    of_process='its own process is never waited for',
    tasks='an event loop has sockets of its own',
)
def test_child_of_a_waiter_keeps_no_means_of_waiting(
    kind, path, stage
) -> None:
    lock = kind.rival(path)
    lock.acquire()

    def waiter(line) -> None:
        waiting = announce_wait(kind.make(path), lambda: line.say('waits'))
        waiting.acquire()
        waiting.release()

    def child(line) -> None:
        names = open_descriptors().values()
        assert not [name for name in names if name == INOTIFY]
        sockets = [name for name in names if name.startswith('socket')]
        line.say(len(sockets))

    before = stage.process(child)
    usual = before.listen()
    before.finish()
    thread = stage.thread(waiter)
    thread.expect('waits')
    during = stage.process(child)
    # The test's own connection to the child before stays open
    assert during.listen() <= usual + 1
    during.finish()
    lock.release()
    thread.finish()


def contend(kind, path, inherited, talk) -> None:
    """Run in a child that `multiprocessing` started."""
    lock = inherited if inherited is not None else kind.make(path)
    assert not try_to_hold(lock)
    announce_wait(lock, lambda: talk.send('waits'))
    lock.acquire()
    talk.send('in')
    talk.recv()
    if kind.name not in {'temporary', 'shared_temporary', 'pid_file'}:
        lock.release()


def contend_elsewhere(name, path, talk) -> None:
    """Run in an interpreter of its own."""
    from locks import KIND_OF, set_locker

    set_locker(KIND_OF[name].locker)
    contend(KIND_OF[name], path, None, talk)


@law()
@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_child_of_multiprocessing_contends_and_cleans_up(
    kind, path, can_enter, method
) -> None:
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    lock, own = kind.rival(path), kind.make(path)
    lock.acquire()
    if method == 'fork':
        process = context.Process(
            target=contend, args=(kind, path, own, theirs)
        )
    else:
        process = context.Process(
            target=contend_elsewhere, args=(kind.name, path, theirs)
        )
    process.start()
    try:
        assert ours.poll(LONG)
        assert ours.recv() == 'waits'
        lock.release()
        assert ours.poll(LONG)
        assert ours.recv() == 'in'
        assert not can_enter(path)
        ours.send('go')
        process.join(LONG)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
        theirs.close()
    assert can_enter(path)
    if kind.name in {'temporary', 'shared_temporary', 'pid_file'}:
        assert not list(path.parent.glob(f'{path.name}*'))
