"""Uploads, parts and tails in Postgres: the owner of every offset."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.custody import ChainHead
from ingest_service.domain.upload import Part, Sealable, Tail, Upload
from ingest_service.ledger.connection import Connection

# The channel on which a newcomer asks the holder of a lease, in whatever process, to stop reading.
INTERRUPT_CHANNEL: Final = "upload_interrupt"


FIND_UPLOAD: Final = """
    SELECT upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf
      FROM uploads
     WHERE upload_id = $1
"""


async def find_upload(connection: Connection, upload_id: UUID) -> Upload | None:
    """Return one upload."""
    row = await connection.fetchrow(FIND_UPLOAD, upload_id)
    return None if row is None else Upload(**row)


FIND_CLIP_UPLOAD: Final = """
    SELECT uploads.upload_id, uploads.clip_id, uploads.station_id, surface, uploads.state,
           length_bytes, part_bytes, offset_bytes, hashed_bytes, sha256_state, epoch, leased_by,
           multipart_key, multipart_id, tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf
      FROM clips
      JOIN uploads ON uploads.upload_id = clips.upload_id
     WHERE clips.clip_id = $1
"""


async def find_clip_upload(connection: Connection, clip_id: UUID) -> Upload | None:
    """Return a clip's present upload."""
    row = await connection.fetchrow(FIND_CLIP_UPLOAD, clip_id)
    return None if row is None else Upload(**row)


# --- the lease: who may append ------------------------------------------------------------

# The WHERE clause is the lock. Each success adds one to the epoch, and every later write of the
# holder names its epoch: whoever was overtaken matches no row.
TAKE_UPLOAD: Final = """
    UPDATE uploads
       SET epoch = epoch + 1,
           leased_by = $3
     WHERE upload_id = $1
       AND station_id = $2
       AND state = 'open'
       AND (kind = 'final') = $4
       AND leased_by IS NULL
       AND expires_at > now()
 RETURNING upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf,
           (SELECT device_serial FROM clips WHERE clips.clip_id = uploads.clip_id) AS device_serial
"""


async def take_upload(
    connection: Connection, upload_id: UUID, station_id: str, holder: str, *, joins: bool
) -> Upload | None:
    """Lease a station's idle open upload; None when it is not idle, not open or not its own.

    joins  taken in order to join partials: only finals are, and by nobody else
    """
    row = await connection.fetchrow(TAKE_UPLOAD, upload_id, station_id, holder, joins)
    return None if row is None else Upload(**row)


SEIZE_UPLOAD: Final = """
    UPDATE uploads
       SET epoch = epoch + 1,
           leased_by = $3,
           sweep_after = now() + interval '5 minutes'
     WHERE upload_id = $1
       AND state = 'open'
       AND epoch = $2
 RETURNING upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf,
           (SELECT device_serial FROM clips WHERE clips.clip_id = uploads.clip_id) AS device_serial
"""


async def seize_upload(
    connection: Connection, upload_id: UUID, epoch: int, holder: str | None
) -> Upload | None:
    """Take a lease away from the holder of this epoch; None when somebody else was faster.

    holder  who writes from now on; None leaves the upload idle
    """
    row = await connection.fetchrow(SEIZE_UPLOAD, upload_id, epoch, holder)
    return None if row is None else Upload(**row)


RELEASE_UPLOAD: Final = """
    UPDATE uploads
       SET leased_by = NULL,
           sweep_after = CASE WHEN $3 THEN now() + interval '5 minutes' ELSE sweep_after END
     WHERE upload_id = $1
       AND epoch = $2
"""


async def release_upload(
    connection: Connection, upload_id: UUID, epoch: int, *, has_leftovers: bool
) -> None:
    """Give a lease back; nothing happens when it was taken away before.

    has_leftovers  a write to the vault failed: its bytes may lie there all the same
    """
    await connection.execute(RELEASE_UPLOAD, upload_id, epoch, has_leftovers)


INTERRUPT_HOLDER: Final = "SELECT pg_notify($1, $2)"


async def interrupt_holder(connection: Connection, upload_id: UUID) -> None:
    """Ask whoever holds this upload, in whatever process, to stop reading."""
    await connection.execute(INTERRUPT_HOLDER, INTERRUPT_CHANNEL, str(upload_id))


# --- appending (tus) ----------------------------------------------------------------------

# Epoch and offset together are the fence: of two writers at one offset one matches a row, and a
# zombie matches none. The part or tail, the offset and the hash's mid-state move together. A row
# in the part's place is a native claim that lost the race for the upload's surface.
# A merged tail takes the place of the first one it merges, whichever sub-statement runs first.
ADVANCE_OFFSET: Final = """
    WITH advanced AS (
        UPDATE uploads
           SET offset_bytes = $4,
               hashed_bytes = $4,
               sha256_state = $5,
               surface = 'tus',
               expires_at = $6,
               sweep_after = CASE WHEN $19 THEN now() + interval '5 minutes'
                                  ELSE sweep_after END,
               leased_by = CASE WHEN $7 THEN NULL ELSE leased_by END,
               state = CASE WHEN length_bytes = $4 AND $20
                            THEN CASE kind WHEN 'partial' THEN 'finished' ELSE 'finishing' END
                            ELSE state END,
               finish_after = CASE WHEN length_bytes = $4 AND $20 THEN now()
                                   WHEN kind = 'final' THEN now() + interval '30 seconds' END
         WHERE upload_id = $1
           AND epoch = $2
           AND offset_bytes = $3
           AND state = 'open'
           AND surface IN ('undecided', 'tus')
     RETURNING upload_id, clip_id, state
    ), clip AS (
        UPDATE clips
           SET state = 'finishing'
          FROM advanced
         WHERE clips.clip_id = advanced.clip_id
           AND advanced.state = 'finishing'
           AND clips.state = 'receiving'
    ), part AS (
        INSERT INTO parts (
            upload_id, part_index, attempt, length_bytes, sha256, part_number, etag, object_key,
            object_version)
        SELECT upload_id, $8, 1, $9, NULL, $10, $11, $12, $13
          FROM advanced
         WHERE $8::integer IS NOT NULL
        ON CONFLICT ON CONSTRAINT parts_pkey DO UPDATE
           SET length_bytes = EXCLUDED.length_bytes,
               sha256 = EXCLUDED.sha256,
               part_number = EXCLUDED.part_number,
               etag = EXCLUDED.etag,
               object_key = EXCLUDED.object_key,
               object_version = EXCLUDED.object_version
    ), joined AS (
        DELETE FROM tails
         USING advanced
         WHERE tails.upload_id = advanced.upload_id
           AND tails.offset_bytes IS DISTINCT FROM $18
           AND ($8::integer IS NOT NULL OR $17::boolean)
    ), tail AS (
        INSERT INTO tails (upload_id, offset_bytes, length_bytes, object_key, object_version)
        SELECT upload_id, $18, $14, $15, $16
          FROM advanced
         WHERE $15::text IS NOT NULL
        ON CONFLICT ON CONSTRAINT tails_pkey DO UPDATE
           SET length_bytes = EXCLUDED.length_bytes,
               object_key = EXCLUDED.object_key,
               object_version = EXCLUDED.object_version
    )
    SELECT state FROM advanced
"""


async def advance_offset(
    connection: Connection,
    upload: Upload,
    *,
    offset_bytes: int,
    new_offset_bytes: int,
    sha256_state: bytes,
    expires_at: datetime,
    release: bool,
    part: Part | None = None,
    tail: Tail | None = None,
    replaces_tails: bool = False,
    has_leftovers: bool = False,
    may_finish: bool = True,
) -> str | None:
    """Record bytes that the vault holds and move the offset; None when fenced off.

    A part replaces the tails that were joined into it; so does a tail that merges them. With
    has_leftovers those are still in the vault, for the sweep if nobody deletes them before.
    Returns the upload's state: 'finishing' once the last byte is in (a partial: 'finished').

    may_finish  false leaves a full upload open: the client has not said that it is complete
    """
    state: str | None = await connection.fetchval(
        ADVANCE_OFFSET,
        upload.upload_id,
        upload.epoch,
        offset_bytes,
        new_offset_bytes,
        sha256_state,
        expires_at,
        release,
        None if part is None else part.part_index,
        None if part is None else part.length_bytes,
        None if part is None else part.part_number,
        None if part is None else part.etag,
        None if part is None else part.object_key,
        None if part is None else part.object_version,
        None if tail is None else tail.length_bytes,
        None if tail is None else tail.object_key,
        None if tail is None else tail.object_version,
        replaces_tails,
        None if tail is None else tail.offset_bytes,
        has_leftovers,
        may_finish,
    )
    return state


# A length is told once; whoever was overtaken tells it in vain.
SET_LENGTH: Final = """
    WITH told AS (
        UPDATE uploads
           SET length_bytes = $3
         WHERE upload_id = $1
           AND epoch = $2
           AND state = 'open'
           AND length_bytes IS NULL
     RETURNING upload_id, clip_id
    ), clip AS (
        UPDATE clips
           SET size_bytes = $3
          FROM told
         WHERE clips.clip_id = told.clip_id
    )
    SELECT upload_id FROM told
"""


async def set_length(
    connection: Connection, upload_id: UUID, epoch: int, length_bytes: int
) -> bool:
    """Record the length of an upload that had none; False when fenced off."""
    return await connection.fetchval(SET_LENGTH, upload_id, epoch, length_bytes) is not None


LIST_TAILS: Final = """
    SELECT offset_bytes, length_bytes, object_key, object_version
      FROM tails
     WHERE upload_id = $1
  ORDER BY offset_bytes
"""


async def list_tails(connection: Connection, upload_id: UUID) -> list[Tail]:
    """Return the upload's tail objects in order."""
    rows = await connection.fetch(LIST_TAILS, upload_id)
    return [Tail(**row) for row in rows]


# Two requests may open a multipart upload at once; the first recorded one is used by both, if
# both come by one surface. An upload that ended meanwhile takes none: its sweep is over.
SET_MULTIPART: Final = """
    UPDATE uploads
       SET multipart_key = COALESCE(multipart_key, $2),
           multipart_id = COALESCE(multipart_id, $3),
           surface = $4,
           sweep_after = CASE WHEN multipart_id IS NOT NULL OR $5
                              THEN now() + interval '5 minutes' ELSE sweep_after END
     WHERE upload_id = $1
       AND state = 'open'
       AND surface IN ('undecided', $4)
 RETURNING multipart_id
"""


async def set_multipart(
    connection: Connection,
    upload_id: UUID,
    key: str,
    multipart_id: str,
    surface: str,
    *,
    has_leftovers: bool = False,
) -> str | None:
    """Record the multipart upload; returns the one to use, which another may have recorded.

    has_leftovers  another one of this key may lie in the vault, which nobody knows

    None when the upload ended meanwhile or goes on by the other surface.
    """
    used: str | None = await connection.fetchval(
        SET_MULTIPART, upload_id, key, multipart_id, surface, has_leftovers
    )
    return used


# --- chunks (native) ----------------------------------------------------------------------

# A claim names the digest before a byte is streamed and numbers the attempt, so that two senders
# of one index never write to one part number. A stored chunk (etag) is never claimed again.
CLAIM_CHUNK: Final = """
    WITH upload AS (
        SELECT uploads.upload_id, uploads.clip_id, uploads.station_id, surface, uploads.state,
               length_bytes, part_bytes, offset_bytes, hashed_bytes, sha256_state, epoch,
               leased_by, multipart_key, multipart_id, tus_metadata, expires_at, kind,
               concat, partial_ids, is_ietf, clips.device_serial, clips.sha256_device,
               clips.event_count, clips.last_leaf_hash
          FROM clips
          JOIN uploads ON uploads.upload_id = clips.upload_id
         WHERE clips.clip_id = $1
           AND uploads.station_id = $2
           AND uploads.state = 'open'
           AND uploads.surface IN ('undecided', 'native')
           AND uploads.expires_at > now()
           AND $4 > 0
           AND uploads.length_bytes IS NOT NULL
           AND $4 = LEAST(part_bytes, length_bytes - $3::bigint * part_bytes)
    ), claim AS (
        INSERT INTO parts (upload_id, part_index, attempt, length_bytes, sha256)
        SELECT upload_id, $3::integer, 1, $4, $5
          FROM upload
        ON CONFLICT ON CONSTRAINT parts_pkey DO UPDATE
           SET attempt = parts.attempt + 1,
               sha256 = EXCLUDED.sha256
         WHERE parts.etag IS NULL
     RETURNING attempt
    )
    SELECT upload.upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes,
           offset_bytes, hashed_bytes, sha256_state, epoch, leased_by, multipart_key,
           multipart_id, tus_metadata, expires_at, kind, concat, partial_ids, is_ietf,
           device_serial, sha256_device, event_count, last_leaf_hash, claim.attempt
      FROM upload, claim
"""


async def claim_chunk(
    connection: Connection,
    clip_id: UUID,
    station_id: str,
    index: int,
    length_bytes: int,
    sha256: bytes,
) -> tuple[Sealable, int] | None:
    """Claim a chunk index for this digest: the upload and the number of this attempt, from 1.

    None when the chunk does not fit the plan, is stored already, or the upload is not this
    station's or not open: `find_clip_upload` and `find_stored_digest` tell which.
    """
    row = await connection.fetchrow(CLAIM_CHUNK, clip_id, station_id, index, length_bytes, sha256)
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    attempt: int = fields.pop("attempt")
    return _make_sealable(fields), attempt


# A sealed clip's part rows are folded into its manifest: the digests are found in either place.
FIND_STORED_DIGEST: Final = """
    SELECT sha256
      FROM parts
     WHERE upload_id = $1
       AND part_index = $2
       AND etag IS NOT NULL
     UNION ALL
    SELECT decode(manifest #>> ARRAY['parts', $2::text, 'sha256'], 'hex')
      FROM clips
     WHERE upload_id = $1
       AND manifest IS NOT NULL
     LIMIT 1
"""


async def find_stored_digest(
    connection: Connection, upload_id: UUID, part_index: int
) -> bytes | None:
    """Return the digest of a chunk that is durable; None when it is not."""
    digest: bytes | None = await connection.fetchval(FIND_STORED_DIGEST, upload_id, part_index)
    return digest


# The part's row goes first: a second recorder of the same index waits for its lock, then finds the
# etag set and counts nothing. Only one row lock is held while waiting for the upload's, so that
# recorders of one clip queue up and never block each other. The hash moves on only if this chunk
# is where it stood. A part may be marked in an upload that ends in this very moment: it is not
# counted, and an ended upload's parts are believed by nobody (`store_chunk._explain`).
RECORD_CHUNK: Final = """
    WITH part AS (
        UPDATE parts
           SET part_number = $4,
               etag = $5,
               object_key = $6,
               object_version = $7
         WHERE upload_id = $1
           AND part_index = $2
           AND sha256 = $3
           AND etag IS NULL
           AND EXISTS (
               SELECT FROM uploads
                WHERE uploads.upload_id = $1
                  AND state = 'open'
                  AND surface IN ('undecided', 'native'))
     RETURNING upload_id, part_index, length_bytes
    )
    UPDATE uploads
       SET offset_bytes = offset_bytes + part.length_bytes,
           surface = 'native',
           expires_at = $8,
           sweep_after = CASE WHEN $11 THEN now() + interval '5 minutes' ELSE sweep_after END,
           hashed_bytes = CASE WHEN $9::bytea IS NOT NULL AND hashed_bytes = $10
                               THEN hashed_bytes + part.length_bytes ELSE hashed_bytes END,
           sha256_state = CASE WHEN $9::bytea IS NOT NULL AND hashed_bytes = $10
                               THEN $9 ELSE sha256_state END
      FROM part
     WHERE uploads.upload_id = part.upload_id
       AND state = 'open'
       AND surface IN ('undecided', 'native')
 RETURNING offset_bytes
"""


async def record_chunk(
    connection: Connection,
    upload: Upload,
    part: Part,
    *,
    sha256_state: bytes | None,
    expires_at: datetime,
    has_leftovers: bool,
) -> int | None:
    """Count a chunk that the vault holds; None when it is not counted.

    sha256_state  mid-state of the whole-clip hash after this chunk, if it ran over it
    Returns the durable bytes of the upload so far.
    """
    received_bytes: int | None = await connection.fetchval(
        RECORD_CHUNK,
        upload.upload_id,
        part.part_index,
        part.sha256,
        part.part_number,
        part.etag,
        part.object_key,
        part.object_version,
        expires_at,
        sha256_state,
        part.part_index * upload.part_bytes,
        has_leftovers,
    )
    return received_bytes


LIST_STORED_INDICES: Final = """
    SELECT part_index
      FROM parts
     WHERE upload_id = $1
       AND etag IS NOT NULL
"""


async def list_stored_indices(connection: Connection, upload_id: UUID) -> set[int]:
    """Return the chunk indices that are durable."""
    rows = await connection.fetch(LIST_STORED_INDICES, upload_id)
    return {row["part_index"] for row in rows}


# --- finishing ----------------------------------------------------------------------------

# Every chunk was counted exactly once, so a full count means that none is missing. Who closes an
# upload has claimed its finishing by the same statement.
CLOSE_UPLOAD: Final = """
    WITH closed AS (
        UPDATE uploads
           SET state = 'finishing',
               finish_after = now() + make_interval(secs => $4 + uploads.length_bytes / 100e6),
               finish_attempts = finish_attempts + 1,
               surface = $3
          FROM clips
         WHERE clips.clip_id = $1
           AND uploads.upload_id = clips.upload_id
           AND uploads.station_id = $2
           AND uploads.state = 'open'
           AND uploads.offset_bytes = uploads.length_bytes
           AND uploads.surface IN ('undecided', $3)
     RETURNING uploads.upload_id, uploads.clip_id, uploads.station_id, uploads.surface,
               uploads.state, length_bytes, part_bytes, offset_bytes, hashed_bytes, sha256_state,
               epoch, leased_by, multipart_key, multipart_id, tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf
    ), clip AS (
        UPDATE clips
           SET state = 'finishing'
          FROM closed
         WHERE clips.clip_id = closed.clip_id
           AND clips.state = 'receiving'
    )
    SELECT upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf
      FROM closed
"""


async def close_upload(
    connection: Connection, clip_id: UUID, station_id: str, surface: str, *, claim_s: float
) -> Upload | None:
    """Let nothing more be written to a complete upload, and claim its finishing.

    None when the upload is not complete, not open, not this station's or of another surface.
    """
    row = await connection.fetchrow(CLOSE_UPLOAD, clip_id, station_id, surface, claim_s)
    return None if row is None else Upload(**row)


# Only what one statement can seal: all of the clip lies in its only part.
FIND_WHOLE: Final = """
    SELECT uploads.upload_id, uploads.clip_id, uploads.station_id, surface, uploads.state,
           uploads.length_bytes, part_bytes, offset_bytes, hashed_bytes, sha256_state, epoch,
           leased_by, multipart_key, multipart_id, tus_metadata, expires_at, kind, concat,
           partial_ids, is_ietf, clips.device_serial, clips.sha256_device, clips.event_count,
           clips.last_leaf_hash, parts.sha256, parts.etag, parts.object_key, parts.object_version
      FROM clips
      JOIN uploads ON uploads.upload_id = clips.upload_id
      JOIN parts ON parts.upload_id = uploads.upload_id
     WHERE clips.clip_id = $1
       AND clips.state = 'receiving'
       AND uploads.station_id = $2
       AND uploads.state = 'open'
       AND uploads.surface IN ('undecided', 'native')
       AND uploads.length_bytes <= uploads.part_bytes
       AND uploads.offset_bytes = uploads.length_bytes
       AND uploads.hashed_bytes = uploads.length_bytes
       AND parts.part_index = 0
       AND parts.object_key IS NOT NULL
       AND parts.etag IS NOT NULL
"""


async def find_whole(
    connection: Connection, clip_id: UUID, station_id: str
) -> tuple[Sealable, Part] | None:
    """Return a station's clip if it can be sealed by one statement, else None."""
    row = await connection.fetchrow(FIND_WHOLE, clip_id, station_id)
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    part = Part(
        0,
        0,
        fields["length_bytes"],
        fields.pop("sha256"),
        fields.pop("etag"),
        fields.pop("object_key"),
        fields.pop("object_version"),
    )
    return _make_sealable(fields), part


def _make_sealable(fields: dict[str, Any]) -> Sealable:
    """Take the clip's columns out of a row; the rest is the upload's."""
    return Sealable(
        chain=ChainHead(fields["clip_id"], fields.pop("event_count"), fields.pop("last_leaf_hash")),
        device_serial=fields.pop("device_serial"),
        sha256_device=fields.pop("sha256_device"),
        upload=Upload(**fields),
    )


# A driver before this one died or failed: what it stored may lie in the vault a second time.
CLAIM_FINISH: Final = """
    UPDATE uploads
       SET finish_after = now() + make_interval(secs => $2 + length_bytes / 100e6),
           finish_attempts = finish_attempts + 1,
           sweep_after = CASE WHEN finish_attempts > 0
                              THEN now() + interval '5 minutes' ELSE sweep_after END
     WHERE upload_id = $1
       AND state = 'finishing'
       AND finish_after <= now()
 RETURNING upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind,
           concat, partial_ids, is_ietf
"""


async def claim_finish(connection: Connection, upload_id: UUID, *, claim_s: float) -> Upload | None:
    """Claim the finishing of an upload for a while; None when there is nothing to do (now)."""
    row = await connection.fetchrow(CLAIM_FINISH, upload_id, claim_s)
    return None if row is None else Upload(**row)


POSTPONE_FINISH: Final = """
    UPDATE uploads
       SET finish_after = now() + make_interval(secs => $2)
     WHERE upload_id = $1
       AND state = 'finishing'
"""


async def postpone_finish(connection: Connection, upload_id: UUID, *, delay_s: float) -> None:
    """Let the finishing be claimed again after a delay."""
    await connection.execute(POSTPONE_FINISH, upload_id, delay_s)


LIST_DUE_FINISHES: Final = """
    SELECT upload_id
      FROM uploads
     WHERE state = 'finishing'
       AND finish_after <= now()
  ORDER BY finish_after
     LIMIT $1
"""


async def list_due_finishes(connection: Connection, *, limit: int) -> list[UUID]:
    """Return uploads whose finishing nobody drives."""
    return [row["upload_id"] for row in await connection.fetch(LIST_DUE_FINISHES, limit)]


LIST_PARTS: Final = """
    SELECT part_index, part_number, length_bytes, sha256, etag, object_key, object_version
      FROM parts
     WHERE upload_id = $1
       AND etag IS NOT NULL
  ORDER BY part_index
"""


async def list_parts(connection: Connection, upload_id: UUID) -> list[Part]:
    """Return the stored parts in order."""
    return [Part(**row) for row in await connection.fetch(LIST_PARTS, upload_id)]


# --- concatenation (tus) ------------------------------------------------------------------

INSERT_PARTIAL: Final = """
    INSERT INTO uploads (
        upload_id, station_id, surface, state, length_bytes, part_bytes, tus_metadata, opened_at,
        expires_at, kind, concat)
    VALUES ($1, $2, 'tus', CASE WHEN $3::bigint = 0 THEN 'finished' ELSE 'open' END, $3, $4, $5, $6,
            $7, 'partial', $8)
"""


async def insert_partial(connection: Connection, upload: Upload, opened_at: datetime) -> None:
    """Record a piece of clips to come; an empty one is complete at once."""
    await connection.execute(
        INSERT_PARTIAL,
        upload.upload_id,
        upload.station_id,
        upload.length_bytes,
        upload.part_bytes,
        upload.tus_metadata,
        opened_at,
        upload.expires_at,
        upload.concat,
    )


# Locked, so that none of them ends before the final that names it is recorded, and so that of two
# equal requests the second sees the first one's final.
LOCK_PARTIALS: Final = """
    SELECT upload_id, length_bytes
      FROM uploads
     WHERE upload_id = ANY($1)
       AND station_id = $2
       AND kind = 'partial'
       AND state = 'finished'
       AND expires_at > now()
  ORDER BY upload_id
       FOR NO KEY UPDATE
"""


async def lock_partials(
    connection: Connection, partial_ids: list[UUID], station_id: str
) -> dict[UUID, int]:
    """Return the lengths of those that are a station's complete partials; run inside `writing`."""
    rows = await connection.fetch(LOCK_PARTIALS, partial_ids, station_id)
    return {row["upload_id"]: row["length_bytes"] for row in rows}


FIND_FINAL: Final = """
    SELECT upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind, concat, partial_ids, is_ietf
      FROM uploads
     WHERE kind = 'final'
       AND partial_ids = $1
       AND station_id = $2
       AND tus_metadata IS NOT DISTINCT FROM $3
       AND state IN ('open', 'finishing', 'finished')
  ORDER BY upload_id
     LIMIT 1
"""


async def find_final(
    connection: Connection, partial_ids: list[UUID], station_id: str, metadata: str | None
) -> Upload | None:
    """Return the final that a request like this one opened before."""
    row = await connection.fetchrow(FIND_FINAL, partial_ids, station_id, metadata)
    return None if row is None else Upload(**row)


LIST_PARTS_OF: Final = """
    SELECT upload_id, part_index, part_number, length_bytes, sha256, etag, object_key,
           object_version
      FROM parts
     WHERE upload_id = ANY($1)
  ORDER BY upload_id, part_index
"""


async def list_parts_of(connection: Connection, upload_ids: list[UUID]) -> list[tuple[UUID, Part]]:
    """Return the stored parts of several partials, each one's in order."""
    rows = await connection.fetch(LIST_PARTS_OF, upload_ids)
    found: list[tuple[UUID, Part]] = []
    for row in rows:
        fields: dict[str, Any] = dict(row)
        found.append((fields.pop("upload_id"), Part(**fields)))
    return found


CLAIM_JOIN: Final = """
    UPDATE uploads
       SET finish_after = now() + interval '30 seconds',
           finish_attempts = finish_attempts + 1
     WHERE upload_id = $1
       AND kind = 'final'
       AND state = 'open'
       AND (finish_after IS NULL OR finish_after <= now())
 RETURNING upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
           hashed_bytes, sha256_state, epoch, leased_by, multipart_key, multipart_id,
           tus_metadata, expires_at, kind, concat, partial_ids, is_ietf
"""


async def claim_join(connection: Connection, upload_id: UUID) -> Upload | None:
    """Claim the joining of a final; None when another is at it, or it is done."""
    row = await connection.fetchrow(CLAIM_JOIN, upload_id)
    return None if row is None else Upload(**row)


POSTPONE_JOIN: Final = """
    UPDATE uploads
       SET finish_after = now() + make_interval(secs => $2)
     WHERE upload_id = $1
       AND kind = 'final'
       AND state = 'open'
"""


async def postpone_join(connection: Connection, upload_id: UUID, *, delay_s: float) -> None:
    """Let the joining be claimed again after a delay."""
    await connection.execute(POSTPONE_JOIN, upload_id, delay_s)


LIST_DUE_JOINS: Final = """
    SELECT upload_id
      FROM uploads
     WHERE kind = 'final'
       AND state = 'open'
       AND COALESCE(finish_after, opened_at + interval '30 seconds') <= now()
     LIMIT $1
"""


async def list_due_joins(connection: Connection, *, limit: int) -> list[UUID]:
    """Return finals whose joining nobody drives."""
    return [row["upload_id"] for row in await connection.fetch(LIST_DUE_JOINS, limit)]


LOCK_UPLOAD: Final = "SELECT upload_id FROM uploads WHERE upload_id = $1 FOR UPDATE"

# A partial that a final still draws from stays.
END_PARTIAL: Final = """
    UPDATE uploads
       SET state = $2, leased_by = NULL, epoch = epoch + 1,
           sweep_after = now() + interval '5 minutes'
     WHERE upload_id = $1
       AND kind = 'partial'
       AND state IN ('open', 'finished')
       AND ($2 <> 'expired' OR expires_at <= now())
       AND NOT EXISTS (
            SELECT
              FROM uploads AS final
             WHERE final.kind = 'final'
               AND final.state = 'open'
               AND $1 = ANY(final.partial_ids))
 RETURNING upload_id
"""


async def end_partial(connection: Connection, upload_id: UUID, state: str) -> bool:
    """Expire or terminate a partial; False when it ended, is not due or is being joined.

    Run inside `writing`: the lock makes the second statement see every final that names it.
    """
    await connection.execute(LOCK_UPLOAD, upload_id)
    return await connection.fetchval(END_PARTIAL, upload_id, state) is not None


# --- ending without a clip ----------------------------------------------------------------

LIST_EXPIRED: Final = """
    SELECT upload_id
      FROM uploads
     WHERE state = 'open'
       AND expires_at <= now()
     UNION ALL
    SELECT upload_id
      FROM uploads
     WHERE kind = 'partial'
       AND state = 'finished'
       AND expires_at <= now()
     LIMIT $1
"""


async def list_expired(connection: Connection, *, limit: int) -> list[UUID]:
    """Return open uploads that nobody continued in time, and partials that were kept enough."""
    return [row["upload_id"] for row in await connection.fetch(LIST_EXPIRED, limit)]


# Five minutes after the trouble the last stale writer is gone; a part it wrote later than that
# would lie in a multipart upload that does not exist any more. What is left of a failed upload
# stays where it is: its clip is quarantined.
CLAIM_SWEEPS: Final = """
    UPDATE uploads
       SET sweep_after = now() + interval '5 minutes'
     WHERE upload_id IN (
        SELECT upload_id
          FROM uploads
         WHERE sweep_after <= now()
           AND state NOT IN ('open', 'finishing', 'failed')
           AND NOT (kind = 'partial' AND state = 'finished')
      ORDER BY sweep_after
         LIMIT $1
           FOR UPDATE SKIP LOCKED)
 RETURNING upload_id
"""


async def claim_sweeps(connection: Connection, *, limit: int) -> list[UUID]:
    """Claim ended uploads that may have left things in the vault that nobody needs."""
    return [row["upload_id"] for row in await connection.fetch(CLAIM_SWEEPS, limit)]


SETTLE_SWEEP: Final = """
    WITH swept AS (
        UPDATE uploads
           SET sweep_after = NULL
         WHERE upload_id = $1
           AND state NOT IN ('open', 'finishing')
     RETURNING upload_id
    ), parts_gone AS (
        DELETE FROM parts USING swept WHERE parts.upload_id = swept.upload_id
    )
    DELETE FROM tails USING swept WHERE tails.upload_id = swept.upload_id
"""


async def settle_sweep(connection: Connection, upload_id: UUID) -> None:
    """Record that nothing of an ended upload is left over; its part rows go too."""
    await connection.execute(SETTLE_SWEEP, upload_id)
