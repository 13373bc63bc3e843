"""How the documentation is built: `nox -s docs`."""

from __future__ import annotations

import importlib.metadata

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
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_typehints = 'none'
autodoc_preserve_defaults = True
# no network while building: names of the standard library stay plain
intersphinx_mapping: dict[str, tuple[str, None]] = {}
nitpicky = False

html_theme = 'furo'
html_title = f'portalocker {release}'
