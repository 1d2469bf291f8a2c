"""Every SQL statement of the ledger, against the migrated schema and as the service's role."""

import importlib
import pkgutil
from typing import Final, get_type_hints

import asyncpg
import pytest

from ingest_service import ledger
from ingest_service.ledger import search

VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "LISTEN", "SET", "LOCK", "TRUNCATE")


def find_statements():
    """Return every `Final` string constant of the ledger's modules that is SQL."""
    found = {}
    for module_info in pkgutil.iter_modules(ledger.__path__):
        module = importlib.import_module(f"{ledger.__name__}.{module_info.name}")
        for name, hint in get_type_hints(module).items():
            value = getattr(module, name)
            if hint is Final and isinstance(value, str) and value.split()[0] in VERBS:
                found[f"{module_info.name}.{name}"] = value
    return found | dict(search.list_statements())


STATEMENTS = find_statements()


def test_the_statements_were_found():
    assert {"uploads.ADVANCE_OFFSET", "uploads.CLAIM_CHUNK", "clips.SEAL_CLIP"} <= set(STATEMENTS)
    assert len(STATEMENTS) > 40


@pytest.mark.parametrize("name", STATEMENTS)
async def test_every_statement_fits_the_schema(service_connection, name):
    prepared = await service_connection.prepare(STATEMENTS[name])

    assert prepared.get_query() == STATEMENTS[name]


@pytest.mark.parametrize("name", STATEMENTS)
async def test_the_service_may_run_every_statement(service_connection, name):
    """EXPLAIN asks for the same rights as running it, and needs no arguments."""
    statement = STATEMENTS[name]
    try:
        if statement.split()[0] == "LOCK":
            # Nothing to explain, nothing to leave behind.
            async with service_connection.transaction():
                await service_connection.execute(statement)
            return
        await service_connection.execute(f"EXPLAIN (GENERIC_PLAN) {statement}")
    except asyncpg.InsufficientPrivilegeError as refused:
        pytest.fail(str(refused))
