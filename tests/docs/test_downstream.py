"""The commands and the program of docs/downstream.md, run as they stand there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.docs.documents import ROOT, find_blocks, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("curl") and shutil.which("bash")), reason="the document uses these"
    ),
]

DOWNSTREAM: Final = ROOT / "docs/downstream.md"


@pytest.fixture(scope="module")
def facts(desk: Path):
    return json.loads((desk / "data/dev.json").read_bytes())


@pytest.fixture(scope="module", autouse=True)
def announced(facts):
    """Two clips of one camera, of a morning."""
    headers = {"Authorization": f"Bearer {facts['tokens']['station']}"}
    with httpx.Client(base_url=facts["base_url"], headers=headers, trust_env=False) as http:
        for name in ("down-1", "down-2"):
            body = {
                "device_serial": "BWC-DOWN",
                "recording_id": name,
                "size_bytes": 100,
                "started_at": "2026-11-20T10:30:00Z",
            }
            http.post("/v1/clips", json=body).raise_for_status()


def test_the_calls_say_what_the_document_says(desk: Path):
    [script] = find_blocks(DOWNSTREAM, "bash")

    told = dict(line.split(maxsplit=1) for line in run(script, desk).splitlines())
    assert told["second"] == "down-1"
    assert told["again"] == "304"
    assert "category_unknown" in told["flags"]
    assert told["then"] == "unclassified"
    assert told["lines"] == "3"
    assert told["arrests"] == "1"


def test_the_program_may_be_run_twice(desk: Path):
    [program] = find_blocks(DOWNSTREAM, "python")

    def dispatch() -> list[str]:
        finished = subprocess.run(
            [sys.executable, "-c", program, "shift-1"],
            cwd=desk,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout.splitlines()

    clips = ["down-2 P1042", "down-1 P1042"]
    assert dispatch() == ["2 0 0", *clips]
    assert dispatch() == ["0 2 0", *clips]
