"""The pages of the documentation as the tests see them: programs, sessions.

A `.. code-block:: python` is a program, or a part of the one that the page
is; with a `:caption:` it is a file of that name. A `.. code-block:: console`
below the comment `.. run:` is a session: what follows a `$` is typed, with
those files in the current directory, and what follows that is printed.
"""

from __future__ import annotations

import pathlib
import re
import textwrap
import typing

from package_source import ROOT

PAGES = [ROOT / 'README.rst', *sorted((ROOT / 'docs').rglob('*.rst'))]
#: an environment variable that a page reads, and the server it is about
SERVERS = {'REDIS_URL': 'valkey', 'DATABASE_URL': 'postgresql'}


class Block(typing.NamedTuple):
    """An indented block below a directive, or below `::`."""

    #: the number of its first line
    line: int
    #: 'python', 'console', ..., or '' for a block below `::`
    language: str
    #: the file that it is
    caption: str
    text: str
    is_run: bool


class Command(typing.NamedTuple):
    """What is typed, and what it prints."""

    typed: str
    printed: str


def blocks(text: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    found = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        directive = re.fullmatch(r' *\.\. code-block:: *(\S*)', line)
        plain = line.endswith('::') and not line.lstrip().startswith('..')
        if directive is None and not plain:
            continue
        before = ''.join(lines[max(0, number - 2) : number]).strip()
        inside = _indented_below(lines[number + 1 :])
        options = [
            option.strip() for option in inside if option.startswith(' ')
        ]
        caption = ''
        if options and options[0].startswith(':caption:'):
            caption = options[0].removeprefix(':caption:').strip()
            place = next(n for n, text in enumerate(inside) if text.strip())
            inside[place] = ''
        found.append(
            Block(
                number + 2,
                directive[1] if directive else '',
                caption,
                textwrap.dedent('\n'.join(inside)).rstrip(),
                before == '.. run:',
            )
        )
    return found


def _indented_below(lines: list[str]) -> list[str]:
    """Return the indented lines that come first."""
    inside = []
    for line in lines:
        if line.strip() and not line.startswith(' '):
            break
        inside.append(line)
    return inside


def as_one_program(parts: list[Block]) -> str:
    """Put the parts where they stand, so that errors name their lines."""
    program: list[str] = []
    for part in parts:
        program += [''] * (part.line - 1 - len(program))
        program += part.text.splitlines()
    return '\n'.join([*program, ''])


def program_of(text: str) -> str:
    """Return the program that the page is."""
    return as_one_program(
        [
            block
            for block in blocks(text)
            if block.language == 'python' and not block.caption
        ]
    )


def files_of(text: str) -> dict[str, str]:
    """Return the files that the page has, by name."""
    return {
        block.caption: block.text.lstrip('\n') + '\n'
        for block in blocks(text)
        if block.caption
    }


def commands_of(text: str) -> list[Command]:
    """Return what a reader types, and what is printed then."""
    return [
        Command(typed.partition('\n')[0], typed.partition('\n')[2].strip())
        for block in blocks(text)
        if block.is_run
        for typed in re.split(r'(?m)^\$ ', block.text)[1:]
    ]


def servers_of(page: pathlib.Path) -> dict[str, str]:
    """Return the servers that the page needs, by their variable."""
    text = page.read_text(encoding='utf-8')
    return {name: SERVERS[name] for name in SERVERS if name in text}
