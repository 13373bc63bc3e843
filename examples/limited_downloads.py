"""Let at most two of many processes download at the same time."""

from __future__ import annotations

import multiprocessing
import os
import pathlib
import tempfile
import time

import portalocker


def download(folder: str, number: int) -> int:
    """Return how many downloads were under way, ours included."""
    slots = portalocker.NamedBoundedSemaphore(
        2, name='downloads', directory=folder, timeout=30
    )
    mark = pathlib.Path(folder, f'{number}.part')
    with slots:
        mark.touch()
        time.sleep(0.01)  # the bytes arrive
        under_way = sum(name.endswith('.part') for name in os.listdir(folder))
        mark.unlink()
    return under_way


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(folder, number) for number in range(12)]
        with multiprocessing.get_context('spawn').Pool(4) as pool:
            most = max(pool.starmap(download, jobs))
        print(f'{len(jobs)} downloads, never more than two:', most <= 2)


if __name__ == '__main__':
    main()
