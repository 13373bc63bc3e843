"""Signals that arrive while a lock is waited for."""

from __future__ import annotations

import itertools
import os
import signal

import pytest
from locks import (
    NO_LINE,
    announce_wait,
    handle,
    hold_until_told,
    law,
    open_descriptors,
    wait_and_leave,
)

from portalocker import _owner


class Alarm(Exception):
    """What a signal handler raises."""


@pytest.fixture
def held(kind, path):
    lock = kind.rival(path)
    lock.acquire()
    yield lock
    if handle(lock) is not None:
        lock.release()


def descriptors_besides_inotify() -> list[str]:
    return [
        number
        for number, name in open_descriptors().items()
        if not name.startswith('anon_inode')
    ]


@law(soft=NO_LINE)
@pytest.mark.parametrize('in_line', [0, 1])
def test_interrupt_ends_the_wait_and_leaves_nothing(
    kind, path, stage, held, can_enter, in_line
) -> None:
    def body(line) -> None:
        lock = announce_wait(kind.make(path), lambda: line.say('waits'))
        before = descriptors_besides_inotify()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        assert handle(lock) is None
        assert descriptors_besides_inotify() == before
        line.say('interrupted')
        line.hear()
        lock.acquire()
        lock.release()

    other = wait_and_leave(lambda: kind.make(path))

    others = [stage.process(other) for _ in range(in_line)]
    for process in others:
        process.expect('waits')
    waiting = stage.process(body)
    waiting.expect('waits')
    waiting.signal(signal.SIGINT)
    waiting.expect('interrupted')
    left = _owner.waiters_of(str(kind.locked_path(path)))
    assert len(left) == (0 if kind.is_unordered else in_line)
    held.release()
    for process in others:
        process.finish()
    assert can_enter(path)
    waiting.tell()
    waiting.finish()


@law()
def test_handler_that_returns_does_not_end_the_wait(
    kind, path, stage, held
) -> None:
    def body(line) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: line.say('handled'))
        lock = announce_wait(kind.make(path), lambda: line.say('waits'))
        lock.acquire()
        line.say('in')
        lock.release()

    waiting = stage.process(body)
    waiting.expect('waits')
    for _ in range(3):
        waiting.signal(signal.SIGUSR1)
        waiting.expect('handled')
    held.release()
    waiting.expect('in')
    waiting.finish()


@law()
def test_alarms_during_the_wait_do_no_harm(kind, path, stage, held) -> None:
    def body(line) -> None:
        rings = itertools.count(1)  # a handler may interrupt itself

        def ring(*_: object) -> None:
            if next(rings) == 5:
                line.say('rang')

        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        lock = kind.make(path)
        lock.acquire()
        lock.release()
        signal.setitimer(signal.ITIMER_REAL, 0)

    waiting = stage.process(body)
    waiting.expect('rang')
    held.release()
    waiting.finish()


@law()
def test_handler_that_raises_ends_the_wait(
    kind, path, stage, held, can_enter
) -> None:
    def ring(*_: object) -> None:
        raise Alarm

    def body(line) -> None:
        signal.signal(signal.SIGALRM, ring)
        lock = announce_wait(kind.make(path), lambda: line.say('waits'))
        with pytest.raises(Alarm):
            lock.acquire()
        assert handle(lock) is None
        line.say('over')
        line.hear()

    waiting = stage.process(body)
    waiting.expect('waits')
    waiting.wait_until_asleep()
    waiting.signal(signal.SIGALRM)
    waiting.expect('over')
    assert not _owner.waiters_of(str(kind.locked_path(path)))
    held.release()
    assert can_enter(path)
    waiting.tell()
    waiting.finish()


@law()
def test_stopped_waiter_does_not_block_those_behind_it(
    kind, path, stage, held
) -> None:
    def body(line) -> None:
        lock = announce_wait(
            kind.make(path, check_interval=0.02), lambda: line.say('waits')
        )
        lock.acquire()
        line.say('in')
        lock.release()

    first = stage.process(body)
    first.expect('waits')
    second = stage.process(body)
    second.expect('waits')
    first.signal(signal.SIGSTOP)
    first.wait_until_stopped()
    held.release()
    second.expect('in')
    second.finish()
    first.signal(signal.SIGCONT)
    first.expect('in')
    first.finish()


@law()
def test_stopped_holder_keeps_its_lock(kind, path, stage, can_enter) -> None:
    body = hold_until_told(lambda: kind.rival(path))

    holder = stage.process(body)
    holder.expect('in')
    holder.signal(signal.SIGSTOP)
    holder.wait_until_stopped()
    assert not can_enter(path, 'make')
    os.kill(holder.pid, signal.SIGCONT)
    holder.tell()
    holder.finish()
    assert can_enter(path, 'make')
