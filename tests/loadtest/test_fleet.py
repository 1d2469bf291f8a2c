"""A short fleet against the real stack: it passes, and it fails when a byte is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.own_stack import running_stack

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The dev.json of a service with two API processes on Postgres and SeaweedFS."""
    folder = tmp_path_factory.mktemp("load")
    knobs = {"INGEST_WORKERS": "2", "INGEST_LOG_LEVEL": "warning", "INGEST_KEEP_ALIVE_S": "300"}
    with running_stack(folder, store="embedded", knobs=knobs):
        yield folder / "data" / "dev.json"


def run(service, results, *arguments):
    """Run a fleet; return its exit code and what it wrote."""
    code = main(["run", "fleet", "--service", str(service), "--results", str(results), *arguments])
    (written,) = results.glob("*.json")
    return code, json.loads(written.read_text())


def test_500_docks_alive_at_once_lose_nothing(service, tmp_path):
    code, told = run(service, tmp_path, "--devices=500", "--over=8", "--within=400", "--clip-kib=4")

    assert (code, told["verdict"]) == (0, "met"), told["goals"]
    assert told["figures"]["open_max"] == 500
    assert told["counts"]["secured"] == 500
    assert told["audit"]["objects_read"] == told["audit"]["receipts_checked"] == 500
    assert told["counts"]["resumes"] > 0
    assert told["counts"]["repeats"] > 0
    assert (tmp_path / next(tmp_path.glob("*.html"))).read_text().count("<svg") >= 8


@pytest.mark.parametrize(
    ("fault", "kind"), [("lost-object", "lost"), ("flipped-byte", "lost"), ("truncated", "lost")]
)
def test_one_harmed_object_fails_the_run(service, tmp_path, fault, kind):
    code, told = run(
        service, tmp_path, "--devices=10", "--over=1", "--within=300", f"--plant={fault}"
    )

    assert (code, told["verdict"]) == (1, "missed")
    assert told["audit"][kind]["count"] == 1
    assert "-000000" in told["audit"][kind]["first"][0]
    assert told["audit"]["objects_read"] == 9


def test_locust_drives_the_same_docks(service):
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("locust")),
            "--locustfile=loadtest/locustfile.py",
            f"--service={service}",
            "--headless",
            "--users=5",
            "--spawn-rate=5",
            "--run-time=8s",
            "--clip-kib=16",
            "--only-summary",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    sums = next(line for line in done.stdout.splitlines() if line.startswith("docks:"))
    counts = dict(each.rsplit(" ", 1) for each in sums.removeprefix("docks: ").split(", "))
    assert int(counts["secured"].replace(",", "")) > 0
    assert "failed" not in counts
