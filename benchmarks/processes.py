"""Forked children that are always reaped, and numbers shared with them."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from question import Answer

READY = b'r'


class Children:
    """Forked children; leaving the context kills and reaps the rest."""

    def __init__(self) -> None:
        self.pids: list[int] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        while self.pids:
            os.waitpid(self.pids.pop(), 0)

    def fork(self, work: Callable[[], None]) -> int:
        """Run `work` in a child of its own, return its process id."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                work()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        self.pids.append(pid)
        return pid

    def join(self) -> None:
        """Wait for every child; RuntimeError if one failed."""
        failures = 0
        while self.pids:
            _, status = os.waitpid(self.pids[-1], 0)
            self.pids.pop()
            failures += status != 0
        if failures:
            raise RuntimeError(f'{failures} children failed, see above')


class Gate:
    """A start line: the children say ready, then all start together."""

    def __init__(self) -> None:
        self.ready = os.pipe()
        self.start = os.pipe()

    def wait_at(self) -> None:
        """Say ready and wait for the start; called by a child."""
        os.close(self.start[1])
        os.write(self.ready[1], READY)
        os.read(self.start[0], 1)

    def gather(self, count: int) -> None:
        """Wait until `count` children are ready."""
        read_exactly(self.ready[0], count)

    def open(self) -> None:
        """Start them."""
        os.close(self.start[1])
        for fd in (*self.ready, self.start[0]):
            os.close(fd)


def read_exactly(fd: int, count: int) -> bytes:
    """Read `count` bytes; EOFError where the writers are gone."""
    received = b''
    while len(received) < count:
        chunk = os.read(fd, count - len(received))
        if not chunk:
            raise EOFError(f'{len(received)} of {count} bytes arrived')
        received += chunk
    return received


def shared_numbers(count: int) -> memoryview[int]:
    """`count` integers, at first 0, that forked children share."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast('q')


def processor_seconds(pid: int) -> float:
    """Processor time that a living process has used so far (Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


def in_a_child(work: Callable[[], Answer], seconds: float) -> Answer:
    """Return what `work` returns in a forked child; kill it when late."""
    receiver, sender = os.pipe()

    def report() -> None:
        os.close(receiver)
        with open(sender, 'w') as stream:
            json.dump(work(), stream)

    with Children() as children:
        children.fork(report)
        os.close(sender)
        with open(receiver) as stream:
            if not select.select([stream], [], [], seconds)[0]:
                raise TimeoutError(f'not finished after {seconds:g} s')
            text = stream.read()
        children.join()
    answer: Answer = json.loads(text)
    return answer
