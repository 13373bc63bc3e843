"""Update one file from several processes without losing an update.

Whoever opens the file through the lock has it alone until the block ends;
the others sleep and are woken, first come, first served.
"""

from __future__ import annotations

import multiprocessing
import pathlib
import tempfile

import portalocker


def add_one(counter: pathlib.Path) -> None:
    with portalocker.Lock(counter, 'r+', timeout=30) as fh:
        count = int(fh.read())
        fh.seek(0)
        fh.write(str(count + 1))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        counter = pathlib.Path(folder, 'counter')
        counter.write_text('0')
        with multiprocessing.get_context('spawn').Pool(3) as pool:
            pool.map(add_one, [counter] * 60)
        print('counted', counter.read_text())


if __name__ == '__main__':
    main()
