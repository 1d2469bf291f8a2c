"""Clips on their way from 'secured' to 'erased': locked, looked at, and moved on with their events.

All that changes what may become of a clip (date, holds, erasure) holds the clip's row first, and
then reads what is beside it: of two that meet, the second one sees what the first one did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.custody import CustodyEvent, Happening, chain_events
from ingest_service.domain.retention import LivingClip
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links

# In order of their ids: two batches that share clips wait for each other, and never in a ring.
LOCK_CLIPS: Final = """
    SELECT clip_id
      FROM clips
     WHERE clip_id = ANY ($1::uuid[])
  ORDER BY clip_id
       FOR NO KEY UPDATE
"""
# A statement of its own: what is beside a clip is read as it is once the lock is ours.
LIST_LIVING: Final = """
    SELECT clips.clip_id, clips.state, clips.device_serial, clips.borough, clips.size_bytes,
           clips.sha256, clips.bucket, clips.object_key, clips.object_version, clips.category,
           clips.evidential_state, clips.clock_state, clips.started_at,
           clips.started_at_corrected, clips.announced_at, clips.secured_at, clips.is_held,
           clips.erase_due_at, clips.event_count, clips.last_leaf_hash, retention.policy,
           retention.basis, retention.basis_at, retention.reason, retention.is_unclassified,
           retention.computed_at, retention.warned_at, retention.restored_at, retention.due_at,
           erasures.phase, erasures.scheduled_at, erasures.erase_after, erasures.intended_at,
           erasures.attempt
      FROM clips
 LEFT JOIN retention ON retention.clip_id = clips.clip_id
 LEFT JOIN erasures ON erasures.clip_id = clips.clip_id
     WHERE clips.clip_id = ANY ($1::uuid[])
  ORDER BY clips.clip_id
"""


async def lock_clips(connection: Connection, clip_ids: Sequence[UUID]) -> list[LivingClip]:
    """Return clips as they are, and keep everybody else from changing them; in order of id.

    Run inside `writing`.
    """
    await connection.execute(LOCK_CLIPS, clip_ids)
    return await list_living(connection, clip_ids)


async def list_living(connection: Connection, clip_ids: Sequence[UUID]) -> list[LivingClip]:
    """Return clips as they are just now; in order of id."""
    rows = await connection.fetch(LIST_LIVING, clip_ids)
    return [LivingClip(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Advance:
    """What becomes of a locked clip: its new state, whether it is held, its date, its events."""

    clip: LivingClip
    events: Sequence[CustodyEvent]
    state: str
    is_held: bool
    erase_due_at: datetime | None


ADVANCE_CLIPS: Final = """
    WITH given AS (
        SELECT clip_id, event_count, added, last_leaf_hash, state, is_held, erase_due_at
          FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bytea[], $5::text[],
                      $6::boolean[], $7::timestamptz[])
            AS given (clip_id, event_count, added, last_leaf_hash, state, is_held, erase_due_at)
    ), head AS (
        UPDATE clips
           SET state = given.state,
               is_held = given.is_held,
               erase_due_at = given.erase_due_at,
               event_count = given.event_count + given.added,
               last_leaf_hash = given.last_leaf_hash
          FROM given
         WHERE clips.clip_id = given.clip_id
           AND clips.event_count = given.event_count
     RETURNING clips.clip_id
    ), logged AS (
        INSERT INTO custody_events (
            event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
            leaf, leaf_hash)
        SELECT link.*
          FROM unnest($8::custody_link[]) AS link
          JOIN head ON head.clip_id = link.clip_id
    )
    SELECT count(*) FROM head
"""


async def advance_clips(connection: Connection, advances: Sequence[Advance]) -> None:
    """Move locked clips on, each with at least one event; one statement for all.

    Raises:
        ChainMoved: a clip was not locked, or is not as it was read; roll back.
    """
    moved = await connection.fetchval(
        ADVANCE_CLIPS,
        [each.clip.clip_id for each in advances],
        [each.clip.event_count for each in advances],
        [len(each.events) for each in advances],
        [each.events[-1].leaf_hash for each in advances],
        [each.state for each in advances],
        [each.is_held for each in advances],
        [each.erase_due_at for each in advances],
        make_links([event for each in advances for event in each.events]),
    )
    if moved != len(advances):
        raise ChainMoved


async def advance_alike(
    connection: Connection, clips: Sequence[LivingClip], happening: Happening, moment: datetime
) -> None:
    """Append the same happening to each of these locked clips; nothing else of them changes.

    Raises:
        ChainMoved: as `advance_clips`.
    """
    advances = [
        Advance(
            clip,
            chain_events(clip.head, [happening], now=moment, device_serial=clip.device_serial),
            clip.state,
            clip.is_held,
            clip.erase_due_at,
        )
        for clip in clips
    ]
    if advances:
        await advance_clips(connection, advances)


class ChainMoved(RuntimeError):
    """A clip that was believed to be locked has changed: a mistake of ours, nothing is written."""
