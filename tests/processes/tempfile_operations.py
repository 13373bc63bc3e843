"""Does one thing with temporary files; says what was left, as JSON.

Between two calls of getppid() a tracer makes one system call fail.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

from portalocker import tempfile

FIRST, SECOND = b'first', b'second'


def mkstemp() -> None:
    fd, path = tempfile.mkstemp()
    made.append(lambda: (os.close(fd), os.unlink(path)))


def mkdtemp() -> None:
    path = tempfile.mkdtemp()
    made.append(lambda: os.rmdir(path))


def named_unused() -> None:
    with tempfile.NamedTemporaryFile():
        pass


def named_written() -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(FIRST)


def named_text() -> None:
    with tempfile.NamedTemporaryFile('w+', delete_on_close=False) as file:
        file.write('text')
        file.close()


def nameless() -> None:
    with tempfile.TemporaryFile() as file:
        file.write(FIRST)


def unlinked() -> None:
    tempfile._O_TMPFILE_WORKS = False
    with tempfile.TemporaryFile('w+') as file:
        file.write('text')


def spooled() -> None:
    with tempfile.SpooledTemporaryFile(len(FIRST)) as file:
        file.write(FIRST)
        try:
            file.write(SECOND)
        except OSError:
            file.seek(0)
            assert file.read() == FIRST, 'what was written before is lost'
            raise
        file.seek(0)
        assert file.read() == FIRST + SECOND


def directory() -> None:
    with tempfile.TemporaryDirectory():
        pass


def tree() -> None:
    fill_and_leave(tempfile.TemporaryDirectory())


def living_tree() -> None:
    fill_and_leave(tempfile.TemporaryDirectory(lock=True))


def fill_and_leave(temporary: Any) -> None:
    inside = os.path.join(temporary.name, 'inside')
    real_mkdir(inside)
    for number in range(2):
        real_link(__file__, os.path.join(inside, f'{number}'))
    os.getppid()
    with temporary:
        pass


def persisted() -> None:
    temporary = tempfile.TemporaryDirectory(lock=True)
    target = os.path.join(place, 'target')
    try:
        temporary.persist(target)
    except BaseException:
        temporary.cleanup()
        raise
    made.append(lambda: os.rmdir(target))


def chosen() -> None:
    tempfile.tempdir = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        tempfile.gettempdir()
        told.extend(str(each.message) for each in caught)
    tempfile.tempdir = place


OPERATIONS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        mkstemp,
        mkdtemp,
        named_unused,
        named_written,
        named_text,
        nameless,
        unlinked,
        spooled,
        directory,
        tree,
        living_tree,
        persisted,
        chosen,
    )
}
real_mkdir, real_link = os.mkdir, os.symlink
made: list[Callable[[], object]] = []
told: list[str] = []


def clean_up() -> None:
    while made:
        made.pop()()
    gc.collect()


def descriptors() -> list[str]:
    return sorted(os.listdir('/proc/self/fd'))


if __name__ == '__main__':
    name, place = sys.argv[1:]
    tempfile.tempdir = os.environ['TMPDIR'] = place
    operation = OPERATIONS[name]
    operation()  # what is imported late is imported now
    clean_up()
    before = descriptors()
    report: dict[str, Any] = {'errno': None, 'text': ''}
    os.getppid()
    try:
        operation()
    except OSError as error:
        os.getppid()
        report['errno'] = error.errno
        report['text'] = '\n'.join(
            [str(error), *getattr(error, '__notes__', [])]
        )
        del error
    else:
        os.getppid()
    clean_up()
    report['text'] += '\n'.join(told)
    report['left'] = os.listdir(place)
    report['leaked'] = len(descriptors()) - len(before)
    print(json.dumps(report))
