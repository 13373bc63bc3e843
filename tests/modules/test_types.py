"""The shapes we accept."""

from __future__ import annotations

import inspect
import io
import itertools
import os
import pathlib
import typing

import pytest

from portalocker import types

MODES = typing.get_args(types.Mode)


def is_accepted_by_open(mode: str) -> bool:
    try:
        open(os.devnull, mode).close()
    except ValueError:
        return False
    except OSError:  # 'x': it exists; '+': it cannot be positioned
        pass
    return True


def test_the_modes_are_those_of_open() -> None:
    spelled = {
        ''.join(order)
        for size in (1, 2, 3)
        for letters in itertools.combinations('rwaxtb+', size)
        for order in itertools.permutations(letters)
    }
    accepted = {mode for mode in spelled if is_accepted_by_open(mode)}
    assert {mode for mode in MODES if 'U' not in mode} == accepted


def test_modes_are_flat_distinct_text() -> None:
    assert all(isinstance(mode, str) for mode in MODES)
    assert len(set(MODES)) == len(MODES)
    assert {'U', 'rU', 'rbU'} <= set(MODES)


def test_open_keywords_are_those_of_open() -> None:
    of_open = set(inspect.signature(open).parameters) - {'file', 'mode'}
    assert set(types.FileOpenKwargs.__annotations__) == of_open
    assert not types.FileOpenKwargs.__required_keys__


def test_a_filename_is_text_or_a_path() -> None:
    assert {str, pathlib.Path} <= set(typing.get_args(types.Filename))


def test_file_arguments_are_descriptors_files_and_what_has_fileno() -> None:
    kinds = set(typing.get_args(types.FileArgument))
    assert {int, io.TextIOWrapper, types.HasFileno} <= kinds
    assert typing.get_args(types.IO) == (typing.IO[str], typing.IO[bytes])


def test_has_fileno_promises_fileno() -> None:
    assert inspect.isfunction(types.HasFileno.fileno)
    with pytest.raises(TypeError):
        types.HasFileno()  # type: ignore[misc]
