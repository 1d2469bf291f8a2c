"""Two API processes and a worker are restarted one after another while docks upload."""

import asyncio
import signal
from contextlib import AsyncExitStack

import pytest

from ingest_service.domain.receipt import verify_receipt
from schemas.receipt import Receipt
from tests.e2e.balancer import open_balancer
from tests.e2e.honest_dock import NativeDock, Patience, TusDock, make_recording
from tests.e2e.own_process import dial, find_port, make_bucket, run_process
from tests.e2e.stage import PART_BYTES

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

ROUNDS = 3
DRAIN_S = 6
SECURED_WITHIN_S = 120


def make_docks():
    """Docks that keep sending for longer than the restarts take."""

    def patience():
        return Patience(wait_s=0.3, tries=300, pace_s=0.4)

    cuts = range(400_000, 3 * PART_BYTES, 400_000)
    return [
        *(NativeDock(make_recording(4 * PART_BYTES + n), patience=patience()) for n in range(3)),
        NativeDock(make_recording(3 * PART_BYTES + 7), reversed, patience=patience()),
        TusDock(make_recording(3 * PART_BYTES), cuts, patience=patience()),
        TusDock(make_recording(2 * PART_BYTES + 9), cuts, is_chunked=True, patience=patience()),
    ]


class Role:
    """One of the processes, started again and again in its place."""

    def __init__(self, name, stage, **settings):
        self.name, self.stage, self.settings = name, stage, settings
        self.stack = AsyncExitStack()
        self.process = None

    async def start(self):
        self.process = await self.stack.enter_async_context(
            run_process(self.name, self.stage, **self.settings)
        )

    async def restart(self):
        self.process.tell(signal.SIGTERM)
        assert await self.process.ended(DRAIN_S + 20) == 0
        await self.start()


async def test_docks_notice_nothing_of_a_rolling_restart(stage):
    settings = {
        "drain_timeout_s": DRAIN_S,
        "job_interval_s": 0.2,
        "vault_bucket": await make_bucket(stage),
    }
    ports = [find_port(), find_port()]
    docks = make_docks()
    async with open_balancer(ports) as balancer, AsyncExitStack() as ending:
        roles = [
            *(Role("serve", stage, port=p, base_url=balancer.url, **settings) for p in ports),
            Role("work", stage, **settings),
        ]
        for role in roles:
            await role.start()
            ending.push_async_callback(role.stack.aclose)
        http = await ending.enter_async_context(dial(roles[0].process, stage, balancer.url))
        uploads = [asyncio.create_task(dock.bring_in(http)) for dock in docks]
        for _ in range(ROUNDS):
            for role in roles:
                await role.restart()
        were_done = [task.done() for task in uploads]
        await asyncio.gather(*uploads)
        async with asyncio.timeout(SECURED_WITHIN_S):
            receipts = [await until_released(http, stage, dock) for dock in docks]

        for dock, receipt in zip(docks, receipts, strict=True):
            await judge(stage, dock, receipt, settings["vault_bucket"])
    assert not all(were_done), "the docks were done before the restarts: nothing was tested"


async def until_released(http, stage, dock):
    clip = await stage.find_clip(dock)
    url = f"/v1/clips/{clip['clip_id']}/receipt"
    while (answer := await dock.patience.ask(lambda: http.get(url))).status_code != 200:
        assert answer.status_code == 202, answer.text
    return Receipt.model_validate_json(answer.content)


async def judge(stage, dock, receipt, bucket):
    """The bytes are whole, and the receipt says so under the pinned key."""
    facts = verify_receipt(receipt, stage.opened.signer.verifier_key)
    clip = await stage.find_clip(dock)
    stored = await stage.s3.get_object(
        Bucket=bucket, Key=clip["object_key"], VersionId=clip["object_version"]
    )
    assert await stored["Body"].read() == dock.recording.content
    assert facts.sha256_readback == dock.recording.sha256
