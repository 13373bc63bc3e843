"""Let many read at once, and one write alone.

Shared locks go together; an exclusive one waits until the last reader has
left, and readers that come later queue behind it.
"""

from __future__ import annotations

import pathlib
import tempfile

import portalocker
from portalocker import LockFlags

READING = LockFlags.SHARED | LockFlags.NON_BLOCKING


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = pathlib.Path(folder, 'settings.txt')
        settings.write_text('colour = green')
        first = portalocker.Lock(settings, 'r', flags=READING)
        second = portalocker.Lock(settings, 'r', flags=READING)
        with first as one, second as two:
            print('two readers:', one.read(), '/', two.read())
            try:
                portalocker.Lock(settings, 'r+', timeout=0).acquire()
            except portalocker.AlreadyLocked:
                print('a writer has to wait')
        with portalocker.Lock(settings, 'w') as fh:
            fh.write('colour = blue')
        print('written:', settings.read_text())


if __name__ == '__main__':
    main()
