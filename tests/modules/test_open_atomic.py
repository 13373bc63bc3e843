"""`open_atomic`: whole, or not at all."""

from __future__ import annotations

import errno
import gc
import io
import os
import pathlib
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import NOBODY, become_nobody, in_child

import portalocker
from portalocker import exceptions, utils

is_root = hasattr(os, 'geteuid') and os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason='needs root')
needs_dir_fd = pytest.mark.skipif(
    os.open not in os.supports_dir_fd, reason='needs directory descriptors'
)
needs_posix = pytest.mark.skipif(
    os.name == 'nt', reason='forks, links, fifos, modes'
)
needs_windows = pytest.mark.skipif(os.name != 'nt', reason='Windows')


@pytest.fixture
def target(place: pathlib.Path) -> pathlib.Path:
    return place / 'target'


@pytest.fixture
def old(target: pathlib.Path) -> pathlib.Path:
    target.write_bytes(b'old')
    return target


def _names(place: pathlib.Path) -> list[str]:
    return sorted(os.listdir(place))


def open_atomic(*args: Any, **kwargs: Any) -> Any:
    return utils.open_atomic(*args, **kwargs)


def test_is_one_function_in_both_places() -> None:
    assert portalocker.open_atomic is utils.open_atomic


# -- what is written appears -----------------------------------------------


def test_binary_is_the_default(target: pathlib.Path) -> None:
    with open_atomic(target) as fh:
        fh.write(b'a\r\n\xff')
    assert target.read_bytes() == b'a\r\n\xff'


def test_second_argument_chooses_text(target: pathlib.Path) -> None:
    with open_atomic(target, False) as fh:
        fh.write('text')
    with open_atomic(target, True, overwrite=True) as fh:
        fh.write(b'bytes')
    assert target.read_bytes() == b'bytes'


def test_text_takes_encoding_errors_and_newline(
    target: pathlib.Path,
) -> None:
    with open_atomic(
        target,
        binary=False,
        encoding='latin-1',
        errors='replace',
        newline='\r\n',
    ) as fh:
        fh.write('\xe9\u20ac\n')
    assert target.read_bytes() == b'\xe9?\r\n'


def test_handles_are_those_of_open(place: pathlib.Path) -> None:
    with open_atomic(place / 'binary') as fh:
        assert isinstance(fh, io.BufferedWriter)
        assert not fh.readable()
    with open_atomic(place / 'text', binary=False) as fh:
        assert isinstance(fh, io.TextIOWrapper)
    assert fh.closed


@pytest.mark.parametrize('convert', [str, pathlib.Path, os.fsencode])
def test_every_kind_of_path_is_taken(
    target: pathlib.Path, convert: Callable[[Any], Any]
) -> None:
    with open_atomic(convert(target)) as fh:
        fh.write(b'payload')
    assert target.read_bytes() == b'payload'
    with pytest.raises(FileExistsError) as caught:
        open_atomic(convert(target)).__enter__()
    assert caught.value.filename == str(target)


@needs_posix
def test_name_that_is_no_text_is_taken(place: pathlib.Path) -> None:
    path = os.fsencode(place) + b'/\xff\xfe'
    if sys.platform == 'darwin':
        pytest.skip('names are text there')
    with open_atomic(path) as fh:
        fh.write(b'payload')
    assert os.listdir(os.fsencode(place)) == [b'\xff\xfe']


def test_much_is_written(target: pathlib.Path) -> None:
    with open_atomic(target) as fh:
        for _ in range(300):
            fh.write(b'0123456789' * 1000)
        fh.seek(5)
        fh.write(b'five')
    content = target.read_bytes()
    assert len(content) == 3_000_000
    assert content[:12] == b'01234five901'


def test_parents_are_made(place: pathlib.Path) -> None:
    with open_atomic(place / 'a' / 'b' / 'target') as fh:
        assert (place / 'a' / 'b').is_dir()
        fh.write(b'payload')
    assert (place / 'a' / 'b' / 'target').read_bytes() == b'payload'


def test_parents_are_not_made_where_not_wanted(place: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_atomic(place / 'a' / 'target', make_parents=False).__enter__()
    assert _names(place) == []


def test_parent_that_is_a_file_is_refused(old: pathlib.Path) -> None:
    with pytest.raises((NotADirectoryError, FileExistsError)):
        open_atomic(old / 'below').__enter__()
    assert old.read_bytes() == b'old'


def test_handle_closed_in_the_body_is_published(
    target: pathlib.Path,
) -> None:
    with open_atomic(target) as fh:
        fh.write(b'payload')
        fh.close()
        assert not target.exists()
    assert target.read_bytes() == b'payload'


def test_handle_used_as_context_in_the_body_is_published(
    target: pathlib.Path,
) -> None:
    with open_atomic(target, binary=False) as fh, fh:
        fh.write('payload')
    assert target.read_text() == 'payload'


def test_writer_can_be_used_again(target: pathlib.Path) -> None:
    writer = open_atomic(target, overwrite=True)
    for content in (b'1', b'22'):
        with writer as fh:
            fh.write(content)
        assert target.read_bytes() == content


def test_writer_cannot_be_entered_twice_at_a_time(
    target: pathlib.Path,
) -> None:
    writer = open_atomic(target)
    with writer as fh:
        fh.write(b'payload')
        with pytest.raises(RuntimeError, match='already entered'):
            writer.__enter__()
    assert target.read_bytes() == b'payload'


# -- or nothing does -------------------------------------------------------


@pytest.mark.parametrize(
    'failure', [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit]
)
def test_body_that_fails_leaves_nothing(
    place: pathlib.Path, failure: type[BaseException]
) -> None:
    with pytest.raises(failure), open_atomic(place / 'target') as fh:  # noqa: PT012
        fh.write(b'payload')
        raise failure
    assert _names(place) == []


def test_body_that_fails_leaves_the_old_file(
    place: pathlib.Path, old: pathlib.Path
) -> None:
    before = old.stat()
    with pytest.raises(KeyError), open_atomic(old, overwrite=True) as fh:  # noqa: PT012
        fh.write(b'new')
        fh.close()
        raise KeyError
    assert old.read_bytes() == b'old'
    assert old.stat() == before
    assert _names(place) == ['target']


def test_discarded_writer_publishes_nothing(place: pathlib.Path) -> None:
    writer = open_atomic(place / 'target')
    with writer as fh:
        fh.write(b'payload')
        writer.discard()
        assert fh.closed
        writer.discard()
    assert _names(place) == []


def test_abandoned_writer_leaves_nothing(place: pathlib.Path) -> None:
    def body() -> Iterator[None]:
        with open_atomic(place / 'target') as fh:
            fh.write(b'payload')
            yield

    abandoned = body()
    next(abandoned)
    del abandoned
    gc.collect()
    assert _names(place) == []


def test_failing_sync_publishes_nothing(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, 'fsync', fsync)
    with (
        pytest.raises(OSError, match='target') as caught,
        open_atomic(place / 'target') as fh,
    ):
        fh.write(b'payload')
    assert caught.value.errno == errno.EIO
    assert _names(place) == []


@needs_posix
@pytest.mark.parametrize('size', [5_000, 100_000])
@pytest.mark.parametrize('overwrite', [False, True])
def test_file_that_may_not_grow_publishes_nothing(
    place: pathlib.Path, size: int, overwrite: bool
) -> None:
    path = place / 'target'
    if overwrite:
        path.write_bytes(b'old')

    def publish() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        with (
            pytest.raises(OSError, match=os.strerror(errno.EFBIG)),
            open_atomic(path, overwrite=overwrite) as fh,
        ):
            fh.write(b'x' * size)

    in_child(publish)
    assert _names(place) == (['target'] if overwrite else [])
    if overwrite:
        assert path.read_bytes() == b'old'


@needs_root
def test_full_disk_publishes_nothing(place: pathlib.Path) -> None:
    disk = place / 'disk'
    disk.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs']
    if subprocess.run([*mount, str(disk)], check=False).returncode:
        pytest.skip('cannot mount')
    try:
        (disk / 'old').write_bytes(b'old')
        for name in ('old', 'new'):
            with (
                pytest.raises(OSError, match=os.strerror(errno.ENOSPC)),
                open_atomic(disk / name, overwrite=True) as fh,
            ):
                fh.write(b'x' * 70_000)
            assert _names(disk) == ['old']
            assert (disk / 'old').read_bytes() == b'old'
        with open_atomic(disk / 'old', overwrite=True) as fh:
            fh.write(b'x' * 30_000)  # nothing holds the space
    finally:
        subprocess.run(['umount', str(disk)], check=True)


@needs_posix
def test_unwritable_directory_is_refused_on_entering(
    place: pathlib.Path,
) -> None:
    place.chmod(0o555)

    def publish() -> None:
        with pytest.raises(PermissionError) as caught:
            open_atomic(place / 'target').__enter__()
        assert caught.value.filename == str(place / 'target')

    in_child(publish, become_nobody)
    place.chmod(0o777)


# -- a destination that exists ---------------------------------------------


def test_existing_destination_is_refused_on_entering(
    place: pathlib.Path, old: pathlib.Path
) -> None:
    writer = open_atomic(old)
    with pytest.raises(exceptions.DestinationExists) as caught:
        writer.__enter__()
    error = caught.value
    assert isinstance(error, FileExistsError)
    assert isinstance(error, AssertionError)
    assert error.errno == errno.EEXIST
    assert error.strerror == os.strerror(errno.EEXIST)
    assert error.filename == str(old)
    assert repr(str(old)) in str(error)
    assert old.read_bytes() == b'old'
    assert _names(place) == ['target']


def test_existing_destination_is_refused_by_optimized_python(
    old: pathlib.Path,
) -> None:
    program = (
        'import portalocker, sys\n'
        'try:\n'
        '    portalocker.open_atomic(sys.argv[1]).__enter__()\n'
        'except FileExistsError:\n'
        '    print("refused")\n'
    )
    run = subprocess.run(
        [sys.executable, '-O', '-c', program, str(old)],
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
    )
    assert run.stdout == 'refused\n'


def test_refusal_can_be_pickled(old: pathlib.Path) -> None:
    with pytest.raises(exceptions.DestinationExists) as caught:
        open_atomic(old).__enter__()
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is exceptions.DestinationExists
    assert again.filename == str(old)


@needs_posix
@pytest.mark.parametrize('kind', ['link', 'dangling', 'directory', 'fifo'])
def test_whatever_exists_is_refused(target: pathlib.Path, kind: str) -> None:
    if kind == 'directory':
        target.mkdir()
    elif kind == 'fifo':
        os.mkfifo(target)
    else:
        target.symlink_to('nowhere' if kind == 'dangling' else '.')
    with pytest.raises(exceptions.DestinationExists):
        open_atomic(target).__enter__()


def test_payload_is_given_back_when_somebody_was_faster(
    place: pathlib.Path, target: pathlib.Path
) -> None:
    with (  # noqa: PT012
        pytest.raises(exceptions.DestinationExists) as caught,
        open_atomic(target) as fh,
    ):
        fh.write(b'ours')
        target.write_bytes(b'theirs')
    assert target.read_bytes() == b'theirs'
    (kept,) = (name for name in _names(place) if name != 'target')
    assert repr(str(place / kept)) in str(caught.value)
    assert caught.value.filename2 == str(place / kept)
    assert caught.value.filename == str(target)
    assert (place / kept).read_bytes() == b'ours'
    # nobody cleans up what has this name
    assert kept.startswith('.portalocker.')
    assert kept.endswith('.kept')


@needs_dir_fd
def test_payload_given_back_is_named_where_it_is_now(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.isdir('/proc/self/fd'):
        pytest.skip('needs /proc')
    (place / 'before').mkdir()
    monkeypatch.chdir(place / 'before')
    with (  # noqa: PT012
        pytest.raises(exceptions.DestinationExists) as caught,
        open_atomic('target') as fh,
    ):
        fh.write(b'ours')
        (place / 'before').rename(place / 'after')
        os.chdir('/')
        (place / 'after' / 'target').touch()
    assert caught.value.filename == 'target'
    kept = pathlib.Path(caught.value.filename2)
    assert kept.parent == place / 'after'
    assert kept.read_bytes() == b'ours'


def test_directory_removed_meanwhile_fails_and_says_so(
    place: pathlib.Path,
) -> None:
    if sys.platform != 'linux':
        pytest.skip('the draft is in the directory')
    (place / 'parent').mkdir()
    with (  # noqa: PT012
        pytest.raises(FileNotFoundError) as caught,
        open_atomic(place / 'parent' / 'target') as fh,
    ):
        fh.write(b'payload')
        (place / 'parent').rmdir()
    assert caught.value.filename == str(place / 'parent' / 'target')
    assert any('could not be kept' in n for n in caught.value.__notes__)


# -- overwrite -------------------------------------------------------------


def test_overwrite_creates_what_is_missing(target: pathlib.Path) -> None:
    with open_atomic(target, overwrite=True) as fh:
        fh.write(b'new')
    assert target.read_bytes() == b'new'


@needs_posix
def test_readers_see_the_old_or_the_new(old: pathlib.Path) -> None:
    with open(old, 'rb') as reader:
        with open_atomic(old, overwrite=True) as fh:
            fh.write(b'new')
            fh.flush()
            assert old.read_bytes() == b'old'
        assert old.read_bytes() == b'new'
        assert reader.read() == b'old'


@needs_posix
def test_read_only_file_is_refused(
    place: pathlib.Path, old: pathlib.Path
) -> None:
    old.chmod(0o444)

    def publish() -> None:
        if is_root:
            os.chown(old, NOBODY, NOBODY)
            become_nobody()
        with pytest.raises(PermissionError) as caught:
            open_atomic(old, overwrite=True).__enter__()
        assert caught.value.filename == str(old)

    in_child(publish)
    assert old.read_bytes() == b'old'
    assert _names(place) == ['target']


@needs_windows
def test_read_only_mark_of_windows_is_heeded(old: pathlib.Path) -> None:
    old.chmod(0o444)
    with pytest.raises(PermissionError):
        open_atomic(old, overwrite=True).__enter__()
    old.chmod(0o666)
    assert old.read_bytes() == b'old'


@needs_windows
def test_file_that_stays_open_on_windows_gives_the_payload_back(
    place: pathlib.Path, old: pathlib.Path
) -> None:
    writer = open_atomic(old, overwrite=True)
    writer.__enter__().write(b'new')
    with open(old, 'rb'), pytest.raises(PermissionError) as caught:
        writer.__exit__(None, None, None)
    assert old.read_bytes() == b'old'
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'new'
    assert len(_names(place)) == 2


@needs_posix
def test_running_program_is_replaced(target: pathlib.Path) -> None:
    shutil.copy('/bin/cat', target)
    target.chmod(0o755)
    with subprocess.Popen(
        [str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(b'it runs\n')
        program.stdin.flush()
        assert program.stdout.readline() == b'it runs\n'
        with open_atomic(target, overwrite=True) as fh:
            fh.write(b'new')
        program.stdin.close()
    assert target.read_bytes() == b'new'
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@needs_posix
def test_unreadable_file_is_replaced(place: pathlib.Path) -> None:
    path = place / 'write-only'

    def publish() -> None:
        path.write_bytes(b'old')
        path.chmod(0o200)
        with open_atomic(path, overwrite=True) as fh:
            fh.write(b'new')

    in_child(publish, become_nobody)
    assert stat.S_IMODE(path.stat().st_mode) == 0o200
    path.chmod(0o644)
    assert path.read_bytes() == b'new'


@needs_posix
def test_link_is_written_through(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / 'deep').mkdir()
    (place / 'deep' / 'real').write_bytes(b'old')
    (place / 'deep' / 'real').chmod(0o640)
    (place / 'second').symlink_to('deep/real')
    (place / 'link').symlink_to(place / 'second')
    monkeypatch.chdir(place)
    with open_atomic('link', overwrite=True) as fh:
        fh.write(b'new')
    assert (place / 'link').is_symlink()
    assert (place / 'second').is_symlink()
    assert (place / 'deep' / 'real').read_bytes() == b'new'
    mode = stat.S_IMODE((place / 'deep' / 'real').stat().st_mode)
    assert mode == 0o640
    assert _names(place) == ['deep', 'link', 'second']
    assert _names(place / 'deep') == ['real']


@needs_posix
def test_dangling_link_is_written_through(place: pathlib.Path) -> None:
    (place / 'link').symlink_to('deep/real')
    with open_atomic(place / 'link', overwrite=True) as fh:
        fh.write(b'new')
    assert (place / 'deep' / 'real').read_bytes() == b'new'


@needs_posix
def test_link_in_a_circle_is_refused(place: pathlib.Path) -> None:
    (place / 'link').symlink_to('other')
    (place / 'other').symlink_to('link')
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        open_atomic(place / 'link', overwrite=True).__enter__()
    assert _names(place) == ['link', 'other']


@needs_posix
def test_link_that_is_not_followed_is_replaced(
    place: pathlib.Path, old: pathlib.Path
) -> None:
    old.chmod(0o600)
    (place / 'link').symlink_to('target')
    with open_atomic(
        place / 'link', overwrite=True, follow_symlinks=False
    ) as fh:
        fh.write(b'new')
    assert not (place / 'link').is_symlink()
    assert (place / 'link').read_bytes() == b'new'
    assert old.read_bytes() == b'old'
    (place / 'plain').touch()
    assert (place / 'link').stat().st_mode == (place / 'plain').stat().st_mode


@needs_posix
def test_link_to_a_read_only_file_is_refused(place: pathlib.Path) -> None:
    def publish() -> None:
        (place / 'real').write_bytes(b'old')
        (place / 'real').chmod(0o444)
        (place / 'link').symlink_to('real')
        with pytest.raises(PermissionError):
            open_atomic(place / 'link', overwrite=True).__enter__()

    in_child(publish, become_nobody)
    assert (place / 'real').read_bytes() == b'old'


@needs_posix
@pytest.mark.parametrize('kind', ['directory', 'link to one'])
def test_directory_is_never_replaced(target: pathlib.Path, kind: str) -> None:
    if kind == 'directory':
        target.mkdir()
    else:
        target.symlink_to('.')
    with pytest.raises(IsADirectoryError) as caught:
        open_atomic(target, overwrite=True).__enter__()
    assert caught.value.filename == str(target)


@needs_posix
def test_fifo_is_never_replaced(target: pathlib.Path) -> None:
    os.mkfifo(target)
    with pytest.raises(OSError, match='not a regular file'):
        open_atomic(target, overwrite=True).__enter__()
    assert stat.S_ISFIFO(target.stat().st_mode)


def test_directory_that_appears_meanwhile_is_never_replaced(
    place: pathlib.Path, target: pathlib.Path
) -> None:
    with (  # noqa: PT012
        pytest.raises(OSError, match='target') as caught,
        open_atomic(target, overwrite=True) as fh,
    ):
        fh.write(b'payload')
        target.mkdir()
    assert caught.value.filename == str(target)
    assert pathlib.Path(caught.value.filename2).read_bytes() == b'payload'
    assert target.is_dir()
    assert len(_names(place)) == 2


# -- where -----------------------------------------------------------------


@needs_dir_fd
def test_relative_path_is_anchored_on_entering(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / 'elsewhere').mkdir()
    monkeypatch.chdir(place)
    for path in ('target', 'sub/target'):
        with open_atomic(path) as fh:
            fh.write(b'payload')
            os.chdir(place / 'elsewhere')
        os.chdir(place)
        assert (place / path).read_bytes() == b'payload'
    assert _names(place / 'elsewhere') == []


@needs_dir_fd
@pytest.mark.parametrize('overwrite', [False, True])
def test_directory_may_be_renamed_in_the_body(
    place: pathlib.Path, overwrite: bool
) -> None:
    (place / 'before').mkdir()
    path = place / 'before' / 'target'
    if overwrite:
        path.write_bytes(b'old')
        path.chmod(0o604)
    with open_atomic(path, overwrite=overwrite) as fh:
        fh.write(b'payload')
        (place / 'before').rename(place / 'after')
    assert (place / 'after' / 'target').read_bytes() == b'payload'
    assert _names(place) == ['after']
    if overwrite:
        mode = (place / 'after' / 'target').stat().st_mode
        assert stat.S_IMODE(mode) == 0o604


# -- arguments -------------------------------------------------------------


@pytest.mark.parametrize('durable', ['always', '', None, True])
def test_unknown_durability_is_refused_at_the_call(durable: Any) -> None:
    with pytest.raises(ValueError, match=f'not {durable!r}'):
        open_atomic('x', durable=durable)


def test_unknown_attribute_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="not 'times'"):
        open_atomic('x', preserve=('mode', 'times'))


def test_mode_of_open_is_refused_at_the_call() -> None:
    with pytest.raises(TypeError, match="not 'wb'"):
        open_atomic('x', mode='wb')
    with pytest.raises(TypeError, match='not True'):
        open_atomic('x', mode=True)


@pytest.mark.parametrize('mode', [-1, 1 << 16, 10**30])
def test_number_that_is_no_mode_is_refused_at_the_call(mode: int) -> None:
    with pytest.raises(ValueError, match=f'not {mode}'):
        open_atomic('x', mode=mode)


def test_mode_may_be_what_stat_gave(place: pathlib.Path) -> None:
    with open_atomic(place / 'x', mode=os.stat(__file__).st_mode):
        pass
    assert os.stat(place / 'x').st_mode == os.stat(__file__).st_mode


def test_binary_file_takes_no_encoding() -> None:
    with pytest.raises(ValueError, match='encoding'):
        open_atomic('x', encoding='utf-8')


def test_options_are_given_by_keyword() -> None:
    with pytest.raises(TypeError):
        open_atomic('x', True, True)


def test_unknown_encoding_leaves_nothing(place: pathlib.Path) -> None:
    writer = open_atomic(place / 'x', binary=False, encoding='no such')
    with pytest.raises(LookupError):
        writer.__enter__()
    assert _names(place) == []


def test_empty_path_is_refused() -> None:
    for path in ('', b''):
        with pytest.raises(FileNotFoundError):
            open_atomic(path).__enter__()


def test_path_that_ends_in_a_slash_is_refused(place: pathlib.Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(IsADirectoryError):
            open_atomic(f'{place}/new/', overwrite=overwrite).__enter__()
    assert _names(place) == []


@needs_posix
def test_name_that_is_too_long_is_refused_on_entering(
    place: pathlib.Path,
) -> None:
    name = 'n' * (os.pathconf(place, 'PC_NAME_MAX') + 1)
    with pytest.raises(OSError, match=os.strerror(errno.ENAMETOOLONG)):
        open_atomic(place / name).__enter__()


def test_file_argument_that_is_no_path_is_refused() -> None:
    with pytest.raises(TypeError):
        open_atomic(3)
