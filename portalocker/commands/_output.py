"""What a command tells: on a terminal of any kind, or into a pipe."""

from __future__ import annotations

import os
import sys

#: exit statuses
CANNOT_WRITE, NOBODY_READS = 2, 128 + 13  # as if SIGPIPE had ended us


def tell(text: str) -> None:
    """Print; what the terminal cannot show comes out as an escape.

    Raises `SystemExit` where nobody reads on, in silence, and where the text
    cannot be written, with the reason.
    """
    encoding = sys.stdout.encoding or 'utf-8'
    shown = text.encode(encoding, 'backslashreplace').decode(encoding)
    try:
        print(shown, flush=True)
    except BrokenPipeError:
        _forget_output()
        raise SystemExit(NOBODY_READS) from None
    except OSError as error:
        _forget_output()
        reason = f'portalocker: cannot write the output: {error.strerror}'
        print(reason, file=sys.stderr)
        raise SystemExit(CANNOT_WRITE) from None


def _forget_output() -> None:
    # or the interpreter would try again at its end, and complain
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
