"""What do the locks between the threads of one process cost?"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

import question

if TYPE_CHECKING:
    from collections.abc import Callable

    import rivals

MUTEX = 'with a mutex'
READ = 'with a reader lock'
EVENT = 'wait for an event that is set'
HAND_OFF = 'held 2 ms and retaken at once'
SLEEPING = '8 threads, 95 % readers, 200 us inside'
EMPTY = '8 threads, 95 % readers, nothing inside'
LONE_WRITER = '1 writer among 4 readers'
LONE_READER = '1 reader among 4 writers'

THREADING = 'threading'
PURE = 'pure'
NOT_PEERS = {THREADING, PURE, question.OURS}

BATCH_SECONDS = 0.02
BATCHES = 4
#: a waiter that is kept out of so many releases is given up
MOST_RELEASES = 500
HOLD_SECONDS = 0.002
BODY_SECONDS = 0.0002
THREADS = 8
#: every so many sections is a writer's
WRITES_EVERY = 20
CROWD = 4


def goal(limit: float, at_least: bool = False) -> question.Goal:
    """Return a goal."""
    return question.Goal(limit, at_least=at_least)


class Primitives(question.Question):
    """The primitives of `portalocker.pysync`, in C and in pure Python."""

    title = 'primitives between the threads of one process'
    rivals = (
        THREADING, question.OURS, PURE, 'fasteners', 'RWLockFair',
        'RWLockRead', 'RWLockWrite', 'aiologic',
    )  # fmt: skip
    goals: ClassVar[question.Goals] = {
        (MUTEX, 'x threading'): goal(0.35),
        (HAND_OFF, 'releases'): goal(3),
        (READ, 'x best peer'): goal(0.10),
        (SLEEPING, 'x threading'): goal(4.5, at_least=True),
        (EMPTY, 'x best peer'): goal(5, at_least=True),
        (EVENT, 'ns'): goal(30),
        (LONE_WRITER, 'worst wait ms'): goal(50),
        (LONE_READER, 'worst wait ms'): goal(50),
    }
    pure_goals: ClassVar[question.Goals] = {
        (MUTEX, 'x threading'): goal(0.75),
        (READ, 'x best peer'): goal(0.35),
    }

    def goal(self, rival: str, case: str, column: str) -> question.Goal | None:
        """Return the goal of the pure implementation, too."""
        if rival == PURE:
            return self.pure_goals.get((case, column))
        return super().goal(rival, case, column)

    def cases(self, quick: bool) -> list[question.Case]:
        """Return what is free first, then what is contended."""
        names = (
            MUTEX, READ, EVENT, HAND_OFF, SLEEPING, EMPTY,
            LONE_WRITER, LONE_READER,
        )  # fmt: skip
        return [question.Case(name) for name in names]

    def rounds(self, quick: bool) -> int:
        """Return how often the rivals take turns."""
        return 2 if quick else 5

    def measure(
        self,
        rival: rivals.Rival,
        case: question.Case,
        path: str,
        quick: bool,
    ) -> question.Answer:
        """Measure one case; nothing where the rival has no such lock."""
        seconds = 0.3 if quick else 1.0
        names = rival.between_threads()
        if case.name == MUTEX:
            return cost(names, 'with {mutex}: pass')
        if case.name == READ:
            is_exclusive = rival.name == THREADING
            return {} if is_exclusive else cost(names, 'with {read}: pass')
        if case.name == EVENT:
            return cost(names, '{wait}')
        if case.name == HAND_OFF:
            return hand_off(names)
        if case.name in {SLEEPING, EMPTY}:
            body = BODY_SECONDS if case.name == SLEEPING else 0
            return throughput(names, body, seconds)
        alone, crowd = (
            ('write', 'read')
            if case.name == LONE_WRITER
            else ('read', 'write')
        )
        return worst_wait(names, alone, crowd, seconds)

    def columns(
        self, answer: question.Answer, floor: question.Answer
    ) -> question.Columns:
        """Return the best time, the worst wait, the median throughput."""
        columns = {}
        if 'ns' in answer:
            columns['ns'] = min(answer['ns'])
        if 'releases' in answer:
            columns['releases'] = max(answer['releases'])
        if 'per second' in answer:
            ordered = sorted(answer['per second'])
            columns['per second'] = ordered[len(ordered) // 2]
        if 'worst wait ms' in answer:
            columns['worst wait ms'] = max(answer['worst wait ms'])
        return columns

    def compared(
        self, answer: question.Answer, answers: dict[str, question.Answer]
    ) -> question.Columns:
        """Add the ratios to `threading` and to the best of the peers."""
        columns = self.columns(answer, {})
        for name in ('ns', 'per second'):
            if name not in columns:
                continue
            others = {
                rival: self.columns(other, {})[name]
                for rival, other in answers.items()
                if other
            }
            peers = [
                others[rival] for rival in others if rival not in NOT_PEERS
            ]
            if THREADING in others:
                columns['x threading'] = columns[name] / others[THREADING]
            if peers:
                best = min(peers) if name == 'ns' else max(peers)
                columns['x best peer'] = columns[name] / best
        return columns


#: what a rival's locks are called, and the objects in it
Names = dict[str, Any]


def compiled(names: Names, template: str) -> Callable[..., Any] | None:
    """Return the function `work` of the template, with the rival's words.

    None where the rival has no word for something in it.
    """
    try:
        source = template.format_map(names['words'])
    except KeyError:
        return None
    scope = dict(names['objects'])
    exec(source, scope)
    function: Callable[..., Any] = scope['work']
    return function


TIMED_LOOP = """
def work(count, clock):
    numbers = range(count)
    start = clock()
    for _ in numbers:
        {statement}
    return clock() - start
"""


def cost(names: Names, statement: str) -> question.Answer:
    """Time the statement, less the loop around it: nanoseconds each."""
    loop = compiled(names, TIMED_LOOP.replace('{statement}', statement))
    empty = compiled(names, TIMED_LOOP.replace('{statement}', 'pass'))
    if loop is None or empty is None:
        return {}
    loop(100, time.perf_counter)
    once = loop(1000, time.perf_counter) / 1000
    count = 1 + int(BATCH_SECONDS / once)
    answers = []
    for _ in range(BATCHES):
        seconds = loop(count, time.perf_counter) - min(
            empty(count, time.perf_counter) for _ in range(3)
        )
        answers.append(1e9 * seconds / count)
    return {'ns': answers}


HAND_OFF_LOOP = """
def work(started, entered, hold, most):
    releases = 0
    with {mutex}:
        started.set()
        hold()
    while not entered and releases < most:
        releases += 1
        with {mutex}:
            hold()
    return releases
"""
WAITER = """
def work(started, entered):
    started.wait()
    with {mutex}:
        entered.append(True)
"""


def hand_off(names: Names) -> question.Answer:
    """Count the releases of a holder that retakes until a waiter is in."""
    holder = compiled(names, HAND_OFF_LOOP)
    waiter = compiled(names, WAITER)
    if holder is None or waiter is None:
        return {}
    started = threading.Event()
    entered: list[bool] = []
    thread = threading.Thread(target=waiter, args=(started, entered))
    thread.start()
    releases = holder(
        started, entered, lambda: time.sleep(HOLD_SECONDS), MOST_RELEASES
    )
    thread.join()
    return {'releases': [float(releases)]}


SECTIONS = """
def work(stopped, nth, every, body):
    count = 0
    while not stopped:
        nth += 1
        if nth % every:
            with {read}:
                {body}
        else:
            with {write}:
                {body}
        count += 1
    return count
"""


def throughput(names: Names, body: float, seconds: float) -> question.Answer:
    """Let the threads run sections for a while: how many in a second."""
    inside = f'body({body})' if body else 'pass'
    sections = compiled(names, SECTIONS.replace('{body}', inside))
    if sections is None:
        return {}
    stopped: list[bool] = []
    counts: list[int] = []

    def run(nth: int) -> None:
        counts.append(sections(stopped, nth, WRITES_EVERY, time.sleep))

    threads = [
        threading.Thread(target=run, args=(n * WRITES_EVERY // THREADS,))
        for n in range(THREADS)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stopped.append(True)
    for thread in threads:
        thread.join()
    return {
        'per second': [sum(counts) / (time.perf_counter() - start)],
    }


ONE_SECTION = """
def work(body):
    with {side}:
        body({seconds})
"""
TIMED_SECTION = """
def work(clock, body):
    start = clock()
    with {side}:
        waited = clock() - start
        body({seconds})
    return waited
"""


def worst_wait(
    names: Names, alone: str, crowd: str, seconds: float
) -> question.Answer:
    """Return the longest wait of one among a crowd of the other side."""

    def section(template: str, side: str) -> Callable[..., Any] | None:
        source = template.replace('{seconds}', str(BODY_SECONDS))
        return compiled(names, source.replace('{side}', f'{{{side}}}'))

    crowded = section(ONE_SECTION, crowd)
    lonely = section(TIMED_SECTION, alone)
    if crowded is None or lonely is None:
        return {}
    stopped: list[bool] = []
    waits: list[float] = []

    def throng() -> None:
        while not stopped:
            crowded(time.sleep)

    def wait() -> None:
        while not stopped:
            waits.append(lonely(time.perf_counter, time.sleep))

    threads = [threading.Thread(target=throng) for _ in range(CROWD)]
    threads.append(threading.Thread(target=wait))
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stopped.append(True)
    for thread in threads:
        thread.join()
    return {'worst wait ms': [1000 * max(waits)]}
