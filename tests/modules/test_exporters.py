"""Exporters, each against the real library."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator

import pytest
from children import in_child, stop

from portalocker import __main__, wait_counters
from portalocker.exporters import log, torch_monitor, view
from portalocker.filelock import FileLock
from portalocker.wait_counters import WaitCounter

NAME = 'test.exported'


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_a_place_with_a_long_name_will_do(tmp_path, monkeypatch) -> None:
    place = tmp_path / ('long' * 30)
    place.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(place))
    before = len(os.listdir('/proc/self/fd'))
    with view.show():
        assert view.processes() == [os.getpid()]
        view.read(os.getpid())
    assert view.processes() == []
    assert len(os.listdir('/proc/self/fd')) == before


@pytest.fixture
def counted():
    """A counter with one failure and one wait that is going on."""
    counter = WaitCounter(NAME)
    with pytest.raises(TimeoutError), counter.guard():
        raise TimeoutError
    with counter.guard():
        yield counter.snapshot()


def test_prometheus_reads_what_was_counted(counted) -> None:
    client = pytest.importorskip('prometheus_client')
    from portalocker.exporters import prometheus

    registry = client.CollectorRegistry()
    registry.register(prometheus.Collector())

    def sample(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(
            f'portalocker_wait_{name}', {'name': NAME, **labels}
        )

    assert sample('active') == 1
    ended = counted.started - 1
    assert sample('seconds_count') == ended
    assert sample('seconds_sum') == pytest.approx(counted.total)
    assert sample('seconds_bucket', le='+Inf') == ended
    assert sample('longest_seconds') == counted.longest
    assert sample('contended_total') == 0
    assert sample('failures_total', outcome='timeouts') == counted.timeouts
    assert b'portalocker_wait_seconds' in client.generate_latest(registry)


def test_open_telemetry_reads_what_was_counted(counted) -> None:
    metrics = pytest.importorskip('opentelemetry.sdk.metrics')
    export = pytest.importorskip('opentelemetry.sdk.metrics.export')
    from portalocker.exporters import open_telemetry

    reader = export.InMemoryMetricReader()
    provider = metrics.MeterProvider([reader])
    open_telemetry.observe(provider.get_meter('test'))
    found = {}
    for resource in reader.get_metrics_data().resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    if point.attributes['portalocker.wait.name'] == NAME:
                        kind = point.attributes.get('error.type', '')
                        found[metric.name, kind] = point.value
    provider.shutdown()
    assert found['portalocker.wait.active', ''] == 1
    assert found['portalocker.wait.count', ''] == counted.started
    assert found['portalocker.wait.time', ''] == counted.total
    assert found['portalocker.wait.longest', ''] == counted.longest
    assert found['portalocker.wait.contentions', ''] == 0
    assert found['portalocker.wait.failures', 'timeout'] == counted.timeouts


def test_log_has_a_line_for_each_counter(counted, caplog) -> None:
    caplog.set_level(logging.INFO)
    log.write_log()
    lines = [line for line in caplog.messages if line.startswith(f'{NAME}: ')]
    assert len(lines) == 1
    assert 'active 1' in lines[0]


def test_log_is_written_regularly_until_it_is_closed(counted) -> None:
    import threading

    written = threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.set()

    logger = logging.getLogger('counters')
    logger.setLevel(logging.INFO)
    logger.addHandler(Handler())
    with log.LogRegularly(0.001, logger):
        assert written.wait(15)
    with pytest.raises(ValueError, match='every 0 seconds'):
        log.LogRegularly(0)


def test_torch_is_not_imported_for_its_counters(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, 'torch.monitor', raising=False)
    assert torch_monitor.attach() is False
    assert 'torch.monitor' not in sys.modules


def test_torch_is_told_of_each_wait(tmp_path, monkeypatch) -> None:
    events = []

    class Guard:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            events.append(('begin', self.name))

        def __exit__(self, *exc_info: object) -> None:
            events.append(('end', self.name))

    class Counter:
        def __init__(self, name: str) -> None:
            self.name = name

        def guard(self) -> Guard:
            return Guard(self.name)

    monitor = types.ModuleType('torch.monitor')
    monitor._WaitCounter = Counter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'torch.monitor', monitor)
    assert torch_monitor.attach()
    wait_counters.enable()
    try:
        with FileLock(tmp_path / 'lock'):
            pass
    finally:
        wait_counters.disable()
        torch_monitor.detach()
    begun = [name for what, name in events if what == 'begin']
    ended = [name for what, name in events if what == 'end']
    names = [f'pytorch.filelock.{p}' for p in ('enter', 'region', 'exit')]
    assert begun == names
    assert sorted(ended) == sorted(names)


def test_process_shows_its_counters(counted, capsys) -> None:
    pid = str(os.getpid())
    with view.show():
        assert os.getpid() in view.processes()
        __main__.main(['counters', pid])
        shown = capsys.readouterr().out
        __main__.main(['counters', '--json', pid])
        reading = json.loads(capsys.readouterr().out)[pid][NAME]
    assert f'process {pid}' in shown
    assert NAME in shown
    assert reading['started'] == counted.started
    assert reading['active'] == 1
    assert os.getpid() not in view.processes()


def test_process_that_shows_nothing_is_told(capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(['counters', '4194304'])
    assert ended.value.code == 2
    assert 'cannot ask process 4194304' in capsys.readouterr().err


def test_child_does_not_show_the_counters_of_its_parent() -> None:
    def is_closed() -> None:
        shown.close()
        assert shown._listener.fileno() < 0

    with view.show() as shown:
        in_child(is_closed)
        assert view.read(os.getpid()) is not None


def test_end_of_one_view_does_not_end_another() -> None:
    with view.show():
        with view.show():
            pass
        first = view.show()
        with view.show():
            first.close()
            assert view.read(os.getpid()) is not None


def test_view_goes_on_after_a_failure_of_the_system(monkeypatch) -> None:
    failures = [OSError(errno.EMFILE, 'no descriptor is left')]
    with view.show() as shown:
        listener = shown._listener

        class Listener:
            def accept(self) -> object:
                if failures:
                    raise failures.pop()
                return listener.accept()

            def __getattr__(self, name: str) -> object:
                return getattr(listener, name)

        monkeypatch.setattr(shown, '_listener', Listener())
        for _ in range(2):  # the first is heard by the real one
            assert view.read(os.getpid()) is not None
        assert not failures


SHOWS = """
import sys
from portalocker import wait_counters
from portalocker.exporters import view
shown = view.show()
for name in sys.argv[1:]:
    with wait_counters.WaitCounter(name).guard():
        pass
print('shown', flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def showing(*names: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, '-c', SHOWS, *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == 'shown\n'
            yield process
        finally:
            process.kill()


def counters(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'portalocker', 'counters',
         *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_command_asks_all_processes_but_the_dead() -> None:
    with showing('a') as first, showing('b', 'b') as second:
        answer = counters('--json')
        told = json.loads(answer.stdout)
        assert answer.returncode == 0
        assert told[str(first.pid)]['a']['started'] == 1
        assert told[str(second.pid)]['b']['started'] == 2
        dead = first.pid
        first.kill()
        first.wait()
        answer = counters(dead)
        assert answer.returncode == 2
        assert f'cannot ask process {dead}: it shows none' in answer.stderr
        answer = counters()
        assert (answer.returncode, answer.stderr) == (0, '')
        assert f'process {second.pid}\n' in answer.stdout
        assert f'process {dead}\n' not in answer.stdout
    left = os.listdir(view._directory())
    assert str(dead) not in left
    assert view.processes() == []
    assert counters().returncode == 1


def test_process_that_stands_still_is_told(monkeypatch, capsys) -> None:
    monkeypatch.setattr(view, '_LISTEN_SECONDS', 0.05)
    with showing('a') as process:
        stop(process)
        with pytest.raises(SystemExit) as ended:
            __main__.main(['counters'])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f'cannot ask process {process.pid}: timed out' in told


def test_answer_that_breaks_off_is_told(monkeypatch, capsys) -> None:
    monkeypatch.setattr(view, '_as_json', lambda: b'{"a": {"started"')
    with view.show(), pytest.raises(SystemExit) as ended:
        __main__.main(['counters', str(os.getpid())])
    assert ended.value.code == 2
    assert 'in the middle of its answer' in capsys.readouterr().err


def test_directory_of_somebody_else_is_refused(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    view._directory()
    (theirs,) = tmp_path.iterdir()
    theirs.chmod(0o755)
    with pytest.raises(SystemExit) as ended:
        __main__.main(['counters'])
    assert ended.value.code == 2
    assert 'is not a directory of ours alone' in capsys.readouterr().err


def test_handler_of_the_log_that_fails_breaks_no_lock(
    tmp_path, monkeypatch
) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ZeroDivisionError

    def sink(name: str) -> object:
        raise ZeroDivisionError

    logger = logging.getLogger('portalocker.wait_counters')
    handler = Failing()
    logger.addHandler(handler)
    wait_counters.add_sink(sink)  # type: ignore[arg-type]
    wait_counters.enable()
    try:
        with FileLock(tmp_path / 'lock') as lock:
            pass
    finally:
        wait_counters.disable()
        logger.removeHandler(handler)
    assert not lock.is_locked
    assert sink not in wait_counters._sinks
