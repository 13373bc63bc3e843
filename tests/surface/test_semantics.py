"""The table of the documentation says what the code says."""

from __future__ import annotations

import importlib.util

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
