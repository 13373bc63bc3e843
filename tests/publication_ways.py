"""The ways in which a draft can appear, each forced on any system."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from portalocker import _publication_draft, _publication_renaming


def refuse(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def without_nameless(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_publication_draft, '_NAMELESS_FLAG', 0)


def without_proc(patch: pytest.MonkeyPatch) -> None:
    link = os.link

    def link_without_proc(source: str, *args: object, **kwargs: object):
        if source.startswith('/proc'):
            raise FileNotFoundError(errno.ENOENT, 'no /proc here', source)
        return link(source, *args, **kwargs)

    patch.setattr(os, 'link', link_without_proc)


def without_links(patch: pytest.MonkeyPatch) -> None:
    without_nameless(patch)
    patch.setattr(os, 'link', refuse(errno.EPERM))


def without_exclusive_rename(patch: pytest.MonkeyPatch) -> None:
    without_links(patch)
    patch.setattr(_publication_renaming, '_rename', refuse(errno.ENOSYS))


WAYS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    'best of this system': lambda _: None,
    'no nameless files': without_nameless,
    'nameless file cannot be linked': without_proc,
    'no hard links': without_links,
    'no exclusive rename': without_exclusive_rename,
}
