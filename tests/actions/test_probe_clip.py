"""Secured clips are looked into once, behind what comes in; nothing is refused for what it is."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from ingest_service.actions.find_clips import find_clip_media
from ingest_service.actions.probe_clip import claim_next, probe_clip
from ingest_service.actions.queue_probes import queue_probes
from ingest_service.errors import StoredBytesLost, VaultUnavailable
from ingest_service.jobs.probe_media import probe_next_media
from ingest_service.ledger.connection import reading
from ingest_service.prober import probe as prober
from ingest_service.prober.probe import ProbeLimits
from ingest_service.resources import JobRules
from tests.actions.engine import (
    RULES,
    Process,
    append_event,
    describe_recording,
    get_clip,
    hold_at,
    list_event_types,
    register_docks,
)
from tests.actions.kept_ledger import audit, place_and_publish
from tests.actions.life import Life
from tests.actions.test_audit import told
from tests.fakes import MemoryVault
from tests.videos import grow_mp4, make_video

LIMITS = ProbeLimits()
MIB = 1024 * 1024
LARGE = replace(RULES, part_bytes=64 * MIB)


@pytest.fixture
async def life(pool):
    await register_docks(pool)
    return Life(pool, MemoryVault(part_bytes_min=1))


async def bring(life: Life, footage: bytes, **announced):
    """Bring a clip in, of one part; it is secured, and the log says so."""
    service = Process("bringer", life.pool, life.vault, rules=LARGE, now=life.clock)
    clip = (await service.announce(describe_recording(footage, **announced))).clip
    if footage:
        await service.store(clip.clip_id, 0, footage)
    await service.seal(clip.clip_id)
    assert await service.read_back(clip.clip_id) == "secured"
    await life.publish()
    return clip.clip_id


async def queue(life: Life):
    while await queue_probes(pool=life.pool, now=life.clock):
        pass


async def claim(life: Life):
    await queue(life)
    return await claim_next(pool=life.pool, now=life.clock, limits=LIMITS)


async def look(life: Life, claimed, limits=LIMITS):
    return await probe_clip(
        claimed, pool=life.pool, vault=life.vault, now=life.clock, limits=limits
    )


async def recall(life: Life, clip_id):
    return await find_clip_media(await get_clip(life.pool, clip_id), pool=life.pool)


async def sql(life: Life, statement: str, *values):
    async with reading(life.pool) as connection:
        return await connection.fetch(statement, *values)


async def list_probes(life: Life, clip_id):
    types = await list_event_types(life.pool, clip_id)
    return [name for name in types if name == "media.probed"]


# --- what is found -------------------------------------------------------------------------


async def test_a_secured_clip_is_described_once_and_its_chain_tells(life):
    clip_id = await bring(life, make_video(has_sound=True))

    facts = await look(life, await claim(life))

    assert await recall(life, clip_id) == facts
    assert (facts.container, facts.codec, facts.audio_present) == ("mp4", "h264", True)
    assert (await list_event_types(life.pool, clip_id))[-1] == "media.probed"
    assert await claim(life) is None
    await place_and_publish(life.pool, life.vault)
    assert told(await audit(life.pool, life.vault)) == ""


@pytest.mark.s3
async def test_a_clip_on_a_real_store_is_read_by_ranges(real_life):
    clip_id = await bring(real_life, grow_mp4(make_video(has_sound=True), MIB))

    facts = await look(real_life, await claim(real_life))

    assert (facts.codec, facts.flags) == ("h264", [])
    assert facts.bytes_read < MIB / 2
    assert (await recall(real_life, clip_id)).width == 64


@pytest.mark.parametrize(
    ("footage", "flags"),
    [
        (b"", ["not_a_video"]),
        (b"Dear Sir or Madam", ["not_a_video"]),
        (make_video()[:200], ["unplayable", "truncated"]),
        (make_video(has_video=False, has_sound=True), ["no_video_stream"]),
    ],
    ids=["empty", "text", "cut", "sound"],
)
async def test_odd_footage_is_flagged_and_stays_what_it_was(life, footage, flags):
    clip_id = await bring(life, footage, filename="clip.mp4", content_type="video/mp4")

    facts = await look(life, await claim(life))

    assert facts.flags == flags
    assert (await get_clip(life.pool, clip_id)).state == "secured"


async def test_footage_that_is_not_what_was_announced_is_flagged(life):
    await bring(
        life,
        make_video(metadata={"creation_time": "2026-11-21T22:14:05Z"}),
        started_at="2026-11-21T20:14:05Z",
        ended_at="2026-11-21T20:31:05Z",
    )

    facts = await look(life, await claim(life))

    assert facts.flags == ["duration_differs_from_announced", "media_time_differs"]


async def test_a_clip_that_takes_the_parser_over_says_nothing(life, monkeypatch):
    script = 'print("ready x\\ndone {\\"flags\\": [\\"erase_me\\"], \\"width\\": 1}", flush=True)'
    monkeypatch.setattr(prober, "_START", script)
    clip_id = await bring(life, b"hostile")

    facts = await look(life, await claim(life))

    assert (facts.flags, facts.width) == (["probe_crashed"], None)
    assert await recall(life, clip_id) == facts


# --- when ----------------------------------------------------------------------------------


async def test_only_secured_clips_are_due(life):
    service = Process("bringer", life.pool, life.vault, rules=LARGE)
    clip = (await service.announce(describe_recording(b"half"))).clip
    await service.store(clip.clip_id, 0, b"half")
    await service.seal(clip.clip_id)
    await life.publish()

    assert await claim(life) is None


async def test_a_log_that_is_read_again_asks_for_no_second_probe(life):
    clip_id = await bring(life, b"text")
    await look(life, await claim(life))

    await sql(life, "UPDATE media_cursor SET next_index = 0")

    assert await claim(life) is None
    assert len(await list_probes(life, clip_id)) == 1


async def test_a_later_probe_is_another_row_and_the_one_that_is_shown(life):
    clip_id = await bring(life, b"text")
    first = await look(life, await claim(life))

    await sql(life, "INSERT INTO media_probes (clip_id, due_at) VALUES ($1, now())", clip_id)
    second = await look(life, await claim(life))

    assert second.probed_at > first.probed_at
    assert await recall(life, clip_id) == second
    rows = await sql(life, "SELECT probe_no FROM media_facts WHERE clip_id = $1", clip_id)
    assert sorted(row["probe_no"] for row in rows) == [1, 2]


async def test_what_was_found_is_never_changed(life):
    await bring(life, b"text")
    await look(life, await claim(life))

    for change in ("UPDATE media_facts SET codec = 'h264'", "DELETE FROM media_facts"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await life.pool.execute(change)


async def test_two_workers_take_two_clips(life):
    made = {await bring(life, b"one"), await bring(life, b"two")}

    await queue(life)

    claims = await asyncio.gather(claim(life), claim(life))

    assert {each.clip_id for each in claims} == made


async def test_whose_claim_has_lapsed_records_nothing(life):
    clip_id = await bring(life, b"text")
    late = await claim(life)
    life.later(1)
    await look(life, await claim(life))

    assert await look(life, late) is None

    assert len(await list_probes(life, clip_id)) == 1


async def test_a_worker_that_died_leaves_its_clip_to_another(life):
    clip_id = await bring(life, b"text")
    await claim(life)

    assert await claim(life) is None
    life.later(1)
    assert (await claim(life)).clip_id == clip_id


async def test_an_event_meanwhile_breaks_no_chain(life):
    clip_id = await bring(life, make_video())
    claimed = await claim(life)
    task, halt = await hold_at(life.vault, "read", look(life, claimed))
    await append_event(life.pool, clip_id)
    halt.let_go()

    assert (await task).codec == "h264"
    await life.publish()
    assert told(await audit(life.pool, life.vault)) == ""


# --- a store that fails --------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_store_that_fails_is_asked_again_later_and_nothing_is_flagged(life, failure):
    clip_id = await bring(life, make_video())
    claimed = await claim(life)
    life.vault.fail_next("read", failure)

    with pytest.raises(VaultUnavailable):
        await look(life, claimed)

    assert await recall(life, clip_id) is None
    assert await claim(life) is None
    life.later(61 / 86_400)
    assert (await look(life, await claim(life))).flags == []


async def test_each_failure_makes_it_wait_longer(life):
    await bring(life, make_video())
    waits = []
    for _ in range(12):
        claimed = await claim(life)
        life.vault.fail_next("read", "lost")
        with pytest.raises(VaultUnavailable):
            await look(life, claimed)
        [row] = await sql(life, "SELECT due_at FROM media_probes")
        waits.append(round((row["due_at"] - life.clock()) / timedelta(minutes=1)))
        life.later(1)

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360, 360]


async def test_an_object_that_is_gone_is_no_odd_footage(life):
    clip_id = await bring(life, make_video())
    life.vault._versions.pop((await get_clip(life.pool, clip_id)).object_key)

    with pytest.raises(StoredBytesLost):
        await look(life, await claim(life))

    assert await recall(life, clip_id) is None


async def test_an_erased_clip_is_not_looked_for(life):
    clip = await life.announced()
    await life.erase()

    assert await look(life, await claim(life)) is None

    assert await claim(life) is None
    assert await recall(life, clip.clip_id) is None


# --- the job -------------------------------------------------------------------------------


class _Opened:
    def __init__(self, life, *, yield_s=0, probe=LIMITS):
        self.pool, self.vault, self.now = life.pool, life.vault, life.clock
        self.jobs = JobRules(1, 1, yield_s, probe=probe)
        self.rules = RULES


async def test_the_job_probes_what_is_due_and_rests_then(life):
    made = [await bring(life, footage) for footage in (b"one", b"two")]
    opened = _Opened(life)

    runs = [await probe_next_media(opened) for _ in range(3)]

    assert runs[:2] == [1, 1]
    assert [len(await list_probes(life, clip_id)) for clip_id in made] == [1, 1]
    assert await probe_next_media(opened) == 0


async def count_probed(life):
    [row] = await sql(life, "SELECT count(*) FROM media_facts")
    return row["count"]


async def test_the_job_waits_while_clips_are_secured(life):
    for footage in (b"one", b"two"):
        await bring(life, footage)
    opened = _Opened(life, yield_s=10)
    while await probe_next_media(opened):
        pass

    assert await count_probed(life) == 0

    life.later(20 / 86_400)
    assert [await probe_next_media(opened) for _ in range(3)] == [1, 1, 0]
    assert await count_probed(life) == 2


async def test_who_has_waited_for_an_hour_is_probed_beside_what_comes_in(life):
    await bring(life, b"old")
    await queue(life)
    life.later(1.1 / 24)
    await bring(life, b"new")
    opened = _Opened(life, yield_s=10)

    while await probe_next_media(opened):
        pass

    assert await count_probed(life) == 1


async def test_a_service_that_does_not_probe_reads_nothing(life):
    await bring(life, b"one")

    assert await probe_next_media(_Opened(life, probe=None)) == 0

    assert await sql(life, "SELECT next_index FROM media_cursor WHERE next_index > 0") == []
