"""PgBouncer in transaction mode between the service and its ledger."""

import asyncio

import pytest

from tests.e2e.bouncer import run_bouncer
from tests.e2e.honest_dock import NativeDock, Patience, TusDock, make_recording
from tests.e2e.own_process import dial, make_bucket, run_process
from tests.e2e.stage import PART_BYTES

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

SECURED_WITHIN_S = 90


@pytest.fixture
async def pooled(stage):
    """Settings that lead through a pooler, and to a log of this test's own."""
    dsn = stage.settings["ledger_dsn"]
    async with run_bouncer(dsn) as pooled_dsn:
        yield {
            "ledger_dsn": pooled_dsn,
            "ledger_direct_dsn": dsn,
            "job_interval_s": 0.2,
            "vault_bucket": await make_bucket(stage),
        }


def make_docks():
    def patience():
        return Patience(wait_s=0.2, tries=50)

    cuts = range(600_000, 2 * PART_BYTES, 600_000)
    return [
        *(NativeDock(make_recording(1000 + n), patience=patience()) for n in range(4)),
        NativeDock(make_recording(2 * PART_BYTES + 1), reversed, patience=patience()),
        TusDock(make_recording(PART_BYTES + 700_000), cuts, patience=patience()),
    ]


async def test_clips_are_secured_and_their_log_is_published_through_a_transaction_pooler(
    stage, pooled
):
    docks = make_docks()
    async with (
        run_process("serve", stage, **pooled) as first,
        run_process("serve", stage, **pooled) as second,
        run_process("work", stage, **pooled) as worker,
        run_process("work", stage, **pooled) as other_worker,
        dial(first, stage) as http,
        dial(second, stage) as other_http,
    ):
        # Both processes take bytes of the same clips: leases and interruptions go between them.
        await asyncio.gather(*(dock.bring_in(http) for dock in docks))
        async with asyncio.timeout(SECURED_WITHIN_S):
            receipts = [await until_released(other_http, stage, dock) for dock in docks]
        followers = [each.logged("log_lead_taken") for each in (worker, other_worker)]

    assert len(receipts) == len(docks)
    assert sorted(map(len, followers)) == [0, 1], "one sequencer leads, by a lock of its session"
    for process in (first, second, worker, other_worker):
        assert not process.logged("job_failed")
        assert not process.logged("request_failed")


async def until_released(http, stage, dock):
    clip = await stage.find_clip(dock)
    while (answer := await http.get(f"/v1/clips/{clip['clip_id']}/receipt")).status_code != 200:
        assert answer.status_code == 202, answer.text
        await asyncio.sleep(0.2)
    return answer.json()


async def test_a_newcomer_interrupts_the_holder_in_another_process_through_the_pooler(
    stage, pooled
):
    dock = TusDock(make_recording(PART_BYTES), patience=Patience(wait_s=0.2, tries=50))
    async with (
        run_process("serve", stage, take_over_wait_s=10, **pooled) as first,
        run_process("serve", stage, take_over_wait_s=10, **pooled) as second,
        dial(first, stage) as http,
        dial(second, stage) as other_http,
    ):
        await dock.open(http)
        _, writer = await dock.stall(http, dock.next_piece(), 300_000)
        while not any(row["leased_by"] for row in await stage.uploads_of(dock)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        started = asyncio.get_running_loop().time()
        offset = await dock.ask_offset(other_http)
        took_s = asyncio.get_running_loop().time() - started
        writer.transport.abort()

    assert offset == 300_000
    assert took_s < 8, "the holder was not told: NOTIFY did not reach it"
