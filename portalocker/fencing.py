"""Guards that let a resource refuse what a former holder still writes.

A holder that was paused between its last look and its write does not know
that the lock has moved on; the resource can know, by the token that every
grant of a lock on a server has. Each guard remembers the largest token it has
seen and refuses smaller ones.
"""

from __future__ import annotations

import os

from . import constants, exceptions, portalocker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ['StaleToken', 'fenced_sql', 'write_fenced']


class StaleToken(exceptions.LockLostError):
    """A later holder has written: this write was refused, nothing changed."""


def fenced_sql(
    table: str, column: str = 'fence', placeholder: str = '?'
) -> tuple[str, str]:
    """Return (assignment, condition) for an UPDATE that refuses old tokens.

    Each takes the token once, as a parameter; the row that is guarded has an
    integer column of 64 bits for it. No row was updated: the token is stale,
    or there is no such row. A holder may write as often as it likes. MySQL's
    clients count only the rows that changed, unless told to count those that
    were found (`CLIENT.FOUND_ROWS`).

    >>> import sqlite3
    >>> database = sqlite3.connect(':memory:')
    >>> _ = database.execute('create table job (n integer, fence integer)')
    >>> _ = database.execute('insert into job values (0, 0)')
    >>> assignment, condition = fenced_sql('job')
    >>> update = f'update job set n = ?, {assignment} where {condition}'
    >>> [
    ...     database.execute(update, (n, token, token)).rowcount
    ...     for n, token in [(1, 7), (2, 9), (3, 8)]
    ... ]
    [1, 1, 0]
    >>> database.execute('select * from job').fetchone()
    (2, 9)
    >>> database.close()
    """
    if not all(part.isidentifier() for part in table.split('.')):
        raise ValueError(f'cannot name a table {table!r}')
    if not column.isidentifier():
        raise ValueError(f'cannot name a column {column!r}')
    qualified = f'{table}.{column}'
    return (
        f'{column} = {placeholder}',
        f'({qualified} IS NULL OR {qualified} <= {placeholder})',
    )


def write_fenced(
    path: str | os.PathLike[str], token: int, data: bytes
) -> None:
    """Replace the content of a file, unless a larger token has written.

    The largest token is kept beside the file, as `PATH.fence`; of a symbolic
    link, beside what it leads to. The new content appears in one step and is
    on the disk before this returns. Raises `StaleToken`, and whatever the
    system says; waits for others who write the same file through this
    function, on this host. A holder may write as often as it likes.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'report')
    >>> write_fenced(path, 7, b'first')
    >>> write_fenced(path, 9, b'second')
    >>> try:
    ...     write_fenced(path, 8, b'late')
    ... except StaleToken as error:
    ...     print('refused')
    refused
    """
    if not isinstance(token, int) or isinstance(token, bool):
        raise TypeError(
            f'cannot write {path!r} with the token {token!r}: it is a number, '
            'that of one lock which has a fence'
        )
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(
            f'cannot write {path!r}: its content is bytes, not '
            f'{type(data).__name__}'
        )
    # Through whatever name a file is written, it has one fence
    path = os.path.realpath(os.fsdecode(path))
    with open(path + '.fence', 'r+b', opener=_creating_opener) as fence:
        portalocker.lock(fence, constants.LockFlags.EXCLUSIVE)
        last = _largest(fence, path)
        if token < last:
            raise StaleToken(
                f'cannot write {path!r}: token {token} is stale, {last} has '
                'written',
                filename=path,
                token=token,
            )
        # The fence first: whatever happens, no older token comes after us
        _replace(fence, token)
        _publish(path, data)


def _largest(fence: Any, path: str) -> int:
    fence.seek(0)
    content = fence.read()
    try:
        return int(content or 0)
    except ValueError:
        raise ValueError(
            f'cannot write {path!r}: {path}.fence holds no token: '
            f'{content[:40]!r}'
        ) from None


def _creating_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _replace(fence: Any, token: int) -> None:
    # always as long, in one write: a crash leaves no smaller number
    fence.seek(0)
    fence.write(b'%020d' % token)
    fence.flush()
    os.fsync(fence.fileno())


def _publish(path: str, data: bytes) -> None:
    from ._publication import open_atomic

    with open_atomic(path, overwrite=True) as file:
        file.write(data)
