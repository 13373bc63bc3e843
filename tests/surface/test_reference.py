"""Every module that users import has its page in docs/reference/."""

from __future__ import annotations

import re

from package_source import PACKAGE, ROOT, listed

PAGES = sorted((ROOT / 'docs' / 'reference').glob('*.rst'))


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
