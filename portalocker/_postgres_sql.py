"""What is said to PostgreSQL: the key of a name, and the statements."""

from __future__ import annotations

import hashlib
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Name = str | int | tuple[int, int]

#: where fencing tokens are drawn unless told otherwise
SEQUENCE = 'public.portalocker_tokens'

# Keeps those apart who create the sequence, or raise it
_SETUP_KEY = int.from_bytes(b'portalkr', 'big', signed=True)
# A sequence this far behind the clock is raised to it; while one is raised
# fewer tokens than microseconds are drawn
_LAG_MICROSECONDS = 1_000_000

# The numbers are those that `pg_advisory_lock` takes: one, or two small ones
_SIGNATURES = {1: '$1::bigint', 2: '$1::int, $2::int'}

PROBE = 'SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery()'

# The server tells a dead client by silence of 11 seconds, and the client (see
# `CLIENT_SETTINGS`) a dead server by 5: whoever lost its lock knows first
_SERVER_SETTINGS = (
    (0, 'statement_timeout', '0'),
    (0, 'lock_timeout', '0'),
    (0, 'idle_in_transaction_session_timeout', '0'),
    (0, 'default_transaction_read_only', 'off'),
    (0, 'default_transaction_deferrable', 'off'),
    (0, 'default_transaction_isolation', 'read committed'),
    (0, 'tcp_keepalives_idle', '5'),
    (0, 'tcp_keepalives_interval', '2'),
    (0, 'tcp_keepalives_count', '3'),
    (120000, 'tcp_user_timeout', '11s'),
    (140000, 'idle_session_timeout', '0'),
    (170000, 'transaction_timeout', '0'),
)
CLIENT_SETTINGS = {
    'connect_timeout': '10',
    'keepalives': '1',
    'keepalives_idle': '2',
    'keepalives_interval': '1',
    'keepalives_count': '3',
    'tcp_user_timeout': '5000',
}
#: a waiter whose client is gone leaves the queue (not on every system)
CHECK_CLIENT = "SET client_connection_check_interval = '5s'"
CHECKS_CLIENT_SINCE = 140000


class Key:
    """The numbers of a lock: two spaces, of one bigint and of two integers."""

    __slots__ = ('numbers', 'values')

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.numbers = numbers
        self.values = tuple(str(number).encode() for number in numbers)

    @property
    def row(self) -> tuple[str, str, str]:
        """classid, objid and objsubid of the lock in pg_locks."""
        mask = 0xFFFFFFFF
        if len(self.numbers) == 1:
            number = self.numbers[0]
            return str((number >> 32) & mask), str(number & mask), '1'
        high, low = self.numbers
        return str(high & mask), str(low & mask), '2'

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.numbers == other.numbers

    def __hash__(self) -> int:
        return hash(self.numbers)


def key_of(name: Any) -> Key:
    """The key of a name, of a number, or of two."""
    match name:
        case str() if name:
            digest = hashlib.sha256(name.encode()).digest()
            return Key((int.from_bytes(digest[:8], 'big', signed=True),))
        case str():
            raise ValueError('cannot lock without a name')
        case int() if not isinstance(name, bool):
            return Key((_fitting(name, 64),))
        case (int() as high, int() as low):
            return Key((_fitting(high, 32), _fitting(low, 32)))
        case _:
            raise TypeError(
                f'cannot lock {name!r}: a name is a string, an integer, or '
                'two integers'
            )


def _fitting(number: int, bits: int) -> int:
    limit = 1 << (bits - 1)
    if not -limit <= number < limit:
        raise ValueError(
            f'cannot lock {number}: it does not fit into {bits} bits'
        )
    return number


class Statement:
    """One prepared statement: its name and its text."""

    __slots__ = ('name', 'text')

    def __init__(self, name: str, text: str) -> None:
        self.name = name.encode()
        self.text = text


def check_sequence_name(sequence: str) -> None:
    """Refuse what is not the plain name of a sequence."""
    if not re.fullmatch(r'[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?', sequence):
        raise ValueError(
            f'cannot draw tokens from {sequence!r}: give the name of a '
            'sequence as schema.name, in lower case'
        )


class Verbs:
    """The statements for one lock: of its space, kind, and sequence."""

    __slots__ = ('check', 'lock', 'try_lock', 'unlock')

    def __init__(
        self, key: Key, *, is_shared: bool, sequence: str | None
    ) -> None:
        count = len(key.numbers)
        end = f'({_SIGNATURES[count]})'
        suffix = '_shared' if is_shared else ''
        tag = f'{suffix}_{count}'
        drawn = '0'
        drawn_tag = tag
        if sequence is not None:
            drawn = f"pg_catalog.nextval('{sequence}'::regclass)"
            drawn_tag += f'_{sequence}'
        # CASE makes sure that the token is drawn after the grant
        self.lock = Statement(
            f'portalocker_lock{drawn_tag}',
            f'SELECT CASE WHEN pg_catalog.pg_advisory_lock{suffix}{end}'
            f"::text = '' THEN {drawn} END",
        )
        self.try_lock = Statement(
            f'portalocker_try{drawn_tag}',
            f'SELECT CASE WHEN pg_catalog.pg_try_advisory_lock{suffix}{end} '
            f'THEN {drawn} END',
        )
        self.unlock = Statement(
            f'portalocker_unlock{tag}',
            f'SELECT pg_catalog.pg_advisory_unlock{suffix}{end}',
        )
        self.check = Statement(
            f'portalocker_check{suffix}',
            'SELECT 1 '
            f'{_ROWS_OF_KEY} AND l.granted '
            'AND l.pid = pg_catalog.pg_backend_pid() '
            f"AND l.mode = '{'Share' if is_shared else 'Exclusive'}Lock'",
        )


_ROWS_OF_KEY = """
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory'
AND l.database = (
    SELECT oid FROM pg_catalog.pg_database
    WHERE datname = pg_catalog.current_database()
)
AND l.classid = $1::oid AND l.objid = $2::oid AND l.objsubid = $3::int2"""


def who_of(server_version: int) -> Statement:
    """Who holds a key and who waits for it, in this order."""
    waiting_since = (
        'l.waitstart' if server_version >= 140000 else ('a.query_start')
    )
    return Statement(
        'portalocker_who',
        f"""
SELECT l.granted, l.mode = 'ShareLock', a.application_name,
COALESCE(a.client_hostname, pg_catalog.host(a.client_addr)),
pg_catalog.date_part(
    'epoch', CASE WHEN l.granted THEN a.state_change ELSE {waiting_since} END
)
{_ROWS_OF_KEY}
ORDER BY l.granted DESC, 5""",
    )


def settings(server_version: int) -> str:
    """What a session asks of the server for itself."""
    wanted = [
        f"SET {name} = '{value}'"
        for since, name, value in _SERVER_SETTINGS
        if server_version >= since
    ]
    # a token that was given out must not be forgotten in a crash
    wanted.append(
        "SELECT pg_catalog.set_config('synchronous_commit', 'on', false) "
        "WHERE pg_catalog.current_setting('synchronous_commit') = 'off'"
    )
    return '; '.join(wanted)


def find_sequence(sequence: str) -> str:
    """Whether the sequence exists, and we may raise it to the clock."""
    return (
        f'SELECT s IS NOT NULL, s IS NULL OR '
        "(pg_catalog.has_sequence_privilege(s, 'SELECT') AND "
        "pg_catalog.has_sequence_privilege(s, 'UPDATE')) "
        f"FROM pg_catalog.to_regclass('{sequence}') AS s"
    )


def create_sequence(sequence: str) -> str:
    """Create the sequence, unless somebody else did."""
    return (
        f'SELECT pg_catalog.pg_advisory_xact_lock({_SETUP_KEY}); '
        f'CREATE SEQUENCE IF NOT EXISTS {sequence}'
    )


def raise_sequence(sequence: str) -> str:
    """Raise the sequence to the clock where it lags behind.

    After the database lost the last tokens, to a backup or to a failover,
    those that follow are larger all the same.
    """
    return (
        f'SELECT pg_catalog.pg_advisory_xact_lock({_SETUP_KEY}); '
        f"SELECT pg_catalog.setval('{sequence}'::regclass, clock.now) "
        f'FROM {sequence} AS s, (SELECT pg_catalog.floor(1000000 * '
        "pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()))"
        '::bigint AS now) AS clock '
        f'WHERE s.last_value + {_LAG_MICROSECONDS} < clock.now'
    )
