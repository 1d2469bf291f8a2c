"""/v1/subject-access-requests: the clock, the holds, the answer."""

import os
import secrets
from datetime import timedelta
from uuid import uuid4

import pytest

from ingest_service.domain.access_request import find_due_on
from ingest_service.domain.clock import utc_now
from tests.api.served import assert_problem
from tests.api.test_disclosures import disclose

PATH = "/v1/subject-access-requests"
SUBJECT = {"kind": "data_subject", "person": "Sam Subject", "reference": "SAR-X"}


@pytest.fixture
async def dora(served):
    token = served.token("disclosures:write", sub="P-dora", kind="person")
    async with served.client(token) as client:
        yield client


@pytest.fixture
async def eve(served):
    token = served.token("disclosures:write", "clips:read", sub="P-eve", kind="person")
    async with served.client(token) as client:
        yield client


@pytest.fixture
async def clip_id(dock):
    return await dock.secure(os.urandom(1000))


def order(**changed):
    return {
        "reference": f"SAR-{secrets.token_hex(6)}",
        "subject": "subject-5f2c",
        "received_at": utc_now().isoformat(),
        **changed,
    }


async def receive(client, **changed):
    response = await client.post(PATH, json=order(**changed))
    assert response.status_code == 201, response.text
    return response.json()


async def link(client, made, *clip_ids):
    return await client.post(
        f"{PATH}/{made['access_request_id']}/clips", json={"clip_ids": list(clip_ids)}
    )


async def fulfil(client, made, **answer):
    return await client.post(f"{PATH}/{made['access_request_id']}/fulfil", json=answer)


async def events_of(served, made):
    rows = await served.sql(
        "SELECT type, convert_from(leaf, 'UTF8') AS leaf FROM custody_events"
        " WHERE clip_id IS NULL AND convert_from(leaf, 'UTF8') LIKE $1 ORDER BY event_id",
        f"%{made['access_request_id']}%",
    )
    return [row["type"] for row in rows], "".join(row["leaf"] for row in rows)


async def test_the_clock_runs_from_the_receipt(served, dora):
    received_at = utc_now() - timedelta(days=3)

    made = await receive(dora, received_at=received_at.isoformat())

    assert (made["state"], made["due_on"]) == ("open", find_due_on(received_at).isoformat())
    types, leaves = await events_of(served, made)
    assert types == ["sar.received"]
    assert "subject-5f2c" not in leaves


async def test_one_reference_is_one_request(served, dora):
    made = await receive(dora)

    async with served.nothing_changes():
        again = await dora.post(PATH, json=order(reference=made["reference"]))
    assert_problem(again, 409, "access-request-conflict")


@pytest.mark.parametrize(
    "changed",
    [
        {"received_at": "2999-01-01T00:00:00Z"},
        {"received_at": "2026-11-20T10:00:00"},
        {"subject": ""},
        {"subject": "Sam\nSubject"},
        {"reference": None},
        {"surprise": 1},
    ],
    ids=repr,
)
async def test_bad_input_starts_no_clock(served, dora, changed):
    async with served.nothing_changes():
        assert_problem(await dora.post(PATH, json=order(**changed)), 422, "invalid-request")


async def test_more_time_is_given_once_with_a_reason(served, dora):
    made = await receive(dora)
    path = f"{PATH}/{made['access_request_id']}/extend"

    extended = await dora.post(path, json={"months": 2, "reason": "Sam asks for forty clips"})
    again = await dora.post(path, json={"months": 1, "reason": "more"})

    due_on = find_due_on(utc_now(), 2).isoformat()
    assert (extended.status_code, extended.json()["due_on"]) == (200, due_on)
    assert_problem(again, 409, "access-request-conflict")
    types, leaves = await events_of(served, made)
    assert types == ["sar.received", "sar.extended"]
    assert "forty" not in leaves


@pytest.mark.parametrize(
    "extension", [{"months": 3, "reason": "x"}, {"months": 0, "reason": "x"}, {"months": 1}]
)
async def test_no_extension_without_reason_or_of_three_months(served, dora, extension):
    made = await receive(dora)

    async with served.nothing_changes():
        response = await dora.post(f"{PATH}/{made['access_request_id']}/extend", json=extension)
    assert_problem(response, 422, "invalid-request")


async def test_what_is_overdue_is_not_extended(served, dora):
    made = await receive(dora)

    with served.changed(now=lambda: utc_now() + timedelta(days=33)):
        response = await dora.post(
            f"{PATH}/{made['access_request_id']}/extend", json={"months": 1, "reason": "late"}
        )
    assert_problem(response, 409, "access-request-conflict")


async def test_linked_clips_are_held_once(dora, eve, clip_id):
    made = await receive(dora)

    first = await link(dora, made, clip_id)
    second = await link(dora, made, clip_id)

    assert first.json()["clips"] == second.json()["clips"]
    held = (await eve.get(f"/v1/clips/{clip_id}/holds")).json()
    assert [hold["kind"] for hold in held["holds"]] == ["subject_access_request"]
    assert held["is_held"]


async def test_one_unknown_clip_and_nothing_is_linked(served, dora, clip_id):
    made = await receive(dora)

    async with served.nothing_changes():
        response = await link(dora, made, clip_id, str(uuid4()))
    assert_problem(response, 422, "clips-not-disclosable")


async def test_fulfilling_ties_it_to_a_disclosure_and_ends_its_holds(served, dora, eve, clip_id):
    made = await receive(dora)
    await link(dora, made, clip_id)
    given = await disclose(dora, clip_id, recipient=SUBJECT)

    done = await fulfil(eve, made, outcome="disclosed", disclosure_id=given["disclosure_id"])

    assert (done.status_code, done.json()["state"]) == (200, "fulfilled")
    holds = (await eve.get(f"/v1/clips/{clip_id}/holds")).json()["holds"]
    standing = [hold["authority"] for hold in holds if hold["released_at"] is None]
    assert standing == [f"DISCLOSURE/{given['disclosure_id']}"]
    types, _ = await events_of(served, made)
    assert types == ["sar.received", "sar.fulfilled"]


async def test_who_placed_its_holds_does_not_end_them_by_fulfilling(dora, eve, clip_id):
    made = await receive(dora)
    await link(dora, made, clip_id)

    done = await fulfil(dora, made, outcome="refused")

    assert done.status_code == 200
    assert (await eve.get(f"/v1/clips/{clip_id}/holds")).json()["is_held"]


@pytest.mark.parametrize("trouble", ["another recipient", "revoked", "unknown"])
async def test_only_an_open_disclosure_to_the_subject_answers_it(served, dora, clip_id, trouble):
    made = await receive(dora)
    recipient = SUBJECT if trouble == "revoked" else {**SUBJECT, "kind": "defence"}
    given = await disclose(dora, clip_id, recipient=recipient)
    disclosure_id = str(uuid4()) if trouble == "unknown" else given["disclosure_id"]
    if trouble == "revoked":
        await dora.post(f"/v1/disclosures/{disclosure_id}/revoke", json={"authority": "X"})

    async with served.nothing_changes():
        response = await fulfil(dora, made, outcome="disclosed", disclosure_id=disclosure_id)

    status, name = (
        (404, "disclosure-not-found") if trouble == "unknown" else (409, "access-request-conflict")
    )
    assert_problem(response, status, name)


@pytest.mark.parametrize(
    "answer",
    [
        {"outcome": "disclosed"},
        {"outcome": "refused", "disclosure_id": "00000000-0000-4000-8000-000000000000"},
        {"outcome": "lost"},
    ],
    ids=repr,
)
async def test_an_answer_that_makes_no_sense_is_none(served, dora, answer):
    made = await receive(dora)

    async with served.nothing_changes():
        assert_problem(await fulfil(dora, made, **answer), 422, "invalid-request")


async def test_it_is_fulfilled_once_and_takes_no_clips_then(dora, clip_id):
    made = await receive(dora)
    await fulfil(dora, made, outcome="nothing_held")

    again = await fulfil(dora, made, outcome="nothing_held")
    late = await link(dora, made, clip_id)

    assert_problem(again, 409, "access-request-conflict")
    assert_problem(late, 409, "access-request-conflict")


async def test_the_list_tells_open_overdue_and_fulfilled_apart(served):
    """By somebody who sees only their own: other tests have left requests here."""
    token = served.token("disclosures:write", sub=f"P-{secrets.token_hex(4)}", boroughs=["Camden"])
    async with served.client(token) as client:
        overdue = await receive(client, received_at=(utc_now() - timedelta(days=40)).isoformat())
        open_ = await receive(client)
        done = await receive(client)
        await fulfil(client, done, outcome="nothing_held")

        async def ask(**query):
            page = (await client.get(PATH, params=query)).json()
            return [each["access_request_id"] for each in page["access_requests"]], page

        assert (await ask(state="overdue"))[0] == [overdue["access_request_id"]]
        assert (await ask(state="open"))[0] == [open_["access_request_id"]]
        assert (await ask(state="fulfilled"))[0] == [done["access_request_id"]]
        due = (utc_now() + timedelta(days=1)).date().isoformat()
        assert (await ask(due_before=due))[0] == [overdue["access_request_id"]]
        first, page = await ask(limit=2)
        rest, _ = await ask(after=page["next_after"])
        assert first[0] == overdue["access_request_id"]
        assert len({*first, *rest}) == 3


async def test_who_is_limited_to_boroughs_sees_their_own_requests_alone(served, dora):
    made = await receive(dora)
    token = served.token("disclosures:write", sub="P-other", boroughs=["Camden"])

    async with served.client(token) as client:
        shown = await client.get(f"{PATH}/{made['access_request_id']}")
        answered = await fulfil(client, made, outcome="refused")
    assert_problem(shown, 404, "access-request-not-found")
    assert_problem(answered, 404, "access-request-not-found")


async def test_only_who_may_disclose_takes_requests_in(served):
    async with served.client(served.token("clips:read", "holds:write")) as client:
        assert_problem(await client.post(PATH, json=order()), 403, "forbidden")
