"""Workers contend while everything is broken at random.

A few seconds in every run of the tests; minutes where PORTALOCKER_STRESS=1,
as many seconds as PORTALOCKER_STRESS_SECONDS says (120). The seed is printed;
PORTALOCKER_STRESS_SEED repeats the choices, if not the moments.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import history
import pytest
from history import LOST, RELEASED, Hold, Violation
from register import DuplicateToken, Register
from servers import redis_server
from servers.proxy import BOTH, CLIENT, SERVER, Proxy
from test_redis_lock import LONG, in_thread

from portalocker.redis import RedisLock, close_sessions

redis = pytest.importorskip('redis')

IS_LONG = os.environ.get('PORTALOCKER_STRESS') == '1'
SECONDS = (
    float(os.environ.get('PORTALOCKER_STRESS_SECONDS', '120'))
    if IS_LONG
    else 2.0
)
SEED = int(os.environ.get('PORTALOCKER_STRESS_SEED', '0')) or (
    random.SystemRandom().randrange(1 << 32)
)
WORKERS = 4
CHANNELS = ('one', 'another')
LEASE = 1.0
WORKER = pathlib.Path(__file__).with_name('nemesis_worker.py')


class Nemesis:
    """Starts workers, and breaks them, their server, and what is between."""

    def __init__(
        self,
        server: redis_server.RedisServer,
        proxy: Proxy,
        directory: pathlib.Path,
        takeover: str,
    ) -> None:
        self._server = server
        self._proxy = proxy
        self._directory = directory
        self._takeover = takeover
        self._started = 0
        self._workers: list[subprocess.Popen[bytes]] = []
        self._client = redis.Redis(port=server.port, socket_timeout=LONG)
        #: deed -> how often
        self.deeds: collections.Counter[str] = collections.Counter()
        self._of_hand = threading.local()

    def start_worker(self) -> None:
        """Start one, every other one behind the proxy."""
        port = (self._server.port, self._proxy.port)[self._started % 2]
        order = {
            'port': port,
            'directory': str(self._directory),
            'channels': CHANNELS,
            'lease': LEASE,
            'takeover': self._takeover,
            'seed': SEED,
            'number': self._started,
        }
        self._started += 1
        self._workers.append(
            subprocess.Popen([sys.executable, WORKER, json.dumps(order)])
        )

    def strike(self, hand: str, deeds: list[str], end: float) -> None:
        """Do one of these after the other."""
        self._of_hand.choices = random.Random(f'{SEED} {hand}')
        while time.monotonic() < end:
            deed = self._choices.choice(deeds)
            getattr(self, deed)()
            self.deeds[deed] += 1
            self._pause(0.1)

    @property
    def _choices(self) -> random.Random:
        """Of each hand its own."""
        choices: random.Random = self._of_hand.choices
        return choices

    def _pause(self, most: float) -> None:
        time.sleep(self._choices.uniform(0, most))

    def kill_worker(self) -> None:
        worker = self._choices.choice(self._workers)
        self._workers.remove(worker)
        worker.kill()
        assert worker.wait() == -signal.SIGKILL, 'it had failed before'
        self.start_worker()

    def stop_worker(self) -> None:
        worker = self._choices.choice(self._workers)
        worker.send_signal(signal.SIGSTOP)
        self._pause(2 * LEASE)
        worker.send_signal(signal.SIGCONT)

    def kill_session(self) -> None:
        self._kill_client('pubsub')

    def kill_client(self) -> None:
        self._kill_client('normal')

    def _kill_client(self, kind: str) -> None:
        found = [
            known['id']
            for known in self._client.client_list(_type=kind)
            if int(known['id']) != self._client.client_id()
        ]
        if found:
            self._client.client_kill_filter(_id=self._choices.choice(found))

    def flush_scripts(self) -> None:
        self._client.script_flush()

    def stop_server(self) -> None:
        self._server.stop()
        self._pause(1.2 * LEASE)
        self._server.go_on()

    def flush_data(self) -> None:
        self._client.flushall()

    def restart_server(self) -> None:
        self._server.kill()
        self._pause(0.1)
        self._server.start()

    def partition(self) -> None:
        break_it = self._choices.choice((self._proxy.hold, self._proxy.lose))
        break_it(self._choices.choice((BOTH, CLIENT, SERVER)))
        self._pause(1.5 * LEASE)
        self._proxy.heal()

    def reset(self) -> None:
        self._proxy.reset()

    def finish(self) -> None:
        """Let the workers come to an end; none may have failed."""
        (self._directory / 'stop').touch()
        for worker in self._workers:
            assert worker.wait(4 * LONG) == 0
        self._workers.clear()
        self._client.close()

    def end(self) -> None:
        """However it went, nobody is left."""
        for worker in self._workers:
            worker.kill()
            worker.wait()
        self._client.close()


TO_WORKERS = ['kill_worker', 'stop_worker']
#: what `takeover='safe'` excludes under, without any window
MILD = [
    *('kill_session', 'kill_client', 'flush_scripts', 'stop_server'),
    *('partition', 'reset'),
]
EVERYTHING = [*MILD, 'flush_data', 'restart_server']


@pytest.fixture
def proxy(own_server: redis_server.RedisServer) -> Iterator[Proxy]:
    with Proxy(('127.0.0.1', own_server.port)) as proxy:
        yield proxy


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize(
    ('deeds', 'takeover'),
    [(EVERYTHING, 'immediate'), (MILD, 'safe')],
    ids=['everything', 'safe'],
)
def test_promises_hold_whatever_breaks(
    own_server: redis_server.RedisServer,
    proxy: Proxy,
    tmp_path: pathlib.Path,
    deeds: list[str],
    takeover: str,
) -> None:
    print('seed', SEED)
    nemesis = Nemesis(own_server, proxy, tmp_path, takeover)
    journal = tmp_path / 'journal'
    try:
        for _ in range(WORKERS):
            nemesis.start_worker()
        until_working(journal)
        end = time.monotonic() + SECONDS
        with in_thread(
            lambda: nemesis.strike('left', TO_WORKERS, end)
        ) as outcome:
            nemesis.strike('right', deeds, end)
        assert outcome == [None]
        nemesis.finish()
    finally:
        nemesis.end()
    holds = history.read(journal)
    history.check(holds, is_strict=takeover == 'safe')
    tell(nemesis, holds, check_registers(tmp_path))
    with redis.Redis(port=own_server.port) as client:
        for channel in CHANNELS:
            with RedisLock(channel, client, timeout=LONG) as lock:
                assert lock.token > max(hold.token for hold in holds)
        close_sessions()


def until_working(journal: pathlib.Path) -> None:
    deadline = time.monotonic() + LONG
    while not journal.exists() or journal.stat().st_size < 1000:
        assert time.monotonic() < deadline, 'nobody gets anywhere'
        time.sleep(0.01)


def check_registers(directory: pathlib.Path) -> tuple[int, int]:
    """No update is lost; how many were accepted and refused."""
    accepted, refused = 0, 0
    for channel in CHANNELS:
        register = Register(directory / channel)
        value, writes, stale = register.totals()
        register.close()
        assert value == writes, f'{writes - value} updates are lost'
        accepted += writes
        refused += stale
    return accepted, refused


def tell(nemesis: Nemesis, holds: list[Hold], writes: tuple[int, int]) -> None:
    outcomes = collections.Counter(hold.outcome for hold in holds)
    print(
        f'{len(holds)} grants: {outcomes[RELEASED]} released, '
        f'{outcomes[LOST]} lost and told, {outcomes[None]} died with their '
        f'workers; {writes[0]} writes, {writes[1]} refused as stale'
    )
    print(', '.join(f'{n} {deed}' for deed, n in nemesis.deeds.items()))
    assert outcomes[RELEASED]


# The judges are judged: each finds what it is there for


def a_hold(token: int, asked: float, got: float, **facts: Any) -> Hold:
    return Hold(f'worker {token}', 'one', token, asked, got, **facts)


FINE = [
    a_hold(10, 0, 1, left=2, outcome=RELEASED, believed=(1, 2)),
    a_hold(20, 0, 3, left=5, outcome=LOST, told=1, believed=(3, 4)),
    a_hold(30, 1, 5, left=6, outcome=RELEASED, believed=(5, 6)),
    a_hold(40, 6, 7),
]


def test_history_without_a_fault_is_fine() -> None:
    history.check(FINE, is_strict=True)


@pytest.mark.parametrize(
    ('strange', 'complaint'),
    [
        (a_hold(30, 1, 6), 'have the token'),
        (a_hold(0, 8, 9), 'came after'),
        (a_hold(5, 0, 4, left=8, outcome=RELEASED), 'before .* left'),
        (a_hold(50, 8, 9, left=9, outcome=LOST), 'told 0 times'),
        (a_hold(50, 8, 9, left=9, outcome=LOST, told=2), 'told 2 times'),
        (a_hold(25, 1, 3.5, believed=(3.5, 3.8)), 'both believed'),
    ],
)
def test_history_with_a_fault_is_not(strange: Hold, complaint: str) -> None:
    with pytest.raises(Violation, match=complaint):
        history.check([*FINE, strange], is_strict=True)


def test_register_refuses_what_is_stale(tmp_path: pathlib.Path) -> None:
    register = Register(tmp_path / 'register')
    with contextlib.closing(register):
        assert register.announce(5) == 0
        assert register.write(5, 1)
        assert register.announce(7) == 1
        assert not register.write(5, 2)
        assert register.announce(6) is None
        with pytest.raises(DuplicateToken):
            register.announce(7)
        assert register.totals() == (1, 1, 2)
