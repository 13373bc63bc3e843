"""What do temporary files cost, beside the standard library's and the system?

The floor are the system calls that the operation cannot do without, made from
Python with one name that is known before; for files in memory, `io.BytesIO`.
`bare` is the least that keeps the promises, see least_temporary_files.py, and
`fresh name` makes the system calls with a new name each time: what the kernel
takes for a name that it has not seen is no library's to save.
Of each kind the fastest of many short rounds counts, which take turns.
"""

from __future__ import annotations

import functools
import io
import itertools
import os
import shutil
import subprocess
import sys
import tempfile as standard
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import least_temporary_files
import question
import redis_locks

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, 'O_NOFOLLOW', 0)
DATA = b'x' * 100
ENTRIES = 1000
ROUND_SECONDS = 0.004
ROUNDS = 25
Operation = Callable[[], object]


FLOOR = 'system calls'
STANDARD = 'stdlib'
X_FLOOR = f'x {FLOOR}'
X_STANDARD = f'x {STANDARD}'
PLACES = ('in RAM', 'on disk')
WAYS = (FLOOR, STANDARD, 'ours', 'bare', 'fresh name')
#: what ours may take, as often as the floor or the standard library
GOALS = {
    'mkstemp, close, unlink': (X_FLOOR, 1.3),
    'NamedTemporaryFile': (X_FLOOR, 2.3),
    'TemporaryFile': (X_FLOOR, 2.2),
    'TemporaryDirectory': (X_FLOOR, 2.2),
    'TemporaryDirectory, locked': (X_STANDARD, 1.0),
    'SpooledTemporaryFile cycle': (X_FLOOR, 1.8),
    '1,000 writes': (X_FLOOR, 1.4),
    'cleanup, 1,000 files': (X_FLOOR, 1.05),
    'cleanup, 1,000 directories': (X_STANDARD, 0.75),
}


class TemporaryFiles(question.Survey):
    """What making and removing them costs, in memory and on disk."""

    title = 'temporary files and directories'
    base = FLOOR
    goals: ClassVar[question.Goals] = {
        (f'{name}, {place}', column): question.Goal(limit)
        for name, (column, limit) in GOALS.items()
        for place in PLACES
    }

    def answers(
        self, quick: bool, disk: str, memory: str
    ) -> Iterator[tuple[str, str, question.Answer]]:
        """Measure each operation in ways that take turns."""
        redis_locks.use_this_tree()
        for rival, numbers in imports().items():
            yield 'import', rival, {'ms': numbers}
        for place, folder in zip(PLACES, (memory, disk), strict=True):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore', ResourceWarning)
                for row, found in measured(folder):
                    case = f'{row.name}, {place}'
                    for rival, number in zip(WAYS, found, strict=True):
                        if number != float('inf'):
                            yield case, rival, {'us': [number]}

    def compared(
        self, answer: question.Answer, answers: dict[str, question.Answer]
    ) -> question.Columns:
        """Compare with the system calls, and with the standard library."""
        columns = super().compared(answer, answers)
        theirs = answers.get(STANDARD, {}).get('us')
        if theirs and 'us' in columns:
            columns[X_STANDARD] = columns['us'] / theirs[0]
        return columns

    def versions(self) -> str:
        """The standard library is the interpreter's."""
        return f'Python {sys.version.split()[0]}'


OF_A_NEW_NAME = ('mkstemp, close, unlink', 'NamedTemporaryFile')


class Row(NamedTuple):
    """One operation, in as many ways; `prepare` makes a tree before."""

    name: str
    floor: Operation
    standard: Operation | None
    ours: Operation
    prepare: Operation | None = None
    bare: Operation | None = None
    fresh: Operation | None = None


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


def rows(folder: str, ours: Any) -> list[Row]:
    """Every question about one place."""
    floor = Floor(folder)
    both = (standard, ours)
    plain = open(os.path.join(folder, 'plain'), 'w+b')  # noqa: SIM115
    named = [module.NamedTemporaryFile() for module in both]
    remove = [module.TemporaryDirectory._rmtree for module in both]
    removals = [functools.partial(each, floor.tree) for each in remove]

    def usual(name: str, calls: Operation, make: Callable[..., Any]) -> Row:
        return Row(name, calls, *map(make, both))

    def kind(name: str, calls: Operation) -> Row:
        return usual(name, calls, lambda m: with_file(m, name))

    return [
        usual('mkstemp, close, unlink', floor.file, mkstemp_cycle),
        kind('NamedTemporaryFile', floor.file),
        kind('TemporaryFile', floor.nameless),
        kind('TemporaryDirectory', floor.directory),
        Row(
            'TemporaryDirectory, locked',
            floor.directory,
            with_file(standard, 'TemporaryDirectory'),
            with_file(ours, 'TemporaryDirectory', lock=True),
        ),
        Row(
            'SpooledTemporaryFile cycle',
            spool_cycle(io.BytesIO),
            spool_cycle(standard.SpooledTemporaryFile),
            spool_cycle(ours.SpooledTemporaryFile),
        ),
        Row('1,000 writes', *map(writes, (plain, *named))),
        Row(
            'cleanup, 1,000 files',
            floor.remove_files,
            *removals,
            prepare=floor.make_files,
        ),
        Row(
            'cleanup, 1,000 directories',
            floor.remove_directories,
            *removals,
            prepare=floor.make_directories,
        ),
    ]


def bare_ways(folder: str) -> dict[str, Operation]:
    """What least_temporary_files.py offers, by the name of the row."""
    least = least_temporary_files
    file = open(os.path.join(folder, 'bare'), 'w+b')  # noqa: SIM115
    remove = functools.partial(least.removed, Floor(folder).tree)
    return {
        **least.operations(folder),
        'SpooledTemporaryFile cycle': spool_cycle(least.BareSpool),
        '1,000 writes': writes(least.BareNamedFile(file)),
        'cleanup, 1,000 files': remove,
        'cleanup, 1,000 directories': remove,
    }


def measure(row: Row) -> list[float]:
    """Microseconds of each of the ways."""
    ways = [row.floor, row.standard, row.ours, row.bare, row.fresh]
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


def imports() -> dict[str, list[float]]:
    """The import, above a bare interpreter."""
    # what an interpreter has imported before it runs a program
    head = (
        f'import sys, os, site; sys.path.append({str(redis_locks.ROOT)!r}); '
    )
    bare = import_ms(head)
    return {
        name: [import_ms(f'{head}import {module}') - bare]
        for name, module in (
            (STANDARD, 'tempfile'),
            ('ours', 'portalocker.tempfile'),
            ('ours, the package alone', 'portalocker'),
        )
    }


def measured(folder: str) -> Iterator[tuple[Row, list[float]]]:
    """Measure every operation in a place."""
    from portalocker import tempfile as ours

    place = os.path.join(folder, f'benchmark-{os.getpid()}')
    os.mkdir(place)
    standard.tempdir = ours.tempdir = place
    try:
        bare = bare_ways(place)
        fresh = least_temporary_files.fresh_file(place)
        for each in rows(place, ours):
            row = each._replace(
                bare=bare.get(each.name),
                fresh=fresh if each.name in OF_A_NEW_NAME else None,
            )
            yield row, measure(row)
    finally:
        standard.tempdir = ours.tempdir = None
        shutil.rmtree(place)
