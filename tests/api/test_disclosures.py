"""/v1/disclosures: made, listed, looked at, revoked by those who disclose."""

import os
import secrets
from datetime import timedelta
from uuid import uuid4

import pytest

from ingest_service.domain.clock import utc_now
from tests.api.served import assert_problem

DATA = os.urandom(100_000)


@pytest.fixture
async def discloser(served):
    token = served.token("disclosures:write", sub="P-dora", kind="person")
    async with served.client(token) as client:
        yield client


@pytest.fixture
async def clip_id(dock):
    return await dock.secure(DATA, filename="stop.mp4")


def order(*clip_ids, **changed):
    made = {
        "recipient": {
            "kind": "cps",
            "organisation": "CPS London",
            "person": "Ada Prosecutor",
            "reference": "URN-1",
        },
        "purpose": "prosecution",
        "legal_basis": "CPIA 1996 s.3",
        "clip_ids": list(clip_ids) or None,
        "expires_at": (utc_now() + timedelta(days=14)).isoformat(),
        "terms": "For the trial only.",
        **changed,
    }
    return {name: value for name, value in made.items() if value is not None}


async def disclose(client, *clip_ids, **changed):
    response = await client.post("/v1/disclosures", json=order(*clip_ids, **changed))
    assert response.status_code == 201, response.text
    return response.json()


async def test_the_link_is_shown_once(served, discloser, clip_id):
    made = await disclose(discloser, clip_id)

    assert made["link"].startswith(f"{served.base_url}/d/")
    assert made["clip_ids"] == [clip_id]
    shown = await discloser.get(f"/v1/disclosures/{made['disclosure_id']}")
    token = made["link"].rsplit("/", 1)[1]
    assert shown.status_code == 200
    assert token not in shown.text
    assert (shown.json()["state"], shown.json()["download_count"]) == ("open", 0)


async def test_the_clip_says_that_it_is_held(discloser, reader, clip_id):
    made = await disclose(discloser, clip_id)

    held = (await reader.get(f"/v1/clips/{clip_id}/holds")).json()
    assert held["is_held"]
    assert held["holds"][-1]["authority"] == f"DISCLOSURE/{made['disclosure_id']}"


async def test_a_case_is_disclosed_by_its_reference(discloser, dock):
    incident = f"CAD-{secrets.token_hex(4)}"
    clips = {await dock.secure(DATA, incident_id=incident) for _ in range(2)}

    made = await disclose(discloser, filter={"incident": incident})

    assert set(made["clip_ids"]) == clips


async def test_disclosures_are_listed_in_pages_newest_first(discloser, clip_id):
    made = [(await disclose(discloser, clip_id))["disclosure_id"] for _ in range(3)]

    first = (await discloser.get("/v1/disclosures", params={"clip_id": clip_id, "limit": 2})).json()
    rest = (
        await discloser.get(
            "/v1/disclosures", params={"clip_id": clip_id, "before": first["next_before"]}
        )
    ).json()
    listed = [each["disclosure_id"] for each in first["disclosures"] + rest["disclosures"]]
    assert listed == made[::-1]
    assert rest["next_before"] is None


async def test_revoking_is_an_answer_and_an_event(discloser, reader, clip_id):
    made = await disclose(discloser, clip_id)
    path = f"/v1/disclosures/{made['disclosure_id']}/revoke"

    revoked = await discloser.post(path, json={"authority": "CASE-1"})
    again = await discloser.post(path, json={"authority": "CASE-1"})

    assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    assert_problem(again, 409, "disclosure-ended")
    events = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    assert events[-1]["type"] == "disclosure.revoked"


@pytest.mark.parametrize(
    "changed",
    [
        {"recipient": {"kind": "cps", "reference": "URN-1"}},
        {"recipient": {"kind": "cps", "reference": "URN-1", "person": " "}},
        {"recipient": {"kind": "data_subject", "reference": "S-1", "organisation": "Firm"}},
        {"recipient": {"kind": "press", "reference": "S-1", "person": "Ada"}},
        {"recipient": None},
        {"clip_ids": []},
        {"filter": {"incident": "CAD-1"}},
        {"clip_ids": None},
        {"clip_ids": None, "filter": {}},
        {"purpose": None},
        {"legal_basis": "Ada\nProsecutor"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2999-01-01T00:00:00Z"},
        {"expires_at": "tomorrow"},
        {"allows": []},
        {"allows": ["pack", "pack"]},
        {"allows": ["everything"]},
        {"terms": " "},
        {"surprise": 1},
    ],
    ids=repr,
)
async def test_bad_input_discloses_nothing(served, discloser, clip_id, changed):
    async with served.nothing_changes():
        response = await discloser.post("/v1/disclosures", json=order(clip_id, **changed))

    assert_problem(response, 422, "invalid-request")


async def test_one_unknown_clip_and_nothing_is_disclosed(served, discloser, clip_id):
    unknown = str(uuid4())

    async with served.nothing_changes():
        response = await discloser.post("/v1/disclosures", json=order(clip_id, unknown))

    problem = assert_problem(response, 422, "clips-not-disclosable")
    assert problem["clips"] == [{"clip_id": unknown, "reason": "unknown"}]


async def test_too_many_clips_are_refused(served, discloser, clip_id):
    response = await discloser.post(
        "/v1/disclosures", json=order(clip_id, *(str(uuid4()) for _ in range(200)))
    )

    assert assert_problem(response, 422, "disclosure-too-wide")["clips_max"] == 200


async def test_only_who_may_disclose_discloses(served, clip_id):
    token = served.token("clips:read", "content:read", "holds:write", "audit:read")
    async with served.client(token) as client, served.nothing_changes():
        response = await client.post("/v1/disclosures", json=order(clip_id))
        assert assert_problem(response, 403, "forbidden")["scope"] == "disclosures:write"


async def test_another_boroughs_clips_and_disclosures_do_not_exist(served, discloser, clip_id):
    made = await disclose(discloser, clip_id)
    token = served.token("disclosures:write", boroughs=["Hackney"])

    async with served.client(token) as client, served.nothing_changes():
        refused = await client.post("/v1/disclosures", json=order(clip_id))
        shown = await client.get(f"/v1/disclosures/{made['disclosure_id']}")
        revoked = await client.post(
            f"/v1/disclosures/{made['disclosure_id']}/revoke", json={"authority": "X"}
        )
        listed = await client.get("/v1/disclosures", params={"clip_id": clip_id})
    assert_problem(refused, 422, "clips-not-disclosable")
    assert_problem(shown, 404, "disclosure-not-found")
    assert_problem(revoked, 404, "disclosure-not-found")
    assert listed.json()["disclosures"] == []
