"""Fixity: retained objects are read again; what came of it is told, and nothing is deleted."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from ingest_service.actions.check_fixity import check_fixity
from ingest_service.errors import VaultUnavailable
from ingest_service.jobs.check_fixity import Pace, check_next_fixity
from ingest_service.ledger.connection import reading
from ingest_service.ledger.fixity import claim_fixity, find_oldest_age
from ingest_service.resources import JobRules
from ingest_service.telemetry import FIXITY_CHECKS
from tests.actions.engine import (
    Process,
    append_event,
    describe_recording,
    get_clip,
    hold_at,
    list_event_types,
    make_footage,
    register_docks,
)
from tests.actions.kept_ledger import audit, fill_ledger, place_and_publish
from tests.actions.test_audit import told
from tests.fakes import MemoryVault

HOUR_S = 3600.0


@pytest.fixture
async def kept(pool):
    await register_docks(pool)
    return await fill_ledger(pool, MemoryVault(part_bytes_min=1), device_events=1)


async def no_pace(_count):
    pass


async def check(kept, clip):
    return await check_fixity(
        clip, pool=kept.pool, vault=kept.vault, now=lambda: datetime.now(UTC), pace=no_pace
    )


async def claim(pool, due_after_s=0.0):
    async with reading(pool) as connection:
        return await claim_fixity(connection, due_after_s=due_after_s, claim_s=60, bytes_per_s=1e6)


async def test_an_object_that_is_as_it_was_matches(kept):
    assert await check(kept, kept.clips["secured"]) == "match"

    clip = await get_clip(kept.pool, kept.clips["secured"].clip_id)
    assert clip.last_fixity_result == "match"
    assert datetime.now(UTC) - clip.last_fixity_at < timedelta(minutes=1)
    assert (await list_event_types(kept.pool, clip.clip_id))[-1] == "fixity.checked"


@pytest.mark.parametrize("data", [bytes(112), b"", bytes(113)])
async def test_other_bytes_are_a_mismatch_and_stay(kept, data):
    clip = kept.clips["secured"]
    kept.vault.tamper(clip.object_key, data)

    assert await check(kept, clip) == "mismatch"

    after = await get_clip(kept.pool, clip.clip_id)
    assert (after.state, after.last_fixity_result) == ("secured", "mismatch")
    assert kept.vault.content(clip.object_key) == data


async def test_an_absent_object_is_not_verifiable_never_altered(kept):
    clip = kept.clips["secured"]
    kept.vault._versions.pop(clip.object_key)

    assert await check(kept, clip) == "not_verifiable"


async def test_a_newer_version_over_the_object_does_not_deceive(kept):
    clip = kept.clips["secured"]
    kept.vault._store(clip.object_key, bytes(112), "other")

    assert await check(kept, clip) == "match"


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_store_that_is_away_says_nothing_of_the_object(kept, failure):
    kept.vault.fail_next("read", failure)

    with pytest.raises(VaultUnavailable):
        await check(kept, kept.clips["secured"])

    assert (await get_clip(kept.pool, kept.clips["secured"].clip_id)).last_fixity_at is None


async def test_an_event_meanwhile_breaks_no_chain(kept):
    clip = kept.clips["secured"]
    task, halt = await hold_at(kept.vault, "read", check(kept, clip))
    await append_event(kept.pool, clip.clip_id)
    halt.let_go()

    assert await task == "match"
    await place_and_publish(kept.pool, kept.vault)
    assert told(await audit(kept.pool, kept.vault)) == ""


async def test_the_one_read_longest_ago_is_claimed_first_and_by_one_only(kept):
    retained = {kept.clips[name].clip_id for name in ("secured", "unordered", "released")}

    claimed = [await claim(kept.pool) for _ in range(4)]

    assert {clip.clip_id for clip in claimed[:3]} == retained
    assert claimed[3] is None
    assert [clip.secured_at for clip in claimed[:3]] == sorted(
        clip.secured_at for clip in claimed[:3]
    )


async def test_what_was_read_lately_is_not_due(kept):
    assert await claim(kept.pool, due_after_s=HOUR_S) is None
    async with reading(kept.pool) as connection:
        assert await find_oldest_age(connection) < HOUR_S


class _Opened:
    def __init__(self, kept, *, yield_s=0.0, **rules):
        self.pool, self.vault = kept.pool, kept.vault
        self.now = lambda: datetime.now(UTC)
        self.jobs = JobRules(1, 1, yield_s, **rules)
        self.rules = Process("process-1", kept.pool, kept.vault).rules


async def test_the_job_reads_what_is_due_and_pages_for_a_mismatch(kept, capsys):
    kept.vault.tamper(kept.clips["released"].object_key, bytes(112))
    before = {result: FIXITY_CHECKS.labels(result)._value.get() for result in ("match", "mismatch")}
    opened = _Opened(kept, fixity_interval_s=0.0)

    assert [await check_next_fixity(opened) for _ in range(3)] == [1, 1, 1]

    after = {result: FIXITY_CHECKS.labels(result)._value.get() for result in before}
    assert after == {"match": before["match"] + 2, "mismatch": before["mismatch"] + 1}
    assert "fixity_failed" in capsys.readouterr().out


async def test_the_job_has_nothing_to_do_before_it_is_time(kept):
    assert await check_next_fixity(_Opened(kept, fixity_interval_s=3600.0)) == 0


async def let_footage_come_in(kept, uploads):
    """Leave uploads that moved a moment ago."""
    service = Process("process-1", kept.pool, kept.vault)
    await kept.pool.execute("UPDATE uploads SET expires_at = now() WHERE state = 'open'")
    for number in range(uploads):
        footage = make_footage(112, str(number))
        announced = await service.announce(describe_recording(footage))
        await service.store(announced.clip.clip_id, 0, footage[:32])


async def age(kept, age_s):
    """Let each object have been read so many seconds ago."""
    await kept.pool.execute(
        "UPDATE clips SET last_fixity_at = now() - make_interval(secs => $1)"
        " WHERE state = 'secured'",
        age_s,
    )


@pytest.mark.parametrize(
    ("uploads", "age_s", "yield_s", "checked"),
    [
        pytest.param(4, 0.6 * HOUR_S, 10.0, 0, id="due, footage comes in"),
        pytest.param(3, 0.6 * HOUR_S, 10.0, 1, id="due, hardly any footage"),
        pytest.param(4, 0.8 * HOUR_S, 10.0, 1, id="late, footage comes in"),
        pytest.param(4, 0.6 * HOUR_S, 0.0, 1, id="due, nothing yields"),
    ],
)
async def test_while_footage_comes_in_the_job_reads_only_what_is_late(
    kept, uploads, age_s, yield_s, checked
):
    await let_footage_come_in(kept, uploads)
    await age(kept, age_s)

    opened = _Opened(kept, yield_s=yield_s, fixity_interval_s=HOUR_S)
    assert await check_next_fixity(opened) == checked


async def test_reading_keeps_to_its_budget():
    pace = Pace(1e6)
    began = time.monotonic()

    for _ in range(10):
        await pace(20_000)

    assert 0.19 <= time.monotonic() - began < 2
