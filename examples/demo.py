"""Watch five processes hand one lock to each other, and one of them die.

Each process adds to a counter in a file, which goes wrong as soon as two of
them do it at once. Process C is killed while it holds the lock. The log is
put together from what the processes saw on the one clock they share.

Run it: python examples/demo.py
"""

from __future__ import annotations

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import typing

import portalocker

NAMES = 'ABCDE'
ROUNDS = 5
WORK_SECONDS = 0.02
THINK_SECONDS = 0.01
VICTIM = 'C'
FATAL_ROUND = 2
#: the file that says the victim is dead: until then the others go on
OBITUARY = 'obituary.txt'


# -- what each of the five processes does --


def work(name: str, folder: pathlib.Path) -> None:
    """Take the lock ROUNDS times or more, count, and tell when we did."""
    tell('ready')
    sys.stdin.readline()
    lock = portalocker.Lock(folder / 'demo.lock')  # default settings
    round_number = 0
    while round_number < ROUNDS or not (folder / OBITUARY).exists():
        round_number += 1
        tell('waits')
        with lock:
            tell('holds')
            if name == VICTIM and round_number == FATAL_ROUND:
                time.sleep(60)  # we are killed meanwhile
            add_one(folder / 'counter.txt')
            left = now()
        tell('leaves', left)
        time.sleep(THINK_SECONDS)


def add_one(counter: pathlib.Path) -> None:
    """Read, take our time, write: two at once would lose an update."""
    count = int(counter.read_text())
    time.sleep(WORK_SECONDS)
    counter.write_text(str(count + 1))


def now() -> int:
    """Nanoseconds on the clock that all processes share."""
    return time.perf_counter_ns()


def tell(word: str, at: int | None = None) -> None:
    """Report to the process that started us."""
    print(word, now() if at is None else at, flush=True)


# -- the process that starts them, kills one, and tells the story --


class Event(typing.NamedTuple):
    """Something a process did."""

    at: int
    word: str
    name: str


def start(folder: pathlib.Path) -> dict[str, subprocess.Popen[str]]:
    """Start all processes and let them go at once."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, __file__, name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in NAMES
    }
    for process in processes.values():
        read_word(process)
    for process in processes.values():
        assert process.stdin is not None
        process.stdin.write('go\n')
        process.stdin.flush()
    return processes


def read_word(process: subprocess.Popen[str]) -> tuple[str, int]:
    """Read one report of a process."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit('a process ended before its time')
    word, at = line.split()
    return word, int(at)


def kill_while_it_holds(
    victim: subprocess.Popen[str], folder: pathlib.Path
) -> tuple[list[Event], str]:
    """Kill the victim once it holds; return its story, what we were told."""
    events: list[Event] = []
    while sum(event.word == 'holds' for event in events) < FATAL_ROUND:
        word, at = read_word(victim)
        events.append(Event(at, word, VICTIM))
    time.sleep(WORK_SECONDS)  # so that the others come and wait
    try:
        with portalocker.Lock(folder / 'demo.lock', fail_when_locked=True):
            told = 'the lock is yours'
    except portalocker.AlreadyLocked as error:
        pids = ', '.join(f'pid {holder.pid}' for holder in error.holders)
        told = f'held by {pids or "somebody"}'
    events.append(Event(now(), 'killed', VICTIM))
    victim.kill()
    (folder / OBITUARY).touch()
    return events, told


def run(folder: pathlib.Path) -> tuple[list[Event], dict[str, int], str]:
    """Run it all; return what happened, process ids, what we were told."""
    (folder / 'counter.txt').write_text('0')
    processes = start(folder)
    victim = processes[VICTIM]
    try:
        events, told = kill_while_it_holds(victim, folder)
        for name, process in processes.items():
            output, _ = process.communicate(timeout=30)
            for line in output.splitlines():
                word, at = line.split()
                events.append(Event(int(at), word, name))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    pids = {name: process.pid for name, process in processes.items()}
    return sorted(events), pids, told


class Story:
    """The log, told event by event."""

    def __init__(self, pids: dict[str, int], began_at: int) -> None:
        self.pids = pids
        self.began_at = began_at
        self.waiting_since: dict[str, int] = {}
        self.holding: str | None = None
        self.freed_at: int | None = None
        #: milliseconds from a release, or a death, to the next holder
        self.handoffs: list[float] = []
        self.holdings = 0
        self.two_held_at_once = False

    def print_heading(self) -> None:
        """Name the columns."""
        print(f'{"at ms":>8}  {"who":>3}  {"pid":>7}  {"hand-off":>9}  event')

    def print_row(self, event: Event, text: str, handoff: str = '') -> None:
        """Print one line of the log."""
        at = (event.at - self.began_at) / 1e6
        pid = self.pids[event.name]
        print(f'{at:8.2f}  {event.name:>3}  {pid:>7}  {handoff:>9}  {text}')

    def tell(self, event: Event, told: str) -> None:
        """Take the next event in."""
        if event.word == 'waits':
            self.waiting_since[event.name] = event.at
        elif event.word == 'holds':
            self.tell_holds(event)
        elif event.word in {'leaves', 'killed'}:
            self.holding, self.freed_at = None, event.at
            if event.word == 'killed':
                self.print_row(event, f'a newcomer is told: {told}')
                self.print_row(event, 'KILLED while it holds')

    def tell_holds(self, event: Event) -> None:
        """Somebody has got the lock."""
        came_at = self.waiting_since.pop(event.name)
        handoff = ''
        if self.freed_at is not None and came_at < self.freed_at:
            self.handoffs.append((event.at - self.freed_at) / 1e6)
            handoff = f'{self.handoffs[-1]:.3f} ms'
        self.two_held_at_once |= self.holding is not None
        self.holding = event.name
        self.holdings += 1
        waiting = ' '.join(self.waiting_since) or 'nobody'
        self.print_row(event, f'holds; waiting: {waiting}', handoff)


def main() -> int:
    """Run the demonstration; 1 if two ever held at once."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        events, pids, told = run(folder)
        count = int((folder / 'counter.txt').read_text())
    story = Story(pids, events[0].at)
    story.print_heading()
    for event in events:
        story.tell(event, told)
    print(
        f'{len(story.handoffs)} hand-offs: '
        f'median {statistics.median(story.handoffs):.3f} ms, '
        f'worst {max(story.handoffs):.3f} ms'
    )
    expected = story.holdings - 1  # the victim died before it counted
    if story.two_held_at_once or count != expected:
        print(f'EXCLUSION BROKEN: counter is {count}, expected {expected}')
        return 1
    print(
        f'exclusion held: counter is {count} after {expected} sections, '
        'no two processes held at once'
    )
    return 0


if __name__ == '__main__':
    if len(sys.argv) > 1:
        work(sys.argv[1], pathlib.Path(sys.argv[2]))
    else:
        sys.exit(main())
