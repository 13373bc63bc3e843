"""Releases 3.x and 4.x on the same channel: they count its subscribers.

`OldStyle` does what those releases do, as far as others can see it: whoever
is the only subscriber of the channel holds; before, who holds is pinged.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from test_redis_lock import LONG, in_thread

from portalocker.redis import RedisLock

redis = pytest.importorskip('redis')


class OldStyle:
    """A holder, or contender, of an older release."""

    def __init__(self, client: Any, channel: str) -> None:
        self._client, self._channel = client, channel
        self._subscription: Any = None

    def _subscribers(self) -> int:
        ((_, count),) = self._client.pubsub_numsub(self._channel)
        return int(count)

    def _subscribe(self, channel: str) -> Any:
        subscription = self._client.pubsub()
        subscription.subscribe(channel)
        message = subscription.get_message(timeout=LONG)
        assert message['type'] == 'subscribe'
        return subscription

    def try_acquire(self) -> bool:
        """Whether it believes that it holds."""
        if self._subscribers():
            assert self.ping(), 'it would kill who does not answer'
            return False
        self._subscription = self._subscribe(self._channel)
        if self._subscribers() == 1:
            return True
        self.release()
        return False

    def ping(self) -> bool:
        """Whether somebody who holds answers."""
        response = f'response {uuid.uuid4()}'
        answers = self._subscribe(response)
        ping = {'response_channel': response, 'message': 'ping'}
        self._client.publish(self._channel, json.dumps(ping))
        answer = answers.get_message(timeout=LONG)
        answers.close()
        return answer is not None

    def release(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()


@pytest.fixture
def old(client: Any, channel: str) -> Iterator[OldStyle]:
    old = OldStyle(client, channel)
    yield old
    old.release()


def test_f23_older_release_stays_out_while_we_hold(
    client: Any, channel: str, old: OldStyle
) -> None:
    with RedisLock(channel, client):
        assert not old.try_acquire()


def test_f23_older_release_stays_out_of_a_hold_that_was_handed_over(
    client: Any, channel: str, old: OldStyle
) -> None:
    first, second = (RedisLock(channel, client) for _ in range(2))
    first.acquire()
    with in_thread(lambda: second.acquire(timeout=LONG)):
        first.release()
    assert not old.try_acquire()
    second.release()
