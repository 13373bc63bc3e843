"""The face gives its names to whoever asks, whenever and however.

Both the package, whose face loads them when they are asked for, and the
single file, which has them all from the beginning.
"""

from __future__ import annotations

import ast
import os
import pathlib

import pytest
from package_source import (
    PACKAGE,
    ROOT,
    asks_for_type_checking,
    parsed,
    run_bare,
)
from single_file import single_file

import portalocker

HAS_FORK = hasattr(os, 'fork')


@pytest.fixture(params=['package', 'single file'])
def home(request: pytest.FixtureRequest) -> pathlib.Path:
    """Return the folder that `import portalocker` looks into."""
    return ROOT if request.param == 'package' else single_file().parent


def names_for_type_checkers() -> dict[str, str]:
    """Return what the face shows to type checkers: name and origin."""
    shown: dict[str, str] = {}
    for block in parsed(PACKAGE / '__init__.py').body:
        if not isinstance(block, ast.If) or not asks_for_type_checking(
            block.test
        ):
            continue
        for node in block.body:
            if isinstance(node, ast.ImportFrom) and node.level:
                for alias in node.names:
                    origin = f'{node.module}.{alias.name}'
                    shown[alias.name] = origin if node.module else 'a room'
            elif isinstance(node, ast.Assign):
                assert isinstance(node.targets[0], ast.Name)
                shown[node.targets[0].id] = ast.unparse(node.value)
    return shown


def test_type_checkers_see_what_is_there() -> None:
    shown = names_for_type_checkers()
    rooms = {name for name, origin in shown.items() if origin == 'a room'}
    homes = {name: shown[name] for name in shown if name not in rooms}
    assert rooms == portalocker._ROOMS
    assert homes == portalocker._HOMES
    assert set(homes) == set(portalocker.__all__)


def test_every_public_module_is_an_attribute() -> None:
    public = {
        path.stem
        for path in PACKAGE.iterdir()
        if path.suffix == '.py' or (path / '__init__.py').exists()
        if not path.name.startswith('_')
    }
    rooms = portalocker._ROOMS | portalocker._ROOMS_APART
    assert rooms - {'__about__'} == public - {'commands'}
    script = """
import portalocker
for name in sorted(portalocker._ROOMS_APART):
    try:
        assert getattr(portalocker, name).__name__ == 'portalocker.' + name
    except ImportError:
        print(name, 'needs a client')
"""
    assert run_bare(script, ROOT).splitlines() == [
        'aio needs a client',
        'postgres needs a client',
        'redis needs a client',
    ]


ONE_BY_ONE = """
import importlib, portalocker
names = sorted({*portalocker.__all__, *portalocker._ROOMS})
file = portalocker.__file__
missing = []
for name in names:
    for module in [m for m in sys.modules if m.startswith('portalocker')]:
        del sys.modules[module]
    found = getattr(importlib.import_module('portalocker'), name, None)
    if found is None:
        missing.append(name)
print(len(names), missing)
"""


def test_every_name_may_be_the_first(home: pathlib.Path) -> None:
    count, missing = run_bare(ONE_BY_ONE, home).split(maxsplit=1)
    assert int(count) > 30
    assert missing.strip() == '[]'


WITHOUT_THE_CLIENT = """
import inspect
sys.modules['redis'] = None
import portalocker
from portalocker import *
names = [name for name, _ in inspect.getmembers(portalocker)]
assert set(portalocker.__all__) <= set(names) <= set(dir(portalocker))
assert set(portalocker.__all__) <= set(globals())
assert {'utils', 'constants', 'exceptions', 'portalocker'} <= set(names)
assert portalocker.RedisLock is RedisLock
class Own(RedisLock): pass
for class_ in RedisLock, Own:
    try:
        class_('channel', timeout=1)
    except ImportError as error:
        print(error.name, error)
"""


def test_face_is_listed_and_imported_whole_without_any_client(
    home: pathlib.Path,
) -> None:
    said = run_bare(WITHOUT_THE_CLIENT, home).splitlines()
    assert len(said) == 2
    for line in said:
        assert line.startswith('redis cannot make a RedisLock')
        assert 'pip install "portalocker[redis]"' in line


BROKEN = """
sys.modules['portalocker.redis'] = None
import portalocker
try:
    portalocker.RedisLock
except ModuleNotFoundError as error:
    print(error.name)
"""


def test_another_module_that_is_missing_is_told_as_it_is() -> None:
    assert run_bare(BROKEN, ROOT) == 'portalocker.redis\n'


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as caught:
        portalocker.Lokc  # type: ignore[attr-defined]  # noqa: B018
    assert str(caught.value) == (
        "module 'portalocker' has no attribute 'Lokc'"
    )
    # what makes Python suggest the right one
    assert (caught.value.name, caught.value.obj) == ('Lokc', portalocker)
    with pytest.raises(ImportError, match="cannot import name 'Lokc'"):
        exec('from portalocker import Lokc')


PATCHED = """
import unittest.mock
import portalocker
with unittest.mock.patch('portalocker.Lock') as double:
    assert portalocker.Lock is double
    from portalocker import Lock
    assert Lock is double
assert portalocker.Lock is portalocker.utils.Lock is not double
with unittest.mock.patch('portalocker.portalocker.LOCKER', 7):
    assert portalocker.portalocker.LOCKER == 7
assert portalocker.portalocker.LOCKER != 7
portalocker.RLock = 'mine'
assert portalocker.RLock == 'mine'
del portalocker.RLock
print('done')
"""


def test_name_may_be_patched_before_anybody_asked(home: pathlib.Path) -> None:
    assert run_bare(PATCHED, home) == 'done\n'


RELOADED = """
import importlib, portalocker
before = portalocker.Lock, portalocker.LOCK_EX, portalocker.RLock
portalocker.RLock = 'mine'
if hasattr(portalocker, '__path__'):
    importlib.reload(portalocker.utils)
assert importlib.reload(portalocker) is portalocker
assert portalocker.Lock is portalocker.utils.Lock is not before[0]
assert portalocker.RLock not in ('mine', before[2])
assert portalocker.LOCK_EX == before[1]
print('done')
"""


def test_reloaded_face_has_the_reloaded_names(home: pathlib.Path) -> None:
    assert run_bare(RELOADED, home) == 'done\n'


AT_ONCE = """
import threading
import portalocker
names = [name for name in portalocker.__all__ if name != 'RedisLock']
gate = threading.Barrier(4 * len(names))
found = {name: [] for name in names}
def ask(name):
    gate.wait()
    found[name].append(getattr(portalocker, name))
threads = [
    threading.Thread(target=ask, args=(name,)) for name in names * 4
]
for thread in threads: thread.start()
for thread in threads: thread.join()
for name, seen in found.items():
    assert len(seen) == 4 and all(one is seen[0] for one in seen), name
    assert getattr(portalocker, name) is seen[0]
print('done')
"""


def test_threads_that_ask_at_once_get_the_same(home: pathlib.Path) -> None:
    assert run_bare(AT_ONCE, home) == 'done\n'


FORKED = """
import os, warnings
import portalocker
warnings.simplefilter('ignore')  # on fork in general
def child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print('failed:', repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1]
def refused():
    try:
        portalocker.Lock('lock', fail_when_locked=True).acquire()
    except portalocker.AlreadyLocked as failure:
        assert failure.holder.pid == os.getppid(), failure.holder
    else:
        raise AssertionError('two are inside')
def inside():
    with portalocker.Lock('lock', timeout=0):
        pass
assert child(inside) == 0      # the child is the first to ask
lock = portalocker.Lock('lock')
with lock:
    assert child(refused) == 0
    assert child(lambda: lock.release()) == 0
    assert child(refused) == 0  # what the child did is its own affair
print('done')
"""


@pytest.mark.skipif(not HAS_FORK, reason='needs fork')
def test_forked_children_may_be_the_first_to_ask(
    home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert run_bare(FORKED, home, cwd=tmp_path) == 'done\n'


FORKED_MEANWHILE = """
import importlib.abc, os, threading, warnings
import portalocker, portalocker._after_fork
warnings.simplefilter('ignore')
loading, forking = threading.Event(), threading.Event()
class Slow(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == 'portalocker.utils':
            loading.set()
            forking.wait()
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: portalocker.Lock)
thread.start()
loading.wait()
os.register_at_fork(before=forking.set)  # the last to register is first
pid = os.fork()
if not pid:
    portalocker.Lock('lock').acquire()
    os._exit(0)
thread.join()
print(os.waitpid(pid, 0)[1])
"""


@pytest.mark.skipif(not HAS_FORK, reason='needs fork')
def test_no_child_is_forked_while_a_name_is_loaded(
    tmp_path: pathlib.Path,
) -> None:
    assert run_bare(FORKED_MEANWHILE, ROOT, cwd=tmp_path) == '0\n'


AT_EXIT = """
import atexit, threading
import portalocker
def late(name):
    with portalocker.TemporaryFileLock(name, timeout=0):
        print(name, 'held', flush=True)
atexit.register(late, 'at exit')
def thread():
    threading.main_thread().join()
    late('of a thread')
threading.Thread(target=thread).start()
"""


def test_name_may_first_be_asked_for_at_exit(
    home: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    said = run_bare(AT_EXIT, home, cwd=tmp_path).splitlines()
    assert said == ['of a thread held', 'at exit held']
    assert not list(tmp_path.iterdir())


PICKLED = """
import pickle
import portalocker
packed = pickle.dumps([portalocker.Lock, portalocker.AlreadyLocked('x'),
                       portalocker.LOCK_EX, portalocker.lock])
for module in [m for m in sys.modules if m.startswith('portalocker')]:
    del sys.modules[module]
class_, failure, flag, function = pickle.loads(packed)
import portalocker
assert class_ is portalocker.Lock and function is portalocker.lock
assert type(failure) is portalocker.AlreadyLocked
assert flag is portalocker.LOCK_EX
print('done')
"""


def test_names_are_pickled_by_where_they_live(home: pathlib.Path) -> None:
    assert run_bare(PICKLED, home) == 'done\n'
