"""What do temporary files cost, beside the standard library's and the system?

    python benchmarks/temporary_files.py            # in memory and on disk
    python benchmarks/temporary_files.py FOLDER...  # there

The floor are the system calls that the operation cannot do without, made from
Python with names that are known before; for files in memory, `io.BytesIO`.
Of each kind the fastest of many short rounds counts, which take turns.
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile as standard
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from portalocker import tempfile as ours  # noqa: E402

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_NOFOLLOW', 0)
DATA = b'x' * 100
ENTRIES = 1000
ROUND_SECONDS = 0.004
ROUNDS = 25
Operation = Callable[[], object]


class Row(NamedTuple):
    """One operation, done in three ways; `prepare` makes a tree before."""

    name: str
    goal: float
    floor: Operation
    standard: Operation | None
    ours: Operation
    prepare: Operation | None = None
    is_goal_of_standard: bool = False


def with_file(module: Any, kind: str, **options: Any) -> Operation:
    """Enter and leave a temporary thing."""
    make = getattr(module, kind)

    def operation() -> None:
        with make(**options):
            pass

    return operation


def mkstemp_cycle(module: Any) -> Operation:
    """Create, close, unlink."""

    def operation() -> None:
        fd, path = module.mkstemp()
        os.close(fd)
        os.unlink(path)

    return operation


def spool_cycle(make: Callable[[], Any]) -> Operation:
    """Write 100 bytes and read them."""

    def operation() -> None:
        with make() as file:
            file.write(DATA)
            file.seek(0)
            file.read()

    return operation


def writes(file: Any) -> Operation:
    """Write 1,000 times into an open file."""

    def operation() -> None:
        for _ in range(1000):
            file.write(DATA)
        file.seek(0)

    return operation


class Floor:
    """The system calls."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.path = os.path.join(folder, 'floor')
        self.tree = os.path.join(folder, 'tree')

    def file(self) -> None:
        fd = os.open(self.path, NEW, 0o600)
        os.close(fd)
        os.unlink(self.path)

    def nameless(self) -> None:
        os.close(os.open(self.folder, os.O_TMPFILE | os.O_RDWR, 0o600))

    def directory(self) -> None:
        os.mkdir(self.path, 0o700)
        os.rmdir(self.path)

    def make_files(self) -> None:
        os.mkdir(self.tree)
        for number in range(ENTRIES):
            path = os.path.join(self.tree, f'{number:08}')
            os.close(os.open(path, NEW, 0o600))

    def make_directories(self) -> None:
        os.mkdir(self.tree)
        for number in range(ENTRIES):
            os.mkdir(os.path.join(self.tree, f'{number:08}'))

    def _remove(self, remove: Callable[..., None]) -> None:
        fd = os.open(self.tree, os.O_RDONLY)
        with os.scandir(fd) as entries:
            for entry in entries:
                remove(entry.name, dir_fd=fd)
        os.close(fd)
        os.rmdir(self.tree)

    def remove_files(self) -> None:
        self._remove(os.unlink)

    def remove_directories(self) -> None:
        self._remove(os.rmdir)


def rows(folder: str) -> list[Row]:
    """Every question about one place."""
    floor = Floor(folder)
    both = (standard, ours)
    plain = open(os.path.join(folder, 'plain'), 'w+b')  # noqa: SIM115
    named = [module.NamedTemporaryFile() for module in both]
    remove = [module.TemporaryDirectory._rmtree for module in both]
    removals = [functools.partial(each, floor.tree) for each in remove]

    def usual(
        name: str, goal: float, calls: Operation, make: Callable[..., Any]
    ) -> Row:
        return Row(name, goal, calls, *map(make, both))

    def kind(name: str, goal: float, calls: Operation) -> Row:
        return usual(name, goal, calls, lambda m: with_file(m, name))

    return [
        usual('mkstemp, close, unlink', 1.3, floor.file, mkstemp_cycle),
        kind('NamedTemporaryFile', 2.3, floor.file),
        kind('TemporaryFile', 2.2, floor.nameless),
        kind('TemporaryDirectory', 2.2, floor.directory),
        Row(
            'the same, locked; goal: the stdlib unlocked',
            1,
            floor.directory,
            with_file(standard, 'TemporaryDirectory'),
            with_file(ours, 'TemporaryDirectory', lock=True),
            is_goal_of_standard=True,
        ),
        Row(
            'SpooledTemporaryFile cycle',
            1.8,
            spool_cycle(io.BytesIO),
            spool_cycle(standard.SpooledTemporaryFile),
            spool_cycle(ours.SpooledTemporaryFile),
        ),
        Row('1,000 writes', 1.4, *map(writes, (plain, *named))),
        Row(
            'cleanup, 1,000 files',
            1.05,
            floor.remove_files,
            *removals,
            prepare=floor.make_files,
        ),
        Row(
            'cleanup, 1,000 directories; goal: of the stdlib',
            0.75,
            floor.remove_directories,
            *removals,
            prepare=floor.make_directories,
            is_goal_of_standard=True,
        ),
    ]


def measure(row: Row) -> list[float]:
    """Microseconds of floor, standard library and ours."""
    ways = [row.floor, row.standard, row.ours]
    best = [float('inf')] * len(ways)
    counts = [0] * len(ways)
    for turn, (index, way) in itertools.product(
        range(ROUNDS if row.prepare is None else 8), enumerate(ways)
    ):
        if way is None:
            continue
        if row.prepare is not None:
            row.prepare()
            best[index] = min(best[index], seconds(way, 1))
            continue
        if not turn:
            counts[index] = 1 + int(ROUND_SECONDS / seconds(way, 10))
        best[index] = min(best[index], seconds(way, counts[index]))
    return [1e6 * each for each in best]


def seconds(operation: Operation, count: int) -> float:
    """Mean time of an operation."""
    turns = range(count)
    start = time.perf_counter()
    for _ in turns:
        operation()
    return (time.perf_counter() - start) / count


def import_ms(code: str) -> float:
    """Milliseconds of the fastest of many interpreters that run `code`."""

    def run() -> object:
        return subprocess.run(
            [sys.executable, '-I', '-S', '-c', code], check=True
        )

    return min(1e3 * seconds(run, 1) for _ in range(20))


def show_imports() -> None:
    """The import, above a bare interpreter and above the package."""
    head = f'import sys; sys.path.append({str(ROOT)!r}); '
    bare = import_ms(head)
    package = import_ms(f'{head}import portalocker')
    whole = import_ms(f'{head}import portalocker.tempfile')
    print(
        f'import, ms above bare Python: stdlib '
        f'{import_ms(f"{head}import tempfile") - bare:.1f}, ours '
        f'{whole - bare:.1f}, of which the package {package - bare:.1f}'
    )


def show(folder: str) -> None:
    """Print the table of one place."""
    print(f'\nus, in {folder}')
    print(f'{"":48}{"floor":>8}{"stdlib":>16}{"ours":>16}{"goal":>7}')
    place = os.path.join(folder, f'benchmark-{os.getpid()}')
    os.mkdir(place)
    standard.tempdir = ours.tempdir = place
    try:
        for row in rows(place):
            floor, stdlib, own = measure(row)
            base = stdlib if row.is_goal_of_standard else floor
            print(
                f'{row.name:48}{floor:8.2f}'
                f'{stdlib:9.2f} {stdlib / floor:5.2f}x'
                f'{own:9.2f} {own / floor:5.2f}x'
                f'{row.goal:6}{" " if own / base <= row.goal else "!"}'
            )
    finally:
        standard.tempdir = ours.tempdir = None
        shutil.rmtree(place)


if __name__ == '__main__':
    warnings.simplefilter('ignore', ResourceWarning)
    show_imports()
    for folder in sys.argv[1:] or ['/dev/shm', os.getcwd()]:
        show(folder)
