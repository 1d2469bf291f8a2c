"""Migrations after the previous release leave its code working: they add, and take nothing away.

How a column goes: this release stops using it, the next one drops it (docs/deploying.md).
"""

import re

import pytest

from ingest_service.ledger.migrations import list_migrations, migrations_folder
from tests.deploy.release import read_release

# What makes a statement of the previous release fail, or a row of it be refused.
TAKES_AWAY = re.compile(
    r"""
    \b DROP \s+ (TABLE | COLUMN | VIEW | TYPE | SCHEMA | ROLE | SEQUENCE | DEFAULT | FUNCTION) \b
  | \b RENAME \b
  | \b ALTER \s+ (COLUMN \s+)? \w+ \s+ (SET \s+ DATA \s+)? TYPE \b
  | \b SET \s+ NOT \s+ NULL \b
  | \b REVOKE \b
  | \b TRUNCATE \b
  | \b ADD \s+ COLUMN (?! [^,;]* (\b DEFAULT \b | \b GENERATED \b)) [^,;]* \b NOT \s+ NULL \b
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Looked at one by one: (file, statement) of which the previous release does not know.
ALLOWED: frozenset[tuple[str, str]] = frozenset()


def find_takings(sql: str) -> list[str]:
    """Return what a migration takes away; comments and bodies of functions are no statements."""
    sql = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", sql, flags=re.DOTALL)
    sql = re.sub(r"--[^\n]*", "", sql)
    return [" ".join(found[0].split()) for found in TAKES_AWAY.finditer(sql)]


def list_newer() -> list[str]:
    last = read_release()["migration"]
    return [name for name in list_migrations() if name.split("_")[0] > last]


def test_the_previous_release_had_a_migration_that_is_known_here():
    assert any(name.startswith(read_release()["migration"] + "_") for name in list_migrations())


def test_newer_migrations_take_nothing_from_the_previous_release():
    taken = [
        (name, what)
        for name in list_newer()
        for what in find_takings((migrations_folder() / name).read_text(encoding="utf-8"))
        if (name, what) not in ALLOWED
    ]

    assert taken == []


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE clips DROP COLUMN title",
        "drop table clips",
        "ALTER TABLE clips RENAME COLUMN a TO b",
        "ALTER TABLE clips ALTER COLUMN a TYPE bigint",
        "ALTER TABLE clips ALTER a SET DATA TYPE bigint",
        "ALTER TABLE clips ALTER COLUMN a SET NOT NULL",
        "ALTER TABLE clips ADD COLUMN a bigint NOT NULL",
        "ALTER TABLE clips ALTER COLUMN a DROP DEFAULT",
        "REVOKE SELECT ON clips FROM ingest_service",
    ],
)
def test_what_takes_away_is_seen(sql):
    assert find_takings(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE clips ADD COLUMN a bigint",
        "ALTER TABLE clips ADD COLUMN a bigint NOT NULL DEFAULT 0",
        "CREATE TABLE more (a bigint NOT NULL)",
        "CREATE INDEX CONCURRENTLY i ON clips (a)",
        "ALTER TABLE clips DROP CONSTRAINT narrow, ADD CONSTRAINT wide CHECK (a > 0) NOT VALID",
        "-- DROP TABLE clips",
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DROP TABLE temp_a $$",
    ],
)
def test_what_only_adds_is_let_through(sql):
    assert not find_takings(sql)
