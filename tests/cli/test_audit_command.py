"""`ingest audit`: what it says, and with which status it ends."""

import asyncio
import json

import asyncpg
import pytest
from typer.testing import CliRunner

from ingest_service.cli import app
from ingest_service.domain.audit import AuditState
from ingest_service.signer import make_signing_key, open_local_signer

pytestmark = pytest.mark.s3


def run(custody, *arguments, **env):
    return CliRunner().invoke(app, ["audit", *arguments], env={**custody.env, **env})


def execute(dsn, statement):
    async def go():
        connection = await asyncpg.connect(dsn)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(go())


def test_a_good_ledger_holds_and_the_report_says_what_was_looked_at(custody, tmp_path):
    file = tmp_path / "audit.json"

    result = run(custody, "--objects", "100%", "--json", str(file))

    assert result.exit_code == 0, result.output
    assert "The ledger holds." in result.output
    report = json.loads(file.read_text())
    assert report["verdict"] == "holds"
    assert report["counts"]["leaves hashed"] == report["tree_size"] > 300
    assert report["counts"]["objects read"] == 2
    assert set(report["seconds"]) == {"log", "chains", "leaves", "manifests", "objects"}


def test_tampering_ends_with_status_1_and_is_named(custody):
    execute(
        custody.owner_dsn, "UPDATE clips SET sha256 = sha256('x'), sha256_readback = sha256('x')"
    )

    result = run(custody)

    assert result.exit_code == 1
    assert "FAIL: clip" in result.output
    assert "sha256" in result.output


def test_an_audit_that_cannot_be_finished_ends_with_status_3_and_is_gone_on_with(custody, tmp_path):
    file = tmp_path / "audit.state"

    result = run(custody, "--state", str(file), INGEST_VAULT_BUCKET="not-there")

    assert result.exit_code == 3
    assert "not finished" in result.output
    assert run(custody, "--state", str(file)).exit_code == 0
    assert not file.exists()


def test_a_saved_state_is_where_the_audit_goes_on(custody, tmp_path):
    file = tmp_path / "audit.state"
    state = AuditState("seed", 0.0, 300, step="manifests")
    state.counts["leaves hashed"] = 300
    file.write_text(json.dumps(state.dump()))

    result = run(custody, "--state", str(file), "--json", "-")

    report = json.loads(result.stdout)
    assert report["seed"] == "seed"
    assert "events followed" not in report["counts"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": "other"}', '{"format": "ingest-audit/1"}']
)
def test_a_file_that_is_no_state_is_refused(custody, tmp_path, content):
    file = tmp_path / "audit.state"
    file.write_text(content)

    assert run(custody, "--state", str(file)).exit_code == 2
    assert file.read_text() == content


@pytest.mark.parametrize("share", ["x", "-1", "101%", "1.5", ""])
def test_a_share_that_is_none_is_refused(custody, share):
    assert run(custody, "--objects", share).exit_code == 2


def test_under_another_pinned_key_the_published_log_does_not_hold(custody, tmp_path):
    make_signing_key(tmp_path / "other.pem")
    other = open_local_signer(tmp_path / "other.pem", "ingest.local/custody")

    result = run(custody, "--key", other.verifier_key)

    assert result.exit_code == 1
    assert "published checkpoint" in result.output
    assert run(custody, "--key", custody.signer.verifier_key).exit_code == 0
