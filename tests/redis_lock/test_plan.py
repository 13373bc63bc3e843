"""What a lock asks for, step by step, and how scripts reach the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from portalocker import _redis_commands, _redis_plan, exceptions
from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The scripts that run; the reply of the first `runs[0]` is lost."""
    real: Callable[..., Any] = _redis_commands.run_script
    found: list[Any] = [0]

    def run(client: Any, step: Any) -> Any:
        answer = real(client, step)
        found.append(step.script.name)
        if len(found) <= found[0] + 1:
            raise redis.exceptions.ConnectionError('the reply is lost')
        return answer

    monkeypatch.setattr(_redis_commands, 'run_script', run)
    return found


def test_release_of_unknown_outcome_is_repeated(
    client: Any, channel: str, runs: list[Any]
) -> None:
    lock = RedisLock(channel, client).acquire()
    del runs[1:]
    runs[0] = 1
    lock.release()
    assert runs[1:] == ['release', 'release']
    assert not lock.lost
    assert not lock.holders()


def test_release_of_unknown_outcome_tells_a_loss(
    client: Any, channel: str, runs: list[Any]
) -> None:
    lock = RedisLock(channel, client, lease=60).acquire()
    client.delete(f'portalocker:lock:{{{channel}}}:holders')
    with RedisLock(channel, client):
        pass
    del runs[1:]
    runs[0] = 1
    with pytest.raises(exceptions.LockLostError):
        lock.release()


def test_release_that_cannot_be_asked_is_left_to_the_session(
    client: Any, channel: str, runs: list[Any], caplog: Any
) -> None:
    lock = RedisLock(channel, client).acquire()
    del runs[1:]
    runs[0] = 2
    lock.release()
    assert 'cannot release' in caplog.text
    with RedisLock(channel, client, timeout=15):
        pass


@pytest.mark.parametrize(
    ('rank', 'factor'), [(0, 0.75), (1, 2), (4, 5), (7, 8), (900, 8)]
)
def test_waiters_further_behind_look_less_often(
    client: Any, channel: str, rank: int, factor: float
) -> None:
    lock = RedisLock(channel, client)
    plan = _redis_plan.acquisition(
        lock._order, 1e9, iter(range(9)), pauses := [0.0]
    )
    pauses.clear()
    assert isinstance(next(plan), _redis_plan.OpenSession)
    claim = lock._new_claim()
    assert isinstance(plan.send(claim), _redis_plan.RunScript)
    pauses.append(0.25)
    step = plan.send([0, rank, 1])
    assert isinstance(step, _redis_plan.Rest)
    assert step.seconds == 0.25 * factor
    plan.close()


def test_connection_of_the_pool_goes_back(client: Any, channel: str) -> None:
    pool = redis.ConnectionPool(**client.connection_pool.connection_kwargs)
    pool.max_connections = 1
    with redis.Redis(connection_pool=pool) as own:
        for _ in range(3):
            with RedisLock(channel, own) as lock:
                lock.verify()
                own.ping()
        pool.disconnect()


def test_client_that_wants_to_see_commands_sees_them(
    server: Any, channel: str
) -> None:
    class Watched(redis.Redis):  # type: ignore[misc, name-defined]
        seen = 0

        def execute_command(self, *words: Any, **options: Any) -> Any:
            self.seen += 1
            return super().execute_command(*words, **options)

    with Watched(port=server.port) as watched:
        with RedisLock(channel, watched):
            pass
        assert watched.seen >= 2
    with (
        redis.Redis(port=server.port, single_connection_client=True) as one,
        RedisLock(channel, one) as lock,
    ):
        lock.verify()


def test_interrupted_answer_is_never_taken_for_another(
    client: Any, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisLock(channel, client) as lock:
        connection_class = client.connection_pool.connection_class
        real = connection_class.read_response

        def interrupted(self: Any, *args: Any, **options: Any) -> Any:
            monkeypatch.setattr(connection_class, 'read_response', real)
            raise KeyboardInterrupt

        monkeypatch.setattr(connection_class, 'read_response', interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.verify()
        assert client.echo('what I asked for') == b'what I asked for'
        lock.verify()
