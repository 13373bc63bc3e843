"""How the documentation is built: `nox -s docs`."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = 'portalocker'
author = copyright = 'The portalocker authors'  # noqa: A001 - Sphinx's name
release = version = importlib.metadata.version('portalocker')

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.intersphinx',
    'sphinx.ext.viewcode',
]
# a word in single backquotes is a name or a value, as in the docstrings
default_role = 'literal'
autodoc_member_order = 'bysource'
autodoc_default_options = {
    'members': True,
    'show-inheritance': True,
    'inherited-members': True,
}
autodoc_typehints = 'none'
autodoc_preserve_defaults = True
# no network while building: names of the standard library stay plain
intersphinx_mapping: dict[str, tuple[str, None]] = {}
nitpicky = False

html_theme = 'furo'
html_title = f'portalocker {release}'


def setup(app: Sphinx) -> None:
    """Choose which inherited members a class shows."""
    app.connect('autodoc-skip-member', _is_found_elsewhere)


def _is_found_elsewhere(
    app: Sphinx, what: str, name: str, _member: object, *_: object
) -> bool | None:
    """Whether a base has the member where the reader finds it: skip it.

    What comes from a base of ours that has no place on the page is shown:
    most such bases are private.
    """
    document = app.env.current_document
    if what not in {'class', 'exception'} or not document.autodoc_class:
        return None
    module = importlib.import_module(document.autodoc_module)
    shown, *bases = vars(module)[document.autodoc_class].__mro__
    if name in vars(shown):
        return None
    listed = getattr(module, '__all__', ())
    on_page = [
        base
        for base in bases
        if not base.__name__.startswith('_')
        and (base.__module__ == module.__name__ or base.__name__ in listed)
    ]
    if any(hasattr(base, name) for base in on_page):
        return True
    owner = next((base for base in bases if name in vars(base)), object)
    return owner.__module__.partition('.')[0] != 'portalocker' or None
