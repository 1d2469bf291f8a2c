"""POST /v1/clips/{clip_id}/chunks/{index}: the native way in."""

import asyncio
import hashlib
import os
from uuid import UUID, uuid4

import pytest

from ingest_service.domain.clock import utc_now
from tests.api.served import (
    PART_BYTES,
    announcement,
    assert_problem,
    cut,
    digest_of,
    open_wire,
)

OCTETS = {"Content-Type": "application/octet-stream"}
CHUNK = b"c" * PART_BYTES


def upload_of(plan) -> UUID:
    return UUID(plan["tus_url"].rsplit("/", 1)[1])


async def missing(dock, clip_id):
    return (await dock.http.get(f"/v1/clips/{clip_id}/chunks")).json()


# --- as it should be ---------------------------------------------------------------------


async def test_a_chunk_is_stored_and_counted(served, dock):
    plan = await dock.announce(3 * PART_BYTES)

    response = await dock.send(plan["clip_id"], 0, CHUNK)
    assert response.status_code == 201
    assert response.json() == {
        "clip_id": plan["clip_id"],
        "index": 0,
        "size_bytes": PART_BYTES,
        "received_bytes": PART_BYTES,
        "sealed": None,
    }


async def test_chunks_come_in_any_order(served, dock):
    data = os.urandom(4 * PART_BYTES + 9)
    plan = await dock.announce(len(data))
    chunks = cut(data)

    for index in (4, 1, 3, 0, 2):
        assert (await dock.send(plan["clip_id"], index, chunks[index])).status_code == 201
    assert (await dock.seal(plan["clip_id"])).json()["state"] == "sealed"
    assert await served.read_back(plan["clip_id"]) == "secured"


async def test_chunks_come_in_parallel(served, dock):
    data = os.urandom(9 * PART_BYTES + 1)
    plan = await dock.announce(len(data), sha256_device=hashlib.sha256(data).hexdigest())

    answers = await asyncio.gather(
        *(dock.send(plan["clip_id"], index, chunk) for index, chunk in enumerate(cut(data)))
    )
    assert {answer.status_code for answer in answers} == {201}
    await dock.seal(plan["clip_id"])
    assert await served.read_back(plan["clip_id"]) == "secured"


async def test_one_index_sent_twice_at_once_is_counted_once(dock):
    plan = await dock.announce(2 * PART_BYTES)

    answers = await asyncio.gather(*(dock.send(plan["clip_id"], 0, CHUNK) for _ in range(6)))
    codes = {answer.status_code for answer in answers}
    assert codes <= {200, 201}
    assert 201 in codes
    assert (await missing(dock, plan["clip_id"]))["received_bytes"] == PART_BYTES


async def test_a_repeat_is_not_counted_again(served, dock):
    plan = await dock.announce(2 * PART_BYTES)
    await dock.send(plan["clip_id"], 0, CHUNK)

    async with served.nothing_changes():
        again = await dock.send(plan["clip_id"], 0, CHUNK)
    assert (again.status_code, again.json()["received_bytes"]) == (200, PART_BYTES)


@pytest.mark.parametrize("size_bytes", [PART_BYTES, 2 * PART_BYTES], ids=["one part", "two parts"])
async def test_a_repeat_after_the_seal_is_still_told_stored(served, dock, size_bytes):
    clip_id = await dock.bring_in(CHUNK * (size_bytes // PART_BYTES))

    async with served.nothing_changes():
        again = await dock.send(clip_id, 0, CHUNK)
    assert again.status_code == 200


async def test_missing_chunks_are_listed_as_ranges(dock):
    plan = await dock.announce(10 * PART_BYTES)
    for index in (0, 4, 5, 9):
        await dock.send(plan["clip_id"], index, CHUNK)

    listed = await missing(dock, plan["clip_id"])
    assert listed["missing"] == [[1, 3], [6, 8]]
    assert (listed["missing_count"], listed["received_bytes"]) == (6, 4 * PART_BYTES)
    assert (listed["chunk_count"], listed["is_truncated"]) == (10, False)


async def test_the_list_of_missing_ranges_is_bounded(served, dock):
    plan = await dock.announce(2400 * PART_BYTES)
    await served.sql(
        """INSERT INTO parts (upload_id, part_index, attempt, length_bytes, part_number, etag)
           SELECT $1, number * 2, 1, $2, number, 'e' FROM generate_series(0, 1199) AS number""",
        upload_of(plan),
        PART_BYTES,
    )

    listed = await missing(dock, plan["clip_id"])
    assert (len(listed["missing"]), listed["is_truncated"]) == (1000, True)
    assert listed["missing_count"] == 1200


async def test_nothing_is_missing_of_a_sealed_clip(dock):
    clip_id = await dock.bring_in(CHUNK * 2)

    listed = await missing(dock, clip_id)
    assert (listed["missing"], listed["state"]) == ([], "sealed")


async def test_other_algorithms_beside_sha_256_are_ignored(dock):
    plan = await dock.announce(PART_BYTES)
    digest = f"sha-512=:AAAA:, {digest_of(CHUNK)}"

    assert (await dock.send(plan["clip_id"], 0, CHUNK, digest=digest)).status_code == 201


# --- refused: nothing stored, nothing counted --------------------------------------------


@pytest.mark.parametrize("parts", [1, 3], ids=["one part", "three parts"])
@pytest.mark.parametrize("index", [0, -1], ids=["first", "last"])
async def test_other_content_under_a_stored_index_is_a_conflict(served, dock, parts, index):
    plan = await dock.announce(parts * PART_BYTES)
    index %= parts
    await dock.send(plan["clip_id"], index, CHUNK)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], index, b"d" * PART_BYTES)
    assert assert_problem(response, 409, "chunk-conflict")["action"] == "stop"


async def test_other_content_after_the_seal_is_a_conflict(served, dock):
    clip_id = await dock.bring_in(CHUNK * 2)

    async with served.nothing_changes():
        response = await dock.send(clip_id, 1, b"d" * PART_BYTES)
    assert_problem(response, 409, "chunk-conflict")


@pytest.mark.parametrize("parts", [1, 3], ids=["one part", "three parts"])
@pytest.mark.parametrize("index", [0, -1], ids=["first", "last"])
async def test_bytes_that_are_not_the_announced_ones_are_not_stored(served, dock, parts, index):
    plan = await dock.announce(parts * PART_BYTES)

    async with served.nothing_changes():
        response = await dock.send(
            plan["clip_id"], index % parts, CHUNK, digest=digest_of(b"other")
        )
    assert_problem(response, 422, "chunk-corrupted")


async def test_the_right_bytes_are_taken_after_wrong_ones(served, dock):
    data = os.urandom(2 * PART_BYTES)
    plan = await dock.announce(len(data), sha256_device=hashlib.sha256(data).hexdigest())
    for index, chunk in enumerate(cut(data)):
        await dock.send(plan["clip_id"], index, CHUNK, digest=digest_of(chunk))

    await dock.send_all(plan["clip_id"], data)
    await dock.seal(plan["clip_id"])
    assert await served.read_back(plan["clip_id"]) == "secured"


async def test_bytes_that_only_the_service_can_check_are_checked(served, dock, monkeypatch):
    monkeypatch.setattr(served.vault, "checks_sha256", False)
    plan = await dock.announce(2 * PART_BYTES)
    await dock.send(plan["clip_id"], 0, CHUNK)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], 1, CHUNK, digest=digest_of(b"other"))
    assert_problem(response, 422, "chunk-corrupted")


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        (None, "invalid-header"),
        ("sha-256", "invalid-header"),
        ("sha-256=", "invalid-header"),
        ("sha-256=::", "invalid-header"),
        ("sha-256=:####:", "invalid-header"),
        ("sha-256=:AAAA:", "invalid-header"),
        ("sha-256=:" + "A" * 87 + "=:", "invalid-header"),
        ("sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "invalid-header"),
        ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "invalid-header"),
        (":", "invalid-header"),
        ("md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "unknown-digest-algorithm"),
        ("sha-512=:AAAA:", "unknown-digest-algorithm"),
        ("crc32c=:AAAAAA==:, md5=:AA==:", "unknown-digest-algorithm"),
    ],
)
async def test_a_digest_that_cannot_be_checked_is_refused(served, dock, digest, name):
    plan = await dock.announce(PART_BYTES)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], 0, CHUNK, digest=digest)
    assert_problem(response, 400, name)


@pytest.mark.parametrize("index", ["3", "-1", "2147483648", str(2**63), "9" * 4000])
async def test_an_index_outside_of_the_plan_is_refused(served, dock, index):
    plan = await dock.announce(3 * PART_BYTES)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], index, CHUNK)
    assert response.status_code in {400, 422}, response.text
    name = "chunk-index-out-of-range" if response.status_code == 400 else "invalid-request"
    assert_problem(response, response.status_code, name)


@pytest.mark.parametrize("index", ["3", "-1", "4"])
async def test_the_range_of_indices_is_told(dock, index):
    plan = await dock.announce(3 * PART_BYTES)

    problem = assert_problem(
        await dock.send(plan["clip_id"], index, CHUNK), 400, "chunk-index-out-of-range"
    )
    assert problem["last_index"] == 2


@pytest.mark.parametrize("index", ["one", "1.5", "0x1", "NaN", "%00", "1e3"])
async def test_an_index_that_is_no_number_is_refused(served, dock, index):
    plan = await dock.announce(3 * PART_BYTES)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], index, CHUNK)
    assert_problem(response, 422, "invalid-request")


@pytest.mark.parametrize("parts", [0, 1, 3])
async def test_an_empty_chunk_behind_the_end_is_refused(served, dock, parts):
    """It would fit the arithmetic: no byte is left there."""
    plan = await dock.announce(parts * PART_BYTES)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], parts, b"")
    assert_problem(response, 400, "chunk-index-out-of-range")


@pytest.mark.parametrize(
    ("index", "length_bytes"),
    [(0, PART_BYTES - 1), (0, PART_BYTES + 1), (0, 0), (2, 9), (2, 11), (2, PART_BYTES)],
)
async def test_a_chunk_of_another_length_is_refused(served, dock, index, length_bytes):
    plan = await dock.announce(2 * PART_BYTES + 10)

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], index, b"x" * length_bytes)
    problem = assert_problem(response, 400, "chunk-misshapen")
    assert problem["expected_bytes"] == (PART_BYTES if index == 0 else 10)
    assert problem["received_bytes"] == length_bytes


async def test_a_chunk_without_a_length_is_refused(served, dock):
    plan = await dock.announce(PART_BYTES)

    async def blocks():
        yield CHUNK

    async with served.nothing_changes():
        response = await dock.http.post(
            f"/v1/clips/{plan['clip_id']}/chunks/0",
            content=blocks(),
            headers={**OCTETS, "Content-Digest": digest_of(CHUNK)},
        )
    assert_problem(response, 400, "invalid-header")


@pytest.mark.parametrize("parts", [1, 2], ids=["one part", "two parts"])
async def test_a_connection_cut_in_a_chunk_stores_nothing(served, dock, parts):
    plan = await dock.announce(parts * PART_BYTES)
    headers = {
        **dock.authorization,
        **OCTETS,
        "Content-Digest": digest_of(CHUNK),
        "Content-Length": str(PART_BYTES),
    }

    async with served.nothing_changes():
        async with open_wire(served) as wire:
            await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers, CHUNK[:-1])
        await asyncio.sleep(0.1)
    assert (await dock.send(plan["clip_id"], 0, CHUNK)).status_code == 201


async def test_a_chunk_that_stalls_is_cut_and_nothing_is_stored(served, dock, wire):
    plan = await dock.announce(2 * PART_BYTES)
    headers = {
        **dock.authorization,
        **OCTETS,
        "Content-Digest": digest_of(CHUNK),
        "Content-Length": str(PART_BYTES),
    }

    with served.changed(rules={"body_stall_timeout_s": 0.3}):
        async with served.nothing_changes():
            await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers, CHUNK[:1000])
            answer = await wire.answer(within_s=5)
    assert (answer.status, answer.problem) == (408, "body-stalled")
    assert (await dock.send(plan["clip_id"], 0, CHUNK)).status_code == 201


async def test_a_slow_body_that_keeps_coming_is_not_cut(served, dock, wire):
    plan = await dock.announce(PART_BYTES)
    headers = {
        **dock.authorization,
        **OCTETS,
        "Content-Digest": digest_of(CHUNK),
        "Content-Length": str(PART_BYTES),
    }

    with served.changed(rules={"body_stall_timeout_s": 0.5}):
        await wire.ask("POST", f"/v1/clips/{plan['clip_id']}/chunks/0", headers)
        for start in range(0, PART_BYTES, PART_BYTES // 8):
            await wire.send(CHUNK[start : start + PART_BYTES // 8])
            await asyncio.sleep(0.1)
        assert (await wire.answer()).status == 201


async def test_a_chunk_of_an_unknown_clip_is_refused(served, dock):
    async with served.nothing_changes():
        response = await dock.send(str(uuid4()), 0, CHUNK)

    assert assert_problem(response, 404, "clip-not-found")["action"] == "stop"


@pytest.mark.parametrize("clip_id", ["x", "123", "%00", "..", "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d"])
async def test_a_malformed_clip_id_is_refused(dock, clip_id):
    response = await dock.send(clip_id, 0, CHUNK)

    assert response.status_code in {404, 422}
    name = "route-not-found" if response.status_code == 404 else "invalid-request"
    assert_problem(response, response.status_code, name)


async def test_another_stations_clip_does_not_exist(served, dock, other_dock):
    plan = await dock.announce(2 * PART_BYTES)
    clip_id = plan["clip_id"]

    async with served.nothing_changes():
        answers = [
            await other_dock.send(clip_id, 0, CHUNK),
            await other_dock.http.get(f"/v1/clips/{clip_id}/chunks"),
            await other_dock.http.get(f"/v1/clips/{clip_id}"),
            await other_dock.http.get(f"/v1/clips/{clip_id}/events"),
            await other_dock.http.get(f"/v1/clips/{clip_id}/receipt"),
            await other_dock.seal(clip_id),
        ]
    for response in answers:
        assert_problem(response, 404, "clip-not-found")


async def test_an_expired_upload_takes_no_chunk(served, dock):
    plan = await dock.announce(2 * PART_BYTES)
    await served.sql("UPDATE uploads SET expires_at = now() WHERE upload_id = $1", upload_of(plan))

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], 0, CHUNK)
    problem = assert_problem(response, 410, "upload-gone")
    assert (problem["state"], problem["action"]) == ("expired", "fix")


async def test_an_upload_begun_by_tus_takes_no_chunk(served, dock):
    plan = await dock.announce(2 * PART_BYTES)
    path = f"/files/{upload_of(plan)}"
    assert (await dock.append(path, 0, b"tus")).status_code == 204

    async with served.nothing_changes():
        response = await dock.send(plan["clip_id"], 0, CHUNK)
    assert assert_problem(response, 409, "surface-mismatch")["surface"] == "tus"


async def test_an_upload_begun_natively_takes_no_tus(served, dock):
    plan = await dock.announce(2 * PART_BYTES)
    await dock.send(plan["clip_id"], 0, CHUNK)

    async with served.nothing_changes():
        response = await dock.append(f"/files/{upload_of(plan)}", PART_BYTES, CHUNK)
    assert_problem(response, 409, "surface-mismatch")


@pytest.mark.parametrize("failure", ["lost", "stored"])
@pytest.mark.parametrize("parts", [1, 2], ids=["one part", "two parts"])
async def test_a_failing_store_counts_nothing_and_says_retry(served, dock, failure, parts):
    plan = await dock.announce(parts * PART_BYTES)
    before = await missing(dock, plan["clip_id"])
    served.vault.fail_next("put_object" if parts == 1 else "put_part", failure)

    response = await dock.send(plan["clip_id"], 0, CHUNK)
    assert response.status_code == 503
    assert response.json()["action"] == "retry"
    assert int(response.headers["retry-after"]) >= 1
    assert await missing(dock, plan["clip_id"]) == before
    assert (await dock.send(plan["clip_id"], 0, CHUNK)).status_code == 201


async def test_progress_moves_the_expiry(served, dock):
    body = announcement(2 * PART_BYTES)
    first = (await dock.http.post("/v1/clips", json=body)).json()
    later = utc_now().replace(microsecond=0)
    await dock.send(first["clip_id"], 0, CHUNK)

    again = (await dock.http.post("/v1/clips", json=body)).json()
    assert again["expires_at"] > first["expires_at"]
    assert again["expires_at"] > later.isoformat()


# --- the seal with the last chunk --------------------------------------------------------


async def seal_with(dock, clip_id, index, data):
    return await dock.http.post(
        f"/v1/clips/{clip_id}/chunks/{index}?seal=true",
        content=data,
        headers={**OCTETS, "Content-Digest": digest_of(data)},
    )


async def test_the_only_chunk_seals_the_clip_where_it_says_so(dock):
    plan = await dock.announce(10)

    response = await seal_with(dock, plan["clip_id"], 0, b"x" * 10)

    assert response.status_code == 201
    assert response.json()["sealed"] == (await dock.seal(plan["clip_id"])).json()
    assert response.json()["sealed"]["state"] == "sealed"


async def test_the_last_of_several_chunks_seals_the_clip_too(dock):
    plan = await dock.announce(PART_BYTES + 1)

    first = await seal_with(dock, plan["clip_id"], 0, CHUNK)
    last = await seal_with(dock, plan["clip_id"], 1, b"x")

    assert first.json()["sealed"] is None
    assert last.json()["sealed"]["state"] == "sealed"


async def test_a_repeat_of_the_sealing_chunk_is_told_the_seal(dock):
    plan = await dock.announce(10)
    first = await seal_with(dock, plan["clip_id"], 0, b"x" * 10)

    again = await seal_with(dock, plan["clip_id"], 0, b"x" * 10)

    assert (again.status_code, again.json()["sealed"]) == (200, first.json()["sealed"])


async def test_a_clip_with_a_hole_is_not_sealed(dock):
    plan = await dock.announce(PART_BYTES + 1)

    response = await seal_with(dock, plan["clip_id"], 1, b"x")

    assert (response.status_code, response.json()["sealed"]) == (201, None)
    assert (await missing(dock, plan["clip_id"]))["missing"] == [[0, 0]]
