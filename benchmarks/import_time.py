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


class ImportTime(question.Question):
    """Wall time of `import X` above bare Python."""

    title = 'import, above bare Python'
    goals: ClassVar[question.Goals] = {(NAME, 'ms'): question.Goal(12)}

    def cases(self, quick: bool) -> list[question.Case]:
        """Return the one case: the import."""
        return [question.Case(NAME)]

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
        return {
            'bare': [start_ms(BARE)],
            'import': [start_ms(f'{BARE}import {rival.module_name}')],
        }

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return the difference of the fastest starts."""
        bare, imported = min(answer['bare']), min(answer['import'])
        return {'ms': imported - bare, 'bare Python ms': bare}


def start_ms(code: str) -> float:
    """Milliseconds that an isolated interpreter takes to run `code`."""
    folder = os.environ.get('PYTHONPATH', '')
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, '-I', '-S', '-c', code, folder], check=True
    )
    return 1e3 * (time.perf_counter() - start)
