"""Answers of a server are read however they are cut."""

from __future__ import annotations

import pytest

from portalocker import _redis_wire

WIRE = (
    b'+OK\r\n-NOSCRIPT no such\r\n:42\r\n$3\r\na\r\n\r\n$-1\r\n_\r\n'
    b'*3\r\n:1\r\n$0\r\n\r\n*-1\r\n#t\r\n,1.5\r\n(12345678901234567890\r\n'
    b'=7\r\ntxt:abc\r\n!5\r\nERR x\r\n%1\r\n+a\r\n:1\r\n~1\r\n:2\r\n'
    b'|1\r\n+ttl\r\n:3\r\n:4\r\n>2\r\n+message\r\n$1\r\nx\r\n'
)
VALUES = [
    *(b'OK', 'NOSCRIPT no such', 42, b'a\r\n', None, None, [1, b'', None]),
    *(True, 1.5, 12345678901234567890, b'abc', 'ERR x', [b'a', 1], [2]),
    *(4, [b'message', b'x']),
]


def plain(answer: object) -> object:
    return getattr(answer, 'text', answer)


@pytest.mark.parametrize('size', range(1, 12))
def test_answers_survive_any_cut(size: int) -> None:
    parser = _redis_wire.ReplyParser()
    answers = []
    for i in range(0, len(WIRE), size):
        answers += parser.feed(WIRE[i : i + size])
    assert [plain(answer) for answer in answers] == VALUES
    assert isinstance(answers[1], _redis_wire.ServerError)
    assert answers[1].code == 'NOSCRIPT'
    pushes = [isinstance(a, _redis_wire.PushMessage) for a in answers]
    assert pushes == [False] * (len(VALUES) - 1) + [True]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match='kind'):
        _redis_wire.ReplyParser().feed(b'hello\r\n')


def test_command_is_packed_by_bytes_not_characters() -> None:
    packed = _redis_wire.packed('SET', '\u00e4', b'\xff', 12)
    assert packed == (
        b'*4\r\n$3\r\nSET\r\n$2\r\n\xc3\xa4\r\n$1\r\n\xff\r\n$2\r\n12\r\n'
    )
