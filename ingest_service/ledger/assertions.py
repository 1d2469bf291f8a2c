"""Assertions in Postgres: inserted together with the clip's present values, never changed."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.assertion import Assertion
from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import CustodyEvent
from ingest_service.ledger.connection import Connection
from ingest_service.ledger.custody import make_links

LIST_ASSERTIONS: Final = """
    SELECT assertion_id, clip_id, clip_seq, field, value, before, salt, source, asserted_by_kind,
           asserted_by_id, asserted_at, corrects, request_id, batch_key, batch_item
      FROM assertions
     WHERE clip_id = $1
  ORDER BY clip_seq
"""


async def list_assertions(connection: Connection, clip_id: UUID) -> list[Assertion]:
    """Return what was asserted of a clip since its announcement, in order."""
    rows = await connection.fetch(LIST_ASSERTIONS, clip_id)
    return [Assertion(**row) for row in rows]


# What is believed now, who said so, and the custody events: one statement, or none of it when the
# clip's chain has grown since it was read.
RECORD_ASSERTIONS: Final = """
    WITH head AS (
        UPDATE clips
           SET officer_id = $3,
               category = $4,
               evidential_state = $5,
               incident_id = $6,
               crime_ref = $7,
               exhibit_ref = $8,
               title = $9,
               tags = $10,
               started_at_corrected = $11,
               flags = $12,
               event_count = event_count + cardinality($13::custody_link[]),
               last_leaf_hash = (($13::custody_link[])[cardinality($13::custody_link[])]).leaf_hash
         WHERE clip_id = $1
           AND event_count = $2
     RETURNING clip_id
    ), asserted AS (
        INSERT INTO assertions (
            assertion_id, clip_id, clip_seq, field, value, before, salt, source, asserted_by_kind,
            asserted_by_id, asserted_at, corrects, request_id, batch_key, batch_item)
        SELECT said.assertion_id, head.clip_id, said.clip_seq, said.field, said.value,
               said.before, decode(said.salt, 'hex'), $15, $16, $17, $18, said.corrects, $19, $20,
               $21
          FROM head, jsonb_to_recordset($14) AS said (
              assertion_id uuid, clip_seq integer, field text, value jsonb, before jsonb,
              salt text, corrects uuid)
    )
    INSERT INTO custody_events (
        event_id, clip_id, clip_seq, type, recorded_at, actor_kind, actor_id, device_serial,
        leaf, leaf_hash)
    SELECT link.*
      FROM head, unnest($13::custody_link[]) AS link
 RETURNING event_id
"""


async def record_assertions(
    connection: Connection,
    clip: Clip,
    assertions: Sequence[Assertion],
    events: Sequence[CustodyEvent],
) -> bool:
    """Record assertions of one statement; False: the clip changed since it was read.

    clip  as it is believed from now on; its `event_count` is that of the clip as it was read
    """
    first = assertions[0]
    rows = await connection.fetch(
        RECORD_ASSERTIONS,
        clip.clip_id,
        clip.event_count,
        clip.officer_id,
        clip.category,
        clip.evidential_state,
        clip.incident_id,
        clip.crime_ref,
        clip.exhibit_ref,
        clip.title,
        clip.tags,
        clip.started_at_corrected,
        clip.flags,
        make_links(events),
        [_write_row(each) for each in assertions],
        first.source,
        first.asserted_by_kind,
        first.asserted_by_id,
        first.asserted_at,
        first.request_id,
        first.batch_key,
        first.batch_item,
    )
    return bool(rows)


def _write_row(assertion: Assertion) -> dict[str, Any]:
    corrects = assertion.corrects
    return {
        "assertion_id": str(assertion.assertion_id),
        "clip_seq": assertion.clip_seq,
        "field": assertion.field,
        "value": assertion.value,
        "before": assertion.before,
        "salt": assertion.salt.hex(),
        "corrects": None if corrects is None else str(corrects),
    }


# The first to bring a key decides what it stands for.
OPEN_BATCH: Final = """
    INSERT INTO assertion_batches (asserted_by_id, batch_key, body_sha256, received_at)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (asserted_by_id, batch_key) DO NOTHING
"""

FIND_BATCH: Final = """
    SELECT body_sha256
      FROM assertion_batches
     WHERE asserted_by_id = $1
       AND batch_key = $2
"""


async def open_batch(
    connection: Connection,
    asserted_by_id: str,
    batch_key: str,
    body_sha256: bytes,
    received_at: datetime,
) -> bool:
    """Take a batch's key; False: it stands for another content already."""
    await connection.execute(OPEN_BATCH, asserted_by_id, batch_key, body_sha256, received_at)
    kept: bytes | None = await connection.fetchval(FIND_BATCH, asserted_by_id, batch_key)
    return kept == body_sha256


# By the time that is believed: corrected where an offset is known, else the device's own.
FIND_RECORDED: Final = """
    SELECT clip_id, borough
      FROM clips
     WHERE device_serial = $1
       AND COALESCE(started_at_corrected, started_at) < $3
       AND COALESCE(ended_at + (started_at_corrected - started_at), ended_at,
                    started_at_corrected, started_at) >= $2
       AND ($5::text[] IS NULL OR borough = ANY ($5))
  ORDER BY clip_id
     LIMIT $4
"""


async def find_recorded(
    connection: Connection,
    device_serial: str,
    *,
    start: datetime,
    stop: datetime,
    boroughs: list[str] | None,
    limit: int,
) -> list[UUID]:
    """Return the clips of a device that overlap an interval, at most `limit`."""
    rows = await connection.fetch(FIND_RECORDED, device_serial, start, stop, limit, boroughs)
    return [row["clip_id"] for row in rows]
