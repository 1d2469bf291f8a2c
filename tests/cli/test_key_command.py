"""`ingest key rotate`: the new key is made once, named by the log, and the next steps are told."""

import asyncio

import asyncpg
import pytest
from typer.testing import CliRunner

from ingest_service.cli import app

pytestmark = pytest.mark.s3


def run(custody, *words, **env):
    return CliRunner().invoke(app, words, env={**custody.env, **env})


def count_rotations(dsn):
    async def go():
        connection = await asyncpg.connect(dsn)
        found = await connection.fetchval(
            "SELECT count(*) FROM custody_events WHERE type = 'key.rotated'"
        )
        await connection.close()
        return found

    return asyncio.run(go())


def test_a_rotation_makes_the_key_and_the_log_names_it(custody, tmp_path):
    file = tmp_path / "next.pem"

    result = run(custody, "key", "rotate", str(file))

    assert result.exit_code == 0, result.output
    assert file.stat().st_mode & 0o777 == 0o600
    assert f"old: {custody.signer.verifier_key}" in result.output
    assert count_rotations(custody.dsn) == 1
    before = file.read_bytes()
    assert run(custody, "key", "rotate", str(file)).exit_code == 0
    assert file.read_bytes() == before


def test_an_audit_with_the_second_key_set_holds(custody, tmp_path):
    file = tmp_path / "next.pem"
    run(custody, "key", "rotate", str(file))

    switched = {
        "INGEST_SIGNING_KEY_FILE": str(file),
        "INGEST_SIGNING_KEY_SECOND_FILE": str(custody.key_file),
    }
    assert run(custody, "audit", **switched).exit_code == 0


def test_a_file_that_is_no_key_is_refused(custody, tmp_path):
    file = tmp_path / "next.pem"
    file.write_text("no key")
    file.chmod(0o600)

    assert run(custody, "key", "rotate", str(file)).exit_code == 1
    assert count_rotations(custody.dsn) == 0


def test_the_present_key_is_not_its_own_successor(custody):
    result = run(custody, "key", "rotate", str(custody.key_file))

    assert result.exit_code == 1
    assert count_rotations(custody.dsn) == 0
