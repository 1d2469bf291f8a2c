"""`ingest rebuild`: from a real bucket into an empty ledger."""

import json

import pytest
from typer.testing import CliRunner

from ingest_service.cli import app

pytestmark = pytest.mark.s3


@pytest.fixture
def empty(postgres, ledger_template):
    postgres.copy_database("rebuilt_cli", template=ledger_template)
    yield postgres.service_dsn("rebuilt_cli")
    postgres.run_sql('DROP DATABASE "rebuilt_cli" WITH (FORCE)')


def run(custody, dsn, *words):
    return CliRunner().invoke(app, words, env=custody.env_of(dsn))


def test_a_lost_ledger_comes_back_from_the_bucket_and_holds(custody, empty, tmp_path):
    file = tmp_path / "rebuilt.json"

    result = run(custody, empty, "rebuild", "--json", str(file))

    assert result.exit_code == 0, result.output
    assert "2 clips: 2 secured" in result.output
    report = json.loads(file.read_text())
    assert (report["clips"], report["without_manifest"], report["unsigned_leaves"]) == (2, 0, 0)
    audited = run(custody, empty, "audit", "--objects", "100%")
    assert audited.exit_code == 0, audited.output


def test_a_ledger_that_is_in_use_is_refused(custody):
    result = run(custody, custody.dsn, "rebuild")

    assert result.exit_code == 1
    assert "not empty" in result.output
    assert run(custody, custody.dsn, "audit").exit_code == 0


def test_a_bad_key_is_refused_before_anything_is_opened(custody, empty):
    assert run(custody, empty, "rebuild", "--key", "x").exit_code == 2


def test_witnesses_that_cannot_be_read_are_refused_before_anything_is_opened(custody, empty):
    env = custody.env_of(empty) | {"INGEST_WITNESSES": "nonsense"}

    result = CliRunner().invoke(app, ["rebuild"], env=env)

    assert result.exit_code == 2
    assert "INGEST_WITNESSES" in result.output
