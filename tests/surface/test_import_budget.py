"""`import portalocker` stays cheap, and nothing starts at import."""

from __future__ import annotations

import ast
import os
import sys
import tempfile

import pytest
from package_source import ROOT, imports, modules, parsed, run_bare

#: a function that needs one of these imports it; a lock does without
TOO_DEAR = {
    'argparse',
    'asyncio',
    'concurrent',
    'ctypes',
    'dataclasses',
    'email',
    'hashlib',
    'importlib.metadata',
    'inspect',
    'json',
    'logging',
    'multiprocessing',
    'pathlib',
    'random',
    're',
    'redis',
    'shutil',
    'socket',
    'subprocess',
    'tempfile',
    'traceback',
    'typing',
}

NEWLY_LOADED = """
before = set(sys.modules)
{code}
print(sorted(set(sys.modules) - before))
"""

#: who imports the package for a lock, and who takes it
FIRST_NAME = 'from portalocker import Lock'
FIRST_LOCK = """
import os, portalocker, tempfile
folder = tempfile.TemporaryDirectory()
before = set(sys.modules)
with portalocker.Lock(os.path.join(folder.name, 'lock')):
    pass
"""


def newly_loaded(code: str) -> set[str]:
    """Return the modules that a bare Python gains by this code."""
    said = run_bare(NEWLY_LOADED.format(code=code), ROOT)
    return set(ast.literal_eval(said))


def test_import_of_the_face_loads_the_face() -> None:
    assert newly_loaded('import portalocker') - {'__future__'} == {
        'portalocker'
    }


@pytest.mark.parametrize('code', [FIRST_NAME, FIRST_LOCK])
def test_use_of_a_lock_loads_nothing_dear(code: str) -> None:
    loaded = newly_loaded(code)
    assert 'portalocker.utils' in loaded
    dear = {
        name
        for name in loaded
        for ancestor in _with_ancestors(name)
        if ancestor in TOO_DEAR
    }
    if not _mount_is_listed(tempfile.gettempdir()):
        # a chroot that is no mount point: only fstatfs knows the file system
        dear = {name for name in dear if name.split('.')[0] != 'ctypes'}
    assert not dear, f'a Lock loads {sorted(dear)}'


def _mount_is_listed(directory: str) -> bool:
    if sys.platform != 'linux':
        return True
    fd = os.open(directory, os.O_RDONLY)
    try:
        with open(f'/proc/self/fdinfo/{fd}') as lines:
            [mount] = [
                line.split()[1] for line in lines if line.startswith('mnt_id:')
            ]
    finally:
        os.close(fd)
    with open('/proc/self/mountinfo') as mounts:
        return mount in [line.split()[0] for line in mounts]


def test_bare_lock_and_unlock_load_no_lock_objects() -> None:
    loaded = newly_loaded('from portalocker import LOCK_EX, lock, unlock')
    assert 'portalocker.portalocker' in loaded
    assert 'portalocker.utils' not in loaded


@pytest.mark.parametrize('code', [FIRST_NAME, FIRST_LOCK])
def test_lock_leaves_out_what_only_publishers_need(code: str) -> None:
    loaded = newly_loaded(code)
    assert not [name for name in loaded if '_publication' in name]


def test_lock_loads_only_the_standard_library_and_ours() -> None:
    roots = {name.partition('.')[0] for name in newly_loaded(FIRST_NAME)}
    assert roots - sys.stdlib_module_names == {'portalocker'}


def _with_ancestors(name: str) -> list[str]:
    """`a.b.c` gives a, a.b and a.b.c."""
    parts = name.split('.')
    return ['.'.join(parts[: n + 1]) for n in range(len(parts))]


WHAT_RUNS = """
import os, threading
def running():
    descriptors = set(os.listdir('/proc/self/fd'))
    return descriptors, threading.active_count()
import {name}
first = running()
for module in [n for n in sys.modules if n.startswith('portalocker')]:
    del sys.modules[module]
import {name}
print(first == running(), threading.active_count())
"""


@pytest.mark.skipif(
    not os.path.isdir('/proc/self/fd'), reason='needs /proc to look'
)
@pytest.mark.parametrize('name', sorted(modules()))
def test_import_starts_no_thread_and_opens_no_file(name: str) -> None:
    if _needs_third_party(name):
        pytest.skip('a bare Python cannot import it')
    dotted = f'portalocker.{name}' if name else 'portalocker'
    seen = run_bare(WHAT_RUNS.format(name=dotted), ROOT)
    assert seen.split() == ['True', '1']


def _needs_third_party(name: str, *asking: str) -> bool:
    """Whether it, its package, or what it imports imports from outside."""
    package = name.rpartition('.')[0]
    if package not in {'', *asking} and _needs_third_party(
        package, name, *asking
    ):
        return True
    return any(
        found.outside.partition('.')[0] not in sys.stdlib_module_names
        if found.outside is not None
        else found.inside not in {None, '', name, *asking}
        and _needs_third_party(str(found.inside), name, *asking)
        for found in imports(modules()[name])
        if found.column == 0 or found.line in _lines_of_attempts(name)
    )


def _lines_of_attempts(name: str) -> set[int]:
    """The lines of a module that stand in a `try` at its top."""
    return {
        line
        for node in parsed(modules()[name]).body
        if isinstance(node, ast.Try)
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
