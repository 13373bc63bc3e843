"""The wire of a Redis server (RESP, versions 2 and 3): bytes, no socket."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536


class ServerError:
    """An error that the server answered instead of a value."""

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def code(self) -> str:
        """The first word, for example `NOSCRIPT`."""
        return self.text.partition(' ')[0]


class PushMessage(list['Any']):
    """What the server says without having been asked."""


class _Incomplete(Exception):
    """The end of the answer has not arrived."""


def packed(*words: str | bytes | int) -> bytes:
    r"""Return a command as it goes over the wire.

    >>> packed('PING')
    b'*1\r\n$4\r\nPING\r\n'
    """
    parts = [b'*%d\r\n' % len(words)]
    for word in words:
        if type(word) is not bytes:
            word = str(word).encode('utf-8', 'surrogateescape')
        parts.append(b'$%d\r\n%b\r\n' % (len(word), word))
    return b''.join(parts)


class ReplyParser:
    """Takes bytes as they come and gives whole answers.

    >>> parser = ReplyParser()
    >>> parser.feed(b':1')
    []
    >>> parser.feed(bytes([13, 10]))
    [1]
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    @property
    def has_begun(self) -> bool:
        """Whether the end of an answer is still to come."""
        return bool(self._buffer)

    def feed(self, chunk: bytes) -> list[Any]:
        """Return the answers that are complete with this chunk."""
        self._buffer += chunk
        answers = []
        begin = self._at = 0
        try:
            while self._at < len(self._buffer):
                answers.append(self._read())
                begin = self._at
        except _Incomplete:
            pass
        del self._buffer[:begin]
        return answers

    def _line(self) -> bytes:
        end = self._buffer.find(b'\r\n', self._at)
        if end < 0:
            raise _Incomplete
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _read(self) -> Any:
        line = self._line()
        kind, text = line[:1], line[1:]
        if kind in b'$=!':
            return self._blob(kind, int(text))
        if kind in b'*~>%|':
            count = int(text) * (2 if kind in b'%|' else 1)
            if count < 0:
                return None
            values = [self._read() for _ in range(count)]
            if kind == b'|':  # attributes of the answer that follows
                return self._read()
            return PushMessage(values) if kind == b'>' else values
        return _scalar(kind, text)

    def _blob(self, kind: bytes, size: int) -> Any:
        if size < 0:
            return None
        begin, end = self._at, self._at + size
        if len(self._buffer) < end + 2:
            raise _Incomplete
        self._at = end + 2
        value = bytes(self._buffer[begin:end])
        if kind == b'!':
            return ServerError(value.decode('utf-8', 'replace'))
        return value[4:] if kind == b'=' else value


def _scalar(kind: bytes, text: bytes) -> Any:
    if kind == b'+':
        return text
    if kind == b'-':
        return ServerError(text.decode('utf-8', 'replace'))
    if kind in b':(':
        return int(text)
    if kind == b',':
        return float(text)
    if kind == b'#':
        return text == b't'
    if kind == b'_':
        return None
    raise ValueError(f'cannot read an answer of kind {kind!r}')
