"""The commands and programs of docs/feed.md and docs/audit.md, run as they stand there."""

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx
import pytest

from ingest_service.domain.event_types import EVENT_TYPES, VERB_OF
from ingest_service.domain.webhook import format_secret, make_secret, sign_message
from tests.docs.documents import ROOT, find_blocks, run

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        not (shutil.which("curl") and shutil.which("bash")), reason="the documents use these"
    ),
]

FEED: Final = ROOT / "docs/feed.md"
AUDIT: Final = ROOT / "docs/audit.md"
CONSUMER, VERIFY = find_blocks(FEED, "python")


@pytest.fixture(scope="module")
def facts(desk: Path):
    return json.loads((desk / "data/dev.json").read_bytes())


@pytest.fixture(scope="module")
def announce(facts):
    """A dock announces clips: each is an event of the log."""
    headers = {"Authorization": f"Bearer {facts['tokens']['station']}"}
    with httpx.Client(base_url=facts["base_url"], headers=headers, trust_env=False) as http:

        def announce(name: str) -> str:
            body = {"device_serial": "BWC-DOCS", "recording_id": name, "size_bytes": 100}
            response = http.post("/v1/clips", json=body)
            response.raise_for_status()
            return response.json()["clip_id"]

        yield announce


def wait_for_log(facts, size: int) -> None:
    headers = {"Authorization": f"Bearer {facts['tokens']['reader']}"}
    with httpx.Client(base_url=facts["base_url"], headers=headers, trust_env=False) as http:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = http.get("/v1/events", params={"limit": 1})
            if answer.status_code == 200 and int(answer.headers["ingest-log-size"]) >= size:
                return
            time.sleep(0.1)
    pytest.fail(f"the log never had {size} events")


def told(printed: str) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in printed.splitlines())
    return {word: rest.strip() for word, rest in pairs}


def test_the_commands_of_the_feed_do_what_they_say(desk, facts, announce):
    for number in range(3):
        announce(f"feed-{number}")
    wait_for_log(facts, 3)

    said = told(run("\n".join(find_blocks(FEED, "bash")), desk))
    assert said["first"].startswith("local.ingest.")
    assert said["looked"].startswith("up to ")
    assert said["waited"] == "200"
    assert said["stream"] == "1"
    assert (said["secret"], said["state"], said["deleted"]) == ("whsec_", "active", "204")


def test_the_consumer_of_the_feed_misses_nothing_though_it_is_killed(desk, facts, announce):
    folder = desk / "consumer"
    folder.mkdir()
    (folder / "consumer.py").write_text(CONSUMER)
    environment = {
        **os.environ,
        "URL": facts["base_url"],
        "TOKEN": facts["tokens"]["reader"],
        "no_proxy": "127.0.0.1",
    }
    chance = random.Random(6)  # noqa: S311 - when to kill

    def start():
        return subprocess.Popen([sys.executable, "consumer.py"], cwd=folder, env=environment)

    clips = []
    for turn in range(4):
        consumer = start()
        clips += [announce(f"killed-{turn}-{number}") for number in range(3)]
        time.sleep(chance.uniform(0.5, 1.5))
        consumer.kill()
        consumer.wait(10)
    consumer = start()
    try:
        seen = read_until(folder / "seen.db", set(clips))
    finally:
        consumer.kill()
        consumer.wait(10)

    headers = {"Authorization": f"Bearer {facts['tokens']['reader']}"}
    events = httpx.get(
        f"{facts['base_url']}/v1/events",
        params={"limit": 1000},
        headers=headers,
        trust_env=False,
    ).json()
    wanted = [event["id"] for event in events if event.get("subject") in set(clips)]
    assert [event_id for event_id, clip in seen if clip in set(clips)] == wanted


def read_until(path: Path, clips: set[str]):
    deadline = time.monotonic() + 60
    rows: list[tuple[str, str]] = []
    while time.monotonic() < deadline:
        if path.exists():
            with sqlite3.connect(path, timeout=10) as db:
                rows = db.execute("SELECT id, clip FROM seen ORDER BY logindex").fetchall()
            db.close()
            if clips <= {clip for _, clip in rows}:
                return rows
        time.sleep(0.2)
    pytest.fail(f"only {len(rows)} events came")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"webhook-signature": "v1,AAAA"}, False),
        ({"webhook-id": "other"}, False),
        ({"webhook-timestamp": "1600000000"}, False),
    ],
    ids=str,
)
def test_the_verification_of_a_webhook_tells_forged_from_true(change, expected):
    secret, other = make_secret(), make_secret()
    body = b'{"id":"1"}'
    headers = sign_message("1", datetime.now(UTC), body, [other, secret])
    space: dict[str, object] = {}
    exec(VERIFY, space)  # noqa: S102 - our own document

    verify = space["verify"]
    assert verify(format_secret(secret), {**headers, **change}, body) is expected
    assert verify(format_secret(secret), {**headers, **change}, body + b" ") is False


def test_the_table_of_types_is_the_present_one():
    rows = re.findall(r"^\| (`.*`) \| (\w+) \|$", FEED.read_text(), re.MULTILINE)
    shown = {
        name: None if verb == "none" else verb
        for names, verb in rows
        for name in re.findall(r"`([^`]+)`", names)
    }

    assert shown == {name: VERB_OF.get(name) for name in EVENT_TYPES}


def test_the_commands_of_the_audit_do_what_they_say(desk, facts, announce):
    announce("audited")
    wait_for_log(facts, 1)

    said = told(run("\n".join(find_blocks(AUDIT, "bash")), desk))
    assert said["verbs"] == "collection"
    assert int(said["events"]) >= 1
    assert said["csv"] == "log_index,recorded_at,occurred_at"
    assert said["html"] == "1"
    assert (said["refused"], said["noted"]) == ("403", "forbidden")
