"""How docks of the load test behave, step by step, without a service."""

import json
import random

import pytest

from loadtest.dock import Ask, Connect, Dock, Rest, WaitUntil
from loadtest.dock_wire import Wire
from loadtest.faults import Temper
from loadtest.link import Answer, LinkBroken
from loadtest.pace import Visit
from loadtest.reel import Reel
from loadtest.tally import Tally

ROOT = "http://127.0.0.1:1/v1/clips/c1"
PLAN = {
    "clip_id": "c1",
    "chunk_bytes": 8 * 1024 * 1024,
    "chunk_count": 1,
    "chunks_url": f"{ROOT}/chunks",
    "seal_url": f"{ROOT}/seal",
    "tus_url": "http://127.0.0.1:1/files/u1",
}


class NoCheck:
    """Stands where receipts would be checked: these runs never get as far."""


def make_dock(**temper):
    return Dock(
        wire=Wire("127.0.0.1", 1, "token"),
        serial="BWC-000001",
        reels=[Reel("dock", 1, 1000)],
        temper=Temper(**temper),
        plan=Visit(1.0, 2.0),
        tally=Tally(),
        check=NoCheck(),
        seeded=random.Random(1),
        clock=lambda: 3.0,
    )


def answer(status, body=None, **fields):
    head = "".join(
        f"\r\n{name.replace('_', '-').lower()}: {value}" for name, value in fields.items()
    )
    return Answer(status, json.dumps(body or {}).encode(), f"http/1.1 {status}{head}".encode())


def play(dock, script, *, until):
    """Answer each request by its name from the script; return the steps up to the wanted one."""
    visit, steps = dock.visit(), []
    step = next(visit)
    while True:
        steps.append(step)
        if isinstance(step, Ask) and step.name == until:
            return steps
        if isinstance(step, Ask) and script.get(step.name):
            told = script[step.name].pop(0)
            step = visit.throw(told) if isinstance(told, Exception) else visit.send(told)
        else:
            step = visit.send(answer(0))


def play_out(dock, script):
    """Answer each request from the script until the visit ends; return the requests' names."""
    asked, visit = [], dock.visit()
    try:
        step = next(visit)
        while True:
            is_request = isinstance(step, Ask)
            asked += [step.name] if is_request else []
            step = visit.send(script[step.name].pop(0) if is_request else answer(0))
    except StopIteration:
        return asked


def start(**more):
    return {"time": [answer(200, {"unix_ms": 0})], "announce": [answer(201, PLAN)]} | more


def stored(*, is_sealed=False):
    return answer(201, {"sealed": {"state": "sealed"} if is_sealed else None})


def names(steps):
    return [step.name for step in steps if isinstance(step, Ask)]


def test_dock_waits_for_its_planned_times():
    steps = play(make_dock(), start(), until="chunk")

    assert [step.at_s for step in steps if isinstance(step, WaitUntil)] == [1.0, 2.0]


def test_retry_after_is_honoured_with_jitter():
    rests = set()
    for seed in range(20):
        dock = make_dock()
        dock.seeded = random.Random(seed)
        busy = [answer(503, retry_after="7")]
        steps = play(dock, start(chunk=[*busy, stored()]), until="seal")
        rests |= {step.seconds for step in steps if isinstance(step, Rest)}

    assert all(7 <= seconds <= 10.5 for seconds in rests)
    assert len(rests) == 20


def test_broken_connection_is_tried_again_on_a_new_one():
    script = start(chunk=[LinkBroken("gone"), stored()])
    dock = make_dock()
    steps = play(dock, script, until="seal")

    assert names(steps) == ["time", "announce", "chunk", "chunk", "seal"]
    assert dock.tally.counts["retries"] == 1
    assert isinstance(
        steps[steps.index(next(s for s in steps if isinstance(s, Rest))) + 1], Connect
    )


def test_the_chunk_that_seals_saves_a_request():
    steps = play(make_dock(), start(chunk=[stored(is_sealed=True)]), until="receipt")

    assert names(steps) == ["time", "announce", "chunk", "receipt"]
    assert b"?seal=true " in next(s for s in steps if isinstance(s, Ask) and s.name == "chunk").head


@pytest.mark.parametrize("status", [400, 409, 422])
def test_refusal_is_not_repeated_unchanged(status):
    dock = make_dock()
    script = start(chunk=[answer(status, {"type": "urn:ingest:problem:no"})])
    asked = play_out(dock, script)

    assert asked.count("chunk") == 1
    assert dock.outcomes[0].failure == f"chunk: {status} no"


def test_cut_chunk_is_resumed_by_asking_what_is_missing():
    missing = [answer(200, {"missing": [[0, 0]]})]
    steps = play(make_dock(cut_at=0.5), start(missing=missing), until="chunk")

    assert names(steps) == ["time", "announce", "chunk cut", "missing", "chunk"]
    assert next(s for s in steps if isinstance(s, Ask) and s.name == "chunk cut").cut_after == 500


def test_cut_patch_goes_on_at_the_offset():
    offset = [answer(200, upload_offset="400")]
    steps = play(make_dock(surface="tus", cut_at=0.5), start(offset=offset), until="patch")

    assert b"Upload-Offset: 400\r\n" in steps[-1].head
    assert b"".join(steps[-1].body) == b"".join(Reel("dock", 1, 1000).blocks(400, 1000))


def test_clips_of_urgent_categories_and_no_others_are_announced_as_urgent():
    said = {}
    for seed in range(40):
        dock = make_dock()
        dock.seeded = random.Random(seed)
        steps = play(dock, start(), until="chunk")
        announced = next(step for step in steps if getattr(step, "name", "") == "announce")
        category = json.loads(announced.body[0])["category"]
        said[category] = b"\r\nPriority: u=0\r\n" in announced.head

    assert {category for category, is_urgent in said.items() if is_urgent} == {"use_of_force"}
    assert len(said) > 1


def test_repeated_announcement_must_be_the_same_clip():
    dock = make_dock(is_repeated=True)
    script = start(chunk=[stored()], seal=[answer(200)])
    script["announce"].append(answer(200, {**PLAN, "clip_id": "c2"}))
    play_out(dock, script)

    assert "another clip" in dock.outcomes[0].failure


def test_wrong_clock_is_measured_and_told():
    dock = make_dock(clock_fault="drifted", clock_error_ms=3_600_000)
    steps = play(dock, start(), until="chunk")

    announcement = json.loads(
        next(s for s in steps if getattr(s, "name", "") == "announce").body[0]
    )
    # The service's clock stood at 0, the device's an hour ahead of ours.
    assert announcement["clock_offset_ms"] < -3_600_000


@pytest.mark.parametrize(("surface", "taken_back"), [("native", 1000), ("tus", 600)])
def test_what_the_service_took_back_is_noted(surface, taken_back):
    """It says that it has the clip, and when the dock is back it says that it has less."""
    dock = make_dock(surface=surface)
    give_up = answer(400, {"type": "urn:x:broken"})
    play_out(
        dock,
        start(chunk=[stored()], seal=[give_up], patch=[answer(204)], receipt=[give_up]),
    )
    dock.is_back = True
    again = start(missing=[answer(200, {"missing": [[0, 0]]})], chunk=[give_up])
    again |= {"offset": [answer(200, upload_offset="400")], "patch": [give_up]}
    play_out(dock, again)

    (outcome,) = dock.outcomes
    assert outcome.taken_back_bytes == taken_back
