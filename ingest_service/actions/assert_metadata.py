"""Assert: somebody says what a clip is, and it is recorded beside what was said before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.domain.assertion import Assertion, Statement, assert_fields
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import chain_events
from ingest_service.errors import ClipBusy, ClipNotFound
from ingest_service.ledger import assertions, clips
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.directory import Directory

_TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Asserted:
    """What was recorded; `is_repeat`: by an earlier request with the same key."""

    clip: Clip
    assertions: list[Assertion]
    is_repeat: bool = False


async def assert_metadata(
    clip_id: UUID, said: Statement, *, pool: Pool, directory: Directory, now: Clock
) -> Asserted:
    """Record what is said of a clip: present values, assertions and custody events at once.

    An officer or category that the directory does not have is flagged, never refused.

    Raises:
        ClipNotFound, CorrectionMismatch: nothing was recorded.
        ClipBusy: too many wrote to this clip at once; nothing was recorded.
    """
    known = await directory.entries(pool)
    for _ in range(_TRIES):
        async with reading(pool) as connection:
            clip = await clips.find_clip(connection, clip_id)
            if clip is None:
                raise ClipNotFound(str(clip_id))
            # Read after the clip: what is younger than it makes the compare-and-set below fail.
            later = await assertions.list_assertions(connection, clip_id)
            if repeated := _find_repeated(later, said):
                return Asserted(clip, repeated, is_repeat=True)
            moment = now()
            believed, made, happenings = assert_fields(
                clip, later, said, lambda kind, name: (kind, name) in known, now=moment
            )
            events = chain_events(
                clip.head, happenings, now=moment, device_serial=clip.device_serial
            )
            if await assertions.record_assertions(connection, believed, made, events):
                return Asserted(believed, made)
    raise ClipBusy(clip_id)


def _find_repeated(later: Sequence[Assertion], said: Statement) -> list[Assertion]:
    if said.batch_key is None:
        return []
    return [
        each
        for each in later
        if each.batch_key == said.batch_key
        and each.batch_item == said.batch_item
        and each.asserted_by_id == said.actor.id
    ]
