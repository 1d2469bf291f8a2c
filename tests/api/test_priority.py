"""When the house is full, what matters most comes in first, and answers for it."""

import asyncio
import base64
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from ingest_service.domain.admission import Door
from tests.api.served import APPEND, PART_BYTES, TUS, announcement
from tests.api.test_admission import NoLedger, assert_problem_without_detail

URGENT = {"Priority": "u=0"}
CATEGORY = "firearms"
DATA = b"d" * PART_BYTES
PLACES = 100


@pytest.fixture(autouse=True)
def _categories(served):
    with served.changed(rules={"urgent_categories": frozenset({CATEGORY})}):
        yield


@asynccontextmanager
async def house(served, in_work, urgent=0):
    """The service while so many of a hundred places are taken."""
    door = Door(PLACES)
    door.in_work, door.urgent_in_work = in_work, urgent
    with served.changed(door=door):
        yield door


def announce(dock, headers=URGENT, **members):
    body = announcement(**{"category": CATEGORY} | members)
    return dock.http.post("/v1/clips", json=body, headers=headers)


async def facts_of(reader, clip_id):
    trail = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    return trail[0]["leaf"]["facts"]


def encode(text):
    return base64.b64encode(text.encode()).decode()


def metric(name, **labels):
    return REGISTRY.get_sample_value(name, labels) or 0


# --- who comes in ------------------------------------------------------------------------


async def test_in_a_house_that_is_full_for_others_an_urgent_clip_is_announced(served, dock):
    async with house(served, 40):
        ordinary = await announce(dock, headers={})
        less = await announce(dock, headers={"Priority": "u=1, i"})
        urgent = await announce(dock)

    assert_problem_without_detail(ordinary)
    assert_problem_without_detail(less)
    assert urgent.status_code == 201


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {**TUS, "Upload-Length": "9"}),
        ("POST", {"Upload-Complete": "?0", "Upload-Length": "9"}),
        ("PUT", {"Upload-Complete": "?0", "Upload-Length": "9"}),
        ("PATCH", {"Upload-Complete": "?0", "Upload-Length": "9"}),
    ],
)
async def test_so_is_an_upload_that_brings_its_own_announcement(served, dock, method, headers):
    async with house(served, 40):
        ordinary = await dock.http.request(method, "/files", headers=headers)
        urgent = await dock.http.request(method, "/files", headers=headers | URGENT)

    assert (ordinary.status_code, urgent.status_code) == (503, 201)


async def test_a_question_is_not_urgent(served, reader):
    async with house(served, 40):
        response = await reader.get("/v1/clips", headers=URGENT)

    assert_problem_without_detail(response)


async def test_what_was_begun_is_ended_before_even_urgent_clips_begin(served, dock):
    plan = await dock.announce(len(DATA))

    async with house(served, 60):
        refused = await announce(dock)
        await dock.send_all(plan["clip_id"], DATA)
        sealed = await dock.seal(plan["clip_id"])
    assert_problem_without_detail(refused)
    assert sealed.status_code == 200


async def test_where_everybody_says_urgent_it_gains_nothing_more(served, dock):
    before = metric("ingest_requests_shed_total", kind="urgent")

    async with house(served, 50, urgent=10):
        refused = await announce(dock)

    assert_problem_without_detail(refused)
    assert int(refused.headers["retry-after"]) >= 1
    assert metric("ingest_requests_shed_total", kind="urgent") == before + 1


async def test_an_urgent_refusal_asks_no_ledger_and_reads_no_token(served, stranger):
    async with house(served, 60):
        with served.changed(pool=NoLedger()):
            response = await stranger.post("/v1/clips", json=announcement(), headers=URGENT)

    assert_problem_without_detail(response)


@pytest.mark.parametrize("path", ["/v1/clips", "/files"])
async def test_an_urgent_request_leaves_its_place_however_it_ends(served, dock, path):
    async with house(served, 40) as door:
        await dock.http.post(path, content=b"?", headers=URGENT)
        # The answer may be here before its request has left.
        for _ in range(100):
            if not door.urgent_in_work:
                break
            await asyncio.sleep(0.02)

    assert (door.in_work, door.urgent_in_work) == (40, 0)


# --- what it leaves behind ---------------------------------------------------------------


async def test_whose_priority_was_used_answers_for_it_in_the_clips_first_event(
    served, dock, reader
):
    admitted = metric("ingest_priority_admitted_total")
    async with house(served, 40):
        plan = (await announce(dock)).json()

    priority = {"urgency": 0, "category": CATEGORY, "was_used": True}
    assert (await facts_of(reader, plan["clip_id"]))["priority"] == priority
    assert metric("ingest_priority_admitted_total") == admitted + 1


async def test_a_claim_in_an_empty_house_is_recorded_as_not_used(dock, reader):
    plan = (await announce(dock)).json()

    priority = {"urgency": 0, "category": CATEGORY, "was_used": False}
    assert (await facts_of(reader, plan["clip_id"]))["priority"] == priority
    assert "priority_unfounded" not in plan["flags"]


async def test_of_a_clip_for_which_nobody_claims_the_event_says_nothing(dock, reader):
    plan = (await announce(dock, headers={"Priority": "u=3"})).json()

    assert "priority" not in await facts_of(reader, plan["clip_id"])


async def test_a_claim_for_a_category_that_may_not_is_flagged_and_the_clip_is_taken(
    served, dock, reader
):
    before = metric("ingest_priority_claims_total", outcome="unfounded")
    async with house(served, 40):
        plan = (await announce(dock, category="Mrs Smith")).json()

    facts = await facts_of(reader, plan["clip_id"])
    assert "priority_unfounded" in plan["flags"]
    assert facts["priority"] == {"urgency": 0, "category": None, "was_used": True}
    assert "priority_unfounded" in facts["flags"]
    assert metric("ingest_priority_claims_total", outcome="unfounded") == before + 1
    assert (await dock.bring_in(DATA)) is not None


@pytest.mark.parametrize("protocol", ["tus", "whole", "ietf"])
@pytest.mark.parametrize("category", [CATEGORY, "traffic"])
async def test_an_uploads_metadata_says_what_its_claim_rests_on(
    served, dock, reader, protocol, category
):
    headers = {**URGENT, "Upload-Metadata": f"category {encode(category)}"}
    content = b""
    match protocol:
        case "ietf":
            headers |= {"Upload-Complete": "?0", "Upload-Length": "9"}
        case "whole":
            headers |= {**APPEND, "Upload-Length": "9"}
            content = b"nine byte"
        case _:
            headers |= {**TUS, "Upload-Length": "9"}
    created = await dock.http.post("/files", content=content, headers=headers)

    facts = await facts_of(reader, created.headers["ingest-clip-id"])
    is_founded = category == CATEGORY
    assert created.status_code == 201
    assert facts["priority"]["category"] == (CATEGORY if is_founded else None)
    assert ("priority_unfounded" in facts["flags"]) is not is_founded


async def test_a_piece_of_clips_to_come_rests_its_claim_on_nothing(dock):
    before = metric("ingest_priority_claims_total", outcome="unfounded")
    headers = {**URGENT, **TUS, "Upload-Length": "9", "Upload-Concat": "partial"}
    created = await dock.http.post("/files", headers=headers)

    assert created.status_code == 201
    assert metric("ingest_priority_claims_total", outcome="unfounded") == before + 1


async def test_a_clip_that_moves_with_an_urgent_claim_says_so_too(dock, other_dock, reader):
    body = announcement(category=CATEGORY)
    plan = (await dock.http.post("/v1/clips", json=body)).json()
    await other_dock.http.post("/v1/clips", json=body, headers=URGENT)

    trail = (await reader.get(f"/v1/clips/{plan['clip_id']}/events")).json()["events"]
    assert "priority" not in trail[0]["leaf"]["facts"]
    assert trail[1]["leaf"]["facts"]["priority"]["category"] == CATEGORY
