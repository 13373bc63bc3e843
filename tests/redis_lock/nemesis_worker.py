"""A worker for the nemesis: it takes the lock, writes, and writes it down.

    python nemesis_worker.py '{"port": ..., "directory": ..., ...}'

Ends when there is a file `stop`; whatever it did not expect is its exit.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import sys
import threading
import time
from typing import Any

import redis
from history import LOST, RELEASED, Journal
from register import Register

from portalocker import exceptions
from portalocker.redis import RedisLock

#: what a lock may raise while its server is broken
FAULTS = (redis.exceptions.RedisError, exceptions.AlreadyLocked)
#: seconds: only ever reached by a failure
LONG = 15.0

now = time.monotonic


class Worker:
    """One thread that comes and goes."""

    def __init__(
        self, client: Any, order: dict[str, Any], number: int
    ) -> None:
        self._directory = pathlib.Path(order['directory'])
        self._choices = random.Random(f'{order["seed"]} {number}')
        self._name = f'{os.getpid()} {number}'
        self._channel = order['channels'][number % len(order['channels'])]
        self._journal = Journal(self._directory / 'journal')
        self._register = Register(self._directory / self._channel)
        self._told: list[Any] = []
        self._lock = RedisLock(
            *(self._channel, client),
            timeout=2 * order['lease'],
            check_interval=0.05,
            lease=order['lease'],
            takeover=order['takeover'],
            on_lost=self._told.append,
        )

    def run(self) -> None:
        """Come and go until told to stop."""
        while not (self._directory / 'stop').exists():
            asked = now()
            try:
                self._lock.acquire()
            except FAULTS:
                time.sleep(self._choices.uniform(0, 0.02))
                continue
            self._hold(asked)

    def _hold(self, asked: float) -> None:
        got = now()
        token = self._lock.token
        self._told.clear()
        common = {
            'worker': self._name,
            'channel': self._channel,
            'token': token,
        }
        self._journal.write(**common, asked=asked, got=got)
        believed = self._work(token)
        left = now()
        try:
            self._lock.release()
            outcome = RELEASED
        except exceptions.LockLostError:
            outcome = LOST
            self._wait_until_told()
        self._journal.write(
            **common,
            believed=believed,
            left=left,
            outcome=outcome,
            told=len(self._told),
        )

    def _work(self, token: Any) -> tuple[float, float] | None:
        """Write, as the holder; since when and till when we believed."""
        try:
            self._lock.ensure_held()
            since = now()
            value = self._register.announce(token)
            time.sleep(self._choices.choice((0, 0, 0.002, 0.02)))
            if value is not None:
                self._register.write(token, value + 1)
            till = now()
            self._lock.ensure_held()
        except exceptions.LockLostError:
            return None
        return since, till

    def _wait_until_told(self) -> None:
        deadline = now() + LONG
        while not self._told and now() < deadline:
            time.sleep(0.001)


def main(order: dict[str, Any]) -> None:
    """Run the threads; raise what went wrong in one of them."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            Worker(client, order, number).run()
        except BaseException as failure:
            failures.append(failure)

    client = redis.Redis(
        host='127.0.0.1', port=order['port'], socket_timeout=order['lease']
    )
    threads = [
        threading.Thread(target=run, args=(order['number'] * 2 + n,))
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


if __name__ == '__main__':
    main(json.loads(sys.argv[1]))
