"""What every test may rely on: a known seed, nothing left running."""

from __future__ import annotations

import importlib.util
import multiprocessing.util
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

# what tests share checks where Python itself skips assertions (-O), too
pytest.register_assert_rewrite('children', 'publication_ways', 'states')

import engines  # noqa: E402
import own_place  # noqa: E402

if importlib.util.find_spec('hypothesis') is not None:
    import hypothesis

    # A slow machine is no failure; a failure prints how to repeat it. Before
    # a change lands everybody walks the same examples; at home, new ones.
    hypothesis.settings.register_profile(
        'ours',
        deadline=None,
        print_blob=True,
        derandomize=os.environ.get('CI') == 'true',
    )
    hypothesis.settings.load_profile('ours')


def pytest_configure() -> None:
    """Let temporary files of this run go into a directory of its own."""
    _hear_interrupts()
    own_place.see_own_mounts()
    # closed when multiprocessing has removed what it keeps there
    multiprocessing.util.Finalize(
        None, own_place.enter().close, exitpriority=-200
    )


def _hear_interrupts() -> None:
    """Whoever is started in the background by a shell ignores them."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != 'win32' and (
        signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN
    ):
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)


STRESS_WANTED = os.environ.get('PORTALOCKER_STRESS') == '1'


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what takes minutes, unless it is asked for."""
    if STRESS_WANTED:
        return
    skip = pytest.mark.skip(reason='stress: set PORTALOCKER_STRESS=1')
    for item in items:
        if item.get_closest_marker('stress') is not None:
            item.add_marker(skip)


_TALLY = engines.Tally()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the tests of each server."""
    _TALLY.count(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that lacks a server which is required."""
    is_worker = hasattr(session.config, 'workerinput')
    if session.exitstatus == 0 and not is_worker and _TALLY.failures():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> None:
    """Say which servers the tests ran against."""
    lines = _TALLY.lines()
    if lines:
        terminalreporter.section('engines')
    for line in lines:
        terminalreporter.line(line)


# Idle workers of anyio and trio, which end by themselves
_KEPT_BY_EVENT_LOOPS = ('AnyIO worker thread', 'Trio thread', 'asyncio_')


def _children() -> set[int | None]:
    """Processes we started and have not reaped, where the system tells."""
    if sys.platform != 'linux':
        return set()
    children: set[int | None] = set()
    for listing in pathlib.Path('/proc/self/task').glob('*/children'):
        try:
            children.update(map(int, listing.read_text().split()))
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread that has just ended has no children
    return children - _helpers_of_multiprocessing()


def _helpers_of_multiprocessing() -> set[int | None]:
    """Processes that multiprocessing keeps until we exit."""
    forkserver = sys.modules.get('multiprocessing.forkserver')
    tracker = sys.modules.get('multiprocessing.resource_tracker')
    return {
        forkserver._forkserver._forkserver_pid if forkserver else None,
        tracker._resource_tracker._pid if tracker else None,
    }


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    """Fail a test that leaves a process unreaped or a thread running."""
    children = _children()
    threads = set(threading.enumerate())
    yield
    left_children = _children() - children
    left_threads = {
        thread
        for thread in set(threading.enumerate()) - threads
        if not thread.name.startswith(_KEPT_BY_EVENT_LOOPS)
    }
    assert not left_children, f'processes not reaped: {left_children}'
    assert not left_threads, f'threads still running: {left_threads}'


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves temporary files."""
    before = own_place.names()
    yield
    left = own_place.names() - before
    assert not left, f'temporary files left: {left}'


@pytest.fixture
def parked(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Counts the waits of this process: all tries before them have failed."""
    from portalocker import _wakeup

    sleeping = threading.Semaphore(0)
    real = _wakeup.Place.wait

    def wait(self: _wakeup.Place, seconds: float) -> None:
        sleeping.release()
        real(self, seconds)

    monkeypatch.setattr(_wakeup.Place, 'wait', wait)
    return sleeping
