"""A short chaos run against the real stack: it passes, and it fails when a byte is lost."""

import json

import pytest

from loadtest.chaos.__main__ import main

pytestmark = [pytest.mark.e2e, pytest.mark.s3]


def run(results, *arguments):
    """Run it; return its exit code and what it wrote."""
    code = main([f"--results={results}", "--rest=1", "--settle=150", *arguments])
    (written,) = results.glob("*.json")
    return code, json.loads(written.read_text())


def test_docks_lose_nothing_through_a_short_run_of_every_sort(tmp_path):
    code, told = run(
        tmp_path, "--seed=short-375", "--minutes=0.15", "--every=0.6", "--docks=8", "--herd=40"
    )

    assert (code, told["verdict"]) == (0, "met"), told["lines"]
    assert {line["figure"] for line in told["lines"] if line["limit"] == 0} == {0}
    assert told["figures"]["receipts_checked"] == told["figures"]["objects_read"] >= 48
    assert len(told["faults"]) >= 10
    assert {each["where"] for each in told["faults"]} >= {
        *("docks", "s3", "postgres", "api worker", "service")
    }
    assert told["told_by_docks"]["retries"] > 0


@pytest.mark.parametrize("plant", ["flipped-byte"])
def test_one_harmed_object_fails_the_run(tmp_path, plant):
    code, told = run(
        tmp_path,
        "--seed=planted",
        "--minutes=0.03",
        "--docks=3",
        "--herd=0",
        "--no-standby",
        "--only=latency: docks",
        f"--plant={plant}",
    )

    missed = {line["what"]: line["found"] for line in told["lines"] if not line["is_met"]}
    assert (code, told["verdict"]) == (1, "missed")
    assert missed.keys() == {"acknowledged bytes lost", "secured clips with wrong bytes"}
    assert "chaos-planted-000000" in missed["secured clips with wrong bytes"][0]
