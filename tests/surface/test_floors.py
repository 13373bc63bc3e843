"""The floors and doors of ARCHITECTURE.md hold for every module."""

from __future__ import annotations

import ast
import fnmatch
import functools
import re
import sys
import typing

import pytest
from package_source import (
    PACKAGE,
    ROOT,
    ModuleName,
    imports,
    listed,
    module_name,
    modules,
    package_files,
    parsed,
    reached_by_face,
)

FACE = ''

#: who may import whom from outside the standard library
DOORS = {
    'redis.py': {'redis'},
    '_redis_*.py': {'redis'},
    'postgres.py': {'psycopg'},
    '_postgres_*.py': {'psycopg'},
    'aio/redis.py': {'redis'},
    'aio/postgres.py': {'psycopg'},
    'aio/*': {'anyio'},
    'exporters/*': {'opentelemetry', 'prometheus_client', 'torch'},
    '_windows_lockers.py': {
        'pywintypes',
        'win32con',
        'win32file',
        'winerror',
    },
}


class Place(typing.NamedTuple):
    """Where a module lives: its floor, and its room on that floor."""

    floor: int
    room: str


@functools.cache
def plan() -> dict[str, Place]:
    """Return the places that the tree in ARCHITECTURE.md gives to names.

    A name is a file, a folder (`aio/`), or a family (`_wakeup*.py`). The names
    of a row that is described as `one room` share it, as all words do.
    """
    text = (ROOT / 'ARCHITECTURE.md').read_text(encoding='utf-8')
    places: dict[str, Place] = {}
    floor = None
    for line in text.splitlines():
        if heading := re.match(r'\s*-- floor (\d)\b', line):
            floor = int(heading[1])
        elif line.startswith('```'):
            floor = None
        elif floor is not None:
            names, is_one_room = _read_row(line)
            for name in names:
                assert name not in places, f'{name} has two places'
                room = names[0] if is_one_room else name
                places[name] = Place(floor, room if floor else 'words')
    return places


def _read_row(line: str) -> tuple[list[str], bool]:
    """`a.py, b/   one room: words` names a.py and b/, which share a room."""
    row = re.match(
        r'\s*((?:[\w*]+(?:\.py|/)(?:,\s*)?)+)(?:\s{2,}(one room)?|$)', line
    )
    if row is None:
        return [], False
    return re.findall(r'[\w*]+(?:\.py|/)', row[1]), row[2] is not None


def place(name: ModuleName) -> Place | None:
    """Return where a module lives, or None where nobody planned it."""
    # an extension module has no file of Python
    path = modules().get(name, PACKAGE.joinpath(*name.split('.')))
    file = path.relative_to(PACKAGE).as_posix()
    for planned, its_place in plan().items():
        pattern = planned + '*' if planned.endswith('/') else planned
        if fnmatch.fnmatchcase(file, pattern):
            return its_place
    return None


def inner_imports() -> list[tuple[ModuleName, ModuleName, str]]:
    """Return (who, whom, where) of every import inside the package."""
    return [
        (module_name(path), found.inside, f'{path.name}:{found.line}')
        for path in package_files()
        for found in imports(path)
        if found.inside is not None
    ]


def test_architecture_plans_six_floors() -> None:
    floors = {its_place.floor for its_place in plan().values()}
    assert floors == set(range(6))


def test_every_module_has_its_place_in_architecture() -> None:
    homeless = [
        name or '__init__' for name in modules() if place(name) is None
    ]
    assert not homeless, f'no floor in ARCHITECTURE.md: {homeless}'


def test_every_planned_file_exists() -> None:
    """A plan that names what is not there misleads who looks for a room."""
    files = [path.relative_to(PACKAGE).as_posix() for path in package_files()]
    missing = [
        name
        for name in plan()
        if not fnmatch.filter(
            files, name + '*' if name.endswith('/') else name
        )
    ]
    assert not missing, f'ARCHITECTURE.md names what is not there: {missing}'


def test_every_folder_of_tests_is_told_of_in_architecture() -> None:
    text = (ROOT / 'ARCHITECTURE.md').read_text(encoding='utf-8')
    untold = [
        folder.name
        for folder in (ROOT / 'tests').iterdir()
        if list(folder.glob('test_*.py'))
        and f'\n  {folder.name}/ ' not in text
    ]
    assert not untold, f'ARCHITECTURE.md does not tell of tests in {untold}'


def test_imports_lead_downward_or_stay_in_the_room() -> None:
    upward = []
    for who, whom, where in inner_imports():
        importer, imported = place(who), place(whom)
        if whom == FACE or importer is None or imported is None:
            continue  # a test of its own tells
        if not _may_import(importer, imported):
            upward.append(f'{where}: floor {importer.floor} imports {whom}')
    assert not upward, listed(upward)


def _may_import(importer: Place, imported: Place) -> bool:
    return imported.floor < importer.floor or imported == importer


def test_nobody_imports_the_face() -> None:
    guests = [where for _, whom, where in inner_imports() if whom == FACE]
    assert not guests, listed(guests)


def test_imports_inside_the_package_are_relative() -> None:
    absolute = [
        f'{path.name}:{node.lineno}'
        for path in package_files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and re.match(rf'(import|from) {PACKAGE.name}\b', ast.unparse(node))
    ]
    assert not absolute, listed(absolute)


def test_modules_do_not_import_in_circles() -> None:
    below: dict[ModuleName, set[ModuleName]] = {
        name: set() for name in modules()
    }
    for path in package_files():
        below[module_name(path)] |= {
            found.inside
            for found in imports(path)
            if found.inside is not None and not found.for_types_only
        }
    while leaves := [name for name, under in below.items() if not under]:
        for leaf in leaves:
            del below[leaf]
        for under in below.values():
            under.difference_update(leaves)
    assert not below, f'in a circle, or above one: {sorted(below)}'


def test_third_parties_enter_through_their_doors() -> None:
    intruders = []
    for path in package_files():
        file = path.relative_to(PACKAGE).as_posix()
        welcome = {
            guest
            for door, guests in DOORS.items()
            if fnmatch.fnmatchcase(file, door)
            for guest in guests
        }
        intruders += [
            f'{file}:{found.line}: {found.outside}'
            for found in imports(path)
            if found.outside is not None
            and found.outside.partition('.')[0]
            not in sys.stdlib_module_names | welcome
        ]
    assert not intruders, listed(intruders)


class TestWhatTheFaceReaches:
    """The single-file build puts these modules into one namespace."""

    def test_is_flat(self) -> None:
        assert [n for n in reached_by_face() if '.' in n] == []

    def test_names_each_thing_once(self) -> None:
        owners: dict[str, set[str]] = {}
        for name in sorted(reached_by_face()):
            for defined in _names_defined(parsed(modules()[name])):
                owners.setdefault(defined, set()).add(name)
        shared = [
            f'{defined}: {sorted(names)}'
            for defined, names in owners.items()
            if len(names) > 1
        ]
        assert not shared, listed(shared)

    def test_names_nothing_like_a_module_that_another_uses(self) -> None:
        outside = {
            found.outside
            for name in reached_by_face()
            for found in imports(modules()[name])
            if found.outside and found.column == 0
        }
        clashes = [
            f'{name}: {defined}'
            for name in sorted(reached_by_face())
            for defined in _names_defined(parsed(modules()[name]))
            if defined in outside
        ]
        assert not clashes, listed(clashes)


#: every module has its own, and every one has the same meaning
EVERYBODYS = {'TYPE_CHECKING', '__all__', '__getattr__'}


def _names_defined(tree: ast.Module) -> set[str]:
    """Return what a module binds at its top, imports left out."""
    return set(_bound_by(tree.body)) - EVERYBODYS


def _bound_by(body: list[ast.stmt]) -> list[str]:
    names: list[str] = []
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.append(node.name)
            case ast.Assign():
                names += [n.id for n in node.targets if _is_name(n)]
            case ast.AnnAssign() if _is_name(node.target):
                names.append(node.target.id)
            case ast.If():
                names += _bound_by(node.body) + _bound_by(node.orelse)
            case ast.Try():
                names += _bound_by(node.body) + _bound_by(node.orelse)
    return names


def _is_name(node: ast.expr) -> typing.TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)


@pytest.mark.parametrize(
    ('row', 'names', 'is_one_room'),
    [
        ('  redis.py, aio/', ['redis.py', 'aio/'], False),
        ('  _wakeup*.py   one room: sleep', ['_wakeup*.py'], True),
        ('  a.py, _b.py   one room: sleep', ['a.py', '_b.py'], True),
        ('  __init__.py   the face', ['__init__.py'], False),
        ('  words.py of another row', [], False),
        ('                 continues about x.py', [], False),
        ('', [], False),
    ],
)
def test_rows_of_the_plan_are_read(
    row: str, names: list[str], is_one_room: bool
) -> None:
    assert _read_row(row) == (names, is_one_room)
