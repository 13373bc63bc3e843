"""Laws of `_this_process`: birthplaces, and what is called at the end."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys

import pytest
from children import in_child

from portalocker import _this_process

needs_fork = pytest.mark.skipif(
    not hasattr(os, 'fork'), reason='needs os.fork'
)

ENDING = """
import os, sys
from portalocker import _this_process
def speak():
    print('end of', 'the process' if os.getpid() == pid else 'a child')
pid = os.getpid()
_this_process.call_at_exit(speak)
_this_process.call_at_exit(speak)
"""


def said(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, '-c', ENDING + program],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


@needs_fork
def test_what_the_parent_made_is_not_from_here() -> None:
    made = _this_process.here
    assert made.is_here

    def compare() -> None:
        assert not made.is_here
        assert _this_process.here.is_here

    in_child(compare)
    assert made is _this_process.here


def test_the_end_is_told_once() -> None:
    assert said('') == ['end of the process']


@needs_fork
def test_a_forked_child_ends_without_its_parents_hooks() -> None:
    assert said('if os.fork(): os.wait()\nelse: print("child")') == [
        'child',
        'end of the process',
    ]


@needs_fork
def test_a_forked_child_has_an_end_of_its_own() -> None:
    program = """
if os.fork():
    os.wait()
else:
    _this_process.call_at_exit(speak)
"""
    assert said(program) == ['end of a child', 'end of the process']


def _ask_and_end(path: str) -> None:
    _this_process.call_at_exit(lambda: open(path, 'w').close())


@pytest.mark.parametrize('way', multiprocessing.get_all_start_methods())
def test_children_of_multiprocessing_have_an_end(
    way: str, tmp_path: os.PathLike[str]
) -> None:
    path = os.path.join(tmp_path, 'end')
    context = multiprocessing.get_context(way)
    child = context.Process(target=_ask_and_end, args=(path,))
    child.start()
    child.join()
    assert os.path.exists(path)
    child.close()
