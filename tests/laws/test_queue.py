"""Who waits is woken, in the order of arrival."""

from __future__ import annotations

import subprocess

import pytest
from locks import (
    INOTIFY,
    LONG,
    NO_LINE,
    announce_wait,
    hold,
    law,
    open_descriptors,
    wait_and_leave,
)

import portalocker
from portalocker import _owner

NO_ORDER = 'record locks are waited for without an order'
POLLS = 'closing what it would watch drops its locks: it looks now and then'
NOT_SHARED = 'it is exclusive'
FOREIGN = 'flock does not see record locks'

OWN_DESCRIPTOR = 'its descriptor is its own'


def waiter(kind, path, witness, who, make='make', **options):
    """Body of a process that waits, enters, and leaves when told."""

    def body(line) -> None:
        lock = getattr(kind, make)(path, **options)
        announce_wait(lock, lambda: line.say('waits'))
        lock.acquire()
        witness.note(f'{who} in')
        line.say('in')
        line.hear()
        witness.note(f'{who} out')
        lock.release()

    return body


@law(record_locks=NO_ORDER, readers='readers enter together', soft=NO_LINE)
@pytest.mark.parametrize('where', ['process', 'thread'])
def test_first_come_is_first_served(kind, path, stage, witness, where) -> None:
    lock = kind.make(path)
    lock.acquire()
    line = []
    for who in range(4):
        line.append(getattr(stage, where)(waiter(kind, path, witness, who)))
        line[-1].expect('waits')
        seen = _owner.waiters_of(str(kind.locked_path(path)))
        assert len(seen) == who + 1
    lock.release()
    for actor in line:
        actor.expect('in')
        actor.tell()
        actor.finish()
    assert witness.journal() == [
        f'{who} {what}' for who in range(4) for what in ('in', 'out')
    ]


@law(record_locks=NO_ORDER, readers='readers enter together', soft=NO_LINE)
def test_who_left_the_line_is_not_waited_for(
    kind, path, stage, witness
) -> None:
    lock = kind.make(path)
    lock.acquire()
    line = []
    for who in range(4):
        line.append(stage.process(waiter(kind, path, witness, who)))
        line[-1].expect('waits')
    line[2].kill()
    line[0].kill()
    assert len(_owner.waiters_of(str(kind.locked_path(path)))) == 2
    lock.release()
    for who in (1, 3):
        line[who].expect('in')
        line[who].tell()
        line[who].finish()


@law(lockf_semaphore=POLLS)
def test_release_wakes_the_waiter(kind, path, stage, witness) -> None:
    # Between two attempts nothing but a wake-up lets it in
    lock = kind.rival(path)
    lock.acquire()
    actor = stage.process(
        waiter(kind, path, witness, 'it', check_interval=2 * LONG)
    )
    actor.expect('waits')
    lock.release()
    actor.expect('in')
    actor.tell()
    actor.finish()


@law(record_locks=NO_ORDER, readers='readers enter together', soft=NO_LINE)
def test_release_of_a_waiter_wakes_the_next(
    kind, path, stage, witness
) -> None:
    lock = kind.make(path)
    lock.acquire()
    line = []
    for who in range(3):
        line.append(
            stage.process(
                waiter(kind, path, witness, who, check_interval=2 * LONG)
            )
        )
        line[-1].expect('waits')
    lock.release()
    for actor in line:
        actor.expect('in')
        actor.tell()
        actor.finish()


@law(semaphores='a place is given back by release', file_locks=OWN_DESCRIPTOR)
@pytest.mark.parametrize('by', ['close', 'unlock'])
def test_handle_closed_by_a_holder_that_had_waited_lets_the_next_in(
    kind, path, stage, by
) -> None:
    # Also where nobody tells the next one: it looks now and then
    def first(line) -> None:
        lock = announce_wait(kind.rival(path), lambda: line.say('waits'))
        fh = hold(lock)
        line.say('in')
        line.hear()
        if by == 'close':
            fh.close()
        else:
            portalocker.unlock(fh)
        line.hear()

    second = wait_and_leave(lambda: kind.make(path))

    lock = kind.rival(path)
    lock.acquire()
    holding = stage.process(first)
    holding.expect('waits')
    # In line behind the one that will hold
    waiting = stage.process(second)
    waiting.expect('waits')
    lock.release()
    holding.expect('in')
    holding.tell()
    waiting.finish()
    holding.tell()
    holding.finish()


@law(exclusive=NOT_SHARED)
def test_readers_enter_together(kind, path, stage, witness) -> None:
    lock = kind.rival(path)
    lock.acquire()
    readers = []
    for who in range(3):
        readers.append(stage.process(waiter(kind, path, witness, who)))
        readers[-1].expect('waits')
    lock.release()
    for reader in readers:
        reader.expect('in')
    for reader in readers:
        reader.tell()
        reader.finish()


@law(exclusive=NOT_SHARED)
def test_readers_behind_a_writer_enter_after_it(
    kind, path, stage, witness
) -> None:
    lock = kind.rival(path)
    lock.acquire()
    line = []
    for who, make in enumerate(('make', 'rival', 'make', 'make')):
        line.append(stage.process(waiter(kind, path, witness, who, make)))
        line[-1].expect('waits')
    lock.release()
    line[0].expect('in')
    line[0].tell()
    line[1].expect('in')
    line[1].tell()
    line[2].expect('in')
    line[3].expect('in')
    for actor in line:
        if actor in line[2:]:
            actor.tell()
        actor.finish()
    journal = witness.journal()
    assert journal[:4] == ['0 in', '0 out', '1 in', '1 out']


@law(exclusive=NOT_SHARED)
def test_writer_enters_however_many_readers_come(
    kind, path, stage, witness
) -> None:
    # Two readers come again and again, so that always one is inside
    def reader(line) -> None:
        while line.hear() == 'come':
            lock = announce_wait(kind.make(path), lambda: line.say('waits'))
            lock.acquire()
            line.say('in')
            line.hear()
            lock.release()
            line.say('out')

    inside, outside = stage.process(reader), stage.process(reader)
    inside.tell('come')
    inside.expect('in')
    writer = stage.process(waiter(kind, path, witness, 'w', 'rival'))
    writer.expect('waits')
    for _ in range(100):
        outside.tell('come')
        if outside.listen() == 'waits':
            break
        inside.tell()
        inside.expect('out')
        inside, outside = outside, inside
    else:
        raise AssertionError('readers come and go, the writer never enters')
    inside.tell()
    inside.expect('out')
    writer.expect('in')
    writer.tell()
    writer.finish()
    outside.expect('in')
    outside.tell()
    outside.expect('out')
    for actor in (inside, outside):
        actor.tell('end')
        actor.finish()


class Foreign:
    """Another program that holds the file: flock(1) of util-linux."""

    def __init__(self, path) -> None:
        self._process = subprocess.Popen(
            ['flock', '--no-fork', path, 'cat'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._process.stdin.write(b'held\n')
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b'held\n'

    def terminate(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@law(record_locks=FOREIGN, soft=NO_LINE)
@pytest.mark.parametrize('end', [Foreign.terminate, Foreign.kill])
def test_waiter_enters_when_a_foreign_program_ends(
    kind, path, stage, witness, end
) -> None:
    foreign = Foreign(kind.locked_path(path))
    try:
        actor = stage.process(waiter(kind, path, witness, 'it'))
        actor.expect('waits')
    finally:
        end(foreign)
    actor.expect('in')
    actor.tell()
    actor.finish()


@law(of_process='these locks belong to the process', soft=NO_LINE)
def test_threads_that_wait_share_one_inotify_instance(
    kind, path, stage, witness
) -> None:
    # The fixture `path` counts instances as well
    others = [path.with_name(f'another {n}') for n in range(3)]
    locks = [kind.rival(other) for other in others]
    fillers = [
        [kind.make(other) for _ in range(1, kind.capacity)] for other in others
    ]
    for lock, row in zip(locks, fillers, strict=True):
        for filler in row:
            filler.acquire()
        lock.acquire()
    threads = [
        stage.thread(waiter(kind, other, witness, other.name))
        for other in others
    ]
    for thread in threads:
        thread.expect('waits')
    names = list(open_descriptors().values())
    assert names.count(INOTIFY) == 1
    for lock, thread in zip(locks, threads, strict=True):
        lock.release()
        thread.expect('in')
        thread.tell()
        thread.finish()
    for row in fillers:
        for filler in row:
            filler.release()
