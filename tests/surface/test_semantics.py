"""The table of the documentation says what the code says."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable

import pytest
from package_source import ROOT

from portalocker import semantics

PAGE = ROOT / 'docs' / 'reference' / 'semantics.rst'


def test_table_is_made_from_the_code() -> None:
    text = PAGE.read_text(encoding='utf-8')
    _, _, below = text.partition('.. table: semantics\n\n')
    table = semantics.as_table()
    assert below.startswith(table), f'write it into {PAGE.name}:\n{table}'


def test_each_engine_is_named_once() -> None:
    names = [engine.engine for engine in semantics.ENGINES]
    assert len(set(names)) == len(names) >= 3


def test_semantics_are_values() -> None:
    facts = semantics.POSTGRESQL.as_dict()
    assert semantics.Semantics(facts.pop('engine'), **facts) == (
        semantics.POSTGRESQL
    )
    assert semantics.POSTGRESQL != semantics.FLOCK
    assert len(set(semantics.ENGINES)) == len(semantics.ENGINES)
    assert "Semantics('PostgreSQL', reach='hosts'" in repr(
        semantics.POSTGRESQL
    )


@pytest.mark.skipif(
    importlib.util.find_spec('psycopg') is None, reason='needs psycopg'
)
def test_postgres_lock_knows_its_own() -> None:
    from portalocker import postgres

    assert postgres.PostgresLock.semantics is semantics.POSTGRESQL


@pytest.mark.skipif(
    importlib.util.find_spec('psycopg') is None, reason='needs psycopg'
)
def test_interface_of_the_lock_on_postgresql() -> None:
    from portalocker import postgres

    assert set(postgres.__all__) == {
        'PostgresLock',
        'close_idle',
        'transaction_lock',
    }
    assert parameters_of(postgres.PostgresLock) == (
        'name connection=None timeout=None check_interval=None '
        'fail_when_locked=False * flags=EXCLUSIVE fence=True '
        "token_sequence='public.portalocker_tokens' on_lost=None "
        'interrupt_on_lost=False session_pooler=False'
    )
    assert parameters_of(postgres.transaction_lock) == (
        'connection name timeout=None fail_when_locked=False * flags=EXCLUSIVE'
    )
    handle = {
        *('token', 'lost', 'locked', 'ensure_held', 'verify'),
        *('holders', 'waiters', 'acquire', 'try_acquire', 'release'),
    }
    assert handle <= set(dir(postgres.PostgresLock))


def parameters_of(thing: Callable[..., object]) -> str:
    """Return the names and defaults, keyword-only ones after a star."""
    words = []
    for parameter in inspect.signature(thing).parameters.values():
        default = parameter.default
        if parameter.kind is parameter.KEYWORD_ONLY and '*' not in words:
            words.append('*')
        if default is parameter.empty:
            words.append(parameter.name)
        else:
            text = getattr(default, 'name', None) or repr(default)
            words.append(f'{parameter.name}={text}')
    return ' '.join(words)
