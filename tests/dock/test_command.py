"""`ingest dock` as people and scripts call it."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from ingest_service.cli.dock import dock_app
from ingest_service.cli.faulty_link import open_link
from tests.dock.fake_service import CHUNK_BYTES, Signer, problem

# What `ingest dock` is, without the rest of the program.
PROGRAM = [sys.executable, "-c", "from ingest_service.cli.dock import dock_app; dock_app()"]


@pytest.fixture
def data_folder(fake, tmp_path) -> Path:
    """As `ingest dev` leaves it."""
    folder = tmp_path / "data folder"
    folder.mkdir()
    key_file = folder / "station.pem"
    key_file.write_bytes(
        fake.station_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    write_dev_json(folder, fake, fake.port)
    return folder


def write_dev_json(folder, fake, port):
    facts = {
        "base_url": f"http://127.0.0.1:{port}",
        "station_id": "station-1",
        "station_key_file": str(folder / "station.pem"),
        "log_verifier_key": fake.signer.verifier_key,
    }
    (folder / "dev.json").write_text(json.dumps(facts))


def run(*arguments):
    return CliRunner().invoke(dock_app, [str(argument) for argument in arguments])


def test_a_file_and_a_data_folder_are_enough(fake, recording, data_folder):
    result = run("upload", "--dev", data_folder, recording)

    sha256_hex = hashlib.sha256(recording.read_bytes()).hexdigest()
    assert result.exit_code == 0, result.output
    assert str(fake.clip.clip_id) in result.stdout
    assert sha256_hex in result.stdout
    assert f"{recording}.receipt.json" in result.stdout


def test_results_as_json_are_one_object_a_line(fake, recording, data_folder):
    result = run("upload", "--json", "--dev", data_folder, recording, "/nowhere/clip.mp4")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    states = {line["file"]: line["state"] for line in lines}
    assert states == {str(recording): "secured", "/nowhere/clip.mp4": "failed"}


def test_one_failure_among_many_is_a_failure(fake, recording, data_folder):
    result = run("upload", "--dev", data_folder, recording, "/nowhere/clip.mp4")

    assert result.exit_code == 1
    assert fake.clip.state == "secured"


def test_the_address_and_keys_may_be_given_one_by_one(fake, recording, data_folder, tmp_path):
    (tmp_path / "verifier.key").write_text(fake.signer.verifier_key + "\n")

    result = run(
        *("upload", "--url", f"http://127.0.0.1:{fake.port}/", "--station", "station-1"),
        *("--key-file", data_folder / "station.pem"),
        *("--verifier-key", f"@{tmp_path / 'verifier.key'}", recording),
    )

    assert result.exit_code == 0, result.output


def test_a_receipt_of_an_unpinned_key_fails_and_erases_nothing(fake, recording, data_folder):
    fake.receipt_signer = Signer()

    result = run("upload", "--erase", "--dev", data_folder, recording)

    assert result.exit_code == 1
    assert "receipt is not accepted" in result.stderr
    assert recording.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["upload", "clip.mp4"],
        ["upload", "--dev", "/nowhere", "clip.mp4"],
        ["upload", "--url", "ftp://x", "--station", "s", "--key-file", "k", "clip.mp4"],
        ["upload", "--dev", "/nowhere", "--erase", "--no-wait", "clip.mp4"],
        ["upload", "--dev", "/nowhere", "--started-at", "yesterday", "clip.mp4"],
        ["upload", "--dev", "/nowhere", "--recording", "r", "a.mp4", "b.mp4"],
    ],
)
def test_a_call_that_makes_no_sense_is_a_usage_error(arguments):
    assert run(*arguments).exit_code == 2


def test_options_become_metadata(fake, recording, data_folder):
    run(
        *("upload", "--dev", data_folder, "--device", "BWC-7", "--recording", "r-9"),
        *("--officer", "P1", "--started-at", "2026-11-21T22:14:05+01:00", recording),
    )

    announced = fake.clip.announcement
    assert (announced["device_serial"], announced["recording_id"]) == ("BWC-7", "r-9")
    assert announced["officer_id"] == "P1"
    started_at = datetime.fromisoformat(announced["started_at"])
    assert started_at == datetime(2026, 11, 21, 21, 14, 5, tzinfo=UTC)


def test_a_folder_is_reported_without_being_sent(fake, recording, data_folder):
    result = run("manifest", "--dev", data_folder, recording.parent.parent)

    assert result.exit_code == 0, result.output
    assert "BWC-000001" in dict(fake.manifests)
    assert fake.chunk_requests == []


def test_the_clock_is_measured(fake, data_folder):
    fake.clock_ahead_s = 100

    result = run("clock", "--dev", data_folder)

    offset_ms = int(result.stdout.split()[1])
    assert abs(offset_ms - 100_000) < 1_000


def test_a_file_name_that_is_not_utf_8_is_uploaded(fake, tmp_path, data_folder):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    path.write_bytes(b"footage")

    result = run("upload", "--dev", data_folder, path)

    assert result.exit_code == 0, result.output


async def test_a_killed_dock_goes_on_where_it_was(fake, recording, data_folder):
    command = [*PROGRAM, "upload", "--dev", str(data_folder), str(recording)]
    async with open_link(fake.port) as link:
        write_dev_json(data_folder, fake, link.port)
        # In the middle of the fourth chunk; announcing took some bytes of its own.
        first = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        link.plan(4 * CHUNK_BYTES, lambda: first.send_signal(signal.SIGKILL))
        assert await first.wait() == -signal.SIGKILL
        sent_before = len(fake.clip.chunks)
        fake.requests.clear()

        second = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)

        assert await second.wait() == 0
    assert 0 < sent_before < fake.clip.chunk_count
    assert fake.chunk_requests == list(range(sent_before, fake.clip.chunk_count))
    assert fake.clip.content == recording.read_bytes()


async def test_ctrl_c_ends_cleanly_and_a_second_run_goes_on(fake, recording, data_folder):
    busy = {"Retry-After": "60"}
    fake.fail("POST .*/chunks/3$", lambda: problem(503, "vault-unavailable", "retry", busy))
    command = [*PROGRAM, "upload", "--dev", str(data_folder), str(recording)]
    first = await asyncio.create_subprocess_exec(
        *command,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background lets them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while b"asking again" not in await first.stderr.readline():
        pass

    first.send_signal(signal.SIGINT)

    _, said = await first.communicate()
    assert first.returncode == 130
    assert b"Traceback" not in said
    second = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
    assert await second.wait() == 0
