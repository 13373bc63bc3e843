"""What does it cost that a file appears whole?"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, ClassVar

import least_temporary_files
import question
import rivals

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT = b'x' * 4096
FILES = 40
BATCHES = 10
NEW = 'new file'
REPLACED = 'replaced file'
ON_DISK = ', on disk'
IN_RAM = ', in RAM'
BY_HAND = 'x by hand'
X_LEAST = 'least x flock'


class Publication(question.Question):
    """Write 4 kB and `fsync`, so that they appear in one step."""

    title = '4 kB, written, synced, published'
    goals: ClassVar[question.Goals] = {
        (NEW + IN_RAM, 'x flock'): question.Goal(1.5),
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """Return new and replaced files, in RAM and on disk."""
        return [
            question.Case(name + place, in_memory=place == IN_RAM)
            for name in (NEW, REPLACED)
            for place in (IN_RAM, ON_DISK)
        ]

    def rounds(self, quick: bool) -> int:
        """Return many: the median and the minimum have to settle."""
        return 5 if quick else 20

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Time batches of files; making and removing them is not timed."""
        is_new = case.name.startswith(NEW)
        batches = BATCHES if case.in_memory else 1
        if isinstance(rival, rivals.Floor):
            bare = bare_new if is_new else bare_replaced
            found = {
                'us': timed(bare, path, batches, is_new),
                'by hand': timed(by_hand, path, batches, is_new),
            }
            if is_new:
                found['least'] = timed(least, path, batches, is_new)
            return found
        write = published(rival, is_new)
        if write is None:
            return {}
        return {'us': timed(write, path, batches, is_new)}

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return median, minimum, and the ratios to floor and handiwork."""
        median = statistics.median(answer['us'])
        columns = {
            'median us': median,
            'min us': min(answer['us']),
            **question.ratio('us', answer, floor),
        }
        if floor:
            columns[BY_HAND] = median / statistics.median(floor['by hand'])
        if 'least' in answer:
            columns[X_LEAST] = statistics.median(answer['least']) / median
        return columns


def timed(
    write: Callable[[str], object], path: str, batches: int, is_new: bool
) -> list[float]:
    """Microseconds for a file, once for each batch of them."""
    names = [f'{path}.{n}' for n in range(FILES)]
    times = []
    for _ in range(batches + 1):
        if not is_new:
            for name in names:
                with open(name, 'wb'):
                    pass
        start = time.perf_counter()
        for name in names:
            write(name)
        times.append(1e6 * (time.perf_counter() - start) / FILES)
        for name in names:
            os.unlink(name)
    return times[1:]  # the first one warms up


def published(
    rival: rivals.Rival, is_new: bool
) -> Callable[[str], object] | None:
    """What writes a file with the library, or None where it cannot."""
    if not isinstance(rival, rivals.Portalocker) or (
        isinstance(rival, rivals.Released) and not is_new
    ):
        return None
    open_atomic = rival.module.open_atomic
    options = {} if is_new else {'overwrite': True}

    def write(path: str) -> None:
        with open_atomic(path, **options) as fh:
            fh.write(CONTENT)

    return write


def bare_new(path: str) -> None:
    """The system calls for a new name, without a file object."""
    directory, name = os.path.split(path)
    dir_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    os.access(
        name, os.F_OK, dir_fd=dir_fd, effective_ids=True, follow_symlinks=False
    )
    fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o666, dir_fd=dir_fd)
    os.write(fd, CONTENT)
    os.fsync(fd)
    os.link(f'/proc/self/fd/{fd}', name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    os.close(fd)
    os.close(dir_fd)


def bare_replaced(path: str) -> None:
    """The system calls for a name that is taken, attributes forgotten."""
    beside = f'{path}.tmp'
    fd = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    os.write(fd, CONTENT)
    os.fsync(fd)
    os.close(fd)
    os.replace(beside, path)


def least(path: str) -> None:
    """The least, in Python, that keeps the promises."""
    least_temporary_files.written(path, CONTENT)


def by_hand(path: str) -> None:
    """What many programs do: it loses mode and owner, and can leave junk."""
    beside = f'{path}.tmp'
    with open(beside, 'xb') as fh:
        fh.write(CONTENT)
        fh.flush()
        os.fsync(fh.fileno())
    os.replace(beside, path)
