"""The directory for temporary files: which there are, which can be written."""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_VARIABLES = ('TMPDIR', 'TEMP', 'TMP')


def candidates() -> list[str]:
    """What the user names, the system's own, and the current one."""
    found = [place for name in _VARIABLES if (place := os.getenv(name))]
    if os.name == 'nt':
        found += [
            os.path.expanduser(r'~\AppData\Local\Temp'),
            os.path.expandvars(r'%SYSTEMROOT%\Temp'),
            r'c:\temp',
            r'c:\tmp',
            r'\temp',
            r'\tmp',
        ]
    else:
        found += ['/tmp', '/var/tmp', '/usr/tmp']  # noqa: S108
    try:
        found.append(os.getcwd())
    except (AttributeError, OSError):
        found.append(os.curdir)
    return found


def first_usable(
    places: Iterable[str], create: Callable[[str], tuple[int, str]]
) -> tuple[str, str]:
    """Return the first directory that can be written, and what to warn of.

    `create` opens a new file in a directory.
    """
    failures: dict[str, OSError] = {}
    for place in places:
        directory = place if place == os.curdir else os.path.abspath(place)
        try:
            _try_to_write(*create(directory))
        except OSError as error:
            failures.setdefault(place, error)
            continue
        return directory, _told(failures, directory)
    text = ', '.join(
        f'{place!r} ({error.strerror or error})'
        for place, error in failures.items()
    )
    raise FileNotFoundError(
        errno.ENOENT, f'No usable temporary directory found in {text}'
    )


def _try_to_write(fd: int, path: str) -> None:
    try:
        try:
            os.write(fd, b'portalocker')
        finally:
            os.close(fd)
    finally:
        try:
            os.unlink(path)
        except OSError as error:
            error.strerror = f'{error.strerror}, {path!r} is left behind'
            raise


def _told(failures: dict[str, OSError], chosen: str) -> str:
    """Return what to say of a configured directory that was passed over."""
    for name in _VARIABLES:
        configured = os.getenv(name)
        if configured in failures:
            error = failures[configured]
            return (
                f'cannot use {name}={configured!r}: '
                f'{error.strerror or error}; using {chosen!r}'
            )
    return ''
