"""The dock client against the real service: `ingest dev`, started as anybody would."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from ingest_service.cli.faulty_link import open_link
from ingest_service.domain.receipt import verify_receipt
from schemas.receipt import Receipt

pytestmark = pytest.mark.e2e

PROGRAM = [sys.executable, "-m", "ingest_service"]
CLIP_BYTES = 45_000_000
START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def stack():
    """What dev.json says of a running `ingest dev`; its folder's path has a space."""
    with tempfile.TemporaryDirectory(prefix="ingest e2e ") as folder:
        data = Path(folder) / "data"
        with (Path(folder) / "dev.log").open("wb") as log:
            command = [*PROGRAM, "dev", "--data", str(data), "--port", "0"]
            dev = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not (data / "dev.json").exists():
                assert dev.poll() is None, (Path(folder) / "dev.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield json.loads((data / "dev.json").read_bytes()) | {"data_folder": data}
        finally:
            dev.send_signal(signal.SIGTERM)
            dev.wait(60)


@pytest.fixture
def recording(tmp_path) -> Path:
    folder = tmp_path / f"BWC-{os.urandom(3).hex()}"
    folder.mkdir()
    path = folder / "clip one.mp4"
    path.write_bytes(os.urandom(CLIP_BYTES))
    return path


@pytest.fixture
def link_folder(stack, tmp_path):
    """A data folder whose dev.json leads over a link."""

    def make(port: int) -> Path:
        folder = tmp_path / "over the link"
        folder.mkdir(exist_ok=True)
        facts = {name: stack[name] for name in ("station_id", "station_key_file")}
        facts["log_verifier_key"] = stack["log_verifier_key"]
        facts["base_url"] = f"http://127.0.0.1:{port}"
        (folder / "dev.json").write_text(json.dumps(facts))
        return folder

    return make


async def upload(data_folder: Path, *arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(*PROGRAM, "dock", "upload", "--json", "--dev", str(data_folder)),
        *(str(argument) for argument in arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


async def result_of(process: asyncio.subprocess.Process) -> dict:
    async with asyncio.timeout(120):
        said, _ = await process.communicate()
    result = json.loads(said)
    assert process.returncode == 0, result
    return result


async def read_back(stack: dict, clip_id: str) -> bytes:
    headers = {"Authorization": f"Bearer {stack['tokens']['reader']}"}
    async with httpx.AsyncClient(base_url=stack["base_url"], trust_env=False) as http:
        answer = await http.get(
            f"/v1/clips/{clip_id}/content", params={"purpose": "test"}, headers=headers, timeout=60
        )
    assert answer.status_code == 200, answer.text
    return answer.content


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def read_receipt(path: Path) -> Receipt:
    return Receipt.model_validate_json(path.read_bytes())


async def test_a_recording_goes_from_the_dock_to_secured_evidence(stack, recording):
    content = recording.read_bytes()

    result = await result_of(await upload(stack["data_folder"], recording))

    assert result["state"] == "secured"
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert await read_back(stack, result["clip_id"]) == content


async def test_a_recording_of_an_urgent_category_claims_priority_as_the_service_is_set(
    stack, tmp_path
):
    path = tmp_path / "shots.mp4"
    path.write_bytes(os.urandom(1000))

    result = await result_of(await upload(stack["data_folder"], "--category", "firearms", path))

    headers = {"Authorization": f"Bearer {stack['tokens']['reader']}"}
    async with httpx.AsyncClient(base_url=stack["base_url"], trust_env=False) as http:
        answer = await http.get(f"/v1/clips/{result['clip_id']}/events", headers=headers)
    facts = answer.json()["events"][0]["leaf"]["facts"]
    assert facts["priority"] == {"urgency": 0, "category": "firearms", "was_used": False}


async def test_a_camera_is_emptied_against_a_receipt_that_anyone_can_check(stack, recording):
    sha256_hex = hashlib.sha256(recording.read_bytes()).hexdigest()

    result = await result_of(await upload(stack["data_folder"], "--erase", recording))

    receipt = read_receipt(Path(result["receipt_file"]))
    assert verify_receipt(receipt, stack["log_verifier_key"]).sha256_readback == sha256_hex
    assert names_in(recording.parent) == ["clip one.mp4.receipt.json"]


async def test_an_upload_goes_on_after_the_connection_was_cut(stack, recording, link_folder):
    async with open_link(httpx.URL(stack["base_url"]).port) as link:
        for share in (0.3, 0.7):
            link.plan(int(share * CLIP_BYTES), link.cut)

        result = await result_of(await upload(link_folder(link.port), recording))

    assert link.cut_count == 2
    assert await read_back(stack, result["clip_id"]) == recording.read_bytes()


async def test_an_upload_goes_on_after_the_dock_itself_was_killed(stack, recording, link_folder):
    async with open_link(httpx.URL(stack["base_url"]).port) as link:
        first = await upload(link_folder(link.port), recording)
        link.plan(int(0.6 * CLIP_BYTES), first.kill)
        await first.communicate()
        assert first.returncode == -signal.SIGKILL
        sent_before = link.sent_bytes

        result = await result_of(await upload(link_folder(link.port), recording))

        sent_after = link.sent_bytes - sent_before
    assert sent_after < CLIP_BYTES / 2 + 8 * 1024 * 1024
    assert await read_back(stack, result["clip_id"]) == recording.read_bytes()


async def test_an_upload_goes_on_after_the_api_was_killed(stack, recording, link_folder):
    dev_file = stack["data_folder"] / "dev.json"
    pid = json.loads(dev_file.read_bytes())["pids"]["serve"]
    async with open_link(httpx.URL(stack["base_url"]).port) as link:
        link.plan(CLIP_BYTES // 2, lambda: os.kill(pid, signal.SIGKILL))

        result = await result_of(await upload(link_folder(link.port), recording))

    assert json.loads(dev_file.read_bytes())["pids"]["serve"] != pid
    assert await read_back(stack, result["clip_id"]) == recording.read_bytes()


async def test_several_connections_for_one_clip_bring_the_same_bytes(stack, recording):
    process = await upload(stack["data_folder"], "--parallel-chunks", 4, recording)

    result = await result_of(process)

    assert await read_back(stack, result["clip_id"]) == recording.read_bytes()
