"""Who yields when more is asked than can be done: fixity, probes and read-back to ingest; ingest to
nothing. The jobs on a real ledger, beside clips that come in."""

import asyncio
from datetime import UTC, datetime
from itertools import count

import pytest

from ingest_service.actions.queue_probes import queue_probes
from ingest_service.domain.retention import RetentionRules
from ingest_service.jobs.check_fixity import check_next_fixity
from ingest_service.jobs.compute_retention import yields
from ingest_service.jobs.probe_media import probe_next_media
from ingest_service.jobs.read_back import read_back_next
from ingest_service.ledger.policy_book import PolicyBook
from ingest_service.prober.probe import ProbeLimits
from ingest_service.resources import JobRules
from tests.actions.engine import (
    Process,
    describe_recording,
    get_clip,
    hold_at,
    make_footage,
    register_docks,
)
from tests.actions.kept_ledger import fill_ledger
from tests.fakes import MemoryVault

HOUR_S = 3600.0
YIELD_S = 60.0
PATIENCE_S = 20.0
JOBS = {"fixity": check_next_fixity, "probes": probe_next_media, "read_back": read_back_next}


class House:
    """A service with work for every job, and as many docks as are wanted."""

    def __init__(self, kept):
        self.pool, self.vault = kept.pool, kept.vault
        self.now = lambda: datetime.now(UTC)
        self.process = Process("process-1", kept.pool, kept.vault)
        self.rules = self.process.rules
        self.jobs = JobRules(1, 1, YIELD_S, fixity_interval_s=HOUR_S, probe=ProbeLimits())
        self.policies, self.retention = PolicyBook(), RetentionRules()
        self._names = count()

    async def receive(self, uploads):
        """Leave uploads that moved a moment ago."""
        for _ in range(uploads):
            footage = make_footage(112, f"moving {next(self._names)}")
            announced = await self.process.announce(describe_recording(footage))
            await self.process.store(announced.clip.clip_id, 0, footage[:32])

    async def bring_in(self):
        """Bring a whole clip in, by announcement, chunks and seal."""
        footage = make_footage(112, f"whole {next(self._names)}")
        clip = (await self.process.announce(describe_recording(footage))).clip
        for index in range(4):
            await self.process.store(clip.clip_id, index, footage[32 * index : 32 * index + 32])
        await self.process.seal(clip.clip_id)
        return (await get_clip(self.pool, clip.clip_id)).state


@pytest.fixture
async def house(pool):
    """Everything is due: a clip to read back, retained ones to check, secured ones to look into."""
    await register_docks(pool)
    kept = await fill_ledger(pool, MemoryVault(part_bytes_min=1), device_events=1)
    await pool.execute("UPDATE uploads SET expires_at = now() WHERE state = 'open'")
    made = House(kept)
    await made.bring_in()
    await pool.execute(
        "UPDATE clips SET last_fixity_at = now() - make_interval(secs => $1)"
        " WHERE state = 'secured'",
        0.6 * HOUR_S,
    )
    # What was queued just now, probes leave alone for a while anyway.
    while await queue_probes(pool=pool, now=made.now):
        pass
    await pool.execute("UPDATE media_probes SET due_at = now() - interval '10 minutes'")
    return made


async def count_done(pool):
    """How many were read back, checked and looked into."""
    return dict(
        await pool.fetchrow(
            "SELECT (SELECT count(*) FROM clips WHERE state = 'sealed') AS read_back,"
            " (SELECT count(*) FROM clips WHERE last_fixity_at < now() - interval '30 minutes')"
            " AS fixity,"
            " (SELECT count(*) FROM media_facts) AS probes"
        )
    )


@pytest.mark.parametrize("job", JOBS)
async def test_while_footage_comes_in_the_job_leaves_what_can_wait(house, job):
    await house.receive(4)
    before = await count_done(house.pool)

    async with asyncio.timeout(PATIENCE_S):
        for _ in range(2):
            await JOBS[job](house)

    assert await yields(house)
    assert await count_done(house.pool) == before


@pytest.mark.parametrize("job", JOBS)
async def test_when_it_is_quiet_the_job_does_what_is_due(house, job):
    before = await count_done(house.pool)

    async with asyncio.timeout(PATIENCE_S):
        while await JOBS[job](house):
            pass

    after = await count_done(house.pool)
    assert {name for name in JOBS if after[name] != before[name]} == {job}


@pytest.mark.parametrize("job", ["fixity", "read_back"])
async def test_clips_come_in_while_the_job_stands_still_in_the_store(house, job):
    """Nothing of a clip waits for a job: not for its connection, nor for a row that it has."""
    async with asyncio.timeout(PATIENCE_S):
        task, halt = await hold_at(house.vault, "read", JOBS[job](house))
        states = [await house.bring_in() for _ in range(3)]
        is_still_there = not task.done()
        halt.let_go()
        await task

    assert states == ["sealed"] * 3
    assert is_still_there
