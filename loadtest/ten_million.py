"""Fill a ledger with clips as a force has them after 500 days: `python -m loadtest.ten_million`.

22,000 cameras at 160 sites of 32 boroughs, the large ones many times the small; ten categories, of
which the rarest is one clip in 500; two thirds erased after 31 days, evidence kept; a few clips
quarantined, expired or on their way. No footage, no custody events: it is for lists and counts.

The ledger must be migrated and have no clips. Indexes are taken away first and made again at the
end, which is several times faster than feeding them row by row.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

BATCH: Final = 50_000
UPLOADS_MAX: Final = 500_000
WRITERS: Final = 2
_BAR: Final = 40

_PLACES: Final = """
    CREATE UNLOGGED TABLE made_places AS
    WITH sites AS (
        SELECT n AS site_no,
               -- A few boroughs have most sites.
               floor(32 * power((n - 0.5) / 160, 1.8))::integer AS borough_no
          FROM generate_series(1, 160) AS n)
    SELECT row_number() OVER () - 1 AS station_no,
           'dock-' || site_no || '-' || k AS station_id, 'site-' || site_no AS site_id,
           'Borough ' || lpad(borough_no::text, 2, '0') AS borough
      FROM sites, generate_series(1, 1 + site_no % 3) AS k;
    INSERT INTO stations (station_id, site_id, borough)
    SELECT station_id, site_id, borough FROM made_places;
    CREATE UNLOGGED TABLE made_devices AS
    SELECT n AS device_no, 'BWC-' || lpad(n::text, 5, '0') AS device_serial,
           made_places.station_id, made_places.site_id, made_places.borough
      FROM generate_series(0, 21999) AS n
      JOIN made_places ON station_no = (hashint4(n) & 2147483647)
                          % (SELECT count(*) FROM made_places);
    ALTER TABLE made_devices ADD PRIMARY KEY (device_no);
    ANALYZE made_devices;
"""

# $1, $2: numbers of the batch; $3: of all clips. The number is the age, newest last.
_CLIPS: Final = """
    WITH numbered AS (
        SELECT n, uuidv7(((n - $3::bigint)::float8 / $3::bigint * 500) * interval '1 day') AS id,
               floor(22000 * random())::integer AS device_no,
               random() AS a, random() AS b, random() AS c, random() AS d, random() AS e,
               random() AS f, random() AS g
          FROM generate_series($1::bigint, $2::bigint) AS n
    ), timed AS MATERIALIZED (
        SELECT numbered.*, made_devices.device_serial, made_devices.station_id,
               made_devices.site_id, made_devices.borough, uuid_extract_timestamp(id) AS at,
               CASE WHEN a < 0.3 THEN 'patrol' WHEN a < 0.5 THEN 'traffic_stop'
                    WHEN a < 0.66 THEN 'stop_and_search' WHEN a < 0.78 THEN 'domestic_abuse'
                    WHEN a < 0.87 THEN 'arrest' WHEN a < 0.92 THEN 'public_order'
                    WHEN a < 0.95 THEN 'use_of_force' WHEN a < 0.965 THEN 'training'
                    WHEN a < 0.972 THEN 'complaint' WHEN a < 0.974 THEN 'firearms' END AS category,
               CASE WHEN b < 0.5 THEN 'unclassified' WHEN b < 0.7 THEN 'non_evidential'
                    WHEN b < 0.92 THEN 'evidential' ELSE 'policing_purpose' END AS evidential,
               CASE WHEN c < 0.9 THEN -ln(1 - random()) * 5
                    WHEN c < 0.99 THEN random() * 96 WHEN c < 0.997 THEN random() * 1400
                    END * interval '1 hour' AS lag
          FROM numbered JOIN made_devices USING (device_no)
    ), judged AS (
        SELECT timed.*, COALESCE(at - lag, '2000-01-01'::timestamptz + n % 90 * interval '1 hour')
                   AS recorded,
               b < 0.7 AND d > 0.01 AS is_to_erase,
               CASE WHEN n > $3::bigint - 400 THEN 'receiving'
                    WHEN n > $3::bigint - 450 THEN 'sealed'
                    WHEN f < 0.0002 THEN 'quarantined' WHEN f < 0.0012 THEN 'expired'
                    WHEN b >= 0.7 OR d <= 0.01 OR at > now() - interval '31 days' THEN 'secured'
                    WHEN at > now() - interval '38 days' THEN 'erase_pending'
                    ELSE 'erased' END AS state
          FROM timed
    )
    INSERT INTO clips (
        clip_id, upload_id, device_serial, recording_id, segment_no, device_recording_seq,
        announcement, size_bytes, station_id, site_id, borough, started_at, ended_at,
        clock_offset_ms, flags, clock_state, started_at_corrected, announced_at, sealed_at,
        secured_at, officer_id, incident_id, crime_ref, category, evidential_state, title, sha256,
        sha256_readback, bucket, object_key, object_version, is_held, erase_due_at, event_count,
        exhibit_ref, tags, state, manifest)
    SELECT id, id, device_serial, 'rec-' || n, 0, n,
           jsonb_build_object('device_serial', device_serial, 'recording_id', 'rec-' || n,
                              'size_bytes', 458000000, 'category', category,
                              'started_at', recorded, 'firmware_version', '7.1.0'),
           (exp(19.3 + 1.1 * (e + g - 1) * 3))::bigint, station_id, site_id, borough,
           recorded, recorded + interval '12 minutes', 0, ARRAY['device_digest_missing'],
           CASE WHEN lag IS NULL THEN 'not_set' ELSE 'synced' END, recorded, at,
           CASE WHEN state NOT IN ('receiving', 'expired') THEN at + interval '5 minutes' END,
           CASE WHEN state IN ('secured', 'erase_pending', 'erased')
                THEN at + interval '6 minutes' END,
           CASE WHEN e < 0.95 THEN 'P' || (device_no + floor(3 * g)::integer * 9000) % 30000 END,
           CASE WHEN g < 0.4 THEN 'CAD-' || (n / 3 + floor(random() * 40)::bigint) END,
           CASE WHEN c < 0.08 THEN 'CR/' || (n / 4 + floor(random() * 200)::bigint) END,
           category, evidential, CASE WHEN e < 0.1 THEN 'Clip ' || n END,
           sha256(id::text::bytea), sha256(id::text::bytea), 'evidence', 'clips/' || id, 'v1',
           d < 0.01,
           CASE WHEN is_to_erase AND state IN ('secured', 'erase_pending', 'erased')
                THEN at + interval '31 days' END,
           4, CASE WHEN f > 0.98 THEN 'EX/' || n END,
           CASE WHEN g > 0.97 THEN ARRAY['tag-' || floor(40 * d * d)::integer] END,
           state, '{"parts": []}'
      FROM judged
  ORDER BY n
"""

_SEARCH: Final = """
    INSERT INTO clip_cells (borough, category, status)
    SELECT DISTINCT borough, COALESCE(category, ''), clip_status(state, evidential_state, is_held)
      FROM clips
     WHERE state NOT IN ('receiving', 'finishing', 'sealed');
    INSERT INTO clip_search (
        clip_id, announced_at, recorded_at, recorded_raw_at, erase_due_at, size_bytes, status,
        is_settled, borough, station_id, category, cell_id, device_serial, officer_id,
        incident_id, crime_ref, exhibit_ref, tags, media_flags)
    SELECT clip_id, announced_at, COALESCE(started_at_corrected, started_at), started_at,
           erase_due_at, size_bytes, clip_status(state, evidential_state, is_held), true,
           clips.borough, station_id, COALESCE(clips.category, ''), cell_id, device_serial,
           officer_id, incident_id, crime_ref, exhibit_ref, tags,
           -- As probes have found them: cameras whose power failed, and the odd text file.
           CASE abs(hashtext(clip_id::text)) % 10000 WHEN 0 THEN ARRAY['not_a_video']
                WHEN 1 THEN ARRAY['unplayable']
                ELSE CASE WHEN abs(hashtext(clip_id::text)) % 100 = 7
                          THEN ARRAY['truncated', 'duration_differs_from_announced'] END END
      FROM clips
      JOIN clip_cells
        ON clip_cells.borough = clips.borough
       AND clip_cells.category = COALESCE(clips.category, '')
       AND clip_cells.status = clip_status(state, evidential_state, is_held);
"""
# Of the newest; the older ones' are of no use to a list, and end as these do.
_UPLOADS: Final = """
    INSERT INTO uploads (
        upload_id, clip_id, station_id, state, length_bytes, part_bytes, opened_at, expires_at)
    SELECT upload_id, clip_id, station_id,
           CASE state WHEN 'receiving' THEN 'open' WHEN 'expired' THEN 'expired'
                      ELSE 'finished' END,
           size_bytes, 8388608, announced_at, announced_at + interval '7 days'
      FROM (SELECT upload_id, clip_id, station_id, state, size_bytes, announced_at
              FROM clips ORDER BY clip_id DESC LIMIT $1) AS newest
"""
_BESIDE: Final = """
    INSERT INTO clip_labels (
        label, clip_id, status, cell_id, borough, category, station_id, recorded_at,
        recorded_raw_at, erase_due_at)
    SELECT unnest(name_labels(tags, media_flags)), clip_id, status, cell_id, borough, category,
           station_id, recorded_at, recorded_raw_at, erase_due_at
      FROM clip_search
     WHERE tags IS NOT NULL OR media_flags IS NOT NULL;
    INSERT INTO clip_counts (day, borough, category, status, clip_count, total_bytes)
    SELECT (announced_at AT TIME ZONE 'UTC')::date, borough, category, status, count(*),
           sum(size_bytes)
      FROM clip_search
     WHERE is_settled
     GROUP BY 1, 2, 3, 4;
"""
_INDEXES: Final = """
    SELECT indexname, indexdef
      FROM pg_indexes
     WHERE schemaname = 'public'
       AND tablename IN ('clips', 'clip_search', 'clip_labels')
       AND indexname NOT LIKE '%_pkey'
"""


async def fill(dsn: str, clips: int) -> None:
    """Fill the ledger.

    Raises:
        SystemExit: it has clips already.
    """
    owner = await asyncpg.connect(dsn, command_timeout=None)
    if await owner.fetchval("SELECT EXISTS (SELECT FROM clips)"):
        sys.exit("this ledger has clips already: take an empty one")
    started = time.monotonic()
    await owner.execute(_PLACES)
    indexes = await owner.fetch(_INDEXES)
    await owner.execute("ALTER TABLE clips DISABLE TRIGGER USER")
    for index in indexes:
        await owner.execute(f'DROP INDEX "{index["indexname"]}"')
    await _insert(dsn, clips)
    _say("what lists are found by")
    await owner.execute(_SEARCH)
    await owner.execute(_BESIDE)
    await owner.execute(_UPLOADS, min(clips // 4, UPLOADS_MAX))
    await owner.execute("SET maintenance_work_mem = '1GB'")
    for number, index in enumerate(indexes, 1):
        _say(f"index {number} of {len(indexes)}: {index['indexname']}")
        await owner.execute(index["indexdef"])
    await owner.execute("ALTER TABLE clips ENABLE TRIGGER USER")
    await owner.execute("DROP TABLE made_devices; DROP TABLE made_places")
    _say("vacuum")
    for table in (
        "clips",
        "clip_search",
        "clip_cells",
        "clip_counts",
        "clip_labels",
        "stations",
        "uploads",
    ):
        await owner.execute(f"VACUUM (ANALYZE) {table}")
    size = await owner.fetchval("SELECT pg_size_pretty(pg_database_size(current_database()))")
    _say(f"{clips:,} clips in {time.monotonic() - started:,.0f} s; the database has {size}\n")
    await owner.close()


async def _insert(dsn: str, clips: int) -> None:
    starts = iter(range(1, clips + 1, BATCH))
    done = 0

    async def write() -> None:
        nonlocal done
        connection: Any = await asyncpg.connect(dsn, command_timeout=None)
        await connection.execute("SET synchronous_commit = off")
        for start in starts:
            stop = min(start + BATCH - 1, clips)
            await connection.execute(_CLIPS, start, stop, clips)
            done += stop - start + 1
            filled = _BAR * done // clips
            _say(f"[{'#' * filled}{'.' * (_BAR - filled)}] {done:,} of {clips:,} clips")
        await connection.close()

    await asyncio.gather(*(write() for _ in range(WRITERS)))


def _say(text: str) -> None:
    sys.stdout.write(f"\r\x1b[K{text}" if sys.stdout.isatty() else f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line and fill the ledger."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.ten_million", description=__doc__)
    parser.add_argument("--dsn", required=True, help="a migrated, empty ledger, as its owner")
    parser.add_argument("--clips", type=int, default=10_000_000)
    asked = parser.parse_args(arguments)
    asyncio.run(fill(asked.dsn, asked.clips))


if __name__ == "__main__":
    main()
