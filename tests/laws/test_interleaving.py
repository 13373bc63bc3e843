"""Another thread comes by at each step of what one thread does."""

from __future__ import annotations

import itertools
import pathlib
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from locks import LONG, SHORT, handle, law, try_to_hold

import portalocker

_PACKAGE = str(pathlib.Path(portalocker.__file__).parent)

NOT_ALONE = 'it is not held alone'
ONE_PLACE = 'one object holds one place: AlreadyActive'
SAME_PROCESS = 'these locks belong to the process'
LOOP = 'tasks of one loop run between its steps'


class Visitor:
    """A thread that does what it is told, and is not waited for if it waits.

    What it does may need what the thread has that was stopped in a step.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._unfinished = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for job in iter(self._jobs.get, None):
            try:
                self._done.put((job(), None))
            except BaseException as error:
                self._done.put((None, error))

    def sends(self, job: Callable[[], Any]) -> None:
        """Begin it; wait for its end, but not if it cannot come now."""
        self._jobs.put(job)
        self._unfinished += 1
        self._wait(SHORT)

    def _wait(self, seconds: float) -> bool:
        try:
            _, error = self._done.get(timeout=seconds)
        except queue.Empty:
            return False
        self._unfinished -= 1
        if error is not None:
            raise error
        return True

    def finish(self) -> None:
        """Wait until all is done that was begun."""
        while self._unfinished:
            assert self._wait(LONG), 'the visitor waits for ever'

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(LONG)


class Stop:
    """A `with` block whose n-th line in our package `visit` comes before."""

    def __init__(self, nth: int, visit: Callable[[], object]) -> None:
        self._left = nth
        self._visit = visit
        self.place = ''

    def __enter__(self) -> None:
        sys.settrace(self._trace)

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        if event == 'line':
            self._left -= 1
            if self._left == -1:
                name = pathlib.Path(frame.f_code.co_filename).name
                self.place = f'{name}:{frame.f_lineno}'
                sys.settrace(None)
                self._visit()
        return None if self.place else self._trace


@pytest.fixture
def visitor() -> Iterator[Visitor]:
    visitor = Visitor()
    yield visitor
    visitor.close()


def comes_and_goes(lock: Any, inside: list[str]) -> None:
    if try_to_hold(lock):
        meet_nobody(inside)
        lock.release()


def comes_and_stays(lock: Any, inside: list[str]) -> None:
    if try_to_hold(lock):
        inside.append('visitor')
        assert len(inside) == 1


def leaves(lock: Any, inside: list[str]) -> None:
    if inside:
        inside.remove('visitor')
        lock.release()


def meet_nobody(inside: list[str]) -> None:
    """Be inside for a moment, alone."""
    inside.append('we')
    assert len(inside) == 1
    inside.remove('we')


VISITS = (comes_and_goes, comes_and_stays)
visits = pytest.mark.parametrize('visit', VISITS, ids=lambda v: v.__name__)


@visits
@law(readers=NOT_ALONE, semaphores=ONE_PLACE, of_process=SAME_PROCESS,
     tasks=LOOP)  # fmt: skip
def test_thread_may_come_at_any_step_with_the_same_object(
    kind, path, visitor, visit
) -> None:
    lock = kind.make(path)
    come_by_at_each_step(visitor, lock, lock, visit)


@visits
@law(readers=NOT_ALONE, of_process=SAME_PROCESS, tasks=LOOP)
def test_thread_may_come_at_any_step_with_another_object(
    kind, path, visitor, visit
) -> None:
    come_by_at_each_step(visitor, kind.make(path), kind.make(path), visit)


def come_by_at_each_step(
    visitor: Visitor, lock: Any, other: Any, visit: Callable[..., None]
) -> None:
    """Take and release `lock`; each time one step later visit with `other`."""
    inside: list[str] = []
    for step in itertools.count():
        stop = Stop(step, lambda: visitor.sends(lambda: visit(other, inside)))
        with stop:
            is_ours = try_to_hold(lock)
        if is_ours:
            meet_nobody(inside)
            with stop:
                lock.release()
        visitor.finish()
        visitor.sends(lambda: leaves(other, inside))
        visitor.finish()
        assert try_to_hold(lock), stop.place
        lock.release()
        assert handle(lock) is None
        if not stop.place:
            assert step > 5
            return
