"""Which clips are to be probed, and what probes have found."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import CustodyEvent
from ingest_service.domain.media import MediaFacts
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links

# One worker at a time: who comes meanwhile has nothing to do.
LOCK_CURSOR: Final = "SELECT next_index FROM media_cursor FOR UPDATE SKIP LOCKED"


async def lock_cursor(connection: Connection) -> int | None:
    """Return how far the log was read, and let nobody else go on; None: somebody else is at it."""
    next_index: int | None = await connection.fetchval(LOCK_CURSOR)
    return next_index


SET_CURSOR: Final = "UPDATE media_cursor SET next_index = $1"


async def set_cursor(connection: Connection, next_index: int) -> None:
    """Record how far the log was read, in the transaction of what was queued."""
    await connection.execute(SET_CURSOR, next_index)


# A log that is read again, after a restored backup or a rebuild, asks for no second probe.
QUEUE_PROBES: Final = """
    INSERT INTO media_probes (clip_id, due_at)
    SELECT given.clip_id, $2
      FROM unnest($1::uuid[]) AS given (clip_id)
     WHERE NOT EXISTS (
            SELECT
              FROM media_facts
             WHERE media_facts.clip_id = given.clip_id)
ON CONFLICT DO NOTHING
"""


async def queue_probes(connection: Connection, clip_ids: Sequence[UUID], due_at: datetime) -> None:
    """Have clips probed that never were."""
    await connection.execute(QUEUE_PROBES, clip_ids, due_at)


@dataclass(frozen=True, slots=True)
class Claim:
    """A clip that is to be probed now; attempt counts from 1 and tells claims apart."""

    clip_id: UUID
    attempt: int


CLAIM_PROBE: Final = """
    UPDATE media_probes
       SET due_at = $2,
           attempt = attempt + 1
     WHERE clip_id IN (
        SELECT clip_id
          FROM media_probes
         WHERE due_at <= $1
      ORDER BY due_at
         LIMIT 1
           FOR UPDATE SKIP LOCKED)
 RETURNING clip_id, attempt
"""


async def claim_probe(
    connection: Connection, due_before: datetime, *, until: datetime
) -> Claim | None:
    """Claim the clip that has waited longest; another worker gets it when the claim lapses."""
    row = await connection.fetchrow(CLAIM_PROBE, due_before, until)
    return None if row is None else Claim(**row)


IS_SECURING: Final = """
    SELECT EXISTS (
        SELECT
          FROM media_probes
         WHERE due_at > $1
           AND attempt = 0)
"""


async def is_securing(connection: Connection, since: datetime) -> bool:
    """Tell whether a clip was queued since then that is still to be probed."""
    return bool(await connection.fetchval(IS_SECURING, since))


POSTPONE_PROBE: Final = """
    UPDATE media_probes SET due_at = $3 WHERE clip_id = $1 AND attempt = $2
"""


async def postpone_probe(connection: Connection, claim: Claim, due_at: datetime) -> None:
    """Give a claim back, to be tried again later."""
    await connection.execute(POSTPONE_PROBE, claim.clip_id, claim.attempt, due_at)


DROP_PROBE: Final = "DELETE FROM media_probes WHERE clip_id = $1 AND attempt = $2"


async def drop_probe(connection: Connection, claim: Claim) -> None:
    """Forget a clip that has no bytes to be probed any more."""
    await connection.execute(DROP_PROBE, claim.clip_id, claim.attempt)


# Whose claim has lapsed records nothing: the row of the queue is the fence.
RECORD_MEDIA: Final = """
    WITH claimed AS (
        SELECT clip_id
          FROM media_probes
         WHERE clip_id = $1
           AND attempt = $3
           FOR UPDATE
    ), head AS (
        UPDATE clips
           SET event_count = event_count + cardinality($16::custody_link[]),
               last_leaf_hash =
                   (($16::custody_link[])[cardinality($16::custody_link[])]).leaf_hash
          FROM claimed
         WHERE clips.clip_id = claimed.clip_id
           AND clips.event_count = $2
           AND clips.state IN ('secured', 'erase_pending')
     RETURNING clips.clip_id
    ), found AS (
        INSERT INTO media_facts (
            clip_id, probe_no, probed_at, prober, container, codec, width, height, fps,
            duration_ms, audio_present, creation_time, flags, bytes_read)
        SELECT head.clip_id,
               (SELECT COALESCE(max(probe_no), 0) + 1 FROM media_facts WHERE clip_id = $1),
               $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15
          FROM head
    ), done AS (
        DELETE FROM media_probes USING head WHERE media_probes.clip_id = head.clip_id
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($16::custody_link[]) AS link
 RETURNING event_id
"""


async def record_media(
    connection: Connection,
    clip: Clip,
    claim: Claim,
    facts: MediaFacts,
    events: Sequence[CustodyEvent],
) -> bool:
    """Record a probe; False: the clip changed since it was read, or the claim has lapsed."""
    rows = await connection.fetch(
        RECORD_MEDIA,
        clip.clip_id,
        clip.event_count,
        claim.attempt,
        facts.probed_at,
        facts.prober,
        facts.container,
        facts.codec,
        facts.width,
        facts.height,
        facts.fps,
        facts.duration_ms,
        facts.audio_present,
        facts.creation_time,
        facts.flags,
        facts.bytes_read,
        make_links(events),
    )
    return bool(rows)


FIND_MEDIA: Final = """
    SELECT probed_at, prober, container, codec, width, height, fps, duration_ms, audio_present,
           creation_time, flags, bytes_read
      FROM media_facts
     WHERE clip_id = $1
  ORDER BY probe_no DESC
     LIMIT 1
"""


async def find_media(connection: Connection, clip_id: UUID) -> MediaFacts | None:
    """Return what the latest probe of a clip has found."""
    row = await connection.fetchrow(FIND_MEDIA, clip_id)
    return None if row is None else MediaFacts(**row)
