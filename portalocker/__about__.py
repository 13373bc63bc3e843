"""Who we are: name, authors, and the version with where it was read.

`__version__` is computed when it is first asked for: looking into the
metadata of the installed distribution costs more than the whole package.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str

__package_name__ = 'portalocker'
__author__ = 'The portalocker authors'
# RFC 2606 reserves .invalid: no mail arrives; the repository takes reports
__email__ = 'authors@portalocker.invalid'
__description__ = (
    'One way to hold a lock, from two threads to a cluster: '
    'waiters are woken, not polled.'
)
# relative to the repository, like `readme` in pyproject.toml
__url__ = 'README.rst'

# a single-file build carries its version here
_STAMPED_VERSION: str | None = None

#: what we say where nothing tells; PEP 440: lower than every release
UNKNOWN_VERSION = '0+unknown'


def _read_project_value(path: str | os.PathLike[str], key: str) -> str | None:
    """A string of the table [project] of a pyproject.toml, or None."""
    import re

    try:
        with open(path, encoding='utf-8') as fh:
            text = fh.read()
    except (OSError, UnicodeDecodeError):
        return None
    # a table ends where the next header stands alone on its line
    tables = re.split(r'(?m)^[ \t]*(\[[^\n#]+\])[ \t]*(?:#.*)?$', text)
    for header, body in zip(tables[1::2], tables[2::2], strict=True):
        if re.fullmatch(r'\[\s*project\s*\]', header):
            found = re.search(
                rf'(?m)^[ \t]*{key}[ \t]*=[ \t]*'
                r'(?:"([^"\n]+)"|\'([^\'\n]+)\')[ \t]*(?:#.*)?$',
                body,
            )
            return (found[1] or found[2]) if found else None
    return None


def _read_pyproject_version(path: str | os.PathLike[str]) -> str | None:
    """The version that a pyproject.toml states, or None."""
    return _read_project_value(path, 'version')


def get_version() -> str:
    """Return the version of this package.

    A single-file build carries its version. Otherwise a checkout's own
    `pyproject.toml` is asked first, then the metadata of the installed
    distribution.
    `UNKNOWN_VERSION` where none of them tells, as in a bare copy of the
    package directory. Reads files; raises nothing.
    """
    if _STAMPED_VERSION is not None:
        return _STAMPED_VERSION
    checkout = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    pyproject = os.path.join(checkout, 'pyproject.toml')
    if _read_project_value(pyproject, 'name') == __package_name__:
        version = _read_pyproject_version(pyproject)
        if version is not None:
            return version
    import importlib.metadata

    try:
        return importlib.metadata.version(__package_name__)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN_VERSION


def __getattr__(name: str) -> str:
    if name == '__version__':
        globals()[name] = version = get_version()
        return version
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
