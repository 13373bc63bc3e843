"""Every module that users import has its page in docs/reference/."""

from __future__ import annotations

import importlib
import re

from package_source import PACKAGE, ROOT, listed

PAGES = sorted((ROOT / 'docs' / 'reference').glob('*.rst'))


MAP = (ROOT / 'docs' / 'reference' / 'interface.rst').read_text()
#: their names are offered by `portalocker` itself
IN_THE_FACE = {'portalocker.constants', 'portalocker.holder'}


def rows_of_the_map() -> list[tuple[list[str], list[str]]]:
    """Return the modules of each row, and the names that it promises."""
    rows = []
    rooms, _, _ = MAP.partition('.. code-block')
    for row in re.split(r'\n(?=``portalocker)', rooms)[1:]:
        head, _, names = row.partition('\n')
        rows.append(
            (
                re.findall(r'``([\w.]+)``', head),
                re.findall(r'``([A-Za-z_]\w+)``', names),
            )
        )
    return rows


def public_modules() -> set[str]:
    """Return what users import, by name."""
    files = [
        path
        for path in PACKAGE.rglob('*.py')
        if path.name == '__init__.py' or not path.name.startswith('_')
    ]
    names = {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix(
            '.__init__'
        )
        for path in files
    }
    return {
        name
        for name in names - {'portalocker'}
        if '._' not in name and not name.startswith('portalocker.commands')
    }


def documented_modules() -> set[str]:
    """Return the modules whose docstrings are on a page."""
    return {
        name
        for page in PAGES
        for name in re.findall(r'automodule:: (\S+)', page.read_text())
    }


def test_every_public_module_has_a_page() -> None:
    missing = sorted(public_modules() - documented_modules())
    assert not missing, listed(missing)


def test_every_page_is_about_a_module_that_exists() -> None:
    gone = sorted(documented_modules() - public_modules())
    assert not gone, listed(gone)


def test_every_public_module_is_on_the_map() -> None:
    shown = {name for modules, _ in rows_of_the_map() for name in modules}
    rooms = {'.'.join(name.split('.')[:2]) for name in public_modules()}
    assert not rooms - shown - IN_THE_FACE
    assert not shown - public_modules() - {'portalocker'}


def test_every_name_on_the_map_exists() -> None:
    rows = rows_of_the_map()
    assert sum(len(names) for _, names in rows) > 50
    for modules, names in rows:
        for name in names:
            assert any(
                hasattr(importlib.import_module(module), name)
                for module in modules
            ), f'{modules} has no {name}'
