"""The summary names the servers; what is required and missing fails."""

from __future__ import annotations

import pathlib
import shutil

import pytest

pytest_plugins = ['pytester']

CONFTEST = pathlib.Path(__file__).parents[1]
PROGRAM = """
import engines
import pytest

@pytest.fixture
def server(request):
    engines.has_run(request, 'valkey 9.1')

@pytest.fixture
def absent(request):
    engines.is_missing(request, 'postgresql', 'not installed')

def test_one(server): pass
def test_two(server): pass
def test_three(absent): pass
"""


@pytest.fixture
def run(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    text = (CONFTEST / 'conftest.py').read_text(encoding='utf-8')
    pytester.makeconftest(text)
    for name in ('engines.py', 'own_place.py'):
        shutil.copy(CONFTEST / name, pytester.path)
    pytester.makepyfile(PROGRAM)
    pytester.makeini('[pytest]\nmarkers =\n    stress: long\n')
    monkeypatch.delenv('PORTALOCKER_ENGINES', raising=False)
    return pytester


@pytest.mark.parametrize('workers', ['0', '2'])
def test_each_engine_is_named_with_its_tests(
    run: pytest.Pytester, workers: str
) -> None:
    done = run.runpytest_subprocess('-n', workers)
    done.assert_outcomes(passed=2, skipped=1)
    done.stdout.fnmatch_lines(
        [
            'valkey 9.1: 2 tests',
            'postgresql is missing: not installed: 1 tests skipped',
        ]
    )
    assert done.ret == 0


@pytest.mark.parametrize('workers', ['0', '2'])
def test_required_engine_that_is_missing_fails_the_run(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv('PORTALOCKER_ENGINES', 'valkey postgresql')
    done = run.runpytest_subprocess('-n', workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        ['postgresql is required, and no test ran against it']
    )


@pytest.mark.parametrize('workers', ['0', '2'])
def test_required_engine_that_nobody_asked_for_fails_the_run(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv('PORTALOCKER_ENGINES', 'redis')
    done = run.runpytest_subprocess('-n', workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    done.stdout.fnmatch_lines(
        ['redis is required, and no test ran against it']
    )
