"""`struct flock`: byte ranges for fcntl's record locks."""

from __future__ import annotations

import struct
import sys

# The order of the members differs between the systems that have
# open-file-description locks. Sources: fcntl(2) of Linux, <sys/fcntl.h> of XNU
if sys.platform == 'darwin':
    _LAYOUT = struct.Struct('qqihh')  # start, len, pid, type, whence
else:
    _LAYOUT = struct.Struct('hhqqi4x')  # type, whence, start, len, pid


if sys.platform == 'darwin':

    def pack_range(kind: int, start: int, length: int) -> bytes:
        """A request for `length` bytes at `start`; 0: however far."""
        return _LAYOUT.pack(start, length, 0, kind, 0)

    def unpack_range(answer: bytes) -> tuple[int, int]:
        """Kind and start of the lock that the system told about."""
        start, _, _, kind, _ = _LAYOUT.unpack(answer)
        return kind, start

else:

    def pack_range(kind: int, start: int, length: int) -> bytes:
        """A request for `length` bytes at `start`; 0: however far."""
        return _LAYOUT.pack(kind, 0, start, length, 0)

    def unpack_range(answer: bytes) -> tuple[int, int]:
        """Kind and start of the lock that the system told about."""
        kind, _, start, _, _ = _LAYOUT.unpack(answer)
        return kind, start
