"""A folder of its own for each rival: two of them share an import name."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rivals

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def folder_of(rival: rivals.Rival, cache: str) -> str | None:
    """Return what goes on PYTHONPATH, installing the rival where needed.

    An installation found in `cache` is kept; CalledProcessError where pip
    fails.
    """
    if rival.is_ours:
        return PROJECT
    if rival.requirement is None:
        return None
    version = '{}.{}'.format(*sys.version_info)
    folder = os.path.join(cache, f'python{version}', rival.name)
    if not os.path.isdir(folder):
        print(f'installing {rival.requirement}', file=sys.stderr)
        unfinished = f'{folder}.unfinished'
        subprocess.run(
            [
                sys.executable, '-m', 'pip', 'install', '-qq',
                '--disable-pip-version-check', '--upgrade',
                '--target', unfinished, rival.requirement,
            ],
            check=True,
        )  # fmt: skip
        os.rename(unfinished, folder)
    return folder
