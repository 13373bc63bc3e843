"""The ways a draft appears, the attributes it takes over, the pieces."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import stat
import sys
import threading

import publication_ways as ways
import pytest
from children import NOBODY, become_nobody, in_child

from portalocker import (
    _publication_attributes,
    _publication_draft,
    exceptions,
)
from portalocker._publication import open_atomic

pytestmark = pytest.mark.skipif(
    os.name == 'nt', reason='directory descriptors'
)
is_root = hasattr(os, 'geteuid') and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason='needs root')
needs_linux = pytest.mark.skipif(sys.platform != 'linux', reason='Linux')

LONG = 60  # seconds; reached by a failure only


@pytest.fixture(params=ways.WAYS)
def way(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Every way to appear, on every system."""
    name: str = request.param
    ways.WAYS[name](monkeypatch)
    return name


def _names(place: pathlib.Path) -> list[str]:
    return sorted(os.listdir(place))


# -- a new name ------------------------------------------------------------


@pytest.mark.usefixtures('way')
class TestEveryWay:
    def test_new_file_appears_and_nothing_else(
        self, place: pathlib.Path
    ) -> None:
        with open_atomic(place / 'new') as fh:
            fh.write(b'payload')
        assert (place / 'new').read_bytes() == b'payload'
        assert _names(place) == ['new']
        assert (place / 'new').stat().st_nlink == 1

    def test_nobody_sees_the_name_before_the_block_is_left(
        self, place: pathlib.Path
    ) -> None:
        with open_atomic(place / 'new') as fh:
            fh.write(b'payload')
            fh.flush()
            assert not (place / 'new').exists()

    def test_unprivileged_user_can_publish(self, place: pathlib.Path) -> None:
        def publish() -> None:
            with open_atomic(place / 'new') as fh:
                fh.write(b'1')
            with open_atomic(place / 'new', overwrite=True) as fh:
                fh.write(b'22')
            assert _names(place) == ['new']

        in_child(publish, become_nobody)
        assert (place / 'new').read_bytes() == b'22'

    def test_body_that_raises_leaves_nothing(
        self, place: pathlib.Path
    ) -> None:
        with pytest.raises(KeyError), open_atomic(place / 'new') as fh:  # noqa: PT012
            fh.write(b'payload')
            raise KeyError
        assert _names(place) == []

    def test_replacing_leaves_one_file(self, place: pathlib.Path) -> None:
        (place / 'old').write_bytes(b'old')
        with open_atomic(place / 'old', overwrite=True) as fh:
            fh.write(b'new')
            fh.flush()
            assert (place / 'old').read_bytes() == b'old'
        assert (place / 'old').read_bytes() == b'new'
        assert _names(place) == ['old']

    def test_name_that_appears_meanwhile_is_never_replaced(
        self, place: pathlib.Path
    ) -> None:
        writer = open_atomic(place / 'new')
        fh = writer.__enter__()
        fh.write(b'ours')
        (place / 'new').write_bytes(b'theirs')
        with pytest.raises(exceptions.DestinationExists) as caught:
            writer.__exit__(None, None, None)
        assert (place / 'new').read_bytes() == b'theirs'
        kept = caught.value.filename2
        assert pathlib.Path(kept).read_bytes() == b'ours'
        assert pathlib.Path(kept).parent == place
        assert kept in str(caught.value)
        assert any(kept in note for note in caught.value.__notes__)
        assert len(_names(place)) == 2

    def test_dangling_link_that_appears_meanwhile_is_never_replaced(
        self, place: pathlib.Path
    ) -> None:
        writer = open_atomic(place / 'new')
        writer.__enter__()
        (place / 'new').symlink_to('nowhere')
        with pytest.raises(exceptions.DestinationExists):
            writer.__exit__(None, None, None)
        assert (place / 'new').is_symlink()
        assert not (place / 'nowhere').exists()

    def test_longest_name_works(self, place: pathlib.Path) -> None:
        name = 'n' * os.pathconf(place, 'PC_NAME_MAX')
        with open_atomic(place / name) as fh:
            fh.write(b'1')
        with open_atomic(place / name, overwrite=True) as fh:
            fh.write(b'22')
        assert (place / name).read_bytes() == b'22'
        assert _names(place) == [name]

    def test_umask_decides_the_mode(self, place: pathlib.Path) -> None:
        def publish() -> None:
            for umask in (0o000, 0o022, 0o027, 0o077):
                os.umask(umask)
                path = place / f'{umask:o}'
                with open_atomic(path):
                    pass
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode == 0o666 & ~umask, oct(mode)

        in_child(publish)

    def test_of_many_who_publish_one_name_one_wins(
        self, place: pathlib.Path
    ) -> None:
        for number in range(10):
            self._race(place / str(number))

    def _race(self, path: pathlib.Path, runners: int = 6) -> None:
        everybody_has_entered = threading.Barrier(runners, timeout=LONG)
        outcomes: list[object] = []

        def run(number: int) -> None:
            try:
                with open_atomic(path, durable=False) as fh:
                    fh.write(b'%d' % number)
                    everybody_has_entered.wait()
            except Exception as error:
                outcomes.append(error)
            else:
                outcomes.append(number)

        threads = [
            threading.Thread(target=run, args=(number,))
            for number in range(runners)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        winners = [who for who in outcomes if isinstance(who, int)]
        losers = [
            error
            for error in outcomes
            if isinstance(error, exceptions.DestinationExists)
        ]
        assert len(winners) == 1, outcomes
        assert len(losers) == runners - 1, outcomes
        assert path.read_bytes() == b'%d' % winners[0]
        kept = {pathlib.Path(error.filename2).read_bytes() for error in losers}
        assert len(kept) == runners - 1

    def test_forked_child_publishes_and_removes_nothing(
        self, place: pathlib.Path
    ) -> None:
        writer = open_atomic(place / 'new')
        fh = writer.__enter__()
        fh.write(b'written once')  # still in the buffer of both
        in_child(lambda: writer.__exit__(None, None, None))
        assert not (place / 'new').exists()
        writer.__exit__(None, None, None)
        assert (place / 'new').read_bytes() == b'written once'
        assert _names(place) == ['new']

    def test_forked_child_may_raise_and_discard(
        self, place: pathlib.Path
    ) -> None:
        writer = open_atomic(place / 'new')
        writer.__enter__().write(b'written once')
        in_child(lambda: writer.__exit__(KeyError, KeyError(), None))
        in_child(writer.discard)
        in_child(writer.__del__)
        writer.__exit__(None, None, None)
        assert (place / 'new').read_bytes() == b'written once'
        assert _names(place) == ['new']


def _can_be_reaped(path: pathlib.Path) -> bool:
    import fcntl

    with open(path, 'rb') as fh:
        try:
            fcntl.flock(fh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


# -- drafts with a name ----------------------------------------------------


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    ways.without_nameless(monkeypatch)


@pytest.mark.usefixtures('named')
class TestNamedDraft:
    def test_has_a_name_of_our_pattern(self, place: pathlib.Path) -> None:
        with open_atomic(place / 'new'):
            (name,) = _names(place)
            start, project, digits, end = name.split('.')
            assert (start, project, end) == ('', 'portalocker', 'tmp')
            assert len(digits) == 16
            int(digits, 16)

    def test_is_locked_while_its_writer_lives(
        self, place: pathlib.Path
    ) -> None:
        with open_atomic(place / 'new'):
            (name,) = _names(place)
            assert not _can_be_reaped(place / name)
        assert _can_be_reaped(place / 'new')

    def test_of_a_dead_writer_can_be_reaped(self, place: pathlib.Path) -> None:
        def die() -> None:
            with open_atomic(place / 'new'):
                os.kill(os.getpid(), signal.SIGKILL)

        with pytest.raises(AssertionError):
            in_child(die)
        (name,) = _names(place)
        assert _can_be_reaped(place / name)

    def test_is_as_closed_as_the_file_it_replaces(
        self, place: pathlib.Path
    ) -> None:
        (place / 'secret').touch(0o600)
        with open_atomic(place / 'secret', overwrite=True):
            (name,) = (n for n in _names(place) if n != 'secret')
            mode = stat.S_IMODE((place / name).stat().st_mode)
            assert mode == 0o600

    def test_taken_by_a_reaper_is_made_again(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        real_flock = fcntl.flock
        reaped: list[str] = []

        def reap_the_first(fd: int, flags: int) -> None:
            if not reaped:
                (name,) = _names(place)
                reaped.append(name)
                (place / name).unlink()
            real_flock(fd, flags)

        monkeypatch.setattr(fcntl, 'flock', reap_the_first)
        with open_atomic(place / 'new') as fh:
            fh.write(b'payload')
        assert reaped
        assert (place / 'new').read_bytes() == b'payload'

    def test_locked_by_a_reaper_is_made_again(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        real_flock = fcntl.flock
        taken: list[str] = []

        def refuse_the_first(fd: int, flags: int) -> None:
            if not taken:
                taken.extend(_names(place))
                raise BlockingIOError(errno.EAGAIN, 'held by a reaper')
            real_flock(fd, flags)

        monkeypatch.setattr(fcntl, 'flock', refuse_the_first)
        with open_atomic(place / 'new') as fh:
            fh.write(b'payload')
            assert len(_names(place)) == 2
        # the reaper removes what it holds
        assert _names(place) == sorted([*taken, 'new'])
        assert (place / taken[0]).read_bytes() == b''
        assert (place / 'new').read_bytes() == b'payload'

    def test_works_where_nothing_can_be_locked(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import fcntl

        monkeypatch.setattr(fcntl, 'flock', ways.refuse(errno.ENOLCK))
        with open_atomic(place / 'new') as fh:
            fh.write(b'payload')
        assert _names(place) == ['new']

    def test_removed_by_a_stranger_fails_with_the_name(
        self, place: pathlib.Path
    ) -> None:
        writer = open_atomic(place / 'old', overwrite=True)
        writer.__enter__()
        (name,) = _names(place)
        (place / name).unlink()
        with pytest.raises(FileNotFoundError) as caught:
            writer.__exit__(None, None, None)
        assert caught.value.filename == str(place / 'old')
        assert any('could not be kept' in n for n in caught.value.__notes__)
        assert _names(place) == []

    def test_planted_names_are_passed_over(
        self, place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        numbers = [b'\0' * 8, b'\0' * 8, b'\1' * 8]
        planted = place / f'.portalocker.{"00" * 8}.tmp'
        planted.symlink_to('elsewhere')
        monkeypatch.setattr(os, 'urandom', lambda _: numbers.pop(0))
        with open_atomic(place / 'new') as fh:
            fh.write(b'payload')
        assert numbers == []
        assert not (place / 'elsewhere').exists()
        assert planted.is_symlink()


@pytest.mark.usefixtures('way')
def test_draft_that_appeared_has_one_name(place: pathlib.Path) -> None:
    draft = _publication_draft.Draft(str(place))
    draft.open(0o666)
    try:
        draft.appear_as('new')
        assert _names(place) == ['new']
    finally:
        draft.discard()
    assert _names(place) == ['new']


def test_temporary_name_is_locked_until_it_replaces(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_replace = os.replace
    locked: list[bool] = []

    def replace(*args: str, **kwargs: int) -> None:
        (name,) = _names(place)
        locked.append(not _can_be_reaped(place / name))
        real_replace(*args, **kwargs)

    monkeypatch.setattr(os, 'replace', replace)
    with open_atomic(place / 'new', overwrite=True):
        pass
    assert locked == [True]


@pytest.mark.usefixtures('named')
def test_payload_that_cannot_be_renamed_is_kept_all_the_same(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'rename', ways.refuse(errno.EACCES))
    monkeypatch.setattr(os, 'replace', ways.refuse(errno.EBUSY))
    writer = open_atomic(place / 'new', overwrite=True)
    writer.__enter__().write(b'payload')
    with pytest.raises(OSError, match='new') as caught:
        writer.__exit__(None, None, None)
    kept = pathlib.Path(caught.value.filename2)
    assert kept.suffix == '.tmp'
    assert kept.read_bytes() == b'payload'


def test_without_a_free_name_the_error_names_the_directory(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways.without_nameless(monkeypatch)
    monkeypatch.setattr(os, 'urandom', lambda n: b'\0' * n)
    (place / f'.portalocker.{"00" * 8}.tmp').touch()
    with pytest.raises(FileExistsError, match='temporary name'):
        open_atomic(place / 'new').__enter__()


def test_link_that_was_made_though_the_answer_got_lost_is_no_failure(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats a call whose answer got lost, and finds its own link."""
    real_link = os.link

    def link(*args: str, **options: bool) -> None:
        real_link(*args, **options)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr(os, 'link', link)
    with open_atomic(place / 'new') as fh:
        fh.write(b'payload')
    assert (place / 'new').read_bytes() == b'payload'
    assert _names(place) == ['new']


@pytest.mark.parametrize(
    ('name', 'is_one'),
    [
        ('.portalocker.0123456789abcdef.tmp', True),
        ('.portalocker.0123456789abcdef.kept', False),
        ('.portalocker.0123456789abcde.tmp', False),
        ('.portalocker.0123456789ABCDEF.tmp', False),
        ('.portalocker.0123456789abcdef.tmp.tmp', False),
        ('portalocker.0123456789abcdef.tmp', False),
        ('0123456789abcdef', False),
        ('.portalocker..tmp', False),
    ],
)
def test_names_of_drafts_are_known(name: str, is_one: bool) -> None:
    assert _publication_draft.is_draft_name(name) is is_one


@pytest.mark.usefixtures('way')
def test_names_that_drafts_take_are_of_that_kind(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_replace = os.replace
    seen: list[str] = []

    def replace(*args: str, **options: int) -> None:
        seen.extend(_names(place))
        real_replace(*args, **options)

    monkeypatch.setattr(os, 'replace', replace)
    with open_atomic(place / 'new', overwrite=True):
        pass
    assert [_publication_draft.is_draft_name(name) for name in seen] == [True]


@needs_root
@needs_linux
def test_without_proc_the_draft_is_copied(place: pathlib.Path) -> None:
    (place / 'old').write_bytes(b'old')
    (place / 'old').chmod(0o640)

    def publish() -> None:
        os.chroot(place)
        os.chdir('/')
        assert not os.path.exists('/proc')
        with open_atomic('/new') as fh:
            fh.write(b'x' * 3_000_000)
        with open_atomic('old', overwrite=True) as fh:
            fh.write(b'new')

    in_child(publish)
    assert (place / 'new').read_bytes() == b'x' * 3_000_000
    assert (place / 'old').read_bytes() == b'new'
    assert stat.S_IMODE((place / 'old').stat().st_mode) == 0o640
    assert _names(place) == ['new', 'old']


def test_copy_that_fails_leaves_nothing(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways.without_proc(monkeypatch)
    monkeypatch.setattr(
        _publication_draft,
        '_copy_content',
        ways.refuse(errno.ENOSPC),
    )
    with (
        pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
        open_atomic(place / 'new') as fh,
    ):
        fh.write(b'payload')
    assert _names(place) == []


def test_publication_waits_for_the_directory_lock(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    ways.without_exclusive_rename(monkeypatch)
    fd = os.open(place, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    pauses: list[float] = []

    def unlock_at_the_third_pause(seconds: float) -> None:
        pauses.append(seconds)
        assert not (place / 'new').exists()
        if len(pauses) == 3:
            os.close(fd)

    monkeypatch.setattr('time.sleep', unlock_at_the_third_pause)
    with open_atomic(place / 'new') as fh:
        fh.write(b'payload')
    assert (place / 'new').read_bytes() == b'payload'
    assert len(pauses) == 3


def test_directory_lock_that_stays_keeps_the_payload(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    ways.without_exclusive_rename(monkeypatch)
    pauses: list[float] = []
    monkeypatch.setattr('time.sleep', pauses.append)
    fd = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        writer = open_atomic(place / 'new')
        writer.__enter__().write(b'payload')
        with pytest.raises(BlockingIOError) as caught:
            writer.__exit__(None, None, None)
    finally:
        os.close(fd)
    assert 2 < sum(pauses) < 3
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'payload'


# -- what Windows says when a file is in use -------------------------------


class _SharingViolation(PermissionError):
    winerror = 32


def test_file_in_use_on_windows_is_tried_again(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_replace = os.replace
    refusals = [_SharingViolation(13, 'in use') for _ in range(4)]
    pauses: list[float] = []

    def replace(*args: str, **kwargs: int) -> None:
        if refusals:
            raise refusals.pop()
        real_replace(*args, **kwargs)

    monkeypatch.setattr(os, 'replace', replace)
    monkeypatch.setattr('time.sleep', pauses.append)
    with open_atomic(place / 'new', overwrite=True) as fh:
        fh.write(b'payload')
    assert (place / 'new').read_bytes() == b'payload'
    assert len(pauses) == 4


def test_file_in_use_for_long_on_windows_keeps_the_payload(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(*_: str, **__: int) -> None:
        raise _SharingViolation(13, 'in use')

    pauses: list[float] = []
    monkeypatch.setattr(os, 'replace', replace)
    monkeypatch.setattr('time.sleep', pauses.append)
    writer = open_atomic(place / 'new', overwrite=True)
    writer.__enter__().write(b'payload')
    with pytest.raises(PermissionError) as caught:
        writer.__exit__(None, None, None)
    assert 2 < sum(pauses) < 3
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'payload'
    assert len(_names(place)) == 1


def test_refusal_that_lasts_is_not_tried_again(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, 'replace', ways.refuse(errno.EBUSY))
    monkeypatch.setattr('time.sleep', ways.refuse(errno.EDEADLK))
    writer = open_atomic(place / 'new', overwrite=True)
    writer.__enter__().write(b'payload')
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)) as caught:
        writer.__exit__(None, None, None)
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'payload'


@needs_root
@needs_linux
def test_bind_mounted_file_is_busy_and_the_payload_kept(
    place: pathlib.Path,
) -> None:
    import subprocess

    (place / 'source').write_bytes(b'source')
    (place / 'mounted').write_bytes(b'below')
    mount = ['mount', '--bind', str(place / 'source'), str(place / 'mounted')]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip('cannot mount')
    try:
        writer = open_atomic(place / 'mounted', overwrite=True)
        writer.__enter__().write(b'payload')
        with pytest.raises(OSError, match='mounted') as caught:
            writer.__exit__(None, None, None)
        assert caught.value.errno in {errno.EBUSY, errno.EXDEV}
        kept = pathlib.Path(caught.value.filename2)
        assert kept.read_bytes() == b'payload'
        assert (place / 'mounted').read_bytes() == b'source'
    finally:
        subprocess.run(['umount', str(place / 'mounted')], check=True)


# -- durability ------------------------------------------------------------


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced, in order, and what appeared between."""
    events: list[str] = []

    def watched(name: str) -> None:
        real = getattr(os, name)

        def watch(fd: int, *args: object, **kwargs: object) -> object:
            kind = name
            if name in {'fsync', 'fdatasync'}:
                is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
                kind += ' directory' if is_directory else ' file'
            result = real(fd, *args, **kwargs)
            events.append(kind)
            return result

        monkeypatch.setattr(os, name, watch)

    for name in ('fsync', 'fdatasync', 'link', 'replace'):
        watched(name)
    return events


@needs_linux
@pytest.mark.parametrize(
    ('durable', 'expected'),
    [
        ('file', ['fsync file', 'link']),
        ('data', ['fdatasync file', 'link']),
        ('full', ['fsync file', 'link', 'fsync directory']),
        (False, ['link']),
    ],
)
def test_durable_says_what_is_synced(
    place: pathlib.Path,
    syncs: list[str],
    durable: str | bool,
    expected: list[str],
) -> None:
    with open_atomic(place / 'new', durable=durable):
        pass
    assert syncs == expected


@needs_linux
def test_copied_draft_is_synced_before_it_appears(
    place: pathlib.Path, syncs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways.without_proc(monkeypatch)
    with open_atomic(place / 'new'):
        pass
    assert syncs == ['fsync file', 'fsync file', 'link']


@needs_linux
def test_full_durability_reaches_directories_we_made(
    place: pathlib.Path, syncs: list[str]
) -> None:
    with open_atomic(place / 'a' / 'b' / 'new', durable='full'):
        assert syncs == ['fsync directory'] * 2
    assert syncs[-1] == 'fsync directory'


@pytest.mark.parametrize('code', [errno.EINVAL, errno.EBADF, errno.ENOTSUP])
def test_directory_that_cannot_be_synced_is_no_failure(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(code, os.strerror(code))
        real_fsync(fd)

    monkeypatch.setattr(os, 'fsync', fsync)
    with open_atomic(place / 'new', durable='full') as fh:
        fh.write(b'payload')
    assert (place / 'new').read_bytes() == b'payload'


def test_unreadable_directory_can_be_published_into(
    place: pathlib.Path,
) -> None:
    def publish() -> None:
        with open_atomic(place / 'drop' / 'new', durable='full') as fh:
            fh.write(b'payload')

    (place / 'drop').mkdir()
    (place / 'drop').chmod(0o333)
    in_child(publish, become_nobody)
    (place / 'drop').chmod(0o777)
    assert _names(place / 'drop') == ['new']


def test_directory_that_fails_to_sync_says_that_the_file_is_there(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync = os.fsync

    def fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real_fsync(fd)

    monkeypatch.setattr(os, 'fsync', fsync)
    with (
        pytest.raises(OSError, match='new') as caught,
        open_atomic(place / 'new', durable='full') as fh,
    ):
        fh.write(b'payload')
    assert any('is complete' in note for note in caught.value.__notes__)
    assert (place / 'new').read_bytes() == b'payload'


# -- attributes ------------------------------------------------------------


def _replace(path: pathlib.Path, **options: object) -> os.stat_result:
    with open_atomic(path, overwrite=True, **options) as fh:
        fh.write(b'new')
    assert path.read_bytes() == b'new'
    return path.stat()


def _mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def old(place: pathlib.Path) -> pathlib.Path:
    path = place / 'old'
    path.write_bytes(b'old')
    return path


@pytest.mark.parametrize('mode', [0o600, 0o604, 0o640, 0o666, 0o755, 0o777])
def test_mode_is_kept(old: pathlib.Path, mode: int) -> None:
    old.chmod(mode)
    assert stat.S_IMODE(_replace(old).st_mode) == mode


def test_mode_given_is_exact(place: pathlib.Path, old: pathlib.Path) -> None:
    old.chmod(0o600)
    assert stat.S_IMODE(_replace(old, mode=0o642).st_mode) == 0o642
    with open_atomic(place / 'new', mode=0o642):
        pass
    assert _mode(place / 'new') == 0o642


def test_mode_not_preserved_is_that_of_a_new_file(
    place: pathlib.Path, old: pathlib.Path
) -> None:
    old.chmod(0o604)
    with open_atomic(place / 'new'):
        pass
    _replace(old, preserve=('owner', 'xattr'))
    assert _mode(old) == _mode(place / 'new')
    old.chmod(0o604)
    _replace(old, preserve=())
    assert _mode(old) == _mode(place / 'new')


def test_mode_changed_in_the_body_is_kept(old: pathlib.Path) -> None:
    old.chmod(0o644)
    with open_atomic(old, overwrite=True):
        old.chmod(0o600)
    assert _mode(old) == 0o600


def test_file_that_vanished_keeps_its_mode(old: pathlib.Path) -> None:
    old.chmod(0o604)
    with open_atomic(old, overwrite=True):
        old.unlink()
    assert _mode(old) == 0o604


@needs_root
@pytest.mark.parametrize('mode', [0o4755, 0o2755, 0o6711, 0o640])
def test_owner_and_set_id_bits_are_kept(old: pathlib.Path, mode: int) -> None:
    os.chown(old, 1234, 4321)
    old.chmod(mode)
    status = _replace(old)
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert stat.S_IMODE(status.st_mode) == mode


@needs_root
def test_owner_not_preserved_loses_set_id_bits(old: pathlib.Path) -> None:
    os.chown(old, 1234, 4321)
    old.chmod(0o6775)
    status = _replace(old, preserve=('mode',))
    assert (status.st_uid, status.st_gid) == (0, 0)
    assert stat.S_IMODE(status.st_mode) == 0o755


@needs_root
@pytest.mark.parametrize(
    ('uid', 'gid', 'mode', 'expected'),
    [
        # a stranger's file in our directory: we become its owner
        (1234, 4321, 0o6666, 0o666),
        (1234, 4321, 0o666, 0o666),
        (1234, 4321, 0o662, 0o622),
        (1234, NOBODY, 0o6662, 0o2662),
        (NOBODY, NOBODY, 0o6770, 0o6770),
        (NOBODY, 4321, 0o2770, 0o700),
    ],
)
def test_refused_owner_widens_nothing(
    old: pathlib.Path, uid: int, gid: int, mode: int, expected: int
) -> None:
    os.chown(old, uid, gid)
    old.chmod(mode)
    in_child(lambda: _replace(old), become_nobody)
    status = old.stat()
    assert status.st_uid == NOBODY
    assert status.st_gid == NOBODY
    assert stat.S_IMODE(status.st_mode) == expected


@needs_root
def test_group_we_belong_to_is_kept(old: pathlib.Path) -> None:
    def become_member() -> None:
        os.setgroups([4321])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    os.chown(old, 1234, 4321)
    old.chmod(0o2666)
    in_child(lambda: _replace(old), become_member)
    status = old.stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, 4321)
    assert stat.S_IMODE(status.st_mode) == 0o2666


@needs_linux
class TestExtendedAttributes:
    ACCESS = 'system.posix_acl_access'
    DEFAULT = 'system.posix_acl_default'

    @staticmethod
    def access_list(permissions: int) -> bytes:
        """Give the owner rw, and `permissions` to user 1234 and the mask."""
        import struct

        nobody = 0xFFFFFFFF
        entries = [
            (0x01, 6, nobody),  # owner
            (0x02, permissions, 1234),  # a named user
            (0x04, 0, nobody),  # the owning group
            (0x10, permissions, nobody),  # mask
            (0x20, 0, nobody),  # others
        ]
        return struct.pack('<I', 2) + b''.join(
            struct.pack('<HHI', *entry) for entry in entries
        )

    def set_or_skip(self, path: pathlib.Path, name: str, value: bytes) -> None:
        try:
            os.setxattr(path, name, value)
        except OSError as error:
            pytest.skip(f'{path}: {error}')

    def test_users_own_are_kept(self, old: pathlib.Path) -> None:
        self.set_or_skip(old, 'user.origin', b'there')
        _replace(old)
        assert os.getxattr(old, 'user.origin') == b'there'
        _replace(old, preserve=('mode', 'owner'))
        assert os.listxattr(old) == []

    def test_access_list_goes_with_the_mode(self, old: pathlib.Path) -> None:
        self.set_or_skip(old, self.ACCESS, self.access_list(6))
        mode = _mode(old)
        _replace(old)
        assert os.getxattr(old, self.ACCESS) == self.access_list(6)
        assert _mode(old) == mode
        _replace(old, preserve=('mode',))
        assert os.getxattr(old, self.ACCESS) == self.access_list(6)
        _replace(old, preserve=('owner', 'xattr'))
        assert self.ACCESS not in os.listxattr(old)

    def test_mode_given_leaves_the_access_list_out(
        self, old: pathlib.Path
    ) -> None:
        self.set_or_skip(old, self.ACCESS, self.access_list(6))
        _replace(old, mode=0o640)
        assert os.listxattr(old) == []
        assert _mode(old) == 0o640

    def test_second_name_of_the_access_list_is_not_carried_over(
        self, old: pathlib.Path
    ) -> None:
        # xfs shows it to root; elsewhere any content will do
        self.set_or_skip(old, 'trusted.SGI_ACL_FILE', b'list')
        _replace(old, mode=0o640)
        assert os.listxattr(old) == []

    def test_list_of_the_directory_is_not_added(
        self, place: pathlib.Path, old: pathlib.Path
    ) -> None:
        old.chmod(0o640)
        self.set_or_skip(place, self.DEFAULT, self.access_list(7))
        _replace(old)
        assert os.listxattr(old) == []
        assert _mode(old) == 0o640

    def test_new_file_gets_the_list_of_the_directory(
        self, place: pathlib.Path
    ) -> None:
        self.set_or_skip(place, self.DEFAULT, self.access_list(6))
        (place / 'plain').touch()
        with open_atomic(place / 'new'):
            pass
        assert _mode(place / 'new') == _mode(place / 'plain')
        assert os.getxattr(place / 'new', self.ACCESS) == os.getxattr(
            place / 'plain', self.ACCESS
        )

    @needs_root
    def test_label_we_may_not_set_is_left_out(self, old: pathlib.Path) -> None:
        capability = bytes.fromhex('0100000200040000000000000000000000000000')
        self.set_or_skip(old, 'security.capability', capability)
        old.chmod(0o666)
        os.chown(old, NOBODY, NOBODY)
        self.set_or_skip(old, 'security.capability', capability)
        in_child(lambda: _replace(old), become_nobody)
        assert os.listxattr(old) == []

    @needs_root
    def test_vouchers_for_the_old_content_are_left_out(
        self, old: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            _publication_attributes, '_LEFT_BEHIND', {'trusted.hash'}
        )
        self.set_or_skip(old, 'trusted.hash', b'of the old content')
        self.set_or_skip(old, 'trusted.label', b'of the file')
        _replace(old)
        assert os.listxattr(old) == ['trusted.label']

    def test_attribute_that_cannot_be_kept_keeps_the_payload(
        self, old: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.set_or_skip(old, 'user.origin', b'there')
        monkeypatch.setattr(os, 'setxattr', ways.refuse(errno.ENOSPC))
        writer = open_atomic(old, overwrite=True)
        writer.__enter__().write(b'new')
        with pytest.raises(OSError, match='old') as caught:
            writer.__exit__(None, None, None)
        assert old.read_bytes() == b'old'
        kept = pathlib.Path(caught.value.filename2)
        assert kept.read_bytes() == b'new'


# -- descriptors -----------------------------------------------------------


@needs_linux
def test_no_descriptor_is_left_open(place: pathlib.Path) -> None:
    before = _names(pathlib.Path('/proc/self/fd'))
    with open_atomic(place / 'new'):
        pass
    for options in ({}, {'encoding': 'no such', 'binary': False}):
        with pytest.raises((FileExistsError, LookupError)):
            open_atomic(place / 'new', **options).__enter__()
    with pytest.raises(LookupError):
        open_atomic(
            place / 'text', binary=False, encoding='no such'
        ).__enter__()
    with pytest.raises(KeyError), open_atomic(place / 'x'):
        raise KeyError
    _replace(place / 'new')
    (place / 'link').symlink_to('new')
    _replace(place / 'link')
    (place / 'link').unlink()
    open_atomic(place / 'abandoned').__enter__()
    assert _names(pathlib.Path('/proc/self/fd')) == before
    assert _names(place) == ['new']


def test_abandoned_writer_closes_the_handle(place: pathlib.Path) -> None:
    handle = open_atomic(place / 'new').__enter__()
    assert handle.closed
    assert _names(place) == []


def test_detached_buffer_cannot_write_to_a_strangers_file(
    place: pathlib.Path,
) -> None:
    writer = open_atomic(place / 'new', binary=False)
    buffer = writer.__enter__().detach()
    with pytest.raises(ValueError, match='detached'):
        writer.__exit__(None, None, None)
    strangers = [os.open(place / str(n), os.O_CREAT | os.O_RDWR) for n in '12']
    try:
        with pytest.raises(ValueError, match='closed'):
            buffer.write(b'x' * 100_000)
    finally:
        for fd in strangers:
            os.close(fd)
    assert (place / '1').read_bytes() == b''
