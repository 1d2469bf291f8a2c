"""tus expiration and termination: lines E1 to E7 and G1 to G6 of the checklist."""

import asyncio
import os
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from uuid import UUID

import httpx
import pytest

from ingest_service.actions.end_upload import expire_upload
from tests.api.served import APPEND, PART_BYTES, TUS, assert_problem


def id_of(path: str) -> UUID:
    return UUID(path.rsplit("/", 1)[1])


async def expire_now(served, path):
    """Let its time pass, and nothing else."""
    await served.sql("UPDATE uploads SET expires_at = now() WHERE upload_id = $1", id_of(path))


async def sweep(served, path):
    """Do the job of `ingest work`."""
    opened = served.resources
    await served.call(
        expire_upload(id_of(path), pool=opened.pool, vault=served.vault, now=opened.now)
    )


def left_of(served, path) -> list[str]:
    upload_id = str(id_of(path))
    objects = [key for key in list(served.vault.keys()) if upload_id in key]
    return objects + [
        number
        for number, multipart in served.vault._multiparts.items()
        if upload_id in multipart.key
    ]


# --- expiration --------------------------------------------------------------------------


async def test_e01_expiration_is_served(stranger):
    assert "expiration" in (await stranger.options("/files")).headers["tus-extension"].split(",")


async def test_e02_who_may_expire_says_when(dock):
    created = await dock.create(10)
    path = httpx.URL(created.headers["location"]).path
    appended = await dock.append(path, 0, b"123")
    asked = await dock.head(path)

    for response in (created, appended, asked):
        assert "upload-expires" in response.headers


async def test_e03_the_moment_is_an_http_date(served, dock):
    before = datetime.now(UTC)
    value = (await dock.create(10)).headers["upload-expires"]

    moment = parsedate_to_datetime(value)
    assert value == moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
    expected = before + served.resources.rules.expires_after
    assert abs(moment - expected) < timedelta(minutes=1)


@pytest.mark.parametrize("is_swept", [False, True], ids=["not swept yet", "swept"])
@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_e04_an_expired_upload_is_gone(served, dock, method, is_swept):
    path = await dock.open(10)
    await dock.append(path, 0, b"123")
    await expire_now(served, path)
    if is_swept:
        await sweep(served, path)

    async with served.nothing_changes():
        response = await dock.http.request(
            method, path, headers={**APPEND, "Upload-Offset": "3"}, content=b"4567890"
        )
    assert response.status_code == 410
    assert "upload-offset" not in response.headers
    if method != "HEAD":
        problem = assert_problem(response, 410, "upload-gone")
        assert (problem["state"], problem["action"]) == ("expired", "fix")


async def test_e04_the_services_clock_counts_too(served, dock):
    path = await dock.open(10)
    now = served.resources.now

    with served.changed(now=lambda: now() + timedelta(days=8)):
        assert (await dock.head(path)).status_code == 410


async def test_e05_a_complete_upload_does_not_expire(served, dock):
    path = await dock.open(10)
    appended = await dock.append(path, 0, b"0123456789")
    await expire_now(served, path)
    await sweep(served, path)

    head = await dock.head(path)
    assert (head.status_code, head.headers["upload-offset"]) == (200, "10")
    for response in (appended, head):
        assert "upload-expires" not in response.headers


async def test_e06_progress_moves_the_expiry(served, dock):
    path = await dock.open(10)
    soon = datetime.now(UTC) + timedelta(hours=1)
    await served.sql("UPDATE uploads SET expires_at = $2 WHERE upload_id = $1", id_of(path), soon)

    response = await dock.append(path, 0, b"123")
    assert parsedate_to_datetime(response.headers["upload-expires"]) > soon + timedelta(days=1)


async def test_e07_expiry_frees_what_was_stored(served, dock, reader):
    path = await dock.open(3 * PART_BYTES)
    await dock.append(path, 0, os.urandom(PART_BYTES + 100))
    assert left_of(served, path)
    await expire_now(served, path)
    await sweep(served, path)

    (row,) = await served.sql("SELECT clip_id, state FROM clips WHERE upload_id = $1", id_of(path))
    trail = (await reader.get(f"/v1/clips/{row['clip_id']}/events")).json()["events"]
    assert row["state"] == "expired"
    assert left_of(served, path) == []
    assert trail[-1]["type"] == "upload.expired"
    assert trail[-1]["leaf"]["actor"]["kind"] == "policy"


# --- termination -------------------------------------------------------------------------


async def test_g01_termination_is_served(stranger):
    assert "termination" in (await stranger.options("/files")).headers["tus-extension"].split(",")


async def test_g02_an_unfinished_upload_is_taken_back(dock, served, reader):
    path = await dock.open(10)
    await dock.append(path, 0, b"123")

    response = await dock.delete(path)
    (row,) = await served.sql("SELECT clip_id FROM clips WHERE upload_id = $1", id_of(path))
    trail = (await reader.get(f"/v1/clips/{row['clip_id']}/events")).json()["events"]
    assert (response.status_code, response.content) == (204, b"")
    assert trail[-1]["type"] == "upload.terminated"


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
async def test_g03_a_terminated_upload_is_gone(served, dock, method):
    path = await dock.open(10)
    await dock.delete(path)

    async with served.nothing_changes():
        response = await dock.http.request(
            method, path, headers={**APPEND, "Upload-Offset": "0"}, content=b"123"
        )
    assert response.status_code == 410


async def test_g04_termination_frees_what_was_stored(served, dock):
    path = await dock.open(3 * PART_BYTES)
    await dock.append(path, 0, os.urandom(PART_BYTES + 100))
    assert left_of(served, path)

    await dock.delete(path)
    assert left_of(served, path) == []


@pytest.mark.parametrize("name", ["0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e", "x"])
async def test_g05_an_unknown_upload_cannot_be_taken_back(served, dock, name):
    async with served.nothing_changes():
        response = await dock.delete(f"/files/{name}")

    assert_problem(response, 404, "upload-not-found")


async def test_g05_a_running_append_is_interrupted_and_nothing_reappears(served, dock, wire):
    path = await dock.open(100)
    headers = {**dock.authorization, **APPEND, "Upload-Offset": "0", "Content-Length": "100"}
    await wire.ask("PATCH", path, headers, b"12345")
    await served.leased(path)

    response = await dock.delete(path)
    assert response.status_code == 204
    assert (await wire.answer()).status in {409, 410}
    await asyncio.sleep(0.1)
    assert (await dock.head(path)).status_code == 410
    assert left_of(served, path) == []


async def test_g06_evidence_is_not_taken_back(served, dock):
    path = await dock.open(10)
    await dock.append(path, 0, b"0123456789")

    async with served.nothing_changes():
        response = await dock.delete(path)
    assert assert_problem(response, 403, "termination-refused")["action"] == "stop"
    assert (await dock.http.head(path, headers=TUS)).status_code == 200
