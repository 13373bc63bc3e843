"""How much longer does Python take to start with the library imported?"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, ClassVar

import question

if TYPE_CHECKING:
    import rivals

# What an ordinary start imports, without the .pth files of site-packages.
BARE = 'import site, sys; sys.path.append(sys.argv[1]); '
NAME = 'import'
FIRST_LOCK = 'import, and a first lock held'
TEMPFILE = 'import of temporary files'
FILELOCK = 'import of a re-entrant FileLock'


class ImportTime(question.Question):
    """Wall time of `import X` above bare Python."""

    title = 'import, above bare Python'
    goals: ClassVar[question.Goals] = {
        (NAME, 'ms'): question.Goal(1),
        (FIRST_LOCK, 'ms'): question.Goal(12),
        (TEMPFILE, 'ms'): question.Goal(2),
        (FILELOCK, 'ms'): question.Goal(12),
    }

    def cases(self, quick: bool) -> list[question.Case]:
        """Return what a program may import us for."""
        return [*map(question.Case, (NAME, FIRST_LOCK, TEMPFILE, FILELOCK))]

    def rounds(self, quick: bool) -> int:
        """Return how many pairs of interpreters are started."""
        return 15 if quick else 40

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Start one interpreter without and one with the import."""
        code = {
            NAME: f'import {rival.module_name}',
            FIRST_LOCK: rival.first_lock,
            TEMPFILE: rival.temporary_files,
            FILELOCK: rival.file_lock_import,
        }[case.name]
        if not code:
            return {}
        return {
            'bare': [start_ms(BARE, path)],
            'import': [start_ms(BARE + code, path)],
        }

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return the difference of the fastest starts."""
        bare, imported = min(answer['bare']), min(answer['import'])
        return {'ms': imported - bare, 'bare Python ms': bare}


def start_ms(code: str, path: str) -> float:
    """Milliseconds that an isolated interpreter takes to run `code`."""
    folder = os.environ.get('PYTHONPATH', '')
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, '-I', '-S', '-c', code, folder, path], check=True
    )
    return 1e3 * (time.perf_counter() - start)
