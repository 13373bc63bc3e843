"""A program that holds a lock and ends in some way, for tests.

python program.py KIND PATH VERB... : each verb is done, then said; what ends
the program is said before it is done.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any

import locks


def say(word: object) -> None:
    os.write(1, f'{word}\n'.encode())


def hear() -> None:
    os.read(0, 1)


def fork_and(end: Any) -> None:
    """Have a forked child come to an end, and wait for it."""
    pid = os.fork()
    if pid == 0:
        end()
    os.waitpid(pid, 0)


def starve(kind: locks.Kind, path: Any, free: int) -> None:
    """Try to acquire with that many descriptors left."""
    with kind.make(path.with_name('another lock')):
        pass  # what is found out about the place is known by now
    limit = 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for _ in range(free):
        os.close(taken.pop())
    lock = kind.make(path, timeout=locks.SHORT)
    outcome = 'held'
    try:
        lock.acquire()
    except locks.portalocker.AlreadyLocked:
        outcome = 'AlreadyLocked None'
    except (OSError, locks.portalocker.LockException) as error:
        outcome = f'{type(error).__name__} {getattr(error, "errno", None)}'
    except BaseException as error:
        outcome = f'unexpected {error!r}'
    assert locks.handle(lock) is None
    for fd in taken:
        os.close(fd)
    say(outcome)


def main(name: str, text: str, *verbs: str) -> None:
    kind = locks.KIND_OF[name]
    path = locks.pathlib.Path(text)
    locks.set_locker(kind.locker)
    lock = kind.make(path)
    for verb in verbs:
        if verb == 'acquire':
            lock.acquire()
        elif verb == 'hear':
            hear()
        elif verb == 'child exits':
            fork_and(sys.exit)
        elif verb == 'child ends':
            fork_and(lambda: os._exit(0))
        elif verb.isdigit():
            starve(kind, path, int(verb))
        else:
            say(verb)
            end(verb)
        say(verb)


def end(verb: str) -> None:
    """Leave in a way that the verb tells."""
    if verb == 'return':
        sys.exit(0)
    if verb == 'fail':
        sys.stderr.close()
        raise ZeroDivisionError
    if verb == '_exit':
        os._exit(0)
    os.kill(os.getpid(), getattr(signal, verb))


if __name__ == '__main__':
    main(*sys.argv[1:])
