"""Write a whole ledger again, from what the bucket holds; only into an empty one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.assertion import Assertion
from ingest_service.domain.custody import CustodyEvent
from ingest_service.domain.merkle import TileId
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links

UNKNOWN: Final = "unknown"

LOCK_LEDGER: Final = "LOCK TABLE clips IN EXCLUSIVE MODE"
IS_EMPTY: Final = """
    SELECT NOT EXISTS (SELECT FROM clips)
       AND NOT EXISTS (SELECT FROM custody_events)
       AND NOT EXISTS (SELECT FROM log_leaves)
       AND (SELECT tree_size FROM log_state FOR UPDATE) = 0
"""


async def lock_empty(connection: Connection) -> bool:
    """Keep everybody else from clips and log until the transaction ends; False: there are some."""
    await connection.execute(LOCK_LEDGER)
    return bool(await connection.fetchval(IS_EMPTY))


# A station of which no manifest tells site and borough is put right by `set_station_place`.
INSERT_STATION: Final = """
    INSERT INTO stations (station_id, site_id, borough)
    VALUES ($1, 'unknown', 'unknown')
    ON CONFLICT DO NOTHING
"""
INSERT_PLACEHOLDER: Final = """
    INSERT INTO clips (
        clip_id, upload_id, device_serial, recording_id, segment_no, announcement, size_bytes,
        sha256_device, station_id, site_id, borough, clock_offset_ms, duplicate_of, flags,
        clock_state, announced_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'unknown', 'unknown', $10, $11, $12, $13, $14)
"""


async def insert_placeholders(
    connection: Connection, members: Sequence[tuple[UUID, dict[str, Any]]]
) -> None:
    """Insert clips with what their first event says, so that events can refer to them."""
    stations = {each["station_id"] for _, each in members}
    await connection.executemany(INSERT_STATION, [(station_id,) for station_id in sorted(stations)])
    await connection.executemany(
        INSERT_PLACEHOLDER,
        [
            (
                clip_id,
                each["upload_id"],
                each["device_serial"],
                each["recording_id"],
                each["segment_no"],
                _announce(each),
                each["size_bytes"],
                each["sha256_device"],
                each["station_id"],
                each["clock_offset_ms"],
                each["duplicate_of"],
                [*each["flags"], "rebuilt_without_manifest"],
                each["clock_state"],
                each["announced_at"],
            )
            for clip_id, each in members
        ],
    )


def _announce(members: dict[str, Any]) -> dict[str, Any]:
    names = ("device_serial", "recording_id", "segment_no", "size_bytes")
    return {name: members[name] for name in names}


_EVENT_COLUMNS: Final = (
    "event_id",
    "clip_id",
    "clip_seq",
    "type",
    "recorded_at",
    "actor_kind",
    "actor_id",
    "device_serial",
    "leaf",
    "leaf_hash",
)


async def copy_events(connection: Connection, events: Sequence[CustodyEvent]) -> None:
    """Insert events as they were; they wait for a place until `place_leaves`."""
    await connection.copy_records_to_table(
        "custody_events", records=make_links(events), columns=_EVENT_COLUMNS
    )


async def place_leaves(connection: Connection, start: int, events: Sequence[CustodyEvent]) -> None:
    """Give events their places in the log, from `start` on."""
    await connection.copy_records_to_table(
        "log_leaves",
        records=[(start + number, event.event_id) for number, event in enumerate(events)],
        columns=("leaf_index", "event_id"),
    )


async def copy_tiles(connection: Connection, tiles: dict[TileId, bytes]) -> None:
    """Insert tiles of the log."""
    await connection.copy_records_to_table(
        "log_tiles",
        records=[(tile.level, tile.index, hashes) for tile, hashes in tiles.items()],
        columns=("level", "tile_index", "hashes"),
    )


@dataclass(frozen=True, slots=True)
class RestoredCheckpoint:
    """A checkpoint as found; published_at is None of one that is to be published yet."""

    tree_size: int
    note: str
    signed_at: datetime
    published_at: datetime | None


async def copy_checkpoints(
    connection: Connection, checkpoints: Sequence[RestoredCheckpoint]
) -> None:
    """Insert checkpoints."""
    await connection.copy_records_to_table(
        "log_checkpoints",
        records=[(c.tree_size, c.note, c.signed_at, c.published_at) for c in checkpoints],
        columns=("tree_size", "note", "signed_at", "published_at"),
    )


CLEAR_PLACED: Final = """
    DELETE FROM log_queue
     WHERE event_id IN (SELECT event_id FROM log_leaves)
"""
SET_LOG: Final = "UPDATE log_state SET tree_size = $1, halted_reason = NULL"


async def close_log(connection: Connection, tree_size: int) -> None:
    """Set the log's size; what has its place waits no longer."""
    await connection.execute(CLEAR_PLACED)
    await connection.execute(SET_LOG, tree_size)


SET_STATION_PLACE: Final = """
    INSERT INTO stations (station_id, site_id, borough)
    VALUES ($1, $2, $3)
    ON CONFLICT (station_id) DO UPDATE SET site_id = EXCLUDED.site_id, borough = EXCLUDED.borough
"""


async def set_station_places(
    connection: Connection, places: Sequence[tuple[str, str, str]]
) -> None:
    """Record (station_id, site_id, borough) as a manifest has them; the last one stands."""
    await connection.executemany(SET_STATION_PLACE, places)


SET_CLIP_PLACES: Final = """
    UPDATE clips
       SET site_id = stations.site_id, borough = stations.borough
      FROM stations
     WHERE stations.station_id = clips.station_id
       AND clips.borough = 'unknown'
       AND stations.borough <> 'unknown'
"""


async def set_clip_places(connection: Connection) -> None:
    """Give clips without a manifest the site and borough of their station."""
    await connection.execute(SET_CLIP_PLACES)


# Insert or update: a clip whose events were never published has no placeholder.
RESTORE_CLIP: Final = """
    INSERT INTO clips (
        clip_id, state, upload_id, device_serial, recording_id, segment_no, device_recording_seq,
        announcement, size_bytes, sha256_device, station_id, site_id, borough, started_at,
        ended_at, clock_offset_ms, clock_uncertainty_ms, duplicate_of, flags, clock_state,
        started_at_corrected, announced_at, sealed_at, secured_at, released_at, officer_id,
        incident_id, crime_ref, category, evidential_state, title, sha256, sha256_readback,
        quarantine_reason, bucket, object_key, object_version, manifest, event_count,
        last_leaf_hash, manifest_sha256, last_fixity_at, last_fixity_result, is_held,
        erase_due_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19,
            $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36,
            $37, $38, $39, $40, $41, $42, $43, $44, $45)
    ON CONFLICT (clip_id) DO UPDATE SET
        state = EXCLUDED.state,
        upload_id = EXCLUDED.upload_id,
        device_recording_seq = EXCLUDED.device_recording_seq,
        announcement = EXCLUDED.announcement,
        size_bytes = EXCLUDED.size_bytes,
        sha256_device = EXCLUDED.sha256_device,
        station_id = EXCLUDED.station_id,
        site_id = EXCLUDED.site_id,
        borough = EXCLUDED.borough,
        started_at = EXCLUDED.started_at,
        ended_at = EXCLUDED.ended_at,
        clock_offset_ms = EXCLUDED.clock_offset_ms,
        clock_uncertainty_ms = EXCLUDED.clock_uncertainty_ms,
        flags = EXCLUDED.flags,
        clock_state = EXCLUDED.clock_state,
        started_at_corrected = EXCLUDED.started_at_corrected,
        sealed_at = EXCLUDED.sealed_at,
        secured_at = EXCLUDED.secured_at,
        released_at = EXCLUDED.released_at,
        officer_id = EXCLUDED.officer_id,
        incident_id = EXCLUDED.incident_id,
        crime_ref = EXCLUDED.crime_ref,
        category = EXCLUDED.category,
        evidential_state = EXCLUDED.evidential_state,
        title = EXCLUDED.title,
        sha256 = EXCLUDED.sha256,
        sha256_readback = EXCLUDED.sha256_readback,
        quarantine_reason = EXCLUDED.quarantine_reason,
        bucket = EXCLUDED.bucket,
        object_key = EXCLUDED.object_key,
        object_version = EXCLUDED.object_version,
        manifest = EXCLUDED.manifest,
        event_count = EXCLUDED.event_count,
        last_leaf_hash = EXCLUDED.last_leaf_hash,
        manifest_sha256 = EXCLUDED.manifest_sha256,
        last_fixity_at = EXCLUDED.last_fixity_at,
        last_fixity_result = EXCLUDED.last_fixity_result,
        is_held = EXCLUDED.is_held,
        erase_due_at = EXCLUDED.erase_due_at
"""
_RESTORED: Final = (
    *("clip_id", "state", "upload_id", "device_serial", "recording_id", "segment_no"),
    *("device_recording_seq", "announcement", "size_bytes", "sha256_device", "station_id"),
    *("site_id", "borough", "started_at", "ended_at", "clock_offset_ms", "clock_uncertainty_ms"),
    *("duplicate_of", "flags", "clock_state", "started_at_corrected", "announced_at"),
    *("sealed_at", "secured_at", "released_at", "officer_id", "incident_id", "crime_ref"),
    *("category", "evidential_state", "title", "sha256", "sha256_readback"),
    *("quarantine_reason", "bucket", "object_key", "object_version", "manifest", "event_count"),
    *("last_leaf_hash", "manifest_sha256", "last_fixity_at", "last_fixity_result"),
    *("is_held", "erase_due_at"),
)
# An upload of its own for each: receipts, and cameras that come back, ask for it.
RESTORE_UPLOAD: Final = """
    INSERT INTO uploads (
        upload_id, clip_id, station_id, surface, state, length_bytes, part_bytes, offset_bytes,
        opened_at, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
"""
_PART_BYTES: Final = 8 * 1024 * 1024


async def restore_clips(connection: Connection, members: Sequence[dict[str, Any]]) -> None:
    """Write clips as they were, each with its ended upload; members as in `Clip`."""
    await connection.executemany(
        RESTORE_CLIP, [tuple(each[name] for name in _RESTORED) for each in members]
    )
    await connection.executemany(RESTORE_UPLOAD, [_describe_upload(each) for each in members])


def _describe_upload(members: dict[str, Any]) -> tuple[object, ...]:
    parts = members["manifest"] or {}
    is_finished = members["object_key"] is not None
    surface = parts.get("surface", "undecided")
    return (
        members["upload_id"],
        members["clip_id"],
        members["station_id"],
        surface,
        "finished" if is_finished else "expired",
        members["size_bytes"],
        parts.get("part_bytes", _PART_BYTES),
        members["size_bytes"] if is_finished else 0,
        members["announced_at"],
    )


RESTORE_HOLD: Final = """
    INSERT INTO holds (
        hold_id, clip_id, kind, authority, reason, placed_by, placed_at, review_at, group_id,
        released_at, released_by, released_authority)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
RESTORE_ERASURE: Final = """
    INSERT INTO erasures (
        clip_id, phase, due_at, scheduled_at, erase_after, try_after, intended_at, executed_at)
    VALUES ($1, $2, $3, $4, $5, $5, $6, $7)
"""
# Enough to go on from: it is computed again before anything is done.
RESTORE_RETENTION: Final = """
    INSERT INTO retention (
        clip_id, policy, basis, basis_at, reason, erase_due_at, due_at, is_unclassified,
        size_bytes, computed_at, restored_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now(), $10)
"""


RESTORE_ASSERTION: Final = """
    INSERT INTO assertions (
        assertion_id, clip_id, clip_seq, field, value, before, salt, source, asserted_by_kind,
        asserted_by_id, asserted_at, corrects, request_id)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""


async def restore_assertions(connection: Connection, assertions: Sequence[Assertion]) -> None:
    """Write assertions as the chains of their clips tell them."""
    await connection.executemany(
        RESTORE_ASSERTION,
        [
            (
                each.assertion_id,
                each.clip_id,
                each.clip_seq,
                each.field,
                each.value,
                each.before,
                each.salt,
                each.source,
                each.asserted_by_kind,
                each.asserted_by_id,
                each.asserted_at,
                each.corrects,
                each.request_id,
            )
            for each in assertions
        ],
    )


async def restore_lives(connection: Connection, members: Sequence[dict[str, Any]]) -> None:
    """Write holds, dates and erasures as the chains of these clips tell them."""
    await connection.executemany(
        RESTORE_HOLD,
        [
            _describe_hold(each["clip_id"], hold)
            for each in members
            for hold in each.get("holds", {}).values()
        ],
    )
    await connection.executemany(
        RESTORE_ERASURE,
        [
            (
                each["clip_id"],
                *(
                    each["erasure"].get(name)
                    for name in (
                        *("phase", "due_at", "scheduled_at", "erase_after"),
                        *("intended_at", "executed_at"),
                    )
                ),
            )
            for each in members
            if each.get("erasure")
        ],
    )
    await connection.executemany(
        RESTORE_RETENTION,
        [_describe_retention(each) for each in members if each.get("retention")],
    )


def _describe_hold(clip_id: UUID, hold: dict[str, Any]) -> tuple[object, ...]:
    review_at, group_id = hold.get("review_at"), hold.get("group_id")
    return (
        UUID(hold["hold_id"]),
        clip_id,
        hold["kind"],
        hold["authority"],
        # The log has its hash only.
        f"lost with the ledger; SHA-256 after the hold's id: {hold.get('reason_sha256')}",
        hold["placed_by"],
        hold["placed_at"],
        None if review_at is None else datetime.fromisoformat(review_at),
        None if group_id is None else UUID(group_id),
        hold["released_at"],
        hold.get("released_by"),
        hold.get("released_authority"),
    )


def _describe_retention(members: dict[str, Any]) -> tuple[object, ...]:
    facts = members["retention"]
    is_waiting = members["state"] == "secured" and not members["is_held"]
    return (
        members["clip_id"],
        facts["policy"],
        facts["basis"],
        datetime.fromisoformat(facts["basis_at"]),
        facts["reason"],
        members["erase_due_at"],
        members["erase_due_at"] if is_waiting else None,
        facts["evidential_state"] == "unclassified",
        members["size_bytes"] or 0,
        members.get("restored_at"),
    )
