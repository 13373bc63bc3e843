"""Programs written for `filelock`, on top of our FileLock."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import portalocker

ROOT = pathlib.Path(portalocker.__file__).parents[1]

VIRTUALENV = """
import sys
from portalocker import filelock
calls = []
class Counted(filelock.FileLock):
    def acquire(self, *args, **kwargs):
        calls.append(self.lock_file)
        return super().acquire(*args, **kwargs)
filelock.FileLock = Counted
sys.modules['filelock'] = filelock
import virtualenv
virtualenv.cli_run([sys.argv[1], '--no-download', '--without-pip'])
assert calls, 'it takes no lock of ours'
"""

TORCH = """
import sys, threading
from portalocker import filelock
sys.modules['filelock'] = filelock
import torch.monitor
from torch.utils._filelock import FileLock
assert issubclass(FileLock, filelock.FileLock)
path = sys.argv[1]
inside = []
def body():
    for _ in range(20):
        with FileLock(path, timeout=60):
            inside.append(1)
            assert len(inside) == 1
            inside.pop()
threads = [threading.Thread(target=body) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
lock = FileLock(path, 600)
with lock:
    assert lock.is_locked
    try:
        FileLock(path, timeout=0).acquire()
    except filelock.Timeout as failure:
        assert failure.lock_file == path
    else:
        raise AssertionError
assert not lock.is_locked
from portalocker import wait_counters
from portalocker.exporters import torch_monitor
assert torch_monitor.attach()
wait_counters.enable()
with filelock.FileLock(path), filelock.FileLock(path + '2'):
    pass
wait_counters.disable()
assert wait_counters.snapshot()['pytorch.filelock.region'].started == 2
assert not wait_counters._sinks == ()
"""


def run(program: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, '-c', program, *map(str, arguments)],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr


def test_virtualenv_makes_an_environment(tmp_path) -> None:
    pytest.importorskip('virtualenv')
    run(VIRTUALENV, tmp_path / 'environment')
    python = tmp_path / 'environment' / 'bin' / 'python'
    assert python.exists()
    subprocess.run([python, '-c', ''], check=True)


def test_torch_rebased_on_our_lock(tmp_path) -> None:
    pytest.importorskip('torch.monitor')
    run(TORCH, tmp_path / 'lock')
