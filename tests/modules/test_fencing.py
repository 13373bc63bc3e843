"""Resources refuse what a former holder still writes."""

from __future__ import annotations

import concurrent.futures
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


def test_file_has_one_fence_whatever_it_is_called(
    tmp_path: pathlib.Path,
) -> None:
    path, link = tmp_path / 'file', tmp_path / 'elsewhere' / 'link'
    link.parent.mkdir()
    link.symlink_to(path)
    fencing.write_fenced(path, 7, b'seven')
    with pytest.raises(fencing.StaleToken):
        fencing.write_fenced(link, 3, b'three')
    fencing.write_fenced(link, 8, b'eight')
    assert link.is_symlink()
    with pytest.raises(fencing.StaleToken):
        fencing.write_fenced(str(path), 7, b'seven')
    assert path.read_bytes() == b'eight'
    assert [each.name for each in link.parent.iterdir()] == ['link']


@pytest.mark.parametrize('token', [None, (1, 2), '7', True, 7.0])
def test_token_that_is_none_leaves_nothing(
    tmp_path: pathlib.Path, token: object
) -> None:
    with pytest.raises(TypeError, match=r'cannot write .* token'):
        fencing.write_fenced(tmp_path / 'file', token, b'')  # type: ignore[arg-type]
    with pytest.raises(TypeError, match='is bytes, not str'):
        fencing.write_fenced(tmp_path / 'file', 7, 'text')  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_fence_without_a_token_is_no_zero(tmp_path: pathlib.Path) -> None:
    (tmp_path / 'file.fence').write_bytes(b'something else')
    with pytest.raises(ValueError, match='holds no token'):
        fencing.write_fenced(tmp_path / 'file', 7, b'')
    assert not (tmp_path / 'file').exists()


def test_writers_at_the_same_time(tmp_path: pathlib.Path) -> None:
    """Whatever comes first, what stays is of the largest token."""
    path, count = tmp_path / 'file', 4
    refused: list[int] = []

    def write(first: int) -> None:
        for token in range(first, 40, count):
            try:
                fencing.write_fenced(path, token, b'%d' % token)
            except fencing.StaleToken:
                refused.append(token)
            else:
                assert int(path.read_bytes()) >= token

    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        list(threads.map(write, range(count)))
    assert path.read_bytes() == b'39'
    assert 39 not in refused


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


@pytest.mark.parametrize('name', ['a b', 'x;drop', '', 'a..b', '"a"'])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match='cannot name a column'):
        fencing.fenced_sql('t', name)
    with pytest.raises(ValueError, match='cannot name a table'):
        fencing.fenced_sql(name)
    with pytest.raises(ValueError, match='cannot name a column'):
        fencing.fenced_sql('t', 't.fence')
    assert fencing.fenced_sql('public.t')[1].startswith('(public.t.fence IS')
