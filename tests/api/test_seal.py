"""POST /v1/clips/{clip_id}/seal and GET .../receipt: the end of the way in."""

import asyncio
import hashlib
import json
import os
from uuid import UUID, uuid4

import pytest

from ingest_service.domain.receipt import ReceiptInvalid, verify_receipt
from schemas.receipt import Receipt
from tests.api.served import PART_BYTES, assert_problem, cut
from tests.paper_log import check_logged


async def receipt_of(dock, clip_id):
    return await dock.http.get(f"/v1/clips/{clip_id}/receipt")


async def test_a_complete_clip_is_sealed_with_its_hash(dock):
    data = os.urandom(2 * PART_BYTES + 5)
    plan = await dock.announce(len(data))
    await dock.send_all(plan["clip_id"], data)

    response = await dock.seal(plan["clip_id"])
    assert response.status_code == 200
    assert response.json()["state"] == "sealed"
    assert response.json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert response.json()["size_bytes"] == len(data)


async def test_the_stored_object_is_the_clip(served, dock, reader):
    data = os.urandom(3 * PART_BYTES + 5)
    clip_id = await dock.bring_in(data)

    clip = (await reader.get(f"/v1/clips/{clip_id}")).json()
    assert served.vault.content(clip["object_key"]) == data


async def test_a_seal_repeated_changes_nothing(served, dock):
    clip_id = await dock.bring_in(b"x" * 100)

    async with served.nothing_changes():
        again = await dock.seal(clip_id)
    assert (again.status_code, again.json()["state"]) == (200, "sealed")


async def test_seals_at_once_are_one_seal(dock, reader):
    data = os.urandom(2 * PART_BYTES)
    plan = await dock.announce(len(data))
    await dock.send_all(plan["clip_id"], data)

    answers = await asyncio.gather(*(dock.seal(plan["clip_id"]) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    trail = (await reader.get(f"/v1/clips/{plan['clip_id']}/events")).json()["events"]
    assert [event["type"] for event in trail] == ["clip.announced", "clip.sealed"]


async def test_an_empty_clip_is_sealed_at_once(served, dock):
    plan = await dock.announce(0)
    assert plan["chunk_count"] == 0

    assert (await dock.seal(plan["clip_id"])).json()["state"] == "sealed"
    assert await served.read_back(plan["clip_id"]) == "secured"


async def test_a_seal_that_comes_early_names_what_is_missing(served, dock):
    plan = await dock.announce(5 * PART_BYTES)
    for index in (0, 3):
        await dock.send(plan["clip_id"], index, b"c" * PART_BYTES)

    async with served.nothing_changes():
        response = await dock.seal(plan["clip_id"])
    problem = assert_problem(response, 409, "chunks-missing")
    assert (problem["missing"], problem["missing_count"]) == ([[1, 2], [4, 4]], 3)
    assert problem["action"] == "fix"


async def test_a_clip_with_another_hash_than_the_device_said_is_quarantined(served, dock, reader):
    data = os.urandom(PART_BYTES)
    plan = await dock.announce(len(data), sha256_device="00" * 32)
    await dock.send_all(plan["clip_id"], data)

    response = await dock.seal(plan["clip_id"])
    assert (response.status_code, response.json()["state"]) == (200, "quarantined")
    assert "device" in response.json()["quarantine_reason"]
    assert (await receipt_of(dock, plan["clip_id"])).status_code == 202
    clip = (await reader.get(f"/v1/clips/{plan['clip_id']}")).json()
    assert served.vault.content(clip["object_key"]) == data


async def test_a_store_that_is_away_lets_the_seal_finish_later(served, dock):
    data = os.urandom(2 * PART_BYTES)
    plan = await dock.announce(len(data))
    await dock.send_all(plan["clip_id"], data)
    served.vault.fail_next("complete_multipart", "lost")

    with served.changed(rules={"finish_wait_s": 0.2}):
        early = await dock.seal(plan["clip_id"])
    assert (early.status_code, early.json()["state"]) == (202, "finishing")
    assert early.headers["retry-after"] == "1"
    # The job of `ingest work` would drive it on by then; here the dock does.
    await served.sql(
        "UPDATE uploads SET finish_after = now() WHERE clip_id = $1", UUID(plan["clip_id"])
    )
    later = await dock.seal(plan["clip_id"])
    assert (later.status_code, later.json()["state"]) == (200, "sealed")


@pytest.mark.parametrize("call", ["seal", "receipt"])
async def test_an_unknown_clip_is_refused(dock, call):
    method = dock.http.post if call == "seal" else dock.http.get

    assert_problem(await method(f"/v1/clips/{uuid4()}/{call}"), 404, "clip-not-found")


async def test_an_expired_upload_cannot_be_sealed(served, dock):
    plan = await dock.announce(100)
    await served.sql(
        "UPDATE uploads SET state = 'expired' WHERE clip_id = $1", UUID(plan["clip_id"])
    )

    assert_problem(await dock.seal(plan["clip_id"]), 410, "upload-gone")


async def test_a_tus_upload_is_not_sealed_by_hand(served, dock):
    plan = await dock.announce(100)
    path = plan["tus_url"].removeprefix(served.base_url)
    await dock.append(path, 0, b"half")

    async with served.nothing_changes():
        response = await dock.seal(plan["clip_id"])
    assert_problem(response, 409, "surface-mismatch")


# --- the receipt -------------------------------------------------------------------------


async def test_before_the_read_back_there_is_no_receipt(dock):
    clip_id = await dock.bring_in(b"x" * 100)

    response = await receipt_of(dock, clip_id)
    assert response.status_code == 202
    assert response.json() == {"clip_id": clip_id, "state": "sealed"}
    assert int(response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("order", ["in order", "reversed"])
async def test_the_receipt_of_a_secured_clip_proves_its_bytes(served, dock, order):
    data = os.urandom(3 * PART_BYTES + 1)
    plan = await dock.announce(len(data), recording_id="clip one")
    chunks = list(enumerate(cut(data)))
    for index, chunk in chunks if order == "in order" else reversed(chunks):
        await dock.send(plan["clip_id"], index, chunk)
    await dock.seal(plan["clip_id"])
    assert await served.read_back(plan["clip_id"]) == "secured"
    await served.publish_log()

    response = await receipt_of(dock, plan["clip_id"])
    facts = verify_receipt(
        Receipt.model_validate(response.json()), served.resources.signer.verifier_key
    )
    assert response.status_code == 200
    assert str(facts.clip_id) == plan["clip_id"]
    assert facts.recording_id == "clip one"
    assert (facts.size_bytes, facts.sha256) == (len(data), hashlib.sha256(data).hexdigest())


async def test_before_its_proof_is_published_there_is_no_receipt(served, dock, reader):
    clip_id = await dock.bring_in(b"x" * 100)
    assert await served.read_back(clip_id) == "secured"

    response = await receipt_of(dock, clip_id)
    assert (response.status_code, response.json()["state"]) == (202, "secured")
    assert int(response.headers["retry-after"]) >= 1
    trail = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    assert "release.issued" not in [event["type"] for event in trail]


async def test_the_receipt_as_text_is_the_leaf_and_a_proof_that_a_stranger_can_check(served, dock):
    clip_id = await dock.secure(b"x" * 100)
    asked = {"Accept": "text/plain"}

    response = await dock.http.get(f"/v1/clips/{clip_id}/receipt", headers=asked)
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["vary"] == "Accept"
    leaf, _, proof = response.text.partition("\n")
    check_logged(leaf.encode(), proof, served.resources.signer.verifier_key)
    assert json.loads(leaf)["facts"]["clip_id"] == clip_id
    assert leaf == (await receipt_of(dock, clip_id)).json()["leaf"]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("text/plain", "text/plain"),
        ("TEXT/*", "text/plain"),
        ("text/plain, application/json;q=0.9", "text/plain"),
        ("text/plain;q=0.5, application/json", "application/json"),
        ("text/plain;q=0, */*", "application/json"),
        ("*/*", "application/json"),
        ("text/plain;q=nonsense", "application/json"),
        (";;,=", "application/json"),
        ("", "application/json"),
    ],
)
async def test_the_form_of_the_receipt_is_the_one_that_is_preferred(dock, accept, media_type):
    clip_id = await dock.secure(b"x" * 100)

    response = await dock.http.get(f"/v1/clips/{clip_id}/receipt", headers={"Accept": accept})
    assert response.headers["content-type"].partition(";")[0] == media_type


async def test_the_receipt_states_the_same_leaf_every_time(served, dock, reader):
    clip_id = await dock.secure(b"x" * 100)
    answers = await asyncio.gather(*(receipt_of(dock, clip_id) for _ in range(5)))
    await served.publish_log()
    answers.append(await receipt_of(dock, clip_id))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["leaf"] for answer in answers}) == 1
    trail = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    assert [event["type"] for event in trail].count("release.issued") == 1


async def test_a_changed_receipt_proves_nothing(served, dock):
    clip_id = await dock.secure(b"x" * 100)
    receipt = (await receipt_of(dock, clip_id)).json()
    receipt["leaf"] = receipt["leaf"].replace('"size_bytes":100', '"size_bytes":101')

    with pytest.raises(ReceiptInvalid):
        verify_receipt(Receipt.model_validate(receipt), served.resources.signer.verifier_key)


async def test_altered_storage_gives_no_receipt(served, dock, reader):
    clip_id = await dock.bring_in(b"x" * 100)
    key = (await reader.get(f"/v1/clips/{clip_id}")).json()["object_key"]
    served.vault.tamper(key, b"y" * 100)

    assert await served.read_back(clip_id) == "quarantined"
    pending = await receipt_of(dock, clip_id)
    assert (pending.status_code, pending.json()["state"]) == (202, "quarantined")


async def test_the_receipt_states_the_secured_leaf_of_the_chain(dock, reader):
    clip_id = await dock.secure(b"x" * 100)
    receipt = (await receipt_of(dock, clip_id)).json()

    trail = (await reader.get(f"/v1/clips/{clip_id}/events")).json()["events"]
    (secured,) = [event for event in trail if event["type"] == "clip.secured"]
    assert receipt["leaf"] == secured["leaf_text"]
    assert json.loads(receipt["leaf"])["facts"]["clip_id"] == clip_id
