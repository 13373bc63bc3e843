"""What others do to the file of a lock, and what its place does not allow."""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from locks import MARKER, SHORT, announce_wait, handle, hold, law, try_to_hold

import portalocker

FOLLOWS = 'a symbolic link counts as its target'
NO_CONTENT = 'its file carries nothing'

OWN_DESCRIPTOR = 'its descriptor is its own'


def is_at(fh, path: pathlib.Path) -> bool:
    """Whether the handle has the file open that is at the path."""
    return os.path.samestat(os.fstat(fh.fileno()), path.stat())


# -- a handle that was closed by hand


@law(file_locks=OWN_DESCRIPTOR)
def test_closing_the_handle_lets_go(kind, path, can_enter) -> None:
    lock = kind.make(path)
    hold(lock).close()
    assert can_enter(path)
    lock.release()


@law(file_locks=OWN_DESCRIPTOR)
def test_acquire_after_the_handle_was_closed_takes_the_lock_anew(
    kind, path, can_enter
) -> None:
    lock = kind.make(path)
    hold(lock).close()
    fh = hold(lock)
    assert not fh.closed
    assert not can_enter(path)
    lock.release()
    assert can_enter(path)


@law(counting='it keeps the block of the thread', file_locks=OWN_DESCRIPTOR)
def test_block_whose_handle_was_closed_ends_well(
    kind, path, can_enter
) -> None:
    lock = kind.make(path)
    with lock:
        handle(lock).close()
    assert can_enter(path)
    with lock:
        assert not can_enter(path)


@law(file_locks=OWN_DESCRIPTOR)
def test_release_after_close_leaves_a_recycled_descriptor_alone(
    kind, path, tmp_path
) -> None:
    lock = kind.make(path)
    fh = hold(lock)
    number = fh.fileno()
    fh.close()
    other = tmp_path / 'other'
    with open(other, 'a', encoding='ascii') as recycled:
        if recycled.fileno() != number:
            os.dup2(recycled.fileno(), number)
        fcntl.flock(number, fcntl.LOCK_EX)
        lock.release()
        os.fstat(number)  # still open
        with (
            open(other, 'a', encoding='ascii') as probe,
            pytest.raises(BlockingIOError),
        ):
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if recycled.fileno() != number:
            os.close(number)


# -- a file that was unlinked or replaced


def replace(path: pathlib.Path) -> None:
    beside = path.with_name('replacement')
    beside.touch()
    os.replace(beside, path)


TAKEN_AWAY = pytest.mark.parametrize('take_away', [os.unlink, replace])


@law(soft=MARKER)
@TAKEN_AWAY
def test_whoever_locks_a_path_holds_the_file_that_is_there(
    kind, path, take_away, can_enter, caplog
) -> None:
    first, second = kind.rival(path), kind.make(path)
    first.acquire()
    take_away(kind.locked_path(path))
    fh = hold(second)
    assert is_at(fh, kind.locked_path(path))
    assert not can_enter(path)
    first.release()
    assert is_at(fh, kind.locked_path(path))
    assert not can_enter(path)
    second.release()


@law(soft=MARKER)
@TAKEN_AWAY
def test_waiter_follows_to_the_file_that_is_there(
    kind, path, stage, take_away, can_enter
) -> None:
    def body(line) -> None:
        lock = announce_wait(
            kind.make(path, check_interval=SHORT), lambda: line.say('waits')
        )
        fh = hold(lock)
        line.say(is_at(fh, kind.locked_path(path)))
        line.hear()
        lock.release()

    holder = kind.rival(path)
    holder.acquire()
    waiting = [stage.process(body), stage.process(body)]
    for process in waiting:
        process.expect('waits')
    take_away(kind.locked_path(path))
    # The holder holds on to what it has
    readers = waiting if kind.is_shared else []
    for process in readers:
        process.expect(True)
    if not readers:
        said = [process for process in waiting if process.has_said()]
        while not said:
            said = [process for process in waiting if process.has_said()]
        said[0].expect(True)
        assert not can_enter(path)
        said[0].tell()
        said[0].finish()
        waiting.remove(said[0])
        waiting[0].expect(True)
    for process in waiting:
        process.tell()
        process.finish()
    holder.release()


@law(soft=MARKER)
@TAKEN_AWAY
def test_waiter_behind_one_that_had_waited_follows_as_well(
    kind, path, stage, take_away
) -> None:
    def holder(line) -> None:
        lock = announce_wait(kind.rival(path), lambda: line.say('waits'))
        lock.acquire()
        line.say('in')
        line.hear()
        lock.release()

    def waiter(line) -> None:
        lock = announce_wait(
            kind.make(path, check_interval=SHORT), lambda: line.say('waits')
        )
        fh = hold(lock)
        line.say(is_at(fh, kind.locked_path(path)))
        lock.release()

    lock = kind.make(path)
    lock.acquire()
    holding = stage.process(holder)
    holding.expect('waits')
    lock.release()
    holding.expect('in')
    waiting = stage.process(waiter)
    waiting.expect('waits')
    take_away(kind.locked_path(path))
    waiting.expect(True)
    waiting.finish()
    holding.tell()
    holding.finish()


@law(staying='acquire gives the handle it has', soft=MARKER)
@TAKEN_AWAY
def test_holder_is_told_that_its_file_was_taken_away(
    kind, path, take_away, caplog
) -> None:
    lock = kind.make(path)
    lock.acquire()
    take_away(kind.locked_path(path))
    with pytest.raises(portalocker.LockLost, match='compromised'):
        lock.acquire()
    there = kind.locked_path(path).exists()
    lock.release()
    assert kind.locked_path(path).exists() is there
    if there:
        assert 'not unlinking' in caplog.text


# -- a symbolic link in the place of the file


@law(plain=FOLLOWS, soft=MARKER)
def test_planted_link_is_refused_and_its_target_unchanged(
    kind, path, tmp_path
) -> None:
    victim = tmp_path / 'victim'
    victim.write_text('precious', encoding='ascii')
    kind.locked_path(path).symlink_to(victim)
    lock = kind.make(path)
    with pytest.raises(OSError, match='symbolic link'):
        lock.acquire()
    assert handle(lock) is None
    assert victim.read_text(encoding='ascii') == 'precious'
    assert kind.locked_path(path).is_symlink()


@law(plain=FOLLOWS, soft=MARKER)
def test_planted_link_to_nothing_makes_no_file(kind, path, tmp_path) -> None:
    target = tmp_path / 'target'
    kind.locked_path(path).symlink_to(target)
    with pytest.raises(OSError, match='symbolic link'):
        kind.make(path).acquire()
    assert not target.exists()


@law(
    plain=FOLLOWS,
    semaphores='it has no such file',
    temporary='it has no such file',
    shared_temporary='it has no such file',
    file_locks='it writes no process id',
)
def test_link_in_the_place_of_the_pid_file_is_not_followed(
    kind, path, tmp_path
) -> None:
    victim = tmp_path / 'victim'
    victim.write_text('precious', encoding='ascii')
    path.symlink_to(victim)
    lock = kind.make(path)
    lock.acquire()
    assert lock.read_pid() == os.getpid()
    lock.release()
    assert victim.read_text(encoding='ascii') == 'precious'


@law(plain=NO_CONTENT, semaphores=NO_CONTENT, soft=MARKER)
def test_other_name_of_the_lock_file_keeps_its_content(
    kind, path, tmp_path
) -> None:
    victim = tmp_path / 'victim'
    victim.write_text('precious', encoding='ascii')
    os.link(victim, kind.locked_path(path))
    with kind.make(path):
        pass
    assert victim.read_text(encoding='ascii') == 'precious'


# -- a directory that cannot be written


@pytest.fixture
def poor_man(stage):
    """Run a body as somebody who may not write the directory."""
    directory = pathlib.Path(tempfile.mkdtemp())

    def run(body) -> None:
        def as_nobody(line) -> None:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            body(line)

        directory.chmod(0o555)
        stage.process(as_nobody).finish()
        directory.chmod(0o755)

    yield directory, run
    shutil.rmtree(directory)


def crowd_out(kind, directory: pathlib.Path) -> pathlib.Path:
    """Make the files of the lock, for everybody to lock."""
    path = directory / 'lock'
    for n in range(kind.capacity):
        file = kind.locked_path(path)
        file = file.with_name(file.name.replace('00', f'{n:02}'))
        file.touch()
        file.chmod(0o666)
    return path


@law()
def test_lock_file_that_cannot_be_made_is_told(kind, path, poor_man) -> None:
    directory, run = poor_man

    def body(line) -> None:
        lock = kind.make(directory / 'lock')
        with pytest.raises(PermissionError, match=str(directory)):
            lock.acquire()
        assert handle(lock) is None

    run(body)
    assert not list(directory.iterdir())


@law(pid_file='it has to write the process id', soft=MARKER)
def test_lock_file_that_is_there_can_be_locked_in_any_directory(
    kind, path, poor_man
) -> None:
    directory, run = poor_man
    there = crowd_out(kind, directory)

    def body(line) -> None:
        for _ in range(2):
            first, second = kind.make(there), kind.rival(there)
            with first:
                if not kind.is_of_process and kind.capacity == 1:
                    assert not try_to_hold(second)

    run(body)
    assert kind.locked_path(there).exists()


@law(
    plain='it writes nothing',
    semaphores='it writes nothing',
    temporary='it writes nothing',
    shared_temporary='it writes nothing',
    file_locks='it writes no process id',
)
def test_process_id_that_cannot_be_written_is_told(
    kind, path, poor_man
) -> None:
    directory, run = poor_man
    there = crowd_out(kind, directory)

    def body(line) -> None:
        lock = kind.make(there)
        with pytest.raises(PermissionError, match=str(directory)):
            lock.acquire()
        assert handle(lock) is None
        with open(kind.locked_path(there), 'a', encoding='ascii') as probe:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)

    run(body)


# -- a disk that is full


@pytest.fixture(scope='module')
def full_disk(tmp_path_factory):
    """A directory where no byte can be written any more."""
    disk = tmp_path_factory.mktemp('disk')
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip('only root can make a small disk')
    try:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            (disk / 'filler').write_bytes(bytes(1 << 20))
        yield disk
    finally:
        subprocess.run(['umount', str(disk)], check=True)


@pytest.fixture
def full_path(full_disk, path, kind):
    yield full_disk / 'lock'
    for file in full_disk.glob('lock*'):
        file.unlink()


@law(pid_file='it has to write the process id', soft=MARKER)
def test_lock_needs_no_room_on_the_disk(kind, full_path, can_enter) -> None:
    for _ in range(2):
        lock = kind.make(full_path)
        lock.acquire()
        assert kind.capacity > 1 or not can_enter(full_path)
        lock.release()
        assert can_enter(full_path)


@law(
    plain='it writes nothing',
    semaphores='it writes nothing',
    temporary='it writes nothing',
    shared_temporary='it writes nothing',
    file_locks='it writes no process id',
)
def test_process_id_without_room_is_told_and_nothing_stays(
    kind, full_path, full_disk, can_enter
) -> None:
    lock = kind.make(full_path)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        lock.acquire()
    assert handle(lock) is None
    assert [file.name for file in full_disk.iterdir()] == ['filler']


@law(
    semaphores=NO_CONTENT,
    removed=NO_CONTENT,
    sides='it buffers nothing',
    file_locks='its file carries nothing',
)
def test_failed_write_at_release_is_told_and_the_lock_is_free(
    kind, full_path, can_enter
) -> None:
    lock = kind.make(full_path)
    fh = hold(lock)
    fh.write('x' * 5000)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        lock.release()
    assert str(full_path) in ' '.join(caught.value.__notes__)
    assert fh.closed
    assert handle(lock) is None
    assert can_enter(full_path)


@law()
def test_file_that_is_no_file_is_told(kind, path) -> None:
    kind.locked_path(path).mkdir()
    lock = kind.make(path)
    with pytest.raises(IsADirectoryError):
        lock.acquire()
    assert handle(lock) is None
