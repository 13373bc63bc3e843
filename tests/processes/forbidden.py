"""Have the kernel refuse system calls of this process, as sandboxes do.

Source: seccomp(2), with the classic BPF of its filters.
"""

from __future__ import annotations

import ctypes
import os
import struct

# <linux/audit.h>, and the numbers of what a waiter calls
_NUMBERS = {
    'x86_64': {
        'socket': 41,
        'bind': 49,
        'fcntl': 72,
        'inotify_add_watch': 254,
        'inotify_init1': 294,
    },
    'aarch64': {
        'fcntl': 25,
        'inotify_init1': 26,
        'inotify_add_watch': 27,
        'socket': 198,
        'bind': 200,
    },
}
KNOWN = _NUMBERS.get(os.uname().machine, {})

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_MODE_FILTER = 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER_AT, _SECOND_ARGUMENT_AT = 0, 24  # in struct seccomp_data


class _Program(ctypes.Structure):
    _fields_ = [
        ('length', ctypes.c_ushort),
        ('steps', ctypes.c_char_p),
    ]


def forbid(call: str, error: int, second_argument: int | None = None) -> None:
    """Let `call` fail with `error` from now on; there is no way back."""
    steps = [
        (_LOAD, 0, 0, _NUMBER_AT),
        (_JUMP_IF_EQUAL, 0, 1, KNOWN[call]),
        (_RETURN, 0, 0, _REFUSE | error),
        (_RETURN, 0, 0, _ALLOW),
    ]
    if second_argument is not None:
        steps[1:2] = [
            (_JUMP_IF_EQUAL, 0, 3, KNOWN[call]),
            (_LOAD, 0, 0, _SECOND_ARGUMENT_AT),
            (_JUMP_IF_EQUAL, 0, 1, second_argument),
        ]
    code = b''.join(struct.pack('HBBI', *step) for step in steps)
    program = _Program(len(steps), code)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value, pointer in (
        (_PR_SET_NO_NEW_PRIVS, 1, None),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program)),
    ):
        if libc.prctl(option, value, pointer, 0, 0):
            number = ctypes.get_errno()
            raise OSError(number, f'no filter: {os.strerror(number)}')
