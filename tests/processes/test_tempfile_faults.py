"""Whichever system call fails: nothing is lost, left behind or hidden."""

from __future__ import annotations

import collections
import errno
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import Any

import pytest
import tempfile_operations

PROGRAM = tempfile_operations.__file__
ROOT = pathlib.Path(PROGRAM).parents[2]
CALLS = '%file,%desc,getppid,getrandom'
CODES = ['EIO', 'ENOSPC', 'EDQUOT', 'EMFILE']
#: whatever is called before it, the program needs it to start
NOT_OURS = {'getppid', 'execve', 'close', 'mmap', 'dup'}
#: who cannot remove something, or not look into it, may leave it and tell
REMOVALS = {'unlink', 'unlinkat', 'rmdir'}
LOOKS = {'openat', 'getdents64', 'fcntl', 'fstat', 'newfstatat', 'lseek'}


@functools.cache
def can_trace() -> bool:
    strace = shutil.which('strace')
    return (
        strace is not None
        and not subprocess.run(
            [
                strace,
                '-e',
                'trace=none',
                '-e',
                'inject=link:error=EIO',
                'true',
            ],
            capture_output=True,
            check=False,
        ).returncode
    )


pytestmark = pytest.mark.skipif(
    not can_trace(), reason='needs strace and the right to trace'
)


def traced(
    operation: str, place: pathlib.Path, *options: str
) -> dict[str, Any]:
    done = subprocess.run(
        [
            'strace',
            '-f',
            '--seccomp-bpf',
            *options,
            sys.executable,
            '-S',
            PROGRAM,
            operation,
            str(place),
        ],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUTF8': '1'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def calls_of(operation: str, tmp_path: pathlib.Path) -> list[tuple[str, int]]:
    """(system call, how many of its kind before it and with it)."""
    log, place = tmp_path / 'log', tmp_path / 'first'
    # Once before: whoever imports a module first writes its bytecode, too
    for directory in (tmp_path / 'before', place):
        directory.mkdir()
    traced(operation, tmp_path / 'before', '-e', 'trace=none')
    report = traced(operation, place, '-e', f'trace={CALLS}', '-o', str(log))
    assert report == {'errno': None, 'text': '', 'left': [], 'leaked': 0}
    counts: collections.Counter[str] = collections.Counter()
    calls, is_inside = [], False
    lines = log.read_text().splitlines()
    asked = [n for n, line in enumerate(lines) if ' getppid(' in line]
    for number, line in enumerate(lines):
        call = re.match(r'\d+ +(\w+)\(', line)
        if call is None:
            continue
        counts[call[1]] += 1
        is_inside = asked[-2] <= number <= asked[-1]
        if is_inside and call[1] not in NOT_OURS:
            calls.append((call[1], counts[call[1]]))
    assert calls
    return calls


@pytest.mark.parametrize('operation', tempfile_operations.OPERATIONS)
def test_a_failing_call_is_told_and_leaves_nothing(
    operation: str, tmp_path: pathlib.Path
) -> None:
    """Each call fails once, with another error each time.

    Under stress with each error; else of many calls of one kind the first
    and the last.
    """
    calls = calls_of(operation, tmp_path)
    is_stress = os.environ.get('PORTALOCKER_STRESS') == '1'
    if not is_stress:
        first, last = dict(reversed(calls)), dict(calls)
        calls = sorted({*first.items(), *last.items()})
    for turn, (call, number) in enumerate(calls):
        for name in CODES if is_stress else [CODES[turn % len(CODES)]]:
            place = tmp_path / f'{call} {number} {name}'
            place.mkdir()
            report = traced(
                operation,
                place,
                '-e',
                f'trace={call}',
                '-e',
                f'inject={call}:error={name}:when={number}',
                '-o',
                '/dev/null',
            )
            may_leave = REMOVALS
            if operation.startswith('named'):
                may_leave = REMOVALS | {'newfstatat', 'lstat'}
            elif operation.endswith('tree'):
                may_leave = REMOVALS | LOOKS
            check(report, call, getattr(errno, name), may_leave)


def check(
    report: dict[str, Any], call: str, code: int, may_leave: set[str]
) -> None:
    assert report['leaked'] == 0, (call, report)
    if report['errno'] is not None:
        assert report['errno'] == code, (call, report)
    for left in report['left']:
        assert call in may_leave, (call, report)
        assert left in report['text'], f'{left} is left and not told: {report}'
