"""A large disclosure from a real store: its pack is streamed, whatever is in it.

`INGEST_TEST_PACK_CLIPS=200` packs as many as a large case has; without it some do.
"""

import asyncio
import os
import tracemalloc
import zipfile
from dataclasses import replace

import pytest

from ingest_service.actions.disclose_clips import DisclosureOrder, disclose_clips
from ingest_service.actions.pack_disclosure import pack_disclosure
from ingest_service.domain.disclosure import DisclosureRules, Recipient
from schemas.verify_pack import HOLDS, UNKNOWN, verify_pack
from tests.actions.engine import (
    RULES,
    Feed,
    Process,
    describe_recording,
    make_footage,
)
from tests.actions.life import ANNA, DAY, SIGNER, Life

pytestmark = pytest.mark.s3

CLIPS = int(os.environ.get("INGEST_TEST_PACK_CLIPS", "40"))
CLIP_BYTES = 512 * 1024
AT_ONCE = 4
# The blocks under way, and some lines for each file in the archive's directory; not the footage.
HELD_BYTES_MAX = CLIPS * CLIP_BYTES // 2


@pytest.fixture
def life(real_life):
    return real_life


def footage_of(number: int) -> bytes:
    return make_footage(CLIP_BYTES, f"large-{number}")


async def secure(life: Life, number: int):
    rules = replace(RULES, part_bytes=CLIP_BYTES)
    dock = Process("dock", life.pool, life.vault, rules=rules, now=life.clock)
    footage = footage_of(number)
    recording = describe_recording(footage, recording_id=f"large-{number}")
    clip = (await dock.announce(recording)).clip
    await dock.store(clip.clip_id, 0, footage, feed=Feed(footage, block_bytes=64 * 1024))
    await dock.seal(clip.clip_id)
    assert await dock.read_back(clip.clip_id) == "secured"
    return await life.get(clip.clip_id)


async def test_a_pack_of_many_clips_is_streamed_and_verifies_offline(life, tmp_path):
    clips = []
    for start in range(0, CLIPS, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, CLIPS))
        clips += await asyncio.gather(*[secure(life, number) for number in numbers])
    await life.publish()
    order = DisclosureOrder(
        Recipient("cps", "CPS London", None, "URN-1"),
        [clip.clip_id for clip in clips],
        "prosecution",
        "CPIA-1996",
        life.clock() + 30 * DAY,
        ("pack",),
        "for this case only",
    )
    made, _ = await disclose_clips(
        order,
        ANNA,
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        rules=DisclosureRules(),
        locks_objects=False,
    )
    await life.publish()
    clips = [await life.get(clip.clip_id) for clip in clips]

    async def record() -> None:
        return None

    total = largest = 0
    # Not the process's own peak: an earlier test may have set that higher than this one could.
    tracemalloc.start()
    pieces = await pack_disclosure(
        made, clips, record, pool=life.pool, vault=life.vault, signer=SIGNER, now=life.clock
    )
    file = tmp_path / "pack.zip"
    with file.open("wb") as out:
        async for piece in pieces:
            total, largest = total + len(piece), max(largest, len(piece))
            out.write(piece)
    _, held_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert total > CLIPS * CLIP_BYTES
    assert largest <= CLIP_BYTES
    assert held_bytes < HELD_BYTES_MAX
    with zipfile.ZipFile(file) as archive:
        footage = [each for each in archive.infolist() if each.file_size == CLIP_BYTES]
    assert len(footage) == CLIPS
    verified = verify_pack(file, [SIGNER.verifier_key])
    assert {line.verdict for line in verified.lines} <= {HOLDS, UNKNOWN}, verified.lines
    assert sum(line.verdict == HOLDS for line in verified.lines) > CLIPS
    some = clips[CLIPS // 2]
    ranged = life.vault.read(some.object_key, some.object_version, 100_000, 300_000)
    assert b"".join([block async for block in ranged]) == footage_of(CLIPS // 2)[100_000:300_000]
