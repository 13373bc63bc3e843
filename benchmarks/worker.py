"""Answer the driver's questions about one rival, a line of JSON each."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import traceback
from typing import Any

import question
import questions
import rivals


def main(name: str) -> None:
    """Introduce the rival, then measure whatever is asked for."""
    rival = rivals.RIVALS[name]
    # a print of the library must not end up among the answers
    answers = os.fdopen(os.dup(1), 'w', buffering=1)
    os.dup2(2, 1)
    answers.write(json.dumps(attempt(introduce, rival)) + '\n')
    for line in sys.stdin:
        answer = attempt(measure, rival, **json.loads(line))
        answers.write(json.dumps(answer) + '\n')


def attempt(work: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the answer, or the error in words."""
    try:
        return {'answer': work(*args, **kwargs)}
    except Exception as error:
        traceback.print_exc()
        return {'error': f'{type(error).__name__}: {error}'}


def introduce(rival: rivals.Rival) -> str:
    """Return the version, after a look whether it is the right library."""
    origin = getattr(rival.module, '__file__', '') or ''
    folder = os.environ.get('PYTHONPATH')
    if folder and not os.path.realpath(origin).startswith(
        os.path.realpath(folder) + os.sep
    ):
        raise ImportError(f'{rival.module_name} came from {origin}')
    if rival.requirement:
        return importlib.metadata.version(rival.distribution)
    rival.try_out()
    return str(getattr(rival.module, '__version__', ''))


def measure(
    rival: rivals.Rival, name: str, case: list[Any], path: str, quick: bool
) -> question.Answer:
    """Measure one case once."""
    asked = questions.by_name()[name]
    return asked.measure(rival, question.Case(*case), path, quick)


if __name__ == '__main__':
    main(sys.argv[1])
