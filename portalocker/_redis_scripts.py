"""The scripts that a server runs: their names, keys, and dialects."""

from __future__ import annotations

import hashlib
import re

from . import _redis_lua, _redis_lua_verbs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = 'portalocker'
SUFFIXES = (':holders', ':queue', ':waiters', ':fence')


class Script:
    """One script: its text, and the name the server gives to it."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        digest = hashlib.sha1(text.encode(), usedforsecurity=False)
        self.sha = digest.hexdigest().encode()


class Dialect:
    """The scripts for one kind of publish and subscribe.

    In a cluster messages are sharded: the session's channel carries the hash
    tag of the lock, so it lives where the keys do.
    """

    def __init__(self, *, is_sharded: bool) -> None:
        self.is_sharded = is_sharded
        self._prefix = 'S' if is_sharded else ''
        self.subscribe = self._prefix + 'SUBSCRIBE'
        grant, records = _redis_lua.LUA_GRANT, _redis_lua.LUA_RECORDS
        renewal, groups = _redis_lua.LUA_RENEWAL, _redis_lua.LUA_GROUPS
        all_of_it = grant + records + renewal + groups
        verbs = _redis_lua_verbs
        self.acquire = self._script(
            *('acquire', grant, verbs.LUA_ACQUIRE_AT_ONCE),
            *(records, verbs.LUA_ACQUIRE_IN_TURN),
            *(renewal, groups, verbs.LUA_ACQUIRE),
        )
        self.release = self._script(
            *('release', verbs.LUA_RELEASE),
            *(grant, records, verbs.LUA_RELEASE_TO_NEXT),
            *(renewal, groups, verbs.LUA_RELEASE_AND_WAKE),
        )
        self.cancel = self._script('cancel', all_of_it, verbs.LUA_CANCEL)
        self.beat = self._script(
            'beat', grant, records, renewal, verbs.LUA_BEAT
        )
        self.evict = self._script('evict', all_of_it, verbs.LUA_EVICT)
        self.who = self._script('who', grant, records, verbs.LUA_WHO)

    def _script(self, name: str, *parts: str) -> Script:
        where = (
            f"'{PREFIX}:s:{{' .. string.match(KEYS[1], '{{(.-)}}') .. '}}:'"
            if self.is_sharded
            else f"'{PREFIX}:s:'"
        )
        channel = f'local function channel(sid) return {where} .. sid end\n'
        text = re.sub(
            '@(NUMSUB|PUBLISH)', self._word, channel + ''.join(parts)
        )
        return Script(name, text)

    def _word(self, match: re.Match[str]) -> str:
        if not self.is_sharded:
            return match[1]
        return {'NUMSUB': 'SHARDNUMSUB', 'PUBLISH': 'SPUBLISH'}[match[1]]

    def channel(self, sid: str, base: str) -> str:
        """The channel on which a session of a lock listens."""
        if not self.is_sharded:
            return f'{PREFIX}:s:{sid}'
        return f'{PREFIX}:s:{{{tag_of(base)}}}:{sid}'


PLAIN = Dialect(is_sharded=False)
SHARDED = Dialect(is_sharded=True)


def base_of(channel: str) -> str:
    """Return what the keys of a lock begin with; they share one hash tag.

    A hash tag in the name of the channel is kept, so that locks can be put
    into one slot of a cluster. Different channels never share keys.

    >>> base_of('jobs'), base_of('{app}:jobs')
    ('portalocker:lock:{jobs}', 'portalocker:tagged:{app}:jobs')
    """
    if '{' not in channel and '}' not in channel:
        return f'{PREFIX}:lock:{{{channel}}}'
    if re.match(r'[^{]*\{[^}]+\}', channel):
        return f'{PREFIX}:tagged:{channel}'
    quoted = channel.replace('%', '%25')
    quoted = quoted.replace('{', '%7B').replace('}', '%7D')
    return f'{PREFIX}:quoted:{{{quoted}}}'


def tag_of(base: str) -> str:
    """Return what a cluster hashes to find the slot of the keys."""
    match = re.search(r'\{(.+?)\}', base)
    assert match is not None
    return match[1]


def keys_of(base: str) -> tuple[bytes, ...]:
    """Return the four keys of a lock, ready for the wire."""
    return tuple((base + suffix).encode() for suffix in SUFFIXES)


def as_text(value: Any) -> str:
    """Return what the server said as text, whatever the client made of it."""
    if isinstance(value, bytes):
        return value.decode('utf-8', 'surrogateescape')
    return str(value)


def token_of(values: Any) -> int | tuple[int, ...]:
    """Return the fencing token; of several locks, one for each."""
    tokens = tuple(int(value) for value in values)
    return tokens[0] if len(tokens) == 1 else tokens
