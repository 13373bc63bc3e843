"""Measure this library beside its rivals: `python benchmarks/run.py`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time

import environments
import interview
import machine
import question
import questions
import rivals
import table

RESULTS = os.path.join(interview.HERE, 'results')
MEMORY_DIRECTORY = '/dev/shm'


def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = tuple(questions.by_name())
    parser.add_argument(
        'questions', nargs='*', metavar='QUESTION',
        help=f'{", ".join(known)}; default: all',
    )  # fmt: skip
    parser.add_argument(
        '--quick', action='store_true', help='fewer rounds, smaller crowds'
    )
    parser.add_argument(
        '--thousand', action='store_true', help='1000 processes contend, too'
    )
    parser.add_argument(
        '--save', action='store_true', help='write into benchmarks/results'
    )
    parser.add_argument(
        '--report', action='store_true',
        help='save, and draw the page docs/benchmarks/report.rst',
    )  # fmt: skip
    parser.add_argument(
        '--rivals', default=','.join(rivals.RIVALS), metavar='NAME,...',
        help='default: %(default)s',
    )  # fmt: skip
    parser.add_argument(
        '--cache', default=os.environ.get('BENCHMARK_CACHE'),
        help='where rivals stay installed; default: $BENCHMARK_CACHE, '
        'else a temporary directory',
    )  # fmt: skip
    parser.add_argument(
        '--directory', help='of the lock files; default: the temporary one'
    )
    chosen = parser.parse_args()
    for kind, names, allowed in (
        ('question', chosen.questions, known),
        ('rival', chosen.rivals.split(','), tuple(rivals.RIVALS)),
    ):
        for name in names:
            if name not in allowed:
                parser.error(f'unknown {kind} {name!r}: not in {allowed}')
    return chosen


def main() -> int:
    """Ask, print, save; 1 where something could not be measured."""
    chosen = arguments()
    if chosen.report:
        import report  # needs matplotlib: said before minutes have passed
    asked = questions.by_name(chosen.thousand)
    names = chosen.questions or list(asked)
    wanted = {name for each in names for name in asked[each].rivals}
    with contextlib.ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory
        disk = stack.enter_context(scratch(dir=chosen.directory))
        memory = stack.enter_context(scratch(dir=MEMORY_DIRECTORY))
        cache = chosen.cache or stack.enter_context(scratch())
        workers = [
            stack.enter_context(
                interview.Worker(
                    name, environments.folder_of(rivals.RIVALS[name], cache)
                )
            )
            for name in chosen.rivals.split(',')
            if name in wanted
        ]
        failed = False
        for number, name in enumerate(names, 1):
            print(f'{number} of {len(names)}: {name}', file=sys.stderr)
            held = interview.Interview(name, asked[name], chosen.quick)
            held.run(workers, disk, memory)
            versions = versions_of(held, workers)
            place = machine.described(disk, memory) | {'rivals': versions}
            text = f'{table.laid_out(held)}\n{machine.lines_of(place)}\n'
            print(text, flush=True)
            if chosen.save or chosen.report:
                save(held, place, text)
            failed = failed or bool(held.failures)
    if chosen.report:
        report.main()
    return int(failed)


def versions_of(
    held: interview.Interview, workers: list[interview.Worker]
) -> str:
    """Name who was asked."""
    if isinstance(held.asked, question.Survey):
        return '' if held.failures else held.asked.versions()
    return ', '.join(
        f'{worker.name} {worker.version}'.strip()
        for worker in workers
        if worker.name in held.asked.rivals
    )


def save(held: interview.Interview, place: dict[str, str], text: str) -> None:
    """Keep the table, and its numbers as JSON, under today's date."""
    day = time.strftime('%Y-%m-%d')
    stem = os.path.join(RESULTS, f'{day}-{held.name}')
    with open(f'{stem}.txt', 'w') as stream:
        stream.write(text)
    kept = {
        'question': held.name,
        'title': held.asked.title,
        'day': day,
        'quick': held.quick,
        'machine': place,
        'rows': held.rows(),
        'answers': [
            (case, rival, answer)
            for (case, rival), answer in held.answers.items()
        ],
    }
    with open(f'{stem}.json', 'w') as stream:
        json.dump(kept, stream)
        stream.write('\n')


if __name__ == '__main__':
    sys.exit(main())
