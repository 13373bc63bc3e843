"""Laws of `_tree_removal`: all that can goes, nothing outside is touched."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from children import become_nobody, in_child

from portalocker import _tree_removal

HAS_DESCRIPTORS = _tree_removal._HAS_DESCRIPTORS
needs_descriptors = pytest.mark.skipif(
    not HAS_DESCRIPTORS, reason='needs descriptors of directories'
)
needs_root = pytest.mark.skipif(
    not hasattr(os, 'geteuid') or os.geteuid() != 0, reason='needs root'
)
WAYS = ['_OpenDirectory', '_NamedDirectory']


@pytest.fixture(params=WAYS)
def any_way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Through descriptors, and through paths as on Windows."""
    if request.param == '_OpenDirectory' and not HAS_DESCRIPTORS:
        pytest.skip('needs descriptors of directories')
    kind = getattr(_tree_removal, request.param)
    monkeypatch.setattr(_tree_removal, '_DIRECTORY', kind)
    return str(request.param)


@pytest.fixture
def top(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'top'
    path.mkdir()
    return path


def open_descriptors() -> int:
    return len(os.listdir('/proc/self/fd'))


def grow(place: pathlib.Path, seed: int) -> None:
    """Make a tree of everything that a directory can contain."""
    chance = random.Random(seed)
    places = [place]
    for number in range(60):
        inside = chance.choice(places)
        path = inside / f'{number}'
        kind = chance.randrange(6)
        if kind <= 1:
            path.mkdir()
            places.append(path)
        elif kind == 2:
            path.symlink_to(chance.choice(places))
        elif kind == 3:
            path.symlink_to('nowhere')
        elif kind == 4 and hasattr(os, 'mkfifo'):
            os.mkfifo(path)
        else:
            path.write_text('content')
    for path in reversed(places):  # what is below a closed one comes before it
        if chance.random() < 0.3:
            path.chmod(chance.choice([0o000, 0o400, 0o500, 0o700]))


@pytest.mark.parametrize('seed', range(8))
def test_any_tree_goes(seed: int, any_way: str, top: pathlib.Path) -> None:
    grow(top, seed)
    assert _tree_removal.remove_tree(top) == []
    assert not os.path.lexists(top)


@pytest.mark.usefixtures('any_way')
def test_what_is_not_there_is_no_error(top: pathlib.Path) -> None:
    assert _tree_removal.remove_tree(top / 'nothing') == []


@pytest.mark.usefixtures('any_way')
def test_links_are_removed_and_not_followed(
    top: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    outside = tmp_path / 'outside'
    outside.mkdir()
    (outside / 'file').write_text('precious')
    (top / 'to directory').symlink_to(outside)
    (top / 'to file').symlink_to(outside / 'file')
    assert _tree_removal.remove_tree(top) == []
    assert (outside / 'file').read_text() == 'precious'


@pytest.mark.usefixtures('any_way')
@pytest.mark.parametrize('kind', ['link', 'file'])
def test_what_is_no_directory_stays(
    kind: str, top: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / 'other'
    if kind == 'link':
        path.symlink_to(top)
    else:
        path.touch()
    (error,) = _tree_removal.remove_tree(path)
    assert error.errno in {errno.ENOTDIR, errno.ELOOP}
    assert os.fspath(error.filename) == str(path)
    assert os.path.lexists(path)
    assert top.is_dir()


@pytest.mark.usefixtures('any_way')
def test_names_of_any_bytes_go(top: pathlib.Path) -> None:
    if os.name == 'nt':
        pytest.skip('names are text')
    for name in (b'\xff\xfe', b'new\nline', b'-rf', b'x' * 255):
        os.mkdir(os.path.join(os.fsencode(top), name))
        with open(os.path.join(os.fsencode(top), name, name), 'w'):
            pass
    assert _tree_removal.remove_tree(os.fsencode(top)) == []
    assert not top.exists()


DEEP = """
import os, resource, sys
from portalocker import _tree_removal
top, depth, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
fd = os.open(top, os.O_RDONLY)
for _ in range(depth):
    os.mkdir('d', dir_fd=fd)
    os.close(os.open('f', os.O_CREAT, dir_fd=fd))
    inner = os.open('d', os.O_RDONLY, dir_fd=fd)
    os.close(fd)
    fd = inner
os.close(fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
sys.setrecursionlimit(100)
print(_tree_removal.remove_tree(top), os.path.exists(top))
"""


@needs_descriptors
def test_depth_needs_neither_descriptors_nor_recursion(
    top: pathlib.Path,
) -> None:
    done = subprocess.run(
        [sys.executable, '-c', DEEP, str(top), '5000', '40'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ('[] False\n', '')


@needs_descriptors
def test_what_was_moved_up_is_told_by_its_path(
    top: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tree_removal, '_MOST_LEVELS', 3)
    path = top
    for _ in range(10):
        path /= 'd'
    path.mkdir(parents=True)
    (path / 'stays').touch()
    refuse(monkeypatch, 'unlink', 'stays')
    (error,) = _tree_removal.remove_tree(top)
    assert error.filename == str(path / 'stays')
    monkeypatch.undo()
    assert _tree_removal.remove_tree(top) == []


def refuse(
    monkeypatch: pytest.MonkeyPatch, step: str, *names: str, code: int = 1
) -> list[str]:
    """Let a step fail for entries of these names."""
    real = getattr(os, step)
    refused = []

    def fail(path: Any, *args: Any, **options: Any) -> Any:
        name = os.path.basename(os.fsdecode(path))
        if name in names:
            refused.append(name)
            raise OSError(code, os.strerror(code), path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, step, fail)
    return refused


@pytest.mark.parametrize('step', ['unlink', 'rmdir', 'open', 'scandir'])
@pytest.mark.parametrize('code', [errno.EIO, errno.EMFILE, errno.EPERM])
def test_one_refusal_keeps_nothing_else(
    step: str,
    code: int,
    any_way: str,
    top: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in 'abc':
        (top / name / 'inside').mkdir(parents=True)
        (top / name / 'inside' / f'file {name}').touch()
    with monkeypatch.context() as patch:
        if step == 'scandir':
            real, count = os.scandir, iter(range(100))

            def scandir(place: Any) -> Any:
                if next(count) == 2:
                    raise OSError(code, os.strerror(code))
                return real(place)

            patch.setattr(os, 'scandir', scandir)
        else:
            refuse(patch, step, 'b', 'file b', code=code)
        errors = _tree_removal.remove_tree(top)
    left = {name for name in 'abc' if (top / name).exists()}
    if any_way == '_NamedDirectory' and step == 'open':
        assert (errors, left) == ([], set()), 'it opens nothing'
        return
    assert [error.errno for error in errors] == [code]
    assert errors[0].filename.startswith(str(top))
    assert len(left) == 1
    assert _tree_removal.remove_tree(top) == []


@pytest.mark.usefixtures('any_way')
def test_modes_are_repaired_for_who_is_not_root(
    tmp_path: pathlib.Path,
) -> None:
    if not hasattr(os, 'fork'):
        pytest.skip('needs os.fork')
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    in_child(lambda: _remove_all_modes(tmp_path / 'mine'), become_nobody)


def _remove_all_modes(top: pathlib.Path) -> None:
    for number, mode in enumerate([0o000, 0o100, 0o200, 0o400, 0o500]):
        place = top / str(number)
        (place / 'a' / 'b').mkdir(parents=True)
        (place / 'a' / 'file').touch()
        (place / 'empty').mkdir()
        for path in (place / 'a' / 'b', place / 'empty', place / 'a', place):
            path.chmod(mode)
    top.chmod(0)
    assert _tree_removal.remove_tree(top) == []
    assert not top.exists()


@needs_root
def test_what_belongs_to_others_stays_and_only_that(
    tmp_path: pathlib.Path,
) -> None:
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    top = tmp_path / 'top'
    foreign = top / 'foreign'
    (foreign / 'deep').mkdir(parents=True)
    (foreign / 'file').touch()
    for name in 'ab':
        (top / name).mkdir()
        (top / name / 'file').touch()
        os.chown(top / name, 65534, 65534)
    os.chown(top, 65534, 65534)

    def remove() -> None:
        errors = _tree_removal.remove_tree(top)
        named = {os.path.basename(error.filename) for error in errors}
        assert named == {'file', 'deep'}

    in_child(remove, become_nobody)
    assert [path.name for path in top.iterdir()] == ['foreign']
    assert len(list(foreign.iterdir())) == 2


@needs_descriptors
def test_descriptors_are_let_go_whatever_happens(
    top: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.path.isdir('/proc/self/fd'):
        pytest.skip('needs /proc')
    (top / 'a' / 'b' / 'c' / 'd').mkdir(parents=True)
    before = open_descriptors()
    for step in ('rmdir', 'open', 'scandir', 'unlink'):
        real, count = getattr(os, step), iter(range(1000))
        for stop in range(8):
            calls = iter(range(1000))

            def interrupt(
                *args: Any,
                real: Callable[..., Any] = real,
                calls: Iterator[int] = calls,
                stop: int = stop,
                **options: Any,
            ) -> Any:
                if next(calls) == stop:
                    raise KeyboardInterrupt
                return real(*args, **options)

            (top / 'a' / 'b' / 'c' / 'd').mkdir(parents=True, exist_ok=True)
            (top / 'a' / 'b' / 'c' / 'd' / f'{next(count)}').touch()
            with monkeypatch.context() as patch:
                patch.setattr(os, step, interrupt)
                try:
                    _tree_removal.remove_tree(top)
                except KeyboardInterrupt:
                    pass
            assert open_descriptors() == before, (step, stop)


@pytest.mark.usefixtures('any_way')
def test_what_appears_meanwhile_goes_too(
    top: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (top / 'a').mkdir()
    (top / 'a' / 'file').touch()
    real, count = os.rmdir, iter(range(1000))

    def rmdir(path: Any, **options: Any) -> None:
        if os.path.basename(path) == 'a' and (number := next(count)) < 5:
            (top / 'a' / f'late {number}').mkdir()
            (top / 'a' / f'late {number}' / 'file').touch()
        real(path, **options)

    monkeypatch.setattr(os, 'rmdir', rmdir)
    assert _tree_removal.remove_tree(top) == []
    assert not top.exists()


@pytest.mark.usefixtures('any_way')
def test_who_never_stops_is_not_followed_for_ever(
    top: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_tree_removal, '_MOST_SURPRISES', 10)
    (top / 'a').mkdir()
    real, count = os.rmdir, iter(range(10**6))

    def rmdir(path: Any, **options: Any) -> None:
        if os.path.basename(path) == 'a':
            (top / 'a' / f'{next(count)}').touch()
        real(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, 'rmdir', rmdir)
        (error,) = _tree_removal.remove_tree(top)
    assert error.errno in {errno.ENOTEMPTY, errno.EEXIST}
    assert error.filename == str(top / 'a')
    assert 10 < next(count) < 30


@needs_descriptors
@pytest.mark.parametrize('step', ['rmdir', 'open', 'scandir', 'unlink'])
def test_a_swap_at_any_step_leads_nowhere_else(
    step: str, top: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Between any two steps, a directory becomes a link to the outside."""
    outside = tmp_path / 'outside'
    for turn in range(40):
        (outside / 'deep' / 'deeper').mkdir(parents=True, exist_ok=True)
        (outside / 'file').write_text('precious')
        (outside / 'deep' / 'file').write_text('precious')
        outside.chmod(0o500)
        (top / 'a' / 'deep' / 'deeper').mkdir(parents=True, exist_ok=True)
        (top / 'a' / 'file').touch()
        (top / 'a' / 'deep' / 'file').touch()
        aside = tmp_path / 'aside'
        real, calls = getattr(os, step), iter(range(1000))
        swapped = False

        def swap(
            *args: Any,
            real: Callable[..., Any] = real,
            calls: Iterator[int] = calls,
            turn: int = turn,
            aside: pathlib.Path = aside,
            **options: Any,
        ) -> Any:
            nonlocal swapped
            if next(calls) == turn:
                swapped = True
                setattr(os, step, real)
                for name in ('a/deep', 'a'):
                    if (top / name).exists():
                        os.rename(top / name, aside)
                        os.symlink(
                            outside / os.path.basename(name)
                            if '/' in name
                            else outside,
                            top / name,
                        )
                        break
            return real(*args, **options)

        setattr(os, step, swap)
        try:
            _tree_removal.remove_tree(top)
        finally:
            setattr(os, step, real)
        assert (outside / 'file').read_text() == 'precious'
        assert (outside / 'deep' / 'file').read_text() == 'precious'
        assert (outside / 'deep' / 'deeper').is_dir()
        assert stat.S_IMODE(outside.stat().st_mode) == 0o500, 'through a link'
        outside.chmod(0o700)
        for rest in (aside, top):
            _tree_removal.remove_tree(rest)
        top.mkdir(exist_ok=True)
        if not swapped:
            break
    assert turn > 0


def swap_for_ever(place: str) -> None:
    """Turn directories of the tree into links to the outside, and back."""
    while True:
        for inside in ('top/d', 'top/d/sub', 'top'):
            target = os.path.join(place, 'outside')
            path, aside = os.path.join(place, inside), f'{place}/aside'
            try:
                os.rename(path, aside)
                os.symlink(target, path)
                os.unlink(path)
                os.rename(aside, path)
            except OSError:
                continue  # removed meanwhile
            finally:
                _tree_removal.remove_tree(aside)


@needs_descriptors
@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs os.fork')
def test_a_hostile_process_gets_nothing_outside_removed(
    tmp_path: pathlib.Path,
) -> None:
    outside = tmp_path / 'outside'
    (outside / 'sub').mkdir(parents=True)
    for number in range(10):
        (outside / f'{number}').write_text('precious')
        (outside / 'sub' / f'{number}').write_text('precious')
    outside.chmod(0o500)
    pid = os.fork()
    if not pid:
        swap_for_ever(str(tmp_path))
    try:
        for _ in range(400):
            new = tmp_path / 'new'
            (new / 'd' / 'sub').mkdir(parents=True)
            for number in range(10):
                (new / 'd' / f'{number}').touch()
                (new / 'd' / 'sub' / f'{number}').touch()
            while new.exists():
                with contextlib.suppress(OSError):
                    os.rename(new, tmp_path / 'top')
                    break
                # something of the swapper is in the way
                _tree_removal.remove_tree(tmp_path / 'top')
                with contextlib.suppress(OSError):
                    os.unlink(tmp_path / 'top')
            _tree_removal.remove_tree(tmp_path / 'top')
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    for number in range(10):
        assert (outside / f'{number}').read_text() == 'precious'
        assert (outside / 'sub' / f'{number}').read_text() == 'precious'
    assert stat.S_IMODE(outside.stat().st_mode) == 0o500
    outside.chmod(0o700)


def test_a_clean_removal_raises_nothing() -> None:
    _tree_removal.raise_first([])


def test_many_errors_are_told_by_the_first() -> None:
    errors = [OSError(n, f'failure {n}') for n in range(1, 40)]
    with pytest.raises(OSError, match='failure 1') as failure:
        _tree_removal.raise_first(errors)
    notes = failure.value.__notes__
    assert notes[0] == 'also: [Errno 2] failure 2'
    assert notes[-1] == 'and 18 more'
    assert len(notes) == 21
