"""The commands of the README, run as they stand there."""

import hashlib
import json
import re
import shutil
import urllib.request
from pathlib import Path
from typing import Any, Final

import pytest

from tests.docs.documents import README, find_blocks, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("curl") and shutil.which("bash")), reason="the README uses bash and curl"
    ),
]

CLIP_BYTES: Final = 25_165_824
COMMANDS: Final = [
    line
    for block in find_blocks(README, "sh")
    for line in block.splitlines()
    if line and not line.startswith("make ")
]


@pytest.fixture(scope="module")
def printed(desk: Path) -> str:
    """What the transcript prints."""
    (transcript,) = find_blocks(README, "bash")
    return run(transcript, desk)


@pytest.fixture(scope="module")
def told(printed: str) -> dict[str, str]:
    """The same, by the first word of each line."""
    pairs = (line.split(maxsplit=1) for line in printed.splitlines())
    return {word: rest.strip() for word, rest in pairs}


@pytest.fixture(scope="module")
def get(desk: Path):
    """Ask the running service as one of its roles."""
    facts = json.loads((desk / "data/dev.json").read_bytes())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(path: str, role: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {facts['tokens'][role]}"}
        request = urllib.request.Request(f"{facts['base_url']}{path}", headers=headers)  # noqa: S310 - our own server
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)

    return get


@pytest.fixture(scope="module")
def clip(told: dict[str, str], get) -> dict[str, Any]:
    """The clip that the transcript brought in."""
    assert told["state"] == "secured"
    return get("/v1/clips?device=BWC-000042&limit=1", "reader")["clips"][0]


def test_the_connection_was_cut_and_what_had_arrived_was_kept(told: dict[str, str]):
    kept_bytes = int(told["kept"].split()[0])

    assert told["cut"] == "curl ends with status 28"
    assert 0 < kept_bytes < CLIP_BYTES


def test_the_clip_is_secured_with_the_hash_of_the_file(
    desk: Path, told: dict[str, str], clip: dict[str, Any]
):
    sha256_hex = hashlib.sha256((desk / "clip.mp4").read_bytes()).hexdigest()

    assert told["rest"] == "204"
    assert told["proof"] == told["file"] == sha256_hex == clip["sha256_readback"]
    assert clip["size_bytes"] == CLIP_BYTES


def test_the_readme_shows_what_the_transcript_prints(printed: str):
    (shown,) = find_blocks(README, "text")

    assert mask(printed) == mask(shown)


def mask(text: str) -> str:
    """Leave out what differs from run to run."""
    text = re.sub(r"[0-9a-f]{64}", "<sha256>", text)
    # Jobs have events of their own.
    text = re.sub(r"number \d+ of \d+", "number <n> of <n>", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>", text)
    return re.sub(r"(?<=127\.0\.0\.1:)\d+|(?<=kept    )\d+", "<number>", text)


def test_the_chain_of_custody_is_gapless_by_the_standard_library_alone(clip: dict[str, Any], get):
    events = get(f"/v1/clips/{clip['clip_id']}/events", "reader")["events"]
    receipt = get(f"/v1/clips/{clip['clip_id']}/receipt", "station")

    previous = None
    for number, event in enumerate(events):
        leaf = json.loads(event["leaf_text"])
        assert (leaf["clip_seq"], leaf["prev"]) == (number, previous)
        previous = hashlib.sha256(b"\x00" + event["leaf_text"].encode()).hexdigest()
        assert event["leaf_hash"] == previous
    assert receipt["leaf"] in [event["leaf_text"] for event in events]


@pytest.mark.usefixtures("printed")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_other_command_works(command: str, desk: Path):
    run(command, desk)


def test_the_demo_explains_itself(desk: Path):
    shown = run(".venv/bin/python -m ingest_service demo --help", desk)

    assert "Exit 0 only if all" in " ".join(shown.split())
