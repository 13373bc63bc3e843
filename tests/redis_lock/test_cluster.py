"""The lock through a cluster, and through Sentinel."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from servers import ports, redis_server
from test_redis_lock import LONG, eventually, in_thread, kill_session

from portalocker import exceptions
from portalocker.redis import RedisLock, RedisMultiLock, close_sessions

redis = pytest.importorskip('redis')


@pytest.fixture(scope='module')
def nodes(
    running: dict[str, redis_server.RedisServer],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[redis_server.RedisServer]]:
    """Two nodes that share the slots."""
    if 'valkey' not in running:
        pytest.skip('valkey is missing')
    servers = []
    try:
        for n in range(2):
            folder = tmp_path_factory.mktemp(f'node{n}')
            server = redis_server.RedisServer(
                running['valkey'].program,
                *('--cluster-enabled', 'yes', '--dir', str(folder)),
                *('--cluster-port', str(ports.free_port())),
            )
            server.start()
            servers.append(server)
        _join(servers)
        yield servers
    finally:
        for server in servers:
            server.kill()


def _join(servers: list[redis_server.RedisServer]) -> None:
    first, second = (redis.Redis(port=server.port) for server in servers)
    with first, second:
        first.execute_command('CLUSTER', 'ADDSLOTSRANGE', 0, 8191)
        second.execute_command('CLUSTER', 'ADDSLOTSRANGE', 8192, 16383)
        bus = servers[1].options[
            servers[1].options.index('--cluster-port') + 1
        ]
        first.execute_command(
            'CLUSTER', 'MEET', '127.0.0.1', servers[1].port, bus
        )
        for client in (first, second):
            eventually(
                lambda client=client: (
                    b'cluster_state:ok' in _info(client)
                    and b'cluster_known_nodes:2' in _info(client)
                )
            )


def _info(client: Any) -> bytes:
    text = client.execute_command('CLUSTER INFO')
    if isinstance(text, dict):
        return ' '.join(f'{k}:{v}' for k, v in text.items()).encode()
    return text if isinstance(text, bytes) else str(text).encode()


@pytest.fixture
def cluster(nodes: list[redis_server.RedisServer]) -> Iterator[Any]:
    client = redis.RedisCluster(host='127.0.0.1', port=nodes[0].port)
    yield client
    close_sessions()
    client.close()


def test_locks_on_every_node(cluster: Any, channel: str) -> None:
    locks = [RedisLock(f'{channel} {n}', cluster) for n in range(8)]
    for lock in locks:
        lock.acquire()
        lock.verify()
        assert not RedisLock(lock.channel, cluster).try_acquire()
    assert len({id(lock.pubsub) for lock in locks}) == 2
    for lock in locks:
        lock.release()


def test_waiter_is_woken_and_dead_holders_are_passed(
    cluster: Any, channel: str
) -> None:
    first = RedisLock(channel, cluster).acquire()
    second = RedisLock(channel, cluster)
    with in_thread(
        lambda: second.acquire(timeout=10 * LONG, check_interval=10 * LONG)
    ) as results:
        eventually(first.waiters)
        first.release()
        eventually(lambda: results)
    node = cluster.get_redis_connection(
        cluster.get_node_from_key(second._order.keys[0].decode())
    )
    kill_session(node, second)
    with RedisLock(channel, cluster, timeout=LONG):
        pass
    with pytest.raises(exceptions.LockLostError):
        second.release()


def test_multi_lock_needs_one_hash_tag(cluster: Any, channel: str) -> None:
    names = [f'{{{channel}}} {n}' for n in range(3)]
    with RedisMultiLock(names, cluster):
        assert not RedisLock(names[1], cluster).try_acquire()
    with RedisLock(names[1], cluster):
        pass
    with pytest.raises(ValueError, match='hash tag'):
        RedisMultiLock([channel, channel + 'x'], cluster).acquire()


def test_short_lease_is_renewed(cluster: Any, channel: str) -> None:
    with RedisLock(channel, cluster, lease=0.3) as lock:
        claim = lock._current()
        assert claim is not None
        contact = claim.hold.contact
        eventually(lambda: claim.hold.contact > contact)


@pytest.fixture
def sentinel(
    own_server: redis_server.RedisServer, tmp_path: pathlib.Path
) -> Iterator[int]:
    port = ports.free_port()
    config = tmp_path / 'sentinel.conf'
    config.write_text(
        f'port {port}\nbind 127.0.0.1\ndir {tmp_path}\n'
        f'sentinel monitor main 127.0.0.1 {own_server.port} 1\n'
    )
    process = subprocess.Popen(
        [own_server.program, str(config), '--sentinel'],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + LONG
        while not redis_server.RedisServer(
            own_server.program, port=port
        ).answers():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def test_sentinel_leads_to_the_master(sentinel: int, channel: str) -> None:
    from redis.sentinel import Sentinel

    guard = Sentinel([('127.0.0.1', sentinel)])
    master = guard.master_for('main')
    with RedisLock(channel, master) as lock:
        lock.verify()
        assert not RedisLock(channel, master).try_acquire()
    close_sessions()
    master.close()
    for found in guard.sentinels:
        found.close()
