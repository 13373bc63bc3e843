"""The lock through a cluster."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from servers import ports, redis_server
from test_redis_lock import LONG, eventually, in_thread, kill_session

from portalocker import exceptions
from portalocker._redis_scripts import base_of
from portalocker.aio import AsyncRedisLock, AsyncRedisMultiLock
from portalocker.redis import RedisLock, RedisMultiLock, close_sessions

redis = pytest.importorskip('redis')

#: seconds: long enough to be renewed on a loaded machine
LEASE = 1.0


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
                *('--cluster-require-full-coverage', 'no'),
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


def test_tasks_lock_on_every_node(
    nodes: list[redis_server.RedisServer], cluster: Any, channel: str
) -> None:
    async def main() -> None:
        client = redis.asyncio.RedisCluster(
            host='127.0.0.1', port=nodes[1].port
        )
        names = [f'{{{channel} {n}}}:a' for n in range(8)]
        locks = [AsyncRedisLock(name, client) for name in names]
        for lock in locks:
            await lock.acquire()
            await lock.verify()
            assert not RedisLock(lock.channel, cluster).try_acquire()
        assert len({id(lock.pubsub) for lock in locks}) == 2
        waiter = AsyncRedisLock(names[0], client, timeout=LONG)
        waiting = asyncio.ensure_future(waiter.acquire())
        while not await locks[0].waiters():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        for lock in locks:
            await lock.release()
        await waiting
        await waiter.release()
        both = AsyncRedisMultiLock([names[0], f'{{{channel} 0}}:b'], client)
        async with both:
            assert len(both.token) == 2
        with pytest.raises(ValueError, match='share one hash tag'):
            await AsyncRedisMultiLock(names, client).acquire()
        await client.aclose()

    asyncio.run(main())


def test_older_releases_are_no_matter_in_a_cluster(
    cluster: Any, channel: str
) -> None:
    with pytest.raises(ValueError, match='in a cluster'):
        RedisLock(channel, cluster, legacy_compat=True).acquire()


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


def test_session_that_has_not_noticed_its_end_is_replaced(
    cluster: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisLock(channel, cluster) as lock:
        session: Any = lock.pubsub
        node = cluster.get_redis_connection(
            cluster.get_node_from_key(lock._order.keys[0].decode())
        )
        real, noticed = session._receive, threading.Event()
        monkeypatch.setattr(
            session, '_receive', lambda: noticed.wait(LONG) and real()
        )
        session.attend()
        kill_session(node, lock)
        asked = len(session._outbox)
        again = RedisLock(channel, cluster)
        with in_thread(lambda: again.acquire(timeout=LONG)) as results:
            eventually(lambda: results or len(session._outbox) > asked)
            assert not results
            noticed.set()
        assert results == [again]
        assert again.pubsub is not session
        again.release()
        with pytest.raises(exceptions.LockLostError):
            lock.release()


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


class Migration:
    """A slot on its way from the first node to the second."""

    def __init__(
        self, nodes: list[redis_server.RedisServer], cluster: Any, key: str
    ) -> None:
        self.slot = cluster.keyslot(key)
        self.links = [redis.Redis(port=node.port) for node in nodes]
        self.names = [self._of(n, 'MYID').decode() for n in range(2)]
        self.port = nodes[1].port

    def _of(self, n: int, *words: object) -> Any:
        return self.links[n].execute_command('CLUSTER', *words)

    def begin(self) -> None:
        """Both know of it; the keys have moved, the slot has not."""
        self._of(1, 'SETSLOT', self.slot, 'IMPORTING', self.names[0])
        self._of(0, 'SETSLOT', self.slot, 'MIGRATING', self.names[1])
        keys = self._of(0, 'GETKEYSINSLOT', self.slot, 100)
        assert keys, 'the lock is held: it has keys'
        self.links[0].execute_command(
            *('MIGRATE', '127.0.0.1', self.port, '', 0, 5000, 'KEYS', *keys)
        )

    def end(self) -> None:
        """The second node has the slot, the first one knows."""
        for n in (1, 0):
            self._of(n, 'SETSLOT', self.slot, 'NODE', self.names[1])

    def undo(self) -> None:
        """The first node has the slot again."""
        self.end()
        for key in self._of(1, 'GETKEYSINSLOT', self.slot, 100):
            self.links[1].delete(key)
        # as it went: who imports a slot has the last word among the nodes
        self._of(0, 'SETSLOT', self.slot, 'IMPORTING', self.names[1])
        self._of(1, 'SETSLOT', self.slot, 'MIGRATING', self.names[0])
        for n in (0, 1):
            self._of(n, 'SETSLOT', self.slot, 'NODE', self.names[0])
        for link in self.links:
            link.close()


@pytest.fixture
def migration(
    nodes: list[redis_server.RedisServer], cluster: Any, channel: str
) -> Iterator[tuple[Migration, str]]:
    """A migration, and a channel whose lock it moves."""
    name = next(
        name
        for name in (f'{channel} {n}' for n in range(1000))
        if cluster.keyslot(base_of(name)) < 8192
    )
    migration = Migration(nodes, cluster, base_of(name))
    yield migration, name
    close_sessions()
    migration.undo()


@pytest.mark.parametrize('takeover', ['immediate', 'safe'])
def test_f17_lock_that_moves_to_another_node_is_lost_there(
    cluster: Any, migration: tuple[Migration, str], takeover: Any
) -> None:
    moving, name = migration
    told = threading.Event()
    first = RedisLock(
        *(name, cluster),
        lease=LEASE,
        takeover=takeover,
        on_lost=lambda _: told.set(),
    ).acquire()
    token = first.token
    moving.begin()
    moving.end()
    assert told.wait(LONG), 'the node ended the subscription'
    with RedisLock(name, cluster, timeout=LONG) as second:
        assert not first.locked
        assert second.token > token
        second.verify()
    with pytest.raises(exceptions.LockLostError):
        first.release()


def test_f17_nobody_comes_in_while_a_slot_moves(
    cluster: Any, migration: tuple[Migration, str]
) -> None:
    moving, name = migration
    first = RedisLock(name, cluster, lease=LONG, takeover='safe').acquire()
    moving.begin()
    second = RedisLock(name, cluster)
    with pytest.raises((exceptions.LockException, redis.RedisError)):
        second.acquire(timeout=0)
    moving.end()
    eventually(lambda: first.lost)
    with pytest.raises(exceptions.AlreadyLocked):
        second.acquire(timeout=0)
    with pytest.raises(exceptions.LockLostError):
        first.release()
    second.acquire(timeout=LONG)
    second.release()


def test_f17_waiter_waits_on_where_the_lock_went(
    cluster: Any, migration: tuple[Migration, str]
) -> None:
    moving, name = migration
    first = RedisLock(name, cluster, lease=LEASE).acquire()
    second = RedisLock(name, cluster, check_interval=0.05)
    with in_thread(lambda: second.acquire(timeout=LONG)) as results:
        eventually(first.waiters)
        moving.begin()
        moving.end()
        eventually(lambda: results)
    assert results == [second]
    second.release()
    with pytest.raises(exceptions.LockLostError):
        first.release()
