"""The way of one clip against a service that behaves as documented, and fails as documented."""

import asyncio
import hashlib
import json
import os
import time

import pytest

from ingest_service.cli.faulty_link import open_link
from ingest_service.dock.failures import (
    ClipQuarantined,
    FileChanged,
    FileInUse,
    GaveUp,
    ReceiptRefused,
    Refused,
)
from ingest_service.dock.recording import hold_file
from ingest_service.dock.upload import FIXES_MAX, upload_recording
from tests.dock.fake_service import CHUNK_BYTES, Signer, make_honest_leaf, problem, until


def sidecar_of(recording):
    return recording.with_name(recording.name + ".ingest.json")


def receipt_of(recording):
    return recording.with_name(recording.name + ".receipt.json")


# --- the straight way ------------------------------------------------------------------------


async def test_a_recording_is_secured_with_nothing_but_its_path(fake, recording, bring_in):
    outcome = await bring_in(recording)

    assert outcome.state == fake.clip.state == "secured"
    assert fake.clip.content == recording.read_bytes()
    assert outcome.sha256_hex == hashlib.sha256(recording.read_bytes()).hexdigest()


async def test_chunks_of_a_clip_go_in_order(fake, recording, bring_in):
    await bring_in(recording)

    assert fake.chunk_requests == [0, 1, 2, 3, 4, 5]


async def test_several_connections_bring_the_same_bytes(fake, recording, bring_in):
    await bring_in(recording, parallel_chunks=4)

    assert fake.clip.content == recording.read_bytes()


async def test_an_empty_recording_is_secured(fake, tmp_path, bring_in):
    path = tmp_path / "empty.mp4"
    path.touch()

    assert (await bring_in(path)).state == "secured"


async def test_the_receipt_is_kept_as_it_came(fake, recording, bring_in):
    outcome = await bring_in(recording)

    document = json.loads(outcome.receipt_path.read_bytes())
    assert outcome.receipt_path == receipt_of(recording)
    assert document["later"] == "kept although this client knows nothing of it"


@pytest.mark.parametrize(
    ("category", "policy", "priority"),
    [
        ("firearms", {}, "u=0"),
        ("traffic", {}, None),
        (None, {}, None),
        ("traffic", {"urgent_categories": frozenset({"traffic"})}, "u=0"),
    ],
)
async def test_a_recording_of_an_urgent_category_is_announced_as_urgent(
    fake, recording, bring_in, category, policy, priority
):
    options = {} if category is None else {"category": category}
    await bring_in(recording, options=options, **policy)

    assert fake.priorities == [priority]


async def test_the_announcement_carries_hash_and_clock(fake, recording, bring_in):
    fake.clock_ahead_s = 3_600

    await bring_in(recording, options={"officer_id": "P1042"})

    announced = fake.clip.announcement
    assert announced["sha256_device"] == hashlib.sha256(recording.read_bytes()).hexdigest()
    assert abs(announced["clock_offset_ms"] - 3_600_000) <= announced["clock_uncertainty_ms"] + 20
    assert (announced["device_serial"], announced["officer_id"]) == ("BWC-000001", "P1042")


async def test_without_waiting_it_ends_at_the_seal(fake, recording, bring_in):
    fake.polls_until_secured = 10**9

    outcome = await bring_in(recording, is_waiting=False)

    assert (outcome.state, outcome.receipt_path) == ("sealed", None)


async def test_a_state_folder_keeps_a_read_only_camera_clean(fake, recording, tmp_path, bring_in):
    state_dir = tmp_path / "state"
    state_dir.mkdir()

    outcome = await bring_in(recording, state_dir=state_dir)

    assert [path.name for path in recording.parent.iterdir()] == [recording.name]
    assert outcome.receipt_path.parent == state_dir


# --- going on after anything -----------------------------------------------------------------


@pytest.mark.parametrize("parallel_chunks", [1, 3])
async def test_a_cut_in_the_middle_of_a_chunk_costs_that_chunk_only(
    fake, recording, bring_in, parallel_chunks
):
    async with open_link(fake.port) as link:
        link.plan(int(2.5 * CHUNK_BYTES), link.cut)
        link.plan(int(4.5 * CHUNK_BYTES), link.cut)

        await bring_in(recording, port=link.port, parallel_chunks=parallel_chunks)

    assert link.cut_count >= 2
    assert fake.clip.content == recording.read_bytes()
    assert link.sent_bytes < len(fake.clip.content) + (2 * parallel_chunks + 1) * CHUNK_BYTES


@pytest.mark.parametrize(
    "lost", ["POST /v1/clips$", "POST .*/chunks/3$", "POST .*/seal$", "GET .*/receipt$"]
)
async def test_a_lost_answer_is_asked_for_again(fake, recording, bring_in, lost):
    # The request was carried out; what comes back is a gateway's excuse.
    fake.fail(lost, lambda: problem(502, "", ""), is_after=True)

    assert (await bring_in(recording)).state == "secured"


async def test_a_restarted_service_is_waited_for(fake, recording, open_dock):
    fake.fail("POST .*/chunks/3$", lambda: problem(503, "shutting-down", "retry"))
    async with open_dock() as dock:
        upload = asyncio.create_task(upload_recording(recording, dock=dock))
        await until(lambda: 3 in fake.chunk_requests)
        await asyncio.to_thread(fake.stop)
        await asyncio.sleep(0.5)
        fake.start()

        outcome = await upload

    assert outcome.state == "secured"
    assert fake.clip.content == recording.read_bytes()


async def test_a_second_run_sends_only_what_is_missing(fake, recording, bring_in):
    fake.fail("POST .*/chunks/3$", lambda: problem(403, "forbidden", "stop"))
    with pytest.raises(Refused):
        await bring_in(recording)
    fake.requests.clear()

    await bring_in(recording)

    assert fake.chunk_requests == [3, 4, 5]


async def test_a_second_run_repeats_the_first_announcement(fake, recording, bring_in):
    fake.fail("POST .*/chunks/3$", lambda: problem(403, "forbidden", "stop"))
    with pytest.raises(Refused):
        await bring_in(recording, options={"officer_id": "P1"})

    await bring_in(recording, options={"device_serial": "another", "officer_id": "P2"})

    first, second = fake.announcements
    assert first == second


async def test_a_lost_sidecar_costs_a_hash_not_a_byte(fake, recording, bring_in):
    fake.fail("POST .*/chunks/3$", lambda: problem(403, "forbidden", "stop"))
    with pytest.raises(Refused):
        await bring_in(recording)
    sidecar_of(recording).unlink()
    fake.requests.clear()

    await bring_in(recording)

    assert fake.chunk_requests == [3, 4, 5]


async def test_a_secured_recording_needs_no_network_to_be_erased_later(fake, recording, bring_in):
    await bring_in(recording)
    fake.requests.clear()

    outcome = await bring_in(recording, is_erasing=True)

    assert outcome.is_erased
    assert not recording.exists()
    assert fake.requests == []


async def test_a_receipt_of_another_service_in_the_sidecar_is_not_believed(
    fake, recording, bring_in
):
    await bring_in(recording)
    fake.signer = fake.receipt_signer = Signer()
    fake.clips.clear()

    await bring_in(recording)

    assert fake.clip.content == recording.read_bytes()


async def test_an_upload_that_expired_is_announced_and_sent_again(fake, recording, bring_in):
    def expire():
        fake.clip.state = "expired"
        fake.clips[next(iter(fake.clips))] = fake.clip
        return problem(410, "upload-gone", "fix")

    fake.fail("POST .*/chunks/3$", expire)

    await bring_in(recording)

    assert fake.chunk_requests == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    assert fake.clip.content == recording.read_bytes()


async def test_a_truncated_list_of_missing_chunks_is_asked_for_again(fake, recording, bring_in):
    fake.fail("POST .*/chunks/0$", lambda: problem(503, "vault-unavailable", "retry"))

    await bring_in(recording)

    assert fake.chunk_requests == [0, 0, 1, 2, 3, 4, 5]


async def test_a_forgotten_chunk_is_sent_before_the_seal_is_repeated(fake, recording, bring_in):
    def forget():
        del fake.clip.chunks[2]
        return problem(409, "chunks-missing", "fix")

    fake.fail("POST .*/seal$", forget)

    await bring_in(recording)

    assert fake.chunk_requests == [0, 1, 2, 3, 4, 5, 2]


# --- how long it waits -----------------------------------------------------------------------


async def test_retry_after_is_honoured_with_jitter(fake, recording, bring_in, waits):
    busy = {"Retry-After": "8"}
    fake.fail("POST .*/chunks/3$", lambda: problem(503, "vault-unavailable", "retry", busy))

    await bring_in(recording)

    assert 8 <= waits[0] <= 10


async def test_the_receipt_is_asked_for_when_the_seal_says(fake, recording, bring_in, waits):
    fake.receipt_after_s, fake.seals_at_once = 12, True

    await bring_in(recording)

    assert 12 <= waits[0] <= 15


async def test_a_busy_gateway_without_a_problem_document_is_waited_for(
    fake, recording, bring_in, waits
):
    fake.fail("POST .*/chunks/3$", lambda: problem(429, "", "", {"Retry-After": "5"}), count=2)

    await bring_in(recording)

    assert [wait_s >= 5 for wait_s in waits[:2]] == [True, True]


async def test_it_gives_up_when_the_operator_says_so(fake, recording, bring_in):
    fake.fail(
        "POST .*/chunks/3$",
        lambda: problem(503, "vault-unavailable", "retry", {"Retry-After": "60"}),
    )

    with pytest.raises(GaveUp):
        await bring_in(recording, give_up_after_s=30)

    assert recording.exists()


async def test_a_clip_that_is_never_read_back_is_given_up(fake, recording, open_dock):
    fake.polls_until_secured = 10**9

    async with open_dock(give_up_after_s=1.2) as dock:
        with pytest.raises(GaveUp, match="sealed"):
            await upload_recording(recording, dock=dock)


# --- when it stops ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        (409, "chunk-conflict", "stop"),
        (409, "something-new", "fix"),
        (401, "key-revoked", "stop"),
        (403, "forbidden", "stop"),
        (500, "stored-bytes-lost", "stop"),
        (418, "", ""),
    ],
)
async def test_a_refusal_without_a_remedy_ends_the_run_at_once(fake, recording, bring_in, answer):
    fake.fail("POST .*/chunks/3$", lambda: problem(*answer), count=99)

    with pytest.raises(Refused) as caught:
        await bring_in(recording)

    assert (caught.value.status, caught.value.name) == answer[:2]
    assert fake.chunk_requests.count(3) == 1
    assert recording.exists()


async def test_bytes_refused_by_their_digest_are_read_and_sent_again(fake, recording, bring_in):
    fake.fail("POST .*/chunks/3$", lambda: problem(422, "chunk-corrupted", "fix"))

    await bring_in(recording)

    assert fake.chunk_requests == [0, 1, 2, 3, 3, 4, 5]


async def test_a_remedy_that_does_not_help_is_not_tried_for_ever(fake, recording, bring_in):
    fake.fail("POST .*/chunks/3$", lambda: problem(422, "chunk-corrupted", "fix"), count=999)

    with pytest.raises(Refused):
        await bring_in(recording)

    assert fake.chunk_requests.count(3) == FIXES_MAX + 1


async def test_a_quarantined_clip_is_kept_on_the_camera(fake, recording, bring_in):
    recording.with_name(recording.name + ".json").write_text(
        json.dumps({"sha256_device": "ab" * 32})
    )

    with pytest.raises(ClipQuarantined, match="the device's hash differs"):
        await bring_in(recording, is_erasing=True)

    assert recording.exists()


async def test_a_recording_in_another_process_hands_is_left_alone(fake, recording, bring_in):
    with hold_file(recording), pytest.raises(FileInUse):
        await bring_in(recording)

    assert fake.requests == []


# --- files that change -----------------------------------------------------------------------


@pytest.mark.parametrize("size_change", [0, 1, -1])
async def test_a_file_that_changed_since_it_was_announced_is_not_sent(
    fake, recording, bring_in, size_change
):
    fake.fail("POST .*/chunks/3$", lambda: problem(403, "forbidden", "stop"))
    with pytest.raises(Refused):
        await bring_in(recording)
    recording.write_bytes(os.urandom(recording.stat().st_size + size_change))
    fake.requests.clear()

    with pytest.raises(FileChanged):
        await bring_in(recording)

    assert fake.requests == []


async def test_a_file_that_was_only_touched_goes_on(fake, recording, bring_in):
    fake.fail("POST .*/chunks/3$", lambda: problem(403, "forbidden", "stop"))
    with pytest.raises(Refused):
        await bring_in(recording)
    os.utime(recording, ns=(1, 1))

    assert (await bring_in(recording)).state == "secured"


async def test_a_file_written_to_during_the_upload_is_not_sealed(fake, recording, bring_in):
    def write_on():
        with recording.open("ab") as file:
            file.write(b"more")
        return problem(503, "vault-unavailable", "retry")

    fake.fail("POST .*/chunks/3$", write_on)

    with pytest.raises(FileChanged):
        await bring_in(recording)

    assert fake.count("seal") == 0


# --- clocks and tokens -----------------------------------------------------------------------


@pytest.mark.parametrize("ahead_s", [-86_400 * 365 * 20, 86_400 * 400])
@pytest.mark.parametrize("is_time_public", [True, False])
async def test_a_dock_whose_clock_is_years_off_still_uploads(
    fake, recording, bring_in, ahead_s, is_time_public
):
    fake.clock_ahead_s = ahead_s
    fake.is_time_public = is_time_public

    outcome = await bring_in(recording)

    assert outcome.state == "secured"
    assert abs(fake.clip.announcement["clock_offset_ms"] - ahead_s * 1000) < 1_000


async def test_a_clock_that_jumps_during_the_upload_costs_one_refusal(fake, recording, bring_in):
    def jump():
        fake.clock_ahead_s += 7_200
        return problem(503, "vault-unavailable", "retry")

    fake.fail("POST .*/chunks/3$", jump)

    assert (await bring_in(recording)).state == "secured"


async def test_the_token_goes_to_the_configured_address_only(fake, recording, bring_in):
    # The fake's answers name elsewhere.invalid; following them would fail.
    assert (await bring_in(recording)).state == "secured"


# --- receipts --------------------------------------------------------------------------------


def change(**facts):
    def make_leaf(clip):
        leaf = make_honest_leaf(clip)
        leaf["facts"] |= facts
        return leaf

    return make_leaf


@pytest.mark.parametrize(
    "facts",
    [
        {"size_bytes": 1},
        {"sha256": "ab" * 32, "sha256_readback": "ab" * 32},
        {"sha256_readback": "ab" * 32},
        {"clip_id": "0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e"},
    ],
)
async def test_nothing_is_erased_upon_a_receipt_for_something_else(
    fake, recording, bring_in, facts
):
    fake.receipt_leaf = change(**facts)

    with pytest.raises(ReceiptRefused):
        await bring_in(recording, is_erasing=True)

    assert recording.exists()
    assert not receipt_of(recording).exists()


async def test_nothing_is_erased_upon_a_receipt_of_another_key(fake, recording, bring_in):
    fake.receipt_signer = Signer()

    with pytest.raises(ReceiptRefused):
        await bring_in(recording, is_erasing=True)

    assert recording.exists()


async def test_erasing_leaves_the_receipt_and_nothing_else(fake, recording, bring_in):
    outcome = await bring_in(recording, is_erasing=True)

    assert outcome.is_erased
    assert list(recording.parent.iterdir()) == [receipt_of(recording)]


async def test_without_erasing_the_recording_stays(fake, recording, bring_in):
    await bring_in(recording)

    assert recording.exists()


async def test_waiting_for_the_receipt_polls_at_the_pace_it_is_asked(fake, recording, open_dock):
    fake.polls_until_secured = 3
    started = time.monotonic()

    async with open_dock() as dock:
        await upload_recording(recording, dock=dock)

    assert fake.count("receipt") == 4
    assert time.monotonic() - started < 20
