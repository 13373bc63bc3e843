"""Laws of `tempfile`: what is made is ours, found by nobody, and removed."""

from __future__ import annotations

import copy
import errno
import gc
import io
import os
import pathlib
import pickle
import re
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import in_child

from portalocker import _tree_removal, tempfile

POSIX = os.name == 'posix'
needs_fork = pytest.mark.skipif(
    not hasattr(os, 'fork'), reason='needs os.fork'
)
needs_posix = pytest.mark.skipif(not POSIX, reason='needs POSIX')
needs_full = pytest.mark.skipif(
    not os.path.exists('/dev/full'), reason='needs /dev/full'
)


@pytest.fixture(autouse=True)
def folder(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pathlib.Path]:
    """Where everything goes that is told no other place; empty at the end."""
    place = tmp_path / 'temporary'
    place.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(place))
    yield place
    if any(place.iterdir()):
        gc.collect()
    left = list(place.iterdir())
    assert not left, f'left behind: {left}'


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


# names


def test_names_cannot_be_told_from_random_bytes() -> None:
    """Every letter at every place, evenly, as far as 20,000 names show."""
    names = tempfile._RandomNameSequence()
    letters = tempfile._RandomNameSequence.characters
    seen = [next(names) for _ in range(20_000)]
    assert len(set(seen)) == len(seen)
    expected = len(seen) / len(letters)
    for place in range(8):
        column = [name[place] for name in seen]
        counts = [column.count(letter) for letter in letters]
        assert sum(counts) == len(seen), 'a letter of another alphabet'
        chi = sum((count - expected) ** 2 / expected for count in counts)
        assert chi < 100  # 31 degrees of freedom: one in 10^8 is above


def test_names_come_from_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    import random

    random.seed(1)
    first = next(tempfile._RandomNameSequence())
    random.seed(1)
    assert next(tempfile._RandomNameSequence()) != first
    monkeypatch.setattr(os, 'urandom', lambda count: b'\0' * count)
    assert next(tempfile._RandomNameSequence()) == 'aaaaaaaa'


@needs_fork
def test_a_child_never_uses_the_names_of_its_parent() -> None:
    names = tempfile._RandomNameSequence()
    next(names)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(writer, ''.join(next(names) for _ in range(64)).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    of_child = os.read(reader, 1000).decode()
    os.close(reader)
    os.close(writer)
    assert len(of_child) == 512
    taken = {of_child[n : n + 8] for n in range(0, 512, 8)}
    assert not taken & {next(names) for _ in range(64)}


def test_threads_never_get_the_same_name() -> None:
    names = tempfile._RandomNameSequence()
    seen: list[str] = []

    def take() -> None:
        seen.extend(next(names) for _ in range(2000))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 8000


@needs_posix
def test_attempts_are_bounded_and_tell_the_first_cause(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    (folder / 'tmpsame').touch()
    monkeypatch.setattr(
        tempfile, '_get_candidate_names', lambda: iter(['same'] * 10**6)
    )
    for make in (tempfile.mkstemp, tempfile.mkdtemp, tempfile.mktemp):
        with pytest.raises(FileExistsError, match='No usable') as failure:
            make()
        assert failure.value.filename in {None, str(folder)}
        if make is not tempfile.mktemp:
            assert isinstance(failure.value.__cause__, FileExistsError)
    os.unlink(folder / 'tmpsame')
    assert tempfile.TMP_MAX <= 10_000


def test_an_error_that_is_no_collision_is_raised_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def refuse(path: str, *_: object) -> int:
        calls.append(path)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, 'open', refuse)
    with pytest.raises(PermissionError):
        tempfile.mkstemp()
    assert len(calls) == 1


def test_windows_refusals_end_soon_with_the_systems_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A directory nobody may write to looks like a collision there."""
    calls = []

    def refuse(path: str, *_: object) -> int:
        calls.append(path)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, 'open', refuse)
    monkeypatch.setattr(tempfile, '_IS_WINDOWS', True)
    monkeypatch.setattr(tempfile, 'TMP_MAX', 20)
    with pytest.raises(PermissionError) as failure:
        tempfile.mkstemp()
    assert len(calls) == 20
    assert failure.value.filename == calls[-1]


@needs_posix
def test_a_link_of_that_name_is_never_followed(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    (folder / 'tmpfirst').symlink_to(folder / 'elsewhere')
    monkeypatch.setattr(
        tempfile, '_get_candidate_names', lambda: iter(['first', 'second'])
    )
    fd, path = tempfile.mkstemp()
    os.close(fd)
    assert path == str(folder / 'tmpsecond')
    os.unlink(path)
    os.unlink(folder / 'tmpfirst')


def test_every_attempt_is_audited() -> None:
    done = run(
        'import sys\n'
        'from portalocker import tempfile\n'
        'sys.addaudithook(lambda event, args: event.startswith("tempfile")\n'
        '    and print(event, args[0]))\n'
        'print(tempfile.mkstemp()[1], tempfile.mkdtemp())\n',
        TMPDIR=str(tempfile.tempdir),
    )
    file, directory, made = done.stdout.splitlines()
    file, directory = file.split(' ', 1), directory.split(' ', 1)
    assert file[0] == 'tempfile.mkstemp'
    assert directory[0] == 'tempfile.mkdtemp'
    assert made == f'{file[1]} {directory[1]}'
    os.unlink(file[1])
    os.rmdir(directory[1])


# the directory


def test_a_configured_directory_is_not_silently_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    missing = str(tmp_path / 'missing')
    monkeypatch.setenv('TMPDIR', missing)
    monkeypatch.setattr(tempfile, 'tempdir', None)
    with pytest.warns(
        RuntimeWarning, match=rf'cannot use TMPDIR={missing!r}: No such file'
    ) as caught:
        chosen = tempfile.gettempdir()
    assert chosen != missing
    assert repr(chosen) in str(caught[0].message)
    assert caught[0].filename == __file__


def test_a_full_directory_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        if os.path.dirname(os.readlink(f'/proc/self/fd/{fd}')) == str(
            tmp_path
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(fd, data)

    if not os.path.exists('/proc/self/fd'):
        pytest.skip('needs /proc')
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.setattr(os, 'write', write)
    with pytest.warns(RuntimeWarning, match='No space left on device'):
        assert tempfile.gettempdir() != str(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['temporary']


def test_a_usable_directory_is_taken_in_silence(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    monkeypatch.setenv('TMPDIR', str(folder))
    monkeypatch.setattr(tempfile, 'tempdir', None)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert tempfile.gettempdir() == str(folder)


def test_no_directory_is_an_error_that_names_them_all(
    tmp_path: pathlib.Path,
) -> None:
    places = [str(tmp_path / 'one'), str(tmp_path / 'two')]
    with pytest.raises(FileNotFoundError) as failure:
        tempfile._get_default_tempdir(places)
    for place in places:
        assert f'{place!r} (No such file or directory)' in str(failure.value)


@needs_fork
def test_a_child_does_not_wait_for_a_thread_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path
) -> None:
    """A thread was choosing the directory when another one forked."""
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.setenv('TMPDIR', str(folder))
    inside, go_on = threading.Event(), threading.Event()
    real = tempfile._get_default_tempdir

    def choose() -> str:
        inside.set()
        go_on.wait()
        return real()

    monkeypatch.setattr(tempfile, '_get_default_tempdir', choose)
    thread = threading.Thread(target=tempfile.gettempdir)
    thread.start()
    inside.wait()

    def ask() -> None:
        tempfile._get_default_tempdir = real
        assert tempfile.gettempdir() == str(folder)

    in_child(ask)
    go_on.set()
    thread.join()


# types and paths


@pytest.mark.parametrize('make', ['mkstemp', 'mkdtemp'])
@pytest.mark.parametrize('kind', [str, bytes, pathlib.Path])
def test_paths_are_absolute_and_of_the_type_given(
    make: str,
    kind: Any,
    folder: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    here: Any = b'.' if kind is bytes else kind('.')
    made = getattr(tempfile, make)(dir=here)
    path = made
    if make == 'mkstemp':
        os.close(made[0])
        path = made[1]
    assert type(path) is (bytes if kind is bytes else str)
    assert os.path.dirname(os.fsdecode(path)) == str(folder)
    (os.unlink if make == 'mkstemp' else os.rmdir)(path)


@pytest.mark.parametrize('part', ['suffix', 'prefix', 'dir'])
@pytest.mark.parametrize('mistake', [5, 1.5, [], bytearray(b'x')], ids=repr)
def test_what_is_no_part_of_a_name_is_refused(part: str, mistake: Any) -> None:
    for make in (tempfile.mkstemp, tempfile.mkdtemp):
        with pytest.raises(TypeError, match='temporary name'):
            make(**{part: mistake})


def test_paths_are_parts_of_names(folder: pathlib.Path) -> None:
    path = tempfile.mkdtemp(pathlib.Path('z'), pathlib.Path('a'), folder)
    name = os.path.basename(path)
    assert name[0] + name[-1] == 'az'
    os.rmdir(path)


def test_bytes_and_text_are_not_mixed() -> None:
    for make in (
        tempfile.mkstemp,
        tempfile.mkdtemp,
        tempfile.NamedTemporaryFile,
        tempfile.TemporaryFile,
        tempfile.TemporaryDirectory,
    ):
        with pytest.raises(TypeError, match='bytes'):
            make(prefix='a', suffix=b'b')  # type: ignore[call-overload]


def test_a_directory_that_moves_with_the_process_is_looked_up_each_time(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('one', 'two'):
        (folder / name).mkdir()
        monkeypatch.chdir(folder / name)
        path = tempfile.mkdtemp(dir='.')
        assert os.path.dirname(path) == str(folder / name)
        os.rmdir(path)
    monkeypatch.chdir(folder)
    for name in ('one', 'two'):
        (folder / name).rmdir()


@needs_posix
def test_nobody_else_may_read_or_enter() -> None:
    fd, path = tempfile.mkstemp()
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    assert not os.get_inheritable(fd)
    os.close(fd)
    os.unlink(path)
    with tempfile.TemporaryDirectory() as name:
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o700


# named files


def test_methods_outlive_the_object() -> None:
    file = tempfile.NamedTemporaryFile()
    name, methods = file.name, [file.write]
    del file
    gc.collect()
    assert methods[0](b'still open') == 10
    assert os.path.exists(name)
    with pytest.warns(ResourceWarning, match='Implicitly cleaning up'):
        methods.clear()
    assert not os.path.exists(name)


def test_iteration_keeps_the_file() -> None:
    file = tempfile.NamedTemporaryFile('w+')
    file.write('a\nb\n')
    file.seek(0)
    lines = iter(file)
    name = file.name
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        del file
        gc.collect()
        assert os.path.exists(name)
        assert list(lines) == ['a\n', 'b\n']


@pytest.mark.parametrize('mode', ['w+b', 'w+'])
@pytest.mark.parametrize('delete', [True, False])
@pytest.mark.parametrize('delete_on_close', [True, False])
def test_when_a_named_file_is_removed(
    mode: str, delete: bool, delete_on_close: bool
) -> None:
    options = {'delete': delete, 'delete_on_close': delete_on_close}
    with tempfile.NamedTemporaryFile(mode, **options) as file:
        assert os.path.exists(file.name)
        file.close()
        goes = delete and delete_on_close
        assert os.path.exists(file.name) is not goes
    assert os.path.exists(file.name) is not delete
    if not delete:
        os.unlink(file.name)


def test_a_file_that_was_never_used_behaves_as_one_that_was() -> None:
    """Its file object is made when it is first asked for."""
    with tempfile.NamedTemporaryFile() as file:
        assert isinstance(file.file, io.BufferedRandom)
        assert file.file is file.file
        assert (file.mode, file.closed) == ('rb+', False)
        assert file.file.name == file.raw.name == file.name
    unused = tempfile.NamedTemporaryFile()
    with unused:
        pass
    assert unused.closed
    assert isinstance(unused.file, io.BufferedRandom)
    assert unused.file.name == unused.name
    assert repr(unused).startswith('<_TemporaryFileWrapper file=<')
    for use in (unused.read, unused.fileno, unused.__enter__):
        with pytest.raises(ValueError, match='closed file'):
            use()
    unused.close()


def test_threads_that_use_a_file_first_share_it() -> None:
    for _ in range(50):
        file = tempfile.NamedTemporaryFile()
        barrier = threading.Barrier(4)
        found: list[Any] = []

        def use(
            file: Any = file,
            barrier: threading.Barrier = barrier,
            found: list[Any] = found,
        ) -> None:
            barrier.wait()
            file.write(b'x')
            found.append(file.file)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(each) for each in found}) == 1
        file.seek(0)
        assert file.read() == b'xxxx'
        file.close()


@needs_posix
@pytest.mark.parametrize('use', [False, True])
@pytest.mark.parametrize('how', ['with', 'close', 'collect', 'inner'])
def test_a_strangers_file_of_the_same_name_stays(
    use: bool, how: str, folder: pathlib.Path
) -> None:
    stranger = folder / 'stranger'
    stranger.write_text('precious')
    file = tempfile.NamedTemporaryFile()
    name = file.name
    if use:
        file.write(b'ours')
    os.replace(stranger, name)
    if how == 'with':
        with file:
            pass
    elif how == 'close':
        file.close()
    elif how == 'inner':
        file.file.close()
        file.close()
    else:
        holder = [file]
        del file
        with pytest.warns(ResourceWarning):
            holder.clear()
    assert pathlib.Path(name).read_text() == 'precious'
    os.unlink(name)


@needs_posix
def test_a_strangers_file_that_is_called_deleted_stays(
    folder: pathlib.Path,
) -> None:
    """Of a file without a name, Linux says that it is called so."""
    file = tempfile.NamedTemporaryFile(suffix=' (deleted)')
    before = file.name.removesuffix(' (deleted)')
    os.rename(file.name, before)
    os.unlink(before)
    stranger = pathlib.Path(file.name)
    stranger.write_text('content')
    file.close()
    assert stranger.read_text() == 'content'
    stranger.unlink()


def test_a_file_that_moved_away_is_not_missed(folder: pathlib.Path) -> None:
    with tempfile.NamedTemporaryFile() as file:
        os.rename(file.name, folder / 'published')
    (folder / 'published').unlink()


def test_what_changes_is_asked_for_each_time() -> None:
    with tempfile.NamedTemporaryFile('w+') as file:
        file.write('a\nb\n')
        file.seek(0)
        assert file.newlines is None
        file.read()
        assert file.newlines == '\n'


def test_a_wrapper_of_any_file_closes_it() -> None:
    inner = io.BytesIO(b'response')
    wrapper = tempfile._TemporaryFileWrapper(inner, '<response>', delete=False)
    with wrapper as entered:
        assert entered.read() == b'response'
        assert entered is wrapper
    assert inner.closed
    lost = io.BytesIO()
    tempfile._TemporaryFileWrapper(lost, '<response>', delete=False)
    gc.collect()
    assert lost.closed


def test_an_object_that_was_not_finished_harms_nobody() -> None:
    empty = tempfile._TemporaryFileWrapper.__new__(
        tempfile._TemporaryFileWrapper
    )
    with pytest.raises(AttributeError):
        _ = empty.file
    tempfile._TemporaryFileCloser.__new__(
        tempfile._TemporaryFileCloser
    ).__del__()


# files without a name


@pytest.mark.skipif(
    not hasattr(os, 'O_TMPFILE'), reason='needs files without a name'
)
def test_a_file_without_a_name_can_be_given_one(folder: pathlib.Path) -> None:
    with tempfile.TemporaryFile() as file:
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.name == file.fileno()
        file.write(b'whole')
        file.flush()
        fd = os.open(folder, os.O_RDONLY)
        os.link(
            f'/proc/self/fd/{file.fileno()}',
            'published',
            src_dir_fd=fd,
            dst_dir_fd=fd,
            follow_symlinks=True,
        )
        os.close(fd)
    assert (folder / 'published').read_bytes() == b'whole'
    (folder / 'published').unlink()


@needs_posix
@pytest.mark.parametrize('mode', ['w+b', 'w+', 'wb'])
def test_without_the_systems_help_the_name_goes_at_once(
    mode: str, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, '_O_TMPFILE_WORKS', False)
    with tempfile.TemporaryFile(mode) as file:
        assert list(folder.iterdir()) == []
        assert os.fstat(file.fileno()).st_nlink == 0
        assert file.name == file.fileno()


@needs_posix
def test_an_old_kernel_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = os.open

    def open_(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags == tempfile._nameless_openflags:
            asked.append(path)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return real(path, flags, mode)

    monkeypatch.setattr(tempfile, '_O_TMPFILE_WORKS', True)
    monkeypatch.setattr(os, 'open', open_)
    for _ in range(3):
        tempfile.TemporaryFile().close()
    assert len(asked) == 1


# fork


FORKING = """
import os, sys
from portalocker import tempfile
def end(way, thing):
    if way == 'exit':
        sys.exit()
    if way == 'cleanup':
        (thing.cleanup if hasattr(thing, 'cleanup') else thing.close)()
for way in ('exit', 'return', 'cleanup'):
    for make in (
        lambda: tempfile.TemporaryDirectory(),
        lambda: tempfile.TemporaryDirectory(lock=True),
        lambda: tempfile.NamedTemporaryFile(),
        lambda: tempfile.NamedTemporaryFile('w+'),
        lambda: tempfile.NamedTemporaryFile(delete_on_close=False),
    ):
        thing = make()
        pid = os.fork()
        if not pid:
            {child}
            end(way, thing)
            sys.exit()
        assert os.waitpid(pid, 0)[1] == 0
        assert os.path.exists(thing.name), (way, thing)
        with thing:
            pass
        assert not os.path.exists(thing.name), (way, thing)
"""


@needs_fork
@pytest.mark.parametrize('child', ['with thing: end(way, thing)', 'pass'])
def test_the_end_of_a_forked_child_deletes_nothing(
    child: str, folder: pathlib.Path
) -> None:
    done = run(FORKING.replace('{child}', child), TMPDIR=str(folder))
    assert (done.returncode, done.stderr) == (0, '')


@needs_fork
def test_a_child_may_clean_up_only_what_it_made(folder: pathlib.Path) -> None:
    directory = tempfile.TemporaryDirectory()
    file = tempfile.NamedTemporaryFile()

    def clean_up() -> None:
        directory.cleanup()
        file.close()
        assert os.path.exists(directory.name)
        assert os.path.exists(file.name)
        with pytest.raises(PermissionError, match='another process'):
            directory.keep()
        own = tempfile.TemporaryDirectory()
        own.cleanup()
        assert not os.path.exists(own.name)

    in_child(clean_up)
    directory.cleanup()
    file.close()
    assert list(folder.iterdir()) == []


@needs_fork
def test_a_childs_own_directory_goes_with_it(folder: pathlib.Path) -> None:
    done = run(
        'import os\n'
        'from portalocker import tempfile\n'
        'with tempfile.TemporaryDirectory():\n'
        '    if os.fork():\n'
        '        os.wait()\n'
        '    else:\n'
        '        mine = tempfile.TemporaryDirectory()\n',
        TMPDIR=str(folder),
    )
    assert (done.returncode, done.stderr) == (0, '')


CROWD = """
import os, threading
from portalocker import tempfile

def work():
    for _ in range(15):
        with tempfile.TemporaryDirectory(lock=True) as name:
            with tempfile.NamedTemporaryFile(dir=name) as file:
                file.write(b'x')
            fd, path = tempfile.mkstemp()
            os.close(fd)
            made.append(path)
        tempfile.TemporaryFile().close()

def crowd():
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    return threads

made = []
threads = crowd()
children = []
for _ in range(6):
    pid = os.fork()
    if not pid:
        made.clear()
        for thread in crowd():
            thread.join()
        for path in made:
            os.unlink(path)
        os._exit(0 if len(made) == len(set(made)) == 45 else 1)
    children.append(pid)
for thread in threads:
    thread.join()
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
for path in made:
    os.unlink(path)
assert len(made) == len(set(made)) == 45
"""


@needs_fork
def test_threads_and_forks_create_at_once(folder: pathlib.Path) -> None:
    """In no child anything hangs, collides, or removes what is another's."""
    done = run(CROWD, TMPDIR=str(folder), PYTHONWARNINGS='ignore')
    assert (done.returncode, done.stderr) == (0, '')


# directories


def test_what_nobody_has_is_removed_with_a_warning() -> None:
    holder = [tempfile.TemporaryDirectory()]
    name = holder[0].name
    with pytest.warns(
        ResourceWarning,
        match=re.escape(
            f'Implicitly cleaning up <TemporaryDirectory {name!r}>'
        ),
    ):
        holder.clear()
    assert not os.path.exists(name)


def test_copies_share_the_directory() -> None:
    directory = tempfile.TemporaryDirectory()
    second = copy.copy(directory)
    del directory
    gc.collect()
    assert os.path.isdir(second.name)
    second.cleanup()
    assert not os.path.exists(second.name)


@pytest.mark.parametrize(
    'away', [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))]
)
def test_what_leaves_the_process_removes_nothing(
    away: Callable[[Any], Any],
) -> None:
    directory = tempfile.TemporaryDirectory(lock=True)
    other = away(directory)
    assert other.name == directory.name
    assert other.fd is None
    other.cleanup()
    with pytest.raises(PermissionError, match='cannot keep'):
        other.keep()
    del other
    gc.collect()
    assert os.path.isdir(directory.name)
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_code_of_spooled_files_is_loaded_with_the_first() -> None:
    done = run(
        'import sys\n'
        'from portalocker import tempfile\n'
        'print("portalocker._spooling" in sys.modules)\n'
        'print("SpooledTemporaryFile" in dir(tempfile))\n'
        'from portalocker.tempfile import *\n'
        'print(SpooledTemporaryFile is tempfile.SpooledTemporaryFile)\n'
        'print(repr(SpooledTemporaryFile))\n'
    )
    assert done.stdout.splitlines() == [
        *('False', 'True', 'True'),
        "<class 'portalocker.tempfile.SpooledTemporaryFile'>",
    ]


def test_at_the_end_of_the_process_all_go(folder: pathlib.Path) -> None:
    done = run(
        'from portalocker import tempfile\n'
        'first = tempfile.TemporaryDirectory()\n'
        'second = tempfile.TemporaryDirectory(lock="shared")\n'
        'kept = tempfile.TemporaryDirectory(delete=False)\n'
        'print(kept.name)\n',
        TMPDIR=str(folder),
        PYTHONWARNINGS='always',
    )
    assert done.stderr.count('ResourceWarning: Implicitly') == 2
    os.rmdir(done.stdout.strip())


def test_one_that_cannot_be_removed_at_the_end_keeps_no_other(
    folder: pathlib.Path,
) -> None:
    done = run(
        'from portalocker import tempfile, _tree_removal\n'
        'import os\n'
        'first = tempfile.TemporaryDirectory()\n'
        'second = tempfile.TemporaryDirectory()\n'
        'real = os.rmdir\n'
        'def rmdir(path, **options):\n'
        '    if path == second.name:\n'
        '        raise OSError(5, "Input/output error", path)\n'
        '    real(path, **options)\n'
        'os.rmdir = rmdir\n'
        'print(second.name)\n',
        TMPDIR=str(folder),
    )
    left = done.stdout.strip()
    assert f"OSError: [Errno 5] Input/output error: '{left}'" in done.stderr
    os.rmdir(left)


def test_cleanup_may_be_repeated() -> None:
    directory = tempfile.TemporaryDirectory()
    directory.cleanup()
    directory.cleanup()
    os.mkdir(directory.name)
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_errors_are_collected_and_the_rest_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tempfile.TemporaryDirectory()
    place = pathlib.Path(directory.name)
    for name in ('a', 'stays', 'stays too', 'z'):
        (place / name).touch()
    real = os.unlink

    def unlink(name: Any, **options: Any) -> None:
        if os.path.basename(name).startswith('stays'):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        real(name, **options)

    monkeypatch.setattr(os, 'unlink', unlink)
    with pytest.raises(PermissionError) as failure:
        directory.cleanup()
    stays = {str(place / 'stays'), str(place / 'stays too')}
    assert {str(path) for path in place.iterdir()} == stays
    (note,) = failure.value.__notes__
    named = {failure.value.filename, note.rpartition(': ')[2].strip("'")}
    assert named == stays
    monkeypatch.undo()
    _tree_removal.raise_first(_tree_removal.remove_tree(place))


def test_errors_that_are_ignored_stop_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    place = pathlib.Path(directory.name)
    for name in ('a', 'stays', 'z'):
        (place / name).touch()
    real = os.unlink

    def unlink(name: Any, **options: Any) -> None:
        if os.path.basename(name) == 'stays':
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), name)
        real(name, **options)

    monkeypatch.setattr(os, 'unlink', unlink)
    directory.cleanup()
    assert [path.name for path in place.iterdir()] == ['stays']
    monkeypatch.undo()
    directory.cleanup()
    assert not place.exists()


# kept, and published


def test_what_is_kept_stays() -> None:
    with tempfile.TemporaryDirectory() as name:
        pass
    directory = tempfile.TemporaryDirectory()
    name = directory.keep()
    assert name == directory.name
    with directory:
        pass
    directory.cleanup()
    del directory
    gc.collect()
    os.rmdir(name)


@pytest.mark.parametrize('lock', [False, True])
@pytest.mark.parametrize('verb', ['keep', 'persist'])
def test_what_is_gone_is_neither_kept_nor_published(
    lock: bool, verb: str, tmp_path: pathlib.Path
) -> None:
    if lock and not POSIX:
        pytest.skip('needs locks on directories')
    directory = tempfile.TemporaryDirectory(lock=lock)
    steps = {
        'keep': directory.keep,
        'persist': lambda: directory.persist(tmp_path / 'final'),
    }
    os.rmdir(directory.name)
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match=f'cannot {verb} .* gone'):
            steps[verb]()
        directory.cleanup()
    assert not (tmp_path / 'final').exists()


@pytest.mark.skipif(not POSIX, reason='needs locks on directories')
def test_a_strangers_directory_is_not_kept_as_ours() -> None:
    directory = tempfile.TemporaryDirectory(lock=True)
    os.rename(directory.name, f'{directory.name}-aside')
    os.mkdir(directory.name)
    with pytest.raises(FileNotFoundError, match='gone'):
        directory.keep()
    directory.cleanup()
    os.rmdir(f'{directory.name}-aside')


@pytest.mark.parametrize('replace', [False, True])
@pytest.mark.parametrize(
    ('name', 'refusal'),
    [
        ('', FileNotFoundError),
        (b'', FileNotFoundError),
        ('na\0me', ValueError),
        ('n' * 300, OSError),
        (None, TypeError),
        (5, TypeError),
    ],
)
def test_a_name_that_is_none_harms_nothing(
    name: Any,
    refusal: type[Exception],
    replace: bool,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = tmp_path / 'here'
    here.mkdir()
    monkeypatch.chdir(here)
    directory = tempfile.TemporaryDirectory()
    with pytest.raises(refusal):
        directory.persist(name, replace=replace)
    assert os.path.samefile(here, '.')
    assert os.listdir(here) == []
    assert os.path.isdir(directory.name)
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_a_directory_does_not_replace_itself() -> None:
    directory = tempfile.TemporaryDirectory()
    with pytest.raises(OSError, match='itself'):
        directory.persist(directory.name, replace=True)
    assert os.path.isdir(directory.name)
    directory.cleanup()
    assert not os.path.exists(directory.name)


def test_what_persists_has_its_name_in_one_step(
    tmp_path: pathlib.Path,
) -> None:
    target = tmp_path / 'final'
    with tempfile.TemporaryDirectory() as name:
        pass
    directory = tempfile.TemporaryDirectory()
    (pathlib.Path(directory.name) / 'file').write_text('content')
    before = directory.name
    assert directory.persist(target) == str(target) == directory.name
    assert not os.path.exists(before)
    directory.cleanup()
    assert (target / 'file').read_text() == 'content'
    assert not os.path.exists(name)
    with pytest.raises(FileNotFoundError, match='twice'):
        directory.persist(target)


@pytest.mark.parametrize('lock', [False, True])
def test_nothing_is_replaced_unasked(
    lock: bool, tmp_path: pathlib.Path
) -> None:
    if lock and not POSIX:
        pytest.skip('needs locks on directories')
    target = tmp_path / 'final'
    target.mkdir()  # an empty one, which a plain rename would replace
    with tempfile.TemporaryDirectory(lock=lock) as name:
        pass
    directory = tempfile.TemporaryDirectory(lock=lock)
    mode = os.stat(directory.name).st_mode
    with pytest.raises(FileExistsError) as failure:
        directory.persist(target)
    assert failure.value.filename == directory.name
    assert failure.value.filename2 == str(target)
    assert os.stat(directory.name).st_mode == mode, 'as temporary as before'
    assert target.is_dir()
    directory.cleanup()
    assert not os.path.exists(name)


def test_of_those_that_persist_under_one_name_one_wins(
    tmp_path: pathlib.Path,
) -> None:
    target = tmp_path / 'final'
    directories = [tempfile.TemporaryDirectory() for _ in range(8)]
    barrier = threading.Barrier(8)
    won: list[str] = []

    def persist(directory: Any) -> None:
        barrier.wait()
        before = directory.name
        try:
            directory.persist(target)
        except FileExistsError:
            directory.cleanup()
        else:
            won.append(before)

    threads = [
        threading.Thread(target=persist, args=(each,)) for each in directories
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


# in memory


def spooled(size: int, *args: Any, **options: Any) -> Any:
    return tempfile.SpooledTemporaryFile(size, *args, **options)


def refuse_files(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Let the rollover fail at its first or its second half."""

    def fail(*_: object, **__: object) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == 'open':
        monkeypatch.setattr(tempfile, 'TemporaryFile', fail)
    else:
        monkeypatch.setattr(os, 'write', fail)


@pytest.mark.parametrize('mode', ['w+b', 'w+'])
def test_a_spooled_file_tells_what_it_is_before_and_after_it_moved(
    mode: str,
) -> None:
    lines = ['one\n', 'two\n'] if mode == 'w+' else [b'one\n', b'two\n']
    with spooled(6, mode) as file:
        assert (file.mode, file.name, file.closed) == (mode, None, False)
        file.writelines(lines)
        assert file._rolled
        assert file.name == file.fileno()
        file.seek(0)
        assert list(file) == lines
    assert file.closed
    file.close()
    with pytest.raises(ValueError, match='closed'), file:
        pytest.fail('the block ran')


@pytest.mark.parametrize('step', ['open', 'write'])
@pytest.mark.parametrize('mode', ['w+b', 'w+'])
def test_a_rollover_that_fails_keeps_all_data_and_says_so(
    step: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = ('0123456789', 'abcdef')
    data = [first, second] if mode == 'w+' else [b'0123456789', b'abcdef']
    with spooled(10, mode) as file:
        file.write(data[0])
        with monkeypatch.context() as patch:
            refuse_files(patch, step)
            with pytest.raises(OSError, match='No space') as failure:
                file.write(data[1])
            assert 'kept in memory' in failure.value.__notes__[0]
            assert not file._rolled
            assert file.tell() == 10, 'nothing was written'
            with pytest.raises(OSError, match='No space'):
                file.fileno()
            with pytest.raises(OSError, match='No space'):
                file.truncate(100)
            file.seek(0)
            assert file.read() == data[0]
        file.write(data[1])
        assert file._rolled
        file.seek(0)
        assert file.read() == data[0] + data[1]


def test_text_that_could_not_move_is_taken_back_from_the_middle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with spooled(10, 'w+', encoding='utf-16') as file:
        file.write('abcd')
        file.seek(2)
        with monkeypatch.context() as patch:
            refuse_files(patch, 'open')
            with pytest.raises(OSError, match='No space'):
                file.write('XYZXYZ')
        file.seek(0)
        assert file.read() == 'abcd'


@pytest.mark.parametrize('max_size', [None, 0])
def test_no_size_means_never(max_size: Any) -> None:
    with tempfile.SpooledTemporaryFile(max_size) as file:
        file.write(b'data')
        assert file.truncate(1000) == 1000
        assert not file._rolled


def test_size_0_means_never() -> None:
    with spooled(0) as file:
        file.write(b'x' * 100_000)
        file.truncate(200_000)
        assert not file._rolled


@pytest.mark.parametrize(
    ('mode', 'forbidden'),
    [
        ('wb', ['read', 'readline', 'read1']),
        ('w', ['read', 'readline']),
        ('rb', ['write']),
        ('r', ['write']),
    ],
)
def test_the_mode_holds_in_memory_too(mode: str, forbidden: list[str]) -> None:
    with spooled(0, mode) as file:
        argument: Any = 'x' if mode == 'r' else b'x'
        for name in forbidden:
            args = [argument] if name == 'write' else []
            with pytest.raises(io.UnsupportedOperation):
                getattr(file, name)(*args)
        assert file.readable() is ('r' in mode)
        assert file.writable() is ('w' in mode)


@pytest.mark.parametrize('mode', ['w+b', 'wb', 'w', 'rb', 'r+b'])
def test_every_mode_rolls_over(mode: str) -> None:
    with spooled(0, mode) as file:
        if 'r' not in mode:
            file.write('x' if mode == 'w' else b'x')
        file.rollover()
        assert file._rolled
        assert os.fstat(file.fileno()).st_size == ('r' not in mode)


def test_iteration_goes_on_across_the_rollover() -> None:
    with spooled(20) as file:
        file.write(b'1\n2\n3\n')
        file.seek(0)
        lines = iter(file)
        assert next(lines) == b'1\n'
        file.rollover()
        file.seek(0, os.SEEK_END)
        file.write(b'4\n')
        file.seek(2)
        assert list(lines) == [b'2\n', b'3\n', b'4\n']


def test_bound_methods_go_on_across_the_rollover() -> None:
    file = spooled(5)
    write, read, seek, tell = file.write, file.read, file.seek, file.tell
    for line in (b'aaaa', b'bbbb', b'cccc'):
        write(line)
    assert file._rolled
    seek(0)
    assert (read(), tell()) == (b'aaaabbbbcccc', 12)
    file.close()


@pytest.mark.parametrize(
    'data', [b'12345', bytearray(b'12345'), memoryview(b'12345')]
)
def test_exactly_the_size_stays_in_memory(data: Any) -> None:
    with spooled(10) as file:
        file.write(data)
        file.write(data)
        assert not file._rolled
        file.write(data[:1])
        assert file._rolled


def test_what_is_no_bytes_is_refused_and_moves_nothing() -> None:
    with spooled(1) as file:
        with pytest.raises(TypeError):
            file.write('text')
        assert not file._rolled


def test_an_unclosed_file_is_told() -> None:
    holder = [spooled(0)]
    with pytest.warns(ResourceWarning, match='Unclosed file'):
        holder.clear()


def test_the_position_survives_in_every_encoding() -> None:
    for encoding in ('utf-8', 'utf-16', 'utf-8-sig', 'iso2022_jp'):
        with spooled(1000, 'w+', encoding=encoding) as file:
            file.write('\u3042\u3044')
            position = file.tell()
            file.write('\u3046')
            file.seek(position)
            file.rollover()
            assert file.tell() == position
            file.write('\u3048')
            file.seek(0)
            assert file.read() == '\u3042\u3044\u3048'


@needs_full
@needs_posix
def test_a_real_full_device_keeps_the_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        tempfile,
        'TemporaryFile',
        lambda **_: open('/dev/full', 'r+b', 0),  # noqa: SIM115
    )
    with spooled(4) as file:
        file.write(b'data')
        with pytest.raises(OSError, match='No space'):
            file.write(b'more')
        file.seek(0)
        assert file.read() == b'data'


# the listing


@pytest.mark.skipif(not POSIX, reason='needs links and modes')
def test_helpers_of_the_standard_library_follow_no_link(
    folder: pathlib.Path,
) -> None:
    place = folder / 'closed'
    place.mkdir(mode=0)
    link = folder / 'link'
    link.symlink_to(place)
    tempfile._resetperms(link)
    assert stat.S_IMODE(place.stat().st_mode) == 0
    tempfile._resetperms(place)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    tempfile._dont_follow_symlinks(os.utime, link, (1, 1))
    assert (link.lstat().st_mtime, place.stat().st_mtime > 1) == (1, True)
    link.unlink()
    place.rmdir()


def test_who_writes_to_the_memory_may_ask_whether_it_is_too_much() -> None:
    with tempfile.SpooledTemporaryFile(3) as file:
        for text, is_too_much in ((b'abc', False), (b'd', True)):
            file._file.write(text)
            file._check(file._file)
            assert file._rolled is is_too_much
        file.seek(0)
        assert file.read() == b'abcd'


def test_the_listing_is_the_standard_librarys() -> None:
    import tempfile as standard

    def public(module: Any) -> set[str]:
        return {name for name in vars(module) if not name.startswith('_')}

    assert set(tempfile.__all__) == set(standard.__all__)
    assert public(tempfile) == public(standard)
    assert tempfile.pin
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tempfile.nothing
