"""Is the file I locked still the file at that path?"""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from portalocker import _file_identity


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / 'file'
    path.touch()
    return path


def test_a_file_is_at_its_path(path: pathlib.Path) -> None:
    assert _file_identity.still_names(path, os.stat(path))
    assert _file_identity.still_names(os.fsencode(path), os.stat(path))


def test_a_replaced_file_is_not_at_its_path(path: pathlib.Path) -> None:
    opened = os.stat(path)
    successor = path.with_name('successor')
    successor.touch()
    successor.replace(path)
    assert not _file_identity.still_names(path, opened)


def test_nothing_is_at_an_unlinked_path(path: pathlib.Path) -> None:
    opened = os.stat(path)
    path.unlink()
    assert not _file_identity.still_names(path, opened)
    assert not _file_identity.still_names(path / 'below', opened)


def test_a_path_below_a_file_names_nothing(path: pathlib.Path) -> None:
    assert not _file_identity.still_names(path / 'below', os.stat(path))


def test_a_symbolic_link_counts_as_its_target(path: pathlib.Path) -> None:
    link = path.with_name('link')
    link.symlink_to(path)
    assert _file_identity.still_names(link, os.stat(path))


def test_other_failures_of_the_system_are_raised(path: pathlib.Path) -> None:
    opened = os.stat(path)
    loop = path.with_name('loop')
    loop.symlink_to(loop)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        _file_identity.still_names(loop, opened)


def test_the_same_inode_of_another_device_is_another_file(
    path: pathlib.Path,
) -> None:
    opened = list(os.stat(path))
    opened[2] += 1  # st_dev
    assert not _file_identity.still_names(path, os.stat_result(opened))
