"""Bad settings: one readable line each, no traceback, no secrets."""

import os
import subprocess
import sys

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ingest_service.cli import app

GOOD = {
    "INGEST_LEDGER_DSN": "postgresql://ingest:topsecret@127.0.0.1:1/ingest?sslmode=disable",
    "INGEST_VAULT_ENDPOINT": "http://127.0.0.1:1",
    "INGEST_VAULT_BUCKET": "evidence",
    "INGEST_VAULT_ACCESS_KEY": "key",
    "INGEST_VAULT_SECRET_KEY": "topsecret",
    "INGEST_SIGNING_KEY_FILE": "/nowhere/custody.pem",
}


def run_ingest(command: str, **settings: str) -> Result:
    return CliRunner().invoke(app, [command], env=settings)


@pytest.mark.parametrize("command", ["serve", "work"])
def test_each_missing_setting_is_named_once(command: str) -> None:
    ended = run_ingest(command)

    assert ended.exit_code == 2
    assert [line.split()[1] for line in ended.stderr.splitlines()] == list(GOOD)


def test_misspelt_setting_stops_the_start() -> None:
    ended = run_ingest("serve", **GOOD, INGEST_PROT="8080")

    assert (ended.exit_code, ended.stderr) == (2, "error: unknown settings: INGEST_PROT\n")


def test_wrong_value_is_named_without_being_shown() -> None:
    ended = run_ingest("serve", **GOOD, INGEST_PORT="topsecret")

    assert ended.exit_code == 2
    assert ended.stderr.startswith("error: INGEST_PORT: ")
    assert "topsecret" not in ended.stderr


def test_rule_over_several_settings_says_what_it_wants() -> None:
    ended = run_ingest("serve", **GOOD, INGEST_BASE_URL="ingest.example")

    assert ended.exit_code == 2
    assert "INGEST_BASE_URL is scheme://host" in ended.stderr


def test_missing_signing_key_stops_the_jobs_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ingest_service", "work"],
        env=os.environ | GOOD,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert "/nowhere/custody.pem" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["dev", "serve", "work", "migrate", "make-signing-key"])
def test_help_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])

    assert f"ingest {command}" in shown.stdout.partition("Example")[2]


def test_a_command_that_is_no_server_loads_no_server():
    """Who checks a receipt waits for the checking, not for the code of the API and the store."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "ingest_service", "verify", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = {line.rpartition("|")[2].strip() for line in told.stderr.splitlines()}
    assert "ingest_service.verifier.checkpoints" in loaded
    assert not loaded & {"fastapi", "uvicorn", "asyncpg", "aiobotocore"}


def test_a_mistyped_command_is_told_what_is_near():
    ended = CliRunner().invoke(app, ["verfy"])

    assert ended.exit_code == 2
    assert "Did you mean 'verify'?" in ended.stderr
