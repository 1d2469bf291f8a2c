"""SIGKILL of the process that leads the log, at each of its steps, on real servers."""

import asyncio
import os
import random
import signal
from contextlib import suppress

import pytest

from ingest_service.actions.audit_ledger import audit_ledger, find_log_keys, open_audit
from ingest_service.actions.audit_tools import AuditTools
from ingest_service.actions.publish_checkpoint import check_published, is_deletion_safe
from ingest_service.domain.checkpoint import parse_checkpoint, verify_checkpoint
from ingest_service.domain.log_paths import CHECKPOINTS_PREFIX
from ingest_service.domain.merkle import Edge
from ingest_service.domain.note import parse_verifier_key
from ingest_service.ledger import log
from ingest_service.ledger.connection import reading
from tests.actions.test_audit import told
from tests.actions.test_custody_log import record
from tests.e2e.conftest import end_processes
from tests.e2e.stage import END_TIMEOUT_S, Stage, open_stage

pytestmark = [pytest.mark.e2e, pytest.mark.s3]

EVENTS = 7
SWIFT = {
    "ingest_service.jobs.sequence_log:TICK_S": 0.02,
    "ingest_service.jobs.sequence_log:_FOLLOWER_PAUSE_S": 0.05,
}
READS = ("FIND_", "LIST_", "GET_", "READ_", "find_first_key", "read")
WRITES = (
    *("TAKE_QUEUED", "INSERT_LEAVES", "UPSERT_TILES", "SET_SIZE", "INSERT_CHECKPOINT", "COMMIT"),
    *("put_new leaves", "put_new checkpoint", "MARK_PUBLISHED"),
)
# Whoever asks gets the lead: what is left are the row lock and If-None-Match.
UNLOCKED = SWIFT | {
    "ingest_service.ledger.log:TRY_LEAD": "SELECT $1::bigint IS NOT NULL",
    "ingest_service.ledger.log:STOP_LEADING": "SELECT $1::bigint IS NOT NULL",
}


@pytest.fixture
async def log_stage(tmp_path, nursery, postgres, ledger_database, seaweed):
    """A ledger of its own with a bucket of its own: one log."""
    bucket = f"log-{os.urandom(6).hex()}"
    async with open_stage(
        tmp_path,
        nursery,
        postgres=postgres,
        database=ledger_database,
        seaweed=seaweed,
        vault_bucket=bucket,
    ) as opened:
        await opened.s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        yield opened
        end_processes(opened)


async def test_a_leader_killed_at_any_step_is_followed_by_one_history(log_stage: Stage):
    stage, count = log_stage, EVENTS
    await record(stage.opened.pool, EVENTS)
    whole = await stage.start(role="sequence", rules=SWIFT)
    steps = dict.fromkeys(await whole.hear("steps", END_TIMEOUT_S))
    assert {f"before {step}" for step in WRITES} < set(steps)
    # What was read, and died right after, leaves the same behind as before it.
    steps = [step for step in steps if not any(f"after {read}" in step for read in READS)]
    for step in steps:
        await record(stage.opened.pool, EVENTS, step)
        count += EVENTS
        mortal = await stage.start(role="sequence", die_at=step, rules=SWIFT)
        await mortal.hear("ended", END_TIMEOUT_S)
        assert mortal.said().get("died") == step
        await check_published(
            pool=stage.opened.pool, vault=stage.opened.vault, signer=stage.opened.signer
        )
    last = await stage.start(role="sequence", rules=SWIFT)
    await last.hear("steps", END_TIMEOUT_S)

    await assert_one_history(stage, count)


async def test_three_unlocked_leaders_that_are_killed_again_and_again_write_one_history(
    log_stage: Stage,
):
    stage, chooser, count = log_stage, random.Random(11), 0  # noqa: S311 - which step, no secret

    async def lead() -> None:
        for _ in range(6):
            process = await stage.start(
                role="sequence", die_at=chooser.randrange(5, 60), rules=UNLOCKED
            )
            await process.hear("ended", END_TIMEOUT_S)

    async def write() -> None:
        nonlocal count
        for number in range(25):
            await record(stage.opened.pool, 5, f"camera-{number}")
            count += 5
            await asyncio.sleep(0.03)

    await asyncio.gather(write(), lead(), lead(), lead())
    last = await stage.start(role="sequence", rules=SWIFT)
    await last.hear("steps", END_TIMEOUT_S)

    await assert_one_history(stage, count)


async def test_a_stopped_leader_that_wakes_beside_its_successor_writes_no_second_history(
    log_stage: Stage,
):
    stage, count = log_stage, 0
    for pause_s in (0.0, 0.02, 0.05, 0.1):
        await record(stage.opened.pool, 30, f"camera-{pause_s}")
        first = await stage.start(role="sequence", rules=UNLOCKED)
        await asyncio.sleep(pause_s)
        with suppress(ProcessLookupError):
            os.kill(first.said()["pid"], signal.SIGSTOP)
        await record(stage.opened.pool, 30, f"later-{pause_s}")
        count += 60
        second = await stage.start(role="sequence", rules=UNLOCKED)
        # The first may hold the row lock: then the second waits for it.
        await asyncio.sleep(0.3)
        with suppress(ProcessLookupError):
            os.kill(first.said()["pid"], signal.SIGCONT)
        for process in (first, second):
            await process.hear("ended", END_TIMEOUT_S)

    await assert_one_history(stage, count)


async def assert_one_history(
    stage: Stage, count: int | None, *, objects_share: float = 0.0
) -> None:
    """Every event has one place, and every checkpoint in the bucket is over the same leaves."""
    pool, vault, signer = stage.opened.pool, stage.opened.vault, stage.opened.signer
    async with reading(pool) as connection:
        placed = await log.list_leaves(connection, 0, 10**9)
    assert len({event.event_id for event in placed}) == len(placed)
    assert count in {None, len(placed)}
    edge, roots = Edge(0, {}), {}
    for event in placed:
        edge.append(event.leaf_hash)
        roots[edge.size] = edge.root()
    key = parse_verifier_key(signer.verifier_key)
    published = [each async for each in vault.list_keys(CHECKPOINTS_PREFIX)]
    assert published
    for each in published:
        note = b"".join([block async for block in vault.read(each, None)]).decode()
        signed = parse_checkpoint(note)
        verify_checkpoint(signed, key)
        assert signed.checkpoint.root == roots[signed.checkpoint.size]
    listed = await stage.s3.list_object_versions(Bucket=vault.bucket, Prefix="log/")
    versions = [each["Key"] for each in listed["Versions"]]
    assert len(versions) == len(set(versions)), "something was published twice"
    assert await is_deletion_safe(pool=pool, vault=vault, signer=signer)
    state = await open_audit(pool=pool, objects_share=objects_share)
    tools = AuditTools(
        pool=pool,
        vault=vault,
        keys=await find_log_keys(pool, [key]),
        tell=lambda _step, _done, _total: None,
        save=lambda _state: None,
    )
    await audit_ledger(state, tools)
    assert told(state) == ""
