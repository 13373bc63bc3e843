"""Write a file that readers see complete or not at all."""

from __future__ import annotations

import json
import pathlib
import tempfile

import portalocker


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, 'report.json')
        with portalocker.open_atomic(report, binary=False) as fh:
            json.dump({'rows': 3}, fh)
            print('while we write it exists:', report.exists())
        print('afterwards:', report.read_text())

        with portalocker.open_atomic(
            report, binary=False, overwrite=True
        ) as fh:
            json.dump({'rows': 4}, fh)
            print('while we write again:', report.read_text())
        print('afterwards:', report.read_text())


if __name__ == '__main__':
    main()
