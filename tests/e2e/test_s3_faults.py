"""A store that fails while docks upload: never a success for bytes that are not there.

The faults on which other servers acknowledge what they do not have: one failed request on any
part, an aborted multipart upload, a failed CompleteMultipartUpload, a lost answer; each on a real
store, natively and by tus, also where the store's tags are no MD5.
"""

import asyncio
from contextlib import suppress

import httpx
import pytest

from ingest_service.errors import Unavailable
from tests.e2e.conftest import end_processes
from tests.e2e.honest_dock import NativeDock, Patience, TusDock, make_recording
from tests.e2e.stage import PART_BYTES, Stage, open_stage
from tests.vault.faulty_s3 import FaultyS3

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

# As often as the service tries: then the dock is told, and goes on by itself.
ATTEMPTS = 2
FAULTS = ("500", "lost", "stored", "stored_500")
CALLS = {"open": ("POST", "uploads"), "part": ("PUT", "partNumber"), "join": ("POST", "uploadId")}
HASTE = {"ingest_service.vault.s3:FIRST_WAIT_S": 0.01}
CLIP_BYTES = 2 * PART_BYTES + 123_456
CUTS = range(1_700_000, CLIP_BYTES, 1_700_000)


@pytest.fixture
async def faulty(seaweed):
    async with FaultyS3(seaweed.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def faulty_stage(tmp_path, nursery, postgres, ledger_database, seaweed, faulty):
    async with open_stage(
        tmp_path,
        nursery,
        postgres=postgres,
        database=ledger_database,
        seaweed=seaweed,
        vault_endpoint=faulty.endpoint,
        vault_attempts=ATTEMPTS,
        finish_wait_s=5,
    ) as opened:
        yield opened
        end_processes(opened)


@pytest.fixture
async def http(faulty_stage):
    process = await faulty_stage.start(rules=HASTE)
    async with faulty_stage.dial(process) as opened:
        yield opened


def make_dock(kind: str):
    patience = Patience(wait_s=0.3, tries=40)
    recording = make_recording(CLIP_BYTES)
    if kind == "native":
        return NativeDock(recording, patience=patience)
    return TusDock(recording, CUTS if kind == "tus by pieces" else (), patience=patience)


async def bring_in(stage: Stage, dock, http: httpx.AsyncClient) -> None:
    """Let a dock go on, beside a worker, until its clip is secured; then judge."""
    worker = asyncio.create_task(work(stage, dock))
    await dock.bring_in(http)
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await stage.secure(dock)
    await stage.judge(dock, http)


async def work(stage: Stage, dock) -> None:
    while True:
        await asyncio.sleep(0.5)
        await stage.let_claims_lapse(dock)
        with suppress(Unavailable):
            await stage.finish(dock)


@pytest.mark.parametrize("kind", ["native", "tus", "tus by pieces"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_clip_is_whole_although_the_store_failed(
    faulty_stage, faulty, http, kind, call, fault
):
    method, query = CALLS[call]
    dock = make_dock(kind)
    faulty.fail_next(method, fault, query=query, times=ATTEMPTS)

    await bring_in(faulty_stage, dock, http)


@pytest.mark.parametrize("kind", ["native", "tus"])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_one_failed_request_on_any_part_costs_nothing(
    faulty_stage, faulty, http, kind, number
):
    dock = make_dock(kind)
    # Four part numbers belong to each place of the grid (ADR 11).
    for attempt in range(1, 5):
        faulty.fail_next("PUT", "500", query=f"partNumber={4 * (number - 1) + attempt}&")

    await bring_in(faulty_stage, dock, http)
    assert dock.patience.refused == []


@pytest.mark.parametrize("fault", ["stored", "stored_500", "stored_error_in_200"])
@pytest.mark.parametrize("kind", ["native", "tus"])
async def test_a_lost_answer_to_the_join_is_no_quarantine_where_tags_are_no_md5(
    faulty_stage, faulty, http, kind, fault
):
    faulty.has_opaque_tags = True
    dock = make_dock(kind)
    faulty.fail_next("POST", fault, query="uploadId")
    faulty.fail_next("POST", "no_such_upload", query="uploadId", times=ATTEMPTS)

    await bring_in(faulty_stage, dock, http)


@pytest.mark.parametrize("kind", ["native", "tus"])
async def test_an_aborted_multipart_upload_is_no_success(faulty_stage, http, kind):
    dock = make_dock(kind)
    if kind == "native":
        await dock.bring_in_unsealed(http)
    else:
        await dock.open(http)
        answer = await http.patch(**dock.make_patch(dock.recording.content[: 2 * PART_BYTES]))
        dock.hear(answer)
    (upload,) = await faulty_stage.uploads_of(dock)
    await faulty_stage.opened.vault.abort_multipart(upload["multipart_key"], upload["multipart_id"])
    if kind == "native":
        answer = await http.post(f"/v1/clips/{dock.clip_id}/seal")
    else:
        answer = await http.patch(**dock.make_patch(dock.recording.content[2 * PART_BYTES :]))

    assert (answer.status_code, answer.json()["action"]) == (500, "stop")
    clip = await faulty_stage.find_clip(dock)
    assert clip["state"] in {"receiving", "quarantined"}
    receipt = await http.get(f"/v1/clips/{clip['clip_id']}/receipt")
    assert receipt.status_code == 202


@pytest.mark.parametrize("kind", ["native", "tus"])
async def test_a_join_that_keeps_failing_is_never_told_as_done(faulty_stage, faulty, http, kind):
    dock = make_dock(kind)
    faulty.fail_next("POST", "error_in_200", query="uploadId", times=50)
    if kind == "native":
        await dock.bring_in_unsealed(http)
        answer = await http.post(f"/v1/clips/{dock.clip_id}/seal")
        assert (answer.status_code, answer.json()["state"]) == (202, "finishing")
    else:
        await dock.open(http)
        answer = await http.patch(**dock.make_patch(dock.recording.content))
        asked = await http.head(dock.path, headers={"Tus-Resumable": "1.0.0"})
        assert answer.status_code >= 400
        assert (asked.status_code, "upload-offset" in asked.headers) == (423, False)

    faulty.forget_plans()
    await bring_in(faulty_stage, dock, http)
