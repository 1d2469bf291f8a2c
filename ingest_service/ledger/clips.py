"""Clips in Postgres: announced once, changed only together with a custody event."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import ChainHead, CustodyEvent
from ingest_service.domain.seal import Seal
from ingest_service.domain.upload import Upload
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links
from ingest_service.ledger.retention import Computed

# One statement: the clip, its first event and the plan of its upload, or nothing at all when the
# identity is taken. Nothing is in the vault yet, so nothing there is unknown to the ledger.
INSERT_CLIP: Final = """
    WITH head AS (
        INSERT INTO clips (
            clip_id, upload_id, device_serial, recording_id, segment_no, device_recording_seq,
            announcement, size_bytes, sha256_device, station_id, site_id, borough, started_at,
            ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of, flags, clock_state,
            started_at_corrected, announced_at, officer_id, incident_id, crime_ref, category,
            evidential_state, title, event_count, last_leaf_hash)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                $19, $20, $21, $22, $23, $24, $25, $26, $27, cardinality($31::custody_link[]),
                (($31::custody_link[])[cardinality($31::custody_link[])]).leaf_hash)
        ON CONFLICT (device_serial, recording_id, segment_no) WHERE duplicate_of IS NULL
        DO NOTHING
        RETURNING clip_id, upload_id, station_id, size_bytes, announced_at
    ), upload AS (
        INSERT INTO uploads (
            upload_id, clip_id, station_id, length_bytes, part_bytes, tus_metadata, opened_at,
            expires_at, surface, kind, concat, partial_ids, is_ietf, sweep_after)
        SELECT upload_id, clip_id, station_id, size_bytes, $28, $29, announced_at, $30, $32, $33,
               $34, $35, $36, CASE WHEN $37 THEN now() + interval '5 minutes' END
          FROM head
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($31::custody_link[]) AS link
 RETURNING event_id
"""


async def insert_clip(
    connection: Connection,
    clip: Clip,
    upload: Upload,
    events: Sequence[CustodyEvent],
    *,
    writes_at_once: bool = False,
) -> bool:
    """Record a new clip, the plan of its upload and its first events; False: identity taken.

    writes_at_once  the opening request stores the clip without a lease: unless it seals the clip
                    too, the sweep looks for what it may have left
    """
    rows = await connection.fetch(
        INSERT_CLIP,
        clip.clip_id,
        clip.upload_id,
        clip.device_serial,
        clip.recording_id,
        clip.segment_no,
        clip.device_recording_seq,
        clip.announcement,
        clip.size_bytes,
        clip.sha256_device,
        clip.station_id,
        clip.site_id,
        clip.borough,
        clip.started_at,
        clip.ended_at,
        clip.clock_offset_ms,
        clip.clock_uncertainty_ms,
        clip.duplicate_of,
        clip.flags,
        clip.clock_state,
        clip.started_at_corrected,
        clip.announced_at,
        clip.officer_id,
        clip.incident_id,
        clip.crime_ref,
        clip.category,
        clip.evidential_state,
        clip.title,
        upload.part_bytes,
        upload.tus_metadata,
        upload.expires_at,
        make_links(events),
        upload.surface,
        upload.kind,
        upload.concat,
        upload.partial_ids,
        upload.is_ietf,
        writes_at_once,
    )
    return bool(rows)


FIND_CLIP: Final = """
    SELECT clip_id, state, upload_id, device_serial, recording_id, segment_no,
           device_recording_seq, announcement, size_bytes, sha256_device, station_id, site_id,
           borough, started_at, ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of,
           flags, clock_state, started_at_corrected, announced_at, sealed_at, secured_at,
           released_at, officer_id, incident_id, crime_ref, category, evidential_state, title,
           sha256, sha256_readback, quarantine_reason, bucket, object_key, object_version,
           manifest, is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
           last_fixity_at, last_fixity_result, exhibit_ref, tags
      FROM clips
     WHERE clip_id = $1
"""


async def find_clip(connection: Connection, clip_id: UUID) -> Clip | None:
    """Return one clip."""
    row = await connection.fetchrow(FIND_CLIP, clip_id)
    return None if row is None else Clip(**row)


FIND_CLIP_BY_IDENTITY: Final = """
    SELECT clip_id, state, upload_id, device_serial, recording_id, segment_no,
           device_recording_seq, announcement, size_bytes, sha256_device, station_id, site_id,
           borough, started_at, ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of,
           flags, clock_state, started_at_corrected, announced_at, sealed_at, secured_at,
           released_at, officer_id, incident_id, crime_ref, category, evidential_state, title,
           sha256, sha256_readback, quarantine_reason, bucket, object_key, object_version,
           manifest, is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
           last_fixity_at, last_fixity_result, exhibit_ref, tags
      FROM clips
     WHERE device_serial = $1
       AND recording_id = $2
       AND segment_no = $3
       AND duplicate_of IS NULL
"""


async def find_clip_by_identity(
    connection: Connection, device_serial: str, recording_id: str, segment_no: int
) -> Clip | None:
    """Return the clip that holds this identity."""
    row = await connection.fetchrow(FIND_CLIP_BY_IDENTITY, device_serial, recording_id, segment_no)
    return None if row is None else Clip(**row)


# A camera that moved to another dock, or whose first attempt was abandoned, goes on here.
REOPEN_CLIP: Final = """
    WITH head AS (
        UPDATE clips
           SET state = CASE WHEN state = 'expired' THEN 'receiving' ELSE state END,
               upload_id = $3,
               size_bytes = COALESCE(size_bytes, $8),
               sha256_device = COALESCE(sha256_device, $4),
               event_count = event_count + cardinality($11::custody_link[]),
               last_leaf_hash = (($11::custody_link[])[cardinality($11::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
     RETURNING clip_id, size_bytes
    ), moved AS (
        UPDATE uploads
           SET station_id = $5,
               expires_at = CASE WHEN state = 'open' THEN $10 ELSE expires_at END,
               length_bytes = COALESCE(
                   length_bytes, CASE WHEN state = 'open' THEN head.size_bytes END)
          FROM head
         WHERE uploads.clip_id = head.clip_id
           AND uploads.upload_id = $3
    ), opened AS (
        INSERT INTO uploads (
            upload_id, clip_id, station_id, length_bytes, part_bytes, opened_at, expires_at)
        SELECT $3, clip_id, $5, size_bytes, $7, $9, $10
          FROM head
         WHERE $6::boolean
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($11::custody_link[]) AS link
 RETURNING event_id
"""


async def reopen_clip(
    connection: Connection,
    clip: Clip,
    events: Sequence[CustodyEvent],
    *,
    upload_id: UUID,
    station_id: str,
    size_bytes: int,
    sha256_device: bytes | None,
    is_new_upload: bool,
    part_bytes: int,
    opened_at: datetime,
    expires_at: datetime,
) -> bool:
    """Hand a clip's upload to a station, or open a new one; False: the clip changed meanwhile.

    A length or digest that was not known yet is taken over from the announcement; an upload that
    goes on has all its time again.
    """
    rows = await connection.fetch(
        REOPEN_CLIP,
        clip.clip_id,
        clip.event_count,
        upload_id,
        sha256_device,
        station_id,
        is_new_upload,
        part_bytes,
        size_bytes,
        opened_at,
        expires_at,
        make_links(events),
    )
    return bool(rows)


# Clip, upload, events and the folding of part rows: one statement, so that no reader ever sees a
# sealed clip without its manifest and no crash leaves one.
SEAL_CLIP: Final = """
    WITH head AS (
        UPDATE clips
           SET state = $4,
               sealed_at = $5,
               size_bytes = $6,
               sha256 = $7,
               bucket = $8,
               object_key = $9,
               object_version = $10,
               manifest = $11,
               quarantine_reason = $12,
               event_count = event_count + cardinality($13::custody_link[]),
               last_leaf_hash = (($13::custody_link[])[cardinality($13::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
           AND upload_id = $3
           AND state IN ('receiving', 'finishing')
     RETURNING clip_id
    ), finished AS (
        UPDATE uploads
           SET state = 'finished',
               sha256_state = NULL,
               leased_by = NULL
          FROM head
         WHERE uploads.upload_id = $3
    ), folded AS (
        DELETE FROM parts USING head WHERE parts.upload_id = $3
    ), joined AS (
        DELETE FROM tails USING head WHERE tails.upload_id = $3
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($13::custody_link[]) AS link
 RETURNING event_id
"""


async def seal_clip(
    connection: Connection,
    clip: Clip,
    upload_id: UUID,
    seal: Seal,
    events: Sequence[CustodyEvent],
) -> bool:
    """Seal (or quarantine) a clip; False: it changed since it was read."""
    rows = await connection.fetch(
        SEAL_CLIP,
        clip.clip_id,
        clip.event_count,
        upload_id,
        seal.state,
        seal.sealed_at,
        seal.size_bytes,
        seal.sha256,
        seal.bucket,
        seal.object_key,
        seal.object_version,
        seal.manifest,
        seal.quarantine_reason,
        make_links(events),
    )
    return bool(rows)


# A clip of one part needs no finishing: its part is counted and the clip sealed by one statement.
# The upload is locked first, so that a newcomer (another epoch) or an end of it is seen here. A
# native part counts under the digest of its last claim alone, as in `uploads.RECORD_CHUNK`.
SEAL_WHOLE: Final = """
    WITH held AS (
        SELECT upload_id
          FROM uploads
         WHERE upload_id = $3
           AND epoch = $14
           AND offset_bytes = $15
           AND state = 'open'
           AND surface IN ('undecided', $16)
           AND ($19::bytea IS NULL
                OR EXISTS (
                    SELECT
                      FROM parts
                     WHERE parts.upload_id = $3
                       AND parts.part_index = 0
                       AND parts.sha256 = $19))
           FOR UPDATE
    ), head AS (
        UPDATE clips
           SET state = $4,
               sealed_at = $5,
               size_bytes = $6,
               sha256 = $7,
               bucket = $8,
               object_key = $9,
               object_version = $10,
               manifest = $11,
               quarantine_reason = $12,
               event_count = event_count + cardinality($13::custody_link[]),
               last_leaf_hash = (($13::custody_link[])[cardinality($13::custody_link[])]).leaf_hash
          FROM held
         WHERE clips.clip_id = $1
           AND clips.event_count = $2
           AND clips.upload_id = held.upload_id
           AND clips.state = 'receiving'
     RETURNING clips.clip_id
    ), finished AS (
        UPDATE uploads
           SET state = 'finished',
               surface = $16,
               offset_bytes = length_bytes,
               hashed_bytes = length_bytes,
               sha256_state = NULL,
               leased_by = NULL,
               sweep_after = CASE WHEN $17 THEN now() + interval '5 minutes'
                                  WHEN $18 THEN NULL ELSE sweep_after END
          FROM head
         WHERE uploads.upload_id = $3
    ), folded AS (
        DELETE FROM parts USING head WHERE parts.upload_id = $3
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($13::custody_link[]) AS link
 RETURNING event_id
"""


async def seal_whole(
    connection: Connection,
    head: ChainHead,
    upload: Upload,
    seal: Seal,
    events: Sequence[CustodyEvent],
    *,
    part_sha256: bytes | None,
    surface: str,
    has_leftovers: bool,
    was_sole_writer: bool,
) -> bool:
    """Count an upload's only part and seal (or quarantine) its clip; False: either changed.

    part_sha256      under which the part was claimed; None where no chunk was
    was_sole_writer  nobody else ever wrote to the upload: there is nothing more to sweep
    """
    rows = await connection.fetch(
        SEAL_WHOLE,
        head.clip_id,
        head.event_count,
        upload.upload_id,
        seal.state,
        seal.sealed_at,
        seal.size_bytes,
        seal.sha256,
        seal.bucket,
        seal.object_key,
        seal.object_version,
        seal.manifest,
        seal.quarantine_reason,
        make_links(events),
        upload.epoch,
        upload.offset_bytes,
        surface,
        has_leftovers,
        was_sole_writer,
        part_sha256,
    )
    return bool(rows)


# The clip's bytes are missing from the vault: nothing is deleted, the reason is kept.
FAIL_UPLOAD: Final = """
    WITH head AS (
        UPDATE clips
           SET state = 'quarantined',
               quarantine_reason = $4,
               event_count = event_count + cardinality($5::custody_link[]),
               last_leaf_hash = (($5::custody_link[])[cardinality($5::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
           AND upload_id = $3
           AND state IN ('receiving', 'finishing')
     RETURNING clip_id
    ), failed AS (
        UPDATE uploads
           SET state = 'failed', failure = $4, leased_by = NULL
          FROM head
         WHERE uploads.upload_id = $3
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($5::custody_link[]) AS link
 RETURNING event_id
"""


async def fail_upload(
    connection: Connection,
    clip: Clip,
    upload_id: UUID,
    reason: str,
    events: Sequence[CustodyEvent],
) -> bool:
    """Quarantine a clip whose stored parts are gone; False: it changed since it was read."""
    rows = await connection.fetch(
        FAIL_UPLOAD, clip.clip_id, clip.event_count, upload_id, reason, make_links(events)
    )
    return bool(rows)


# With its date, if one was decided: where lists are found, a clip then is written once, not twice.
SETTLE_READ_BACK: Final = """
    WITH head AS (
        UPDATE clips
           SET state = $3,
               sha256 = $4,
               sha256_readback = $5,
               secured_at = $6,
               quarantine_reason = $7,
               manifest_sha256 = $9,
               erase_due_at = COALESCE($10, erase_due_at),
               event_count = event_count + cardinality($8::custody_link[]),
               last_leaf_hash = (($8::custody_link[])[cardinality($8::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
           AND state = 'sealed'
     RETURNING clip_id
    ), dated AS (
        INSERT INTO retention (
            clip_id, policy, basis, basis_at, reason, erase_due_at, due_at, is_unclassified,
            size_bytes, computed_at)
        SELECT clip_id, $11, $12, $13, $14, $10, $15, $16, $17, $6
          FROM head
         WHERE $10::timestamptz IS NOT NULL
            ON CONFLICT (clip_id) DO NOTHING
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($8::custody_link[]) AS link
 RETURNING event_id
"""


async def settle_read_back(
    connection: Connection,
    clip: Clip,
    events: Sequence[CustodyEvent],
    *,
    state: str,
    sha256: bytes | None,
    sha256_readback: bytes | None,
    secured_at: datetime | None,
    quarantine_reason: str | None,
    manifest_sha256: bytes,
    computed: Computed | None = None,
) -> bool:
    """Secure or quarantine a sealed clip; False: it changed since it was read.

    computed  its first date, of which one of the events tells; None: a job decides it
    """
    decision = None if computed is None else computed.decision
    rows = await connection.fetch(
        SETTLE_READ_BACK,
        clip.clip_id,
        clip.event_count,
        state,
        sha256,
        sha256_readback,
        secured_at,
        quarantine_reason,
        make_links(events),
        manifest_sha256,
        None if decision is None else decision.erase_due_at,
        None if decision is None else decision.policy,
        None if decision is None else decision.basis,
        None if decision is None else decision.basis_at,
        None if decision is None else decision.reason,
        None if computed is None else computed.due_at,
        None if computed is None else computed.is_unclassified,
        None if computed is None else computed.size_bytes,
    )
    return bool(rows)


# SKIP LOCKED and the postponement make one claim: another worker sees the clip as not due until
# the claim lapses, after the time that reading it at 20 MB/s takes. Reading twice does no harm.
# While several uploads move (each step renews their expiry), only those are taken that have waited.
CLAIM_READ_BACKS: Final = """
    UPDATE clips
       SET read_back_after = now() + make_interval(secs => $2 + size_bytes / 20e6),
           read_back_attempts = read_back_attempts + 1
     WHERE clip_id IN (
        SELECT clip_id
          FROM clips
         WHERE state = 'sealed'
           AND (read_back_after IS NULL OR read_back_after <= now())
           AND (sealed_at <= now() - make_interval(secs => $3)
                OR 4 > (SELECT count(*)
                          FROM (SELECT
                                  FROM uploads
                                 WHERE uploads.state = 'open'
                                   AND uploads.expires_at > now() + make_interval(secs => $4 - 3)
                                 LIMIT 4) AS moving))
      ORDER BY sealed_at
         LIMIT $1
           FOR UPDATE SKIP LOCKED)
 RETURNING clip_id, state, upload_id, device_serial, recording_id, segment_no,
           device_recording_seq, announcement, size_bytes, sha256_device, station_id, site_id,
           borough, started_at, ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of,
           flags, clock_state, started_at_corrected, announced_at, sealed_at, secured_at,
           released_at, officer_id, incident_id, crime_ref, category, evidential_state, title,
           sha256, sha256_readback, quarantine_reason, bucket, object_key, object_version,
           manifest, is_held, erase_due_at, event_count, last_leaf_hash, manifest_sha256,
           last_fixity_at, last_fixity_result
"""


async def claim_read_backs(
    connection: Connection,
    *,
    limit: int,
    claim_s: float,
    yield_s: float = 0,
    expires_after_s: float = 0,
) -> list[Clip]:
    """Claim sealed clips to read back, oldest first.

    yield_s          while footage comes in, clips that were sealed later than this are left
    expires_after_s  how far each step of an upload moves its expiry
    """
    rows = await connection.fetch(CLAIM_READ_BACKS, limit, claim_s, yield_s, expires_after_s)
    return [Clip(**row) for row in rows]


# Each absence waits longer for the next look: a store that comes back from an outage may not be
# whole for minutes.
COUNT_LOST: Final = """
    UPDATE clips
       SET read_back_lost_count = read_back_lost_count + 1,
           read_back_after = now() + make_interval(secs => $2 * (read_back_lost_count + 1))
     WHERE clip_id = $1
       AND state = 'sealed'
 RETURNING read_back_lost_count
"""


async def count_lost(connection: Connection, clip_id: UUID, *, delay_s: float) -> int:
    """Count that the store has no such object; returns how often it has said so by now."""
    count: int | None = await connection.fetchval(COUNT_LOST, clip_id, delay_s)
    return count or 0


POSTPONE_READ_BACK: Final = """
    UPDATE clips
       SET read_back_after = now() + make_interval(secs => $2)
     WHERE clip_id = $1
       AND state = 'sealed'
"""


async def postpone_read_back(connection: Connection, clip_id: UUID, *, delay_s: float) -> None:
    """Let a clip's read-back be claimed again after a delay."""
    await connection.execute(POSTPONE_READ_BACK, clip_id, delay_s)


# Raising the epoch fences off whoever is still writing; expiry loses against a last append.
END_UPLOAD: Final = """
    WITH ended AS (
        UPDATE uploads
           SET state = $4, leased_by = NULL, epoch = epoch + 1,
               sweep_after = now() + interval '5 minutes'
         WHERE upload_id = $3
           AND state = 'open'
           AND ($4 <> 'expired' OR expires_at <= now())
     RETURNING clip_id
    ), head AS (
        UPDATE clips
           SET state = 'expired',
               event_count = event_count + cardinality($5::custody_link[]),
               last_leaf_hash = (($5::custody_link[])[cardinality($5::custody_link[])]).leaf_hash
          FROM ended
         WHERE clips.clip_id = $1
           AND clips.clip_id = ended.clip_id
           AND event_count = $2
           AND state = 'receiving'
     RETURNING clips.clip_id
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($5::custody_link[]) AS link
 RETURNING event_id
"""


async def end_upload(
    connection: Connection,
    clip: Clip,
    upload_id: UUID,
    state: str,
    events: Sequence[CustodyEvent],
) -> bool:
    """Expire or terminate an open upload; False when it is not open (or not due) any more.

    Run inside `writing`: when the clip's chain has grown since it was read, the caller rolls back.
    """
    rows = await connection.fetch(
        END_UPLOAD, clip.clip_id, clip.event_count, upload_id, state, make_links(events)
    )
    return bool(rows)
