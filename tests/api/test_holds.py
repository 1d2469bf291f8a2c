"""Holds by HTTP: placed, counted before they are placed in bulk, released by another person."""

import secrets

import pytest

from ingest_service.domain.principal import CLIPS_READ, HOLDS_WRITE
from tests.api.served import assert_problem

DATA = b"footage" * 100
ORDER = {"kind": "complaint", "authority": "COMPLAINT-2026/77", "reason": "The stop and search."}


@pytest.fixture
async def clip_id(dock):
    return await dock.bring_in(DATA)


def as_person(served, name: str, **claims):
    token = served.token(HOLDS_WRITE, CLIPS_READ, sub=name, kind="person", **claims)
    return served.client(token)


@pytest.fixture
async def anna(served):
    async with as_person(served, "P-anna") as client:
        yield client


@pytest.fixture
async def ben(served):
    async with as_person(served, "P-ben") as client:
        yield client


async def place(client, clip_id, **changes):
    return await client.post(f"/v1/clips/{clip_id}/holds", json={**ORDER, **changes})


async def test_a_hold_is_placed_and_shown(anna, clip_id):
    placed = await place(anna, clip_id, review_at="2027-01-01T00:00:00Z")
    listed = (await anna.get(f"/v1/clips/{clip_id}/holds")).json()
    clip = (await anna.get(f"/v1/clips/{clip_id}")).json()

    assert placed.status_code == 201
    assert listed == {"clip_id": clip_id, "is_held": True, "holds": [placed.json()]}
    assert (await anna.get(f"/v1/holds/{placed.json()['hold_id']}")).json() == placed.json()
    assert placed.json()["placed_by"] == "P-anna"
    assert clip["is_held"] is True


async def test_a_hold_is_released_by_another_person(anna, ben, clip_id):
    hold = (await place(anna, clip_id)).json()
    path = f"/v1/holds/{hold['hold_id']}/release"

    refused = await anna.post(path, json={"authority": "CLOSED-1"})
    released = await ben.post(path, json={"authority": "CLOSED-1"})
    again = await ben.post(path, json={"authority": "CLOSED-1"})

    assert_problem(refused, 403, "another-person-needed")
    assert released.status_code == 200
    assert released.json()["released_by"] == "P-ben"
    assert again.json() == released.json()
    assert (await anna.get(f"/v1/clips/{clip_id}")).json()["is_held"] is False


async def test_a_hold_that_somebody_else_released_is_told_so(served, anna, ben, clip_id):
    hold = (await place(anna, clip_id)).json()
    path = f"/v1/holds/{hold['hold_id']}/release"
    await ben.post(path, json={"authority": "CLOSED-1"})

    async with as_person(served, "P-cara") as cara:
        refused = await cara.post(path, json={"authority": "CLOSED-1"})
    assert_problem(refused, 409, "hold-released")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "because"},
        {"authority": ""},
        {"authority": "x" * 101},
        {"authority": "a\nb"},
        {"reason": ""},
        {"reason": "x" * 1001},
        {"review_at": "soon"},
        {"review_at": "2027-01-01T00:00:00"},
        {"released_by": "P-ben"},
    ],
)
async def test_a_malformed_order_holds_nothing(served, anna, clip_id, changes):
    async with served.nothing_changes():
        response = await place(anna, clip_id, **changes)
    assert_problem(response, 422, "invalid-request")


async def test_what_is_not_there_is_not_held(anna):
    unknown = "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e"

    assert_problem(await place(anna, unknown), 404, "clip-not-found")
    assert_problem(await anna.get(f"/v1/holds/{unknown}"), 404, "hold-not-found")
    released = await anna.post(f"/v1/holds/{unknown}/release", json={"authority": "X-1"})
    assert_problem(released, 404, "hold-not-found")


async def test_another_boroughs_clip_does_not_exist(served, anna, clip_id):
    hold = (await place(anna, clip_id)).json()

    async with as_person(served, "P-ben", boroughs=["Brent"]) as stranger:
        placed = await place(stranger, clip_id)
        shown = await stranger.get(f"/v1/holds/{hold['hold_id']}")
        released = await stranger.post(
            f"/v1/holds/{hold['hold_id']}/release", json={"authority": "X-1"}
        )
    assert_problem(placed, 404, "clip-not-found")
    assert_problem(shown, 404, "hold-not-found")
    assert_problem(released, 404, "hold-not-found")


async def test_looking_for_a_complaint_places_a_hold_before_the_first_byte(served, clip_id, reader):
    response = await reader.get(f"/v1/clips/{clip_id}/content", params={"purpose": "complaint"})
    await reader.get(
        f"/v1/clips/{clip_id}/content",
        params={"purpose": "complaint"},
        headers={"Range": "bytes=0-9"},
    )

    events = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    types = [event["type"] for event in events]
    assert response.content == DATA
    assert types[-3:] == ["hold.placed", "footage.downloaded", "footage.streamed"]
    assert (await reader.get(f"/v1/clips/{clip_id}")).json()["is_held"] is True


async def test_looking_without_such_a_purpose_places_none(clip_id, reader):
    await reader.get(f"/v1/clips/{clip_id}/content", params={"purpose": "training"})

    assert (await reader.get(f"/v1/clips/{clip_id}")).json()["is_held"] is False


# --- in bulk ------------------------------------------------------------------------------


@pytest.fixture
async def incident(dock):
    """Three clips of one incident, and its name."""
    name = f"CAD-{secrets.token_hex(4)}"
    for _ in range(3):
        await dock.bring_in(DATA, incident_id=name)
    return name


async def bulk(client, incident, **changes):
    body = {**ORDER, "kind": "legal", "filter": {"incident": incident}, **changes}
    return await client.post("/v1/holds", json=body)


async def test_a_dry_run_counts_and_holds_nothing(anna, incident):
    response = await bulk(anna, incident)

    listed = (await anna.get("/v1/clips", params={"incident": incident})).json()["clips"]
    assert response.status_code == 200
    counted = response.json()
    assert (counted["is_dry_run"], counted["clip_count"]) == (True, 3)
    assert counted["total_bytes"] == 3 * len(DATA)
    assert not any(clip["is_held"] for clip in listed)


async def test_the_second_call_holds_what_was_counted(anna, incident):
    token = (await bulk(anna, incident)).json()["token"]

    response = await bulk(anna, incident, token=token)

    listed = (await anna.get("/v1/clips", params={"incident": incident})).json()["clips"]
    assert response.status_code == 201
    placed = response.json()
    assert (placed["placed_count"], placed["is_complete"], placed["refused"]) == (3, True, [])
    assert all(clip["is_held"] for clip in listed)


@pytest.mark.parametrize(
    "changes", [{"filter": {}}, {"kind": "case"}, {"reason": "other"}, {"token": "guessed"}]
)
async def test_a_token_is_of_one_order(served, anna, incident, changes):
    token = (await bulk(anna, incident)).json()["token"]

    async with served.nothing_changes():
        response = await bulk(anna, incident, **{"token": token, **changes})
    assert_problem(response, 409, "preview-outdated")


async def test_a_token_is_of_one_person(anna, ben, incident):
    token = (await bulk(anna, incident)).json()["token"]

    assert_problem(await bulk(ben, incident, token=token), 409, "preview-outdated")


async def test_a_filter_that_matches_everything_is_refused_without_the_number(
    served, anna, incident
):
    counted = (await bulk(anna, incident, filter={})).json()

    async with served.nothing_changes():
        refused = await bulk(anna, incident, filter={}, token=counted["token"])
    problem = assert_problem(refused, 422, "hold-too-wide")
    assert problem["clip_count"] == counted["clip_count"]


async def test_an_unknown_filter_is_refused(anna, incident):
    response = await bulk(anna, incident, filter={"colour": "blue"})

    assert_problem(response, 422, "invalid-request")
