"""Custody events are append-only in three layers, each tested with the ones above it taken away."""

import ast
import importlib
import pkgutil
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from ingest_service import ledger
from ingest_service.domain.custody import Actor, Happening, make_device_events
from ingest_service.ledger import custody
from ingest_service.ledger.custody import insert_device_events
from tests.ledger.test_statements import STATEMENTS

CHANGES = {
    "update": "UPDATE custody_events SET actor_id = 'somebody else'",
    "delete": "DELETE FROM custody_events",
    "truncate": "TRUNCATE custody_events CASCADE",
}
INSERT = """
    INSERT INTO custody_events (
        event_id, type, recorded_at, actor_kind, actor_id, device_serial, leaf, leaf_hash)
    VALUES (gen_random_uuid(), 'device.docked', now(), 'station', 'dock-1', 'BWC-1', $1, $2)
"""

ASSERT = """
    INSERT INTO stations (station_id, site_id, borough) VALUES ('s', 's', 's');
    INSERT INTO clips (
        clip_id, upload_id, device_serial, recording_id, segment_no, announcement, station_id,
        site_id, borough, clock_state, announced_at)
    VALUES ('00000000-0000-7000-8000-000000000000', gen_random_uuid(), 'd', 'r', 0, '{}', 's', 's',
            's', 'synced', now());
    INSERT INTO assertions (
        assertion_id, clip_id, clip_seq, field, salt, source, asserted_by_kind, asserted_by_id,
        asserted_at)
    VALUES (gen_random_uuid(), '00000000-0000-7000-8000-000000000000', 1, 'title',
            decode(repeat('00', 16), 'hex'), 'cad', 'person', 'p', now());
    INSERT INTO assertion_batches VALUES ('p', 'k', sha256(''), now());
"""


async def insert_event(connection):
    happening = Happening("device.docked", Actor("station", "dock-1"))
    [event] = make_device_events("BWC-1", [happening], now=datetime.now(UTC))
    await insert_device_events(connection, [event])
    return event


# --- the domain ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_changes_an_event(name):
    words = " ".join(STATEMENTS[name].split())

    for verb in ("UPDATE custody_events", "DELETE FROM custody_events", "TRUNCATE"):
        assert verb not in words


def test_the_ledger_has_no_function_that_changes_an_event():
    functions = {
        node.name
        for node in ast.walk(ast.parse(Path(custody.__file__).read_text()))
        if isinstance(node, ast.AsyncFunctionDef)
    }

    assert not {name for name in functions if name.startswith(("update_", "delete_", "change_"))}


# --- the role -----------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
async def test_the_service_has_no_right_to_change_events(service_connection, change):
    await insert_event(service_connection)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service_connection.execute(CHANGES[change])


async def test_the_service_cannot_take_the_trigger_away(service_connection):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service_connection.execute("ALTER TABLE custody_events DISABLE TRIGGER ALL")


async def test_the_service_cannot_pose_as_a_replica(service_connection):
    """Triggers do not fire in a session that applies replicated changes."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service_connection.execute("SET session_replication_role = replica")


@pytest.mark.parametrize("table", ["assertions", "assertion_batches"])
@pytest.mark.parametrize(
    "change", ["UPDATE {} SET batch_key = 'x'", "DELETE FROM {}", "TRUNCATE {}"]
)
async def test_the_service_has_no_right_to_change_assertions(service_connection, table, change):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service_connection.execute(change.format(table))


@pytest.mark.parametrize("table", ["clips", "uploads", "stations", "device_manifests"])
async def test_the_service_deletes_no_record(service_connection, table):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service_connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names from above


# --- the trigger --------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
async def test_the_owner_is_refused_by_the_trigger(owner_connection, change):
    await insert_event(owner_connection)

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await owner_connection.execute(CHANGES[change])


@pytest.mark.parametrize(
    "change", ["UPDATE {} SET batch_key = 'x'", "DELETE FROM {}", "TRUNCATE {}"]
)
@pytest.mark.parametrize("table", ["assertions", "assertion_batches"])
async def test_the_owner_is_refused_by_the_trigger_of_assertions(owner_connection, table, change):
    await owner_connection.execute(ASSERT)

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await owner_connection.execute(change.format(table))


# --- the leaf -----------------------------------------------------------------------------


@pytest.fixture
async def unguarded(owner_connection):
    """The administrator, with all triggers out of the way."""
    await owner_connection.execute("SET LOCAL session_replication_role = replica")
    return owner_connection


async def test_an_edited_leaf_is_refused_even_without_triggers(unguarded):
    await insert_event(unguarded)

    with pytest.raises(asyncpg.CheckViolationError, match="custody_events_leaf_hash"):
        await unguarded.execute("UPDATE custody_events SET leaf = leaf || 'x'::bytea")


async def test_an_event_with_a_wrong_hash_is_refused_even_without_triggers(unguarded):
    with pytest.raises(asyncpg.CheckViolationError, match="custody_events_leaf_hash"):
        await unguarded.execute(INSERT, b"{}", bytes(32))


async def test_the_database_hashes_leaves_as_the_domain_does(owner_connection):
    event = await insert_event(owner_connection)

    hashed = await owner_connection.fetchval(
        r"SELECT sha256('\x00'::bytea || leaf) FROM custody_events WHERE event_id = $1",
        event.event_id,
    )
    assert hashed == event.leaf_hash


def test_every_module_of_the_ledger_was_looked_at():
    modules = {info.name for info in pkgutil.iter_modules(ledger.__path__)}

    assert {name.split(".")[0] for name in STATEMENTS} <= modules
    assert importlib.import_module("ingest_service.ledger.custody") is custody
