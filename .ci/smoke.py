"""An installed package does its main jobs: `python smoke.py native|pure`.

Run it outside of the checkout, with the Python it was installed for.
"""

from __future__ import annotations

import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile

import portalocker
from portalocker import atomic, filelock, pysync
from portalocker import tempfile as safer_tempfile

HOLD = """
import sys, portalocker
with portalocker.Lock(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.read()
"""


def main(implementation: str) -> None:
    """Try one thing of each room; an assertion fails, or all is well."""
    assert importlib.metadata.version('portalocker') == portalocker.__version__
    assert 'site-packages' in portalocker.__file__, portalocker.__file__
    assert implementation == pysync.IMPLEMENTATION, pysync.IMPLEMENTATION
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory)
        exclude(folder / 'lock')
        with filelock.FileLock(folder / 'other', timeout=0) as lock:
            assert lock.is_locked
        atomic.write_text_atomic(folder / 'text', 'whole')
        assert (folder / 'text').read_text() == 'whole'
        single_file(folder / 'single.py')
    with safer_tempfile.TemporaryDirectory(lock=True) as name:
        assert pathlib.Path(name).is_dir()
    with pysync.Mutex():
        pass
    print(f'portalocker {portalocker.__version__}, {implementation}: works')


def exclude(path: pathlib.Path) -> None:
    """A second process keeps us out until it ends."""
    command = [sys.executable, '-c', HOLD, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == 'held\n'
        assert not portalocker.Lock(path).try_acquire()
        holder.stdin.close()
        with portalocker.Lock(path, timeout=60):
            pass


def single_file(path: pathlib.Path) -> None:
    """The console script makes one file of the package, which works."""
    script = pathlib.Path(sys.executable).parent / 'portalocker'
    subprocess.run([script, 'combine', '-o', path], check=True)
    subprocess.run([sys.executable, path], check=True)


if __name__ == '__main__':
    main(sys.argv[1])
