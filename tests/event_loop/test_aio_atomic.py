"""open_atomic for an event loop: whole or not at all, also when cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from aio_steps import Steps

from portalocker import aio, utils
from portalocker.exceptions import DestinationExists

LONG = 15.0
BOTH = pytest.mark.parametrize('backend', ['asyncio', 'trio'])


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / 'file'


def run(backend: str, function: Callable[[], Awaitable[Any]]) -> Any:
    async def limited() -> Any:
        with anyio.fail_after(LONG):
            return await function()

    return anyio.run(limited, backend=backend)


def is_clean(path: pathlib.Path) -> bool:
    """Whether nothing but the file itself is there."""
    return set(path.parent.iterdir()) <= {path}


@BOTH
def test_file_appears_whole(path: pathlib.Path, backend: str) -> None:
    async def main() -> None:
        async with aio.open_atomic(path) as file:
            await file.write(b'all ')
            assert not await anyio.Path(path).exists()
            await file.write(b'of it')

    run(backend, main)
    assert path.read_bytes() == b'all of it'
    assert is_clean(path)


@BOTH
def test_options_are_those_of_the_blocking_one(
    path: pathlib.Path, backend: str
) -> None:
    path.write_text('old', encoding='ascii')

    async def main() -> None:
        with pytest.raises(DestinationExists):
            async with aio.open_atomic(path):
                pass
        async with aio.open_atomic(
            path, binary=False, overwrite=True, encoding='ascii', mode=0o600
        ) as file:
            await file.write('new')

    run(backend, main)
    assert path.read_text(encoding='ascii') == 'new'
    assert path.stat().st_mode & 0o777 == 0o600
    assert is_clean(path)
    with pytest.raises(TypeError):
        aio.open_atomic(path, unknown=True)


@BOTH
def test_block_that_fails_publishes_nothing(
    path: pathlib.Path, backend: str
) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            async with aio.open_atomic(path) as file:
                await file.write(b'half')
                raise ZeroDivisionError

    run(backend, main)
    assert not path.exists()
    assert is_clean(path)


@BOTH
def test_failed_publication_is_raised(
    path: pathlib.Path, backend: str
) -> None:
    async def main() -> None:
        with pytest.raises(DestinationExists):  # noqa: PT012
            async with aio.open_atomic(path) as file:
                await file.write(b'second')
                await anyio.Path(path).write_bytes(b'first')

    run(backend, main)
    assert path.read_bytes() == b'first'


@pytest.mark.parametrize('style', ['asyncio', 'natively', 'trio'])
def test_cancelled_at_any_wait_it_is_published_whole_or_not_at_all(
    path: pathlib.Path, style: str
) -> None:
    async def write() -> None:
        async with aio.open_atomic(path) as file:
            await file.write(b'whole')

    async def once(number: int) -> int:
        waits = 0

        async def body() -> None:
            nonlocal waits
            with anyio.CancelScope() as scope:
                task = asyncio.current_task() if style == 'natively' else None

                def at(n: int) -> None:
                    nonlocal waits
                    waits = n + 1
                    if n == number:
                        (task or scope).cancel()

                await Steps(write(), at)

        if style == 'natively':
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.create_task(body())
        else:
            await body()
        return waits

    async def main() -> None:
        number = 0
        while await once(number) > number:
            number += 1
            assert is_clean(path)
            if await anyio.Path(path).exists():
                assert await anyio.Path(path).read_bytes() == b'whole'
                await anyio.Path(path).unlink()
        assert number >= 3
        assert await anyio.Path(path).read_bytes() == b'whole'

    run('trio' if style == 'trio' else 'asyncio', main)


def test_publication_that_has_begun_is_brought_to_its_end(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    usual = utils.open_atomic.__exit__

    def slow(self: Any, *exc_info: Any) -> Any:
        begun.set()
        assert go_on.wait(LONG)
        return usual(self, *exc_info)

    monkeypatch.setattr(utils.open_atomic, '__exit__', slow)

    async def write() -> None:
        async with aio.open_atomic(path) as file:
            await file.write(b'whole')

    async def main() -> None:
        task = asyncio.create_task(write())
        await anyio.to_thread.run_sync(begun.wait)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run('asyncio', main)
    assert path.read_bytes() == b'whole'
