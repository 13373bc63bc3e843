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
"""

# The counters of torch, as its own server tells them
TORCH_COUNTERS = """
import json, socket, sys
import torch.monitor
from torch._C._distributed_c10d import _WorkerServer
address = sys.argv[1]
server = _WorkerServer(address)
from portalocker import filelock, wait_counters
from portalocker.exporters import torch_monitor
assert torch_monitor.attach()
wait_counters.enable()
lock = filelock.FileLock(address + '1')
with lock, lock:
    pass
lock.acquire()
lock.release(force=True)
lock.__exit__(None, None, None)
wait_counters.disable()
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(address)
    connection.sendall(
        b'POST /handler/wait_counter_values HTTP/1.0\\r\\n'
        b'Content-Length: 0\\r\\n\\r\\n'
    )
    answer = b''.join(iter(lambda: connection.recv(65536), b''))
server.shutdown()
told = json.loads(answer.partition(b'\\r\\n\\r\\n')[2])
for phase, calls in ('enter', 3), ('region', 2), ('exit', 3):
    counter = told['pytorch.filelock.' + phase]
    assert counter['total_calls'] == calls, told
    assert counter['active_count'] == 0, told
"""


HUGGING_FACE = """
import os, sys
from portalocker import filelock
sys.modules['filelock'] = filelock
from huggingface_hub.utils import WeakFileLock
with WeakFileLock(sys.argv[1] + '.weak') as lock:
    assert type(lock) is filelock.FileLock and lock.is_locked
assert not lock.is_locked
from datasets.utils import filelock as names
from datasets.utils._filelock import FileLock
assert names.UnixFileLock is filelock.UnixFileLock
with FileLock(sys.argv[1] + 300 * 'x') as lock:
    assert isinstance(lock, filelock.BaseFileLock) and lock.is_locked
    assert os.path.exists(lock.lock_file)
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


@pytest.mark.parametrize('program', [TORCH, TORCH_COUNTERS])
def test_torch_rebased_on_our_lock(tmp_path, program) -> None:
    pytest.importorskip('torch.monitor')
    run(program, tmp_path / 'lock')


def test_hugging_face_takes_our_lock(tmp_path) -> None:
    pytest.importorskip('datasets')
    pytest.importorskip('huggingface_hub')
    run(HUGGING_FACE, tmp_path / 'lock')
