"""The server of the model says what the scripts say on a real server."""

from __future__ import annotations

import os
import random
from typing import Any

import model_server
import pytest
from servers import redis_server

from portalocker import _redis_holder, _redis_scripts

redis = pytest.importorskip('redis')

DIALECT = _redis_scripts.PLAIN


class Sessions:
    """Real subscriptions, by the ids of the model."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._pubsubs: dict[str, Any] = {}

    def open(self, sid: str) -> None:
        pubsub = self._pubsubs[sid] = self._client.pubsub()
        pubsub.subscribe(DIALECT.channel(sid, ''))
        assert pubsub.get_message(timeout=15)['type'] == 'subscribe'

    def close(self, sid: str) -> None:
        pubsub = self._pubsubs.pop(sid)
        # it is over when the server says so
        pubsub.unsubscribe()
        while pubsub.get_message(timeout=15)['type'] != 'unsubscribe':
            pass
        pubsub.close()

    def told(self, sid: str) -> list[list[str]]:
        """What a session was told since the last look."""
        self._client.publish(DIALECT.channel(sid, ''), 'end')
        found = []
        while True:
            message = self._pubsubs[sid].get_message(timeout=15)
            words = message['data'].decode().split(' ')
            if words == ['end']:
                return found
            found.append(words[:2])


@pytest.mark.parametrize('seed', range(8))
def test_model_and_scripts_agree(
    each_server: redis_server.RedisServer, seed: int
) -> None:
    chance = random.Random(seed)
    with redis.Redis(port=each_server.port) as client:
        _compare(client, chance)


def _compare(client: Any, chance: random.Random) -> None:  # noqa: C901
    base = _redis_scripts.base_of(f'model {os.getpid()} {chance.random()}')
    keys = _redis_scripts.keys_of(base)
    twin, sessions = model_server.Server(), Sessions(client)
    prefix = os.urandom(4).hex()
    sids = [f'{prefix}{n}' for n in range(3)]
    hids: list[str] = []
    requests: dict[str, model_server.Request] = {}
    log: list[Any] = []

    def run(script: Any, *words: Any) -> Any:
        log.append((script.name, words))
        return client.execute_command(
            'EVAL', script.text, len(keys), *keys, *words
        )

    for number in range(150):
        twin.now += 1
        twin.ops += 1
        verb = chance.choice(
            ['new', 'new', 'again', 'release', 'release', 'cancel', 'beat']
            + ['evict', 'open', 'close']
        )
        if verb in {'open', 'close'}:
            sid = chance.choice(sids)
            if verb == 'open' and sid not in twin.sessions:
                twin.sessions.add(sid)
                sessions.open(sid)
            elif verb == 'close' and sid in twin.sessions:
                twin.sessions.discard(sid)
                sessions.close(sid)
            continue
        if verb == 'new':
            hid = f'{prefix}hold{number}'
            hids.append(hid)
            mode = chance.choice('xxssp')
            requests[hid] = model_server.Request(
                chance.choice(sids), mode, 2 if mode == 'p' else 1, 3600
            )
        elif not hids:
            continue
        else:
            hid = chance.choice(hids[-6:])
        request = requests[hid]
        if verb in {'new', 'again'}:
            may_wait, is_fair = chance.random() < 0.7, chance.random() < 0.8
            reply = run(
                *(DIALECT.acquire, hid),
                f'{int(may_wait)} {int(is_fair)} {request.limit} 1 '
                f'{request.sid} {request.mode} 3600000000 i '
                'meta with spaces: \u00e4',
            )
            expected = twin.acquire(
                hid, request, may_wait=may_wait, is_fair=is_fair
            )[0]
            found = {1: 'granted', -1: 'no session', -2: 'gone'}.get(
                int(reply[0])
            ) or ('queued' if reply[1] >= 0 else 'refused')
            if found == 'queued':
                assert reply[1] == list(twin.line).index(hid), log
        elif verb == 'release':
            found = run(DIALECT.release, hid, '0') == 1
            expected = twin.release(hid) == 1
        elif verb == 'cancel':
            found = int(run(DIALECT.cancel, hid)[0]) == 1
            expected = twin.cancel(hid)[0] == 'granted'
        elif verb == 'beat':
            log.append(('beat', hid))
            found = client.execute_command(
                *('EVAL', DIALECT.beat.text, 1, keys[0], request.sid, hid)
            ) == [1]
            expected = twin.beat(hid, request.sid)
        else:
            sid = chance.choice(sids)
            found = run(DIALECT.evict, hid, sid)
            expected = twin.evict(hid, sid)
        assert found == expected, log
        _compare_states(client, keys, twin, log)
        messages: dict[str, list[list[str]]] = {sid: [] for sid in sids}
        for sid, words in twin.messages:
            messages[sid].append(list(words[:2]))
        twin.messages.clear()
        for sid in twin.sessions:
            assert sorted(sessions.told(sid)) == sorted(messages[sid]), log
    for sid in list(twin.sessions):
        sessions.close(sid)


def _compare_states(
    client: Any, keys: Any, twin: model_server.Server, log: Any
) -> None:
    holders = {hid.decode() for hid in client.hkeys(keys[0])}
    assert holders == set(twin.holders), log
    line = [hid.decode() for hid in client.lrange(keys[1], 0, -1)]
    assert line == list(twin.line), log
    assert {hid.decode() for hid in client.hkeys(keys[2])} == set(line), log
    found = _redis_holder.understood_who(
        client.execute_command('EVAL', DIALECT.who.text, 4, *keys)
    )
    living = {hid for hid, h in twin.holders.items() if twin.lives(h)}
    assert {one.hid for role, one in found if role == 'holder'} == living, log
