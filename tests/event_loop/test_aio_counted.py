"""Every lock for an event loop reports to the wait counters."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
from aio_kinds import (
    KINDS,
    LONG,
    SHORT,
    blocking,
    every_kind,
    in_line,
    pass_through,
)

from portalocker import aio, wait_counters
from portalocker.exceptions import AlreadyLocked

CLASSES = {
    'lock': 'portalocker.Lock',
    'rlock': 'portalocker.RLock',
    'file_lock': 'pytorch.filelock',
    'read': 'portalocker.ReadSide',
    'write': 'portalocker.WriteSide',
    'semaphore': 'portalocker.BoundedSemaphore',
    'named_semaphore': 'portalocker.NamedBoundedSemaphore',
}


@pytest.fixture(autouse=True)
def counting() -> Iterator[None]:
    wait_counters.enable()
    yield
    wait_counters.disable()


class Counted:
    """What the counters of a name said more since it was made."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._before = self._read()

    def _read(self) -> dict[tuple[str, str], int]:
        snapshot = wait_counters.snapshot()
        return {
            (phase, field): getattr(snapshot[f'{self._name}.{phase}'], field)
            for phase in ('enter', 'region', 'exit')
            for field in (
                'active', 'started', 'timeouts', 'cancelled', 'errors',
                'contended',
            )
            if f'{self._name}.{phase}' in snapshot
        }  # fmt: skip

    def __call__(self, phase: str, field: str) -> int:
        key = phase, field
        return self._read().get(key, 0) - self._before.get(key, 0)


@every_kind
def test_hold_is_counted_from_acquire_to_release(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock, counted = KINDS[kind](path), Counted(CLASSES[kind])
        async with lock:
            assert counted('enter', 'started') == 1
            assert counted('region', 'active') == 1
            assert counted('exit', 'started') == 0
        assert counted('region', 'active') == 0
        assert counted('region', 'started') == 1
        assert counted('exit', 'started') == 1
        assert counted('enter', 'contended') == 0

    run(main)


@every_kind
@pytest.mark.parametrize('place', ['head', 'behind'])
def test_wait_is_counted_however_it_ends(
    kind: str, place: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        holder = blocking(kind, path)
        holder.counter_name = 'example.holder'
        holder.acquire()
        counted = Counted(CLASSES[kind])
        before = place == 'behind'
        async with anyio.create_task_group() as group:
            if before:
                group.start_soon(pass_through, KINDS[kind](path))
                await in_line(path, 1)
            with pytest.raises(AlreadyLocked):
                await KINDS[kind](path).acquire(timeout=SHORT)
            assert counted('enter', 'timeouts') == 1
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(pass_through, KINDS[kind](path))
                await in_line(path, before + 1)
                assert counted('enter', 'active') == before + 1
                cancelled.cancel_scope.cancel()
            assert counted('enter', 'cancelled') == 1
            group.start_soon(pass_through, KINDS[kind](path))
            await in_line(path, before + 1)
            holder.release()
        assert counted('enter', 'active') == 0
        assert counted('enter', 'contended') == 3 + before
        assert counted('enter', 'errors') == 0
        assert counted('enter', 'started') == 3 + before
        assert counted('region', 'started') == 1 + before
        assert counted('region', 'active') == 0

    run(main)


@every_kind
def test_refused_try_is_counted_as_contended(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        holder = blocking(kind, path)
        holder.counter_name = 'example.holder'
        holder.acquire()
        counted = Counted(CLASSES[kind])
        with pytest.raises(AlreadyLocked):
            await KINDS[kind](path).acquire(timeout=0)
        assert counted('enter', 'timeouts') == 1
        assert counted('enter', 'contended') == 1
        holder.release()

    run(main)


@pytest.mark.parametrize('kind', ['lock', 'rlock', 'file_lock', 'read'])
def test_nested_hold_is_one_region(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock, counted = KINDS[kind](path), Counted(CLASSES[kind])
        async with lock:
            await lock.acquire()
            assert counted('region', 'active') == 1
            if kind in ('rlock', 'file_lock'):
                lock.release()
        assert counted('region', 'started') == 1
        assert counted('region', 'active') == 0

    run(main)


def test_downgraded_hold_goes_on_as_one_of_the_writer(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        lock = aio.ReadWriteLock(path)
        wrote, read = (Counted(CLASSES[kind]) for kind in ('write', 'read'))
        async with lock.write():
            lock.downgrade()
        assert wrote('region', 'started') == 1
        assert wrote('region', 'active') == 0
        assert read('region', 'started') == 0
        assert read('region', 'active') == 0

    run(main)


def test_hold_of_a_dropped_lock_is_counted_no_more(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    async def main() -> None:
        counted = Counted(CLASSES['lock'])
        fh = await aio.Lock(path).acquire()
        assert counted('region', 'active') == 0
        fh.close()

    run(main)


@every_kind
def test_lock_of_another_name_reports_under_it(
    kind: str, path: pathlib.Path, run: Callable[..., Any]
) -> None:
    name = f'example.{path.parent.name}'

    async def main() -> None:
        lock = KINDS[kind](path)
        lock.counter_name = name
        usual, counted = Counted(CLASSES[kind]), Counted(name)
        async with lock:
            pass
        assert counted('region', 'started') == 1
        assert usual('enter', 'started') == 0

    run(main)


def test_subclass_reports_under_its_own_name(
    path: pathlib.Path, run: Callable[..., Any]
) -> None:
    class CacheLock(aio.Lock):
        pass

    async def main() -> None:
        counted = Counted('portalocker.CacheLock')
        async with CacheLock(path, timeout=LONG):
            assert counted('region', 'active') == 1

    run(main)
