"""The repository speaks ASCII where it must, and of itself alone."""

from __future__ import annotations

import pathlib
import re

import pytest
from package_source import ROOT, listed, package_files, tracked_files

#: folders of somebody's machine
HOME_FOLDER = re.compile(
    r'(?<![\w.])/(?:root(?=[/\s\'"`]|$)|(?:home|Users)/\w+)'
    r'|[A-Za-z]:\\Users\\\w+',
    re.MULTILINE,
)
#: where packages come from is set up on the machine, not here
REGISTRY = re.compile(
    r'pypi[.](?:org|io|python)|pythonhosted[.]|(?:extra-)?index-url\b',
    re.IGNORECASE,
)
#: a file of this repository that a text sends its reader to
CITED_FILE = re.compile(
    r'(?<![\w./-])(?:docs|tests|benchmarks|examples|portalocker)'
    r'/[\w./-]*\.(?:py|rst|md|sh)\b'
)


def texts() -> list[tuple[pathlib.Path, str]]:
    """Return every file of the repository that is text."""
    found = []
    for path in tracked_files():
        try:
            found.append((path, path.read_text(encoding='utf-8')))
        except UnicodeDecodeError:
            continue  # a picture
    return found


def matches(pattern: re.Pattern[str]) -> list[str]:
    """Return where the repository's texts match."""
    return [
        f'{path.relative_to(ROOT)}:{text.count(chr(10), 0, hit.start()) + 1}'
        f': {hit[0]}'
        for path, text in texts()
        if path != pathlib.Path(__file__)
        for hit in pattern.finditer(text)
    ]


def test_package_sources_are_ascii() -> None:
    """The single-file build may be pasted anywhere."""
    strange = [
        str(path.relative_to(ROOT))
        for path in package_files()
        if not path.read_bytes().isascii()
    ]
    assert not strange, listed(strange)


def test_no_text_names_a_home_folder() -> None:
    assert not matches(HOME_FOLDER), listed(matches(HOME_FOLDER))


def test_no_text_names_the_folder_of_this_checkout() -> None:
    if len(ROOT.parts) < 3:
        pytest.skip(f'{ROOT} is too short to look for')
    here = re.compile(re.escape(str(ROOT)) + r'(?!\w)')
    assert not matches(here), listed(matches(here))


def test_no_text_names_a_package_registry() -> None:
    assert not matches(REGISTRY), listed(matches(REGISTRY))


def test_files_that_texts_cite_exist() -> None:
    gone = [
        cited
        for cited in matches(CITED_FILE)
        if not (ROOT / cited.rpartition(' ')[2]).exists()
    ]
    assert not gone, listed(gone)


@pytest.mark.parametrize(
    ('pattern', 'text', 'found'),
    [
        (HOME_FOLDER, '"/home/ada/x"', True),
        (HOME_FOLDER, 'see /ro' + 'ot/x', True),
        (HOME_FOLDER, 'C:\\Users\\ada', True),
        (HOME_FOLDER, 'the /rooted tree, docs/home/page', False),
        (REGISTRY, 'https://pypi' + '.org/simple', True),
        (REGISTRY, 'files.pythonhosted' + '.org', True),
        (REGISTRY, 'the package index', False),
        (CITED_FILE, 'see docs/reference/types.rst.', True),
        (CITED_FILE, 'see its/docs/page.rst', False),
    ],
)
def test_patterns_find_what_they_name(
    pattern: re.Pattern[str], text: str, found: bool
) -> None:
    assert bool(pattern.search(text)) is found
