"""Resources refuse what a former holder still writes."""

from __future__ import annotations

import pathlib
import sqlite3

import pytest

from portalocker import exceptions, fencing


def test_file_keeps_the_newest_holder(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'file'
    fencing.write_fenced(path, 3, b'three')
    fencing.write_fenced(path, 3, b'three again')
    with pytest.raises(fencing.StaleToken, match='token 2') as caught:
        fencing.write_fenced(path, 2, b'two')
    assert isinstance(caught.value, exceptions.LockLostError)
    assert caught.value.token == 2
    assert path.read_bytes() == b'three again'
    assert (tmp_path / 'file.fence').read_bytes() == b'%020d' % 3


def test_failed_write_keeps_older_tokens_out(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / 'folder'
    folder.mkdir()
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system says
        fencing.write_fenced(folder, 5, b'never')
    with pytest.raises(fencing.StaleToken):
        fencing.write_fenced(folder, 4, b'never')


def test_row_keeps_the_newest_holder() -> None:
    database = sqlite3.connect(':memory:')
    database.execute('create table row (n, mark)')
    database.execute('insert into row values (0, null)')
    assignment, condition = fencing.fenced_sql('row', 'mark', ':token')
    for n, token in ((1, 5), (2, 5), (3, 4), (4, 6)):
        database.execute(
            f'update row set n = :n, {assignment} where {condition}',
            {'n': n, 'token': token},
        )
    assert database.execute('select * from row').fetchall() == [(4, 6)]
    database.close()


@pytest.mark.parametrize('name', ['a b', 'x;drop', ''])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match='cannot name'):
        fencing.fenced_sql('t', name)
