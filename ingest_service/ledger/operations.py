"""What operators look at: queues, uploads, the log's lag, and samples of the last hour.

Every statement reads an index range whose length has a bound that clips do not move: so many
entries of a queue, one row per five seconds, one per camera or station.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Final

from ingest_service.ledger.connection import Connection

# An upload that was opened, or got bytes, so long ago at most is active.
ACTIVE_S: Final = 60
# So far is a queue counted, and so many open uploads: what is more is 'more'.
COUNTED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class Queue:
    """Work that waits for `ingest work`.

    waiting_count  counted up to COUNTED_MAX
    waiting_since  of what has waited longest; None: nothing waits, or nobody knows since when
    """

    name: str
    waiting_count: int
    waiting_since: datetime | None

    @property
    def is_more(self) -> bool:
        """Whether even more wait than were counted."""
        return self.waiting_count >= COUNTED_MAX


# Each half of the union walks the partial index of its queue, which holds what waits and nothing
# else. Of the first in a queue one more row is looked up for the time. 'fixity' is what is late.
MEASURE_QUEUES: Final = """
    SELECT 'finishing' AS name, count(*) AS waiting_count, NULL::timestamptz AS waiting_since
      FROM (SELECT FROM uploads WHERE state = 'finishing' ORDER BY finish_after LIMIT $1) AS queue
     UNION ALL
    SELECT 'read_back', count(*), min(sealed_at)
      FROM (SELECT sealed_at FROM clips WHERE state = 'sealed'
          ORDER BY sealed_at LIMIT $1) AS queue
     UNION ALL
    SELECT 'sequencing', count(*),
           (SELECT recorded_at FROM custody_events
             WHERE event_id = (SELECT event_id FROM log_queue ORDER BY queue_id LIMIT 1))
      FROM (SELECT FROM log_queue ORDER BY queue_id LIMIT $1) AS queue
     UNION ALL
    SELECT 'publishing', count(*), min(signed_at)
      FROM (SELECT signed_at FROM log_checkpoints WHERE published_at IS NULL
          ORDER BY tree_size LIMIT $1) AS queue
     UNION ALL
    SELECT 'manifests', count(*),
           (SELECT COALESCE(secured_at, sealed_at) FROM clips
             WHERE clip_id = (SELECT clip_id FROM clips
                               WHERE manifest_sha256 IS NULL
                                 AND state IN ('secured', 'quarantined', 'erase_pending')
                            ORDER BY clip_id LIMIT 1))
      FROM (SELECT FROM clips
             WHERE manifest_sha256 IS NULL
               AND state IN ('secured', 'quarantined', 'erase_pending')
          ORDER BY clip_id LIMIT $1) AS queue
     UNION ALL
    SELECT 'fixity', count(*), min(read_at) + make_interval(secs => $2)
      FROM (SELECT COALESCE(last_fixity_at, secured_at) AS read_at
              FROM clips
             WHERE state IN ('secured', 'erase_pending')
               AND COALESCE(last_fixity_at, secured_at) < now() - make_interval(secs => $2)
          ORDER BY COALESCE(last_fixity_at, secured_at) LIMIT $1) AS queue
"""


async def measure_queues(connection: Connection, *, fixity_interval_s: float) -> list[Queue]:
    """Return the queues in the order in which a clip meets them."""
    rows = await connection.fetch(MEASURE_QUEUES, COUNTED_MAX, fixity_interval_s)
    return [Queue(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class BoroughUploads:
    """Active uploads of a borough; left_bytes: what they have still to bring, where it is known."""

    borough: str
    active_count: int
    left_bytes: int


# Each step of an upload renews its expiry: the newest end of that index is what moves.
LIST_ACTIVE: Final = """
    SELECT stations.borough, count(*) AS active_count,
           COALESCE(sum(active.left_bytes), 0)::bigint AS left_bytes
      FROM (SELECT station_id, length_bytes - offset_bytes AS left_bytes
              FROM uploads
             WHERE state = 'open'
               AND expires_at > now() + make_interval(secs => $1)
          ORDER BY expires_at DESC
             LIMIT $2) AS active
      JOIN stations USING (station_id)
  GROUP BY stations.borough
  ORDER BY active_count DESC, stations.borough
"""


async def list_active(connection: Connection, *, expires_after_s: float) -> list[BoroughUploads]:
    """Return active uploads by borough, most first."""
    rows = await connection.fetch(LIST_ACTIVE, expires_after_s - ACTIVE_S, COUNTED_MAX)
    return [BoroughUploads(**row) for row in rows]


COUNT_OPEN: Final = """
    SELECT count(*)
      FROM (SELECT FROM uploads WHERE state = 'open' ORDER BY expires_at LIMIT $1) AS found
"""


async def count_open(connection: Connection) -> int:
    """Return how many uploads are open, the abandoned ones too; counted up to COUNTED_MAX."""
    count: int = await connection.fetchval(COUNT_OPEN, COUNTED_MAX)
    return count


@dataclass(frozen=True, slots=True)
class LogState:
    """The custody log: its size, why nothing is sequenced, its newest published checkpoint."""

    tree_size: int
    halted_reason: str | None
    checkpoint_size: int | None
    signed_at: datetime | None
    published_at: datetime | None


FIND_LOG_STATE: Final = """
    SELECT log_state.tree_size, halted_reason, newest.tree_size AS checkpoint_size,
           newest.signed_at, newest.published_at
      FROM log_state
 LEFT JOIN LATERAL (
           SELECT tree_size, signed_at, published_at
             FROM log_checkpoints
            WHERE published_at IS NOT NULL
         ORDER BY log_checkpoints.tree_size DESC
            LIMIT 1) AS newest ON true
"""


async def find_log_state(connection: Connection) -> LogState:
    """Return how the custody log stands."""
    row = await connection.fetchrow(FIND_LOG_STATE)
    return LogState(**row) if row is not None else LogState(0, None, None, None, None)


# --- samples ------------------------------------------------------------------------------

SAMPLE_S: Final = 5
KEPT: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a process, or all of them, did in some time.

    received_count     clips whose bytes are complete and stored
    secured_count      clips that were read back with the right hash
    shed_count         requests refused because too much was in work
    failed_count       requests that were answered with 5xx for another reason
    """

    received_bytes: int = 0
    received_count: int = 0
    secured_bytes: int = 0
    secured_count: int = 0
    quarantined_count: int = 0
    shed_count: int = 0
    failed_count: int = 0

    def minus(self, other: "Traffic") -> "Traffic":
        """Return what was done since."""
        names = (field.name for field in fields(self))
        return Traffic(**{name: getattr(self, name) - getattr(other, name) for name in names})


# Whoever adds does it shortly after a sample's time is over, and so into the one before the present
# one; by the server's clock alone.
ADD_TRAFFIC: Final = """
    INSERT INTO traffic_samples AS kept (
        sampled_at, received_bytes, received_count, secured_bytes, secured_count,
        quarantined_count, shed_count, failed_count)
    VALUES (date_bin('5 seconds', now() - interval '5 seconds', timestamptz 'epoch'),
            $1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT ON CONSTRAINT traffic_samples_pkey DO UPDATE
       SET received_bytes = kept.received_bytes + EXCLUDED.received_bytes,
           received_count = kept.received_count + EXCLUDED.received_count,
           secured_bytes = kept.secured_bytes + EXCLUDED.secured_bytes,
           secured_count = kept.secured_count + EXCLUDED.secured_count,
           quarantined_count = kept.quarantined_count + EXCLUDED.quarantined_count,
           shed_count = kept.shed_count + EXCLUDED.shed_count,
           failed_count = kept.failed_count + EXCLUDED.failed_count
 RETURNING EXTRACT(EPOCH FROM
                   now() - date_bin('5 seconds', now(), timestamptz 'epoch'))::float8
"""


async def add_traffic(connection: Connection, traffic: Traffic) -> float:
    """Add to the sample before the present one; return how many seconds the present one is old."""
    age_s: float = await connection.fetchval(
        ADD_TRAFFIC,
        traffic.received_bytes,
        traffic.received_count,
        traffic.secured_bytes,
        traffic.secured_count,
        traffic.quarantined_count,
        traffic.shed_count,
        traffic.failed_count,
    )
    return age_s


@dataclass(frozen=True, slots=True)
class StationTraffic:
    """Requests of a station over some time; receiving_s: how long those with a body took."""

    station_id: str
    request_count: int
    failed_count: int
    received_bytes: int
    receiving_s: float


# In one order whoever writes, so that two writers wait for each other and never in a circle.
ADD_STATIONS: Final = """
    INSERT INTO station_traffic AS kept (
        minute, station_id, request_count, failed_count, received_bytes, receiving_s)
    SELECT date_trunc('minute', now()), station_id, request_count, failed_count, received_bytes,
           receiving_s
      FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[])
           AS each (station_id, request_count, failed_count, received_bytes, receiving_s)
  ORDER BY station_id
    ON CONFLICT ON CONSTRAINT station_traffic_pkey DO UPDATE
       SET request_count = kept.request_count + EXCLUDED.request_count,
           failed_count = kept.failed_count + EXCLUDED.failed_count,
           received_bytes = kept.received_bytes + EXCLUDED.received_bytes,
           receiving_s = kept.receiving_s + EXCLUDED.receiving_s
"""


async def add_stations(connection: Connection, stations: Sequence[StationTraffic]) -> None:
    """Add to the present minute of each station."""
    await connection.execute(
        ADD_STATIONS,
        [each.station_id for each in stations],
        [each.request_count for each in stations],
        [each.failed_count for each in stations],
        [each.received_bytes for each in stations],
        [each.receiving_s for each in stations],
    )


# The last two seconds are still being written: processes add shortly after a sample's end.
SUM_RECENT: Final = """
    SELECT COALESCE(sum(received_bytes), 0)::bigint AS received_bytes,
           COALESCE(sum(received_count), 0)::bigint AS received_count,
           COALESCE(sum(secured_bytes), 0)::bigint AS secured_bytes,
           COALESCE(sum(secured_count), 0)::bigint AS secured_count,
           COALESCE(sum(quarantined_count), 0)::bigint AS quarantined_count,
           COALESCE(sum(shed_count), 0)::bigint AS shed_count,
           COALESCE(sum(failed_count), 0)::bigint AS failed_count
      FROM traffic_samples,
           date_bin('5 seconds', now() - interval '2 seconds', timestamptz 'epoch') AS until
     WHERE sampled_at >= until - make_interval(secs => $1)
       AND sampled_at < until
"""


async def sum_recent(connection: Connection, *, over_s: int) -> Traffic:
    """Return what all processes did in the last so many seconds, a multiple of SAMPLE_S."""
    row = await connection.fetchrow(SUM_RECENT, over_s)
    return Traffic(**row) if row is not None else Traffic()


@dataclass(frozen=True, slots=True)
class Point:
    """One step of the history; gauges are None where no worker took a sample."""

    at: datetime
    received_bytes: int
    received_count: int
    secured_count: int
    shed_count: int
    failed_count: int
    active_count: int | None
    unsecured_bytes: int | None
    finishing_count: int | None
    read_back_count: int | None
    sequencing_count: int | None
    manifest_count: int | None
    log_lag_s: float | None


# Of gauges the worst of a step is shown: a peak is what one looks for.
LIST_POINTS: Final = """
    WITH span AS (
        SELECT date_bin(make_interval(secs => $1), now() - interval '2 seconds',
                        timestamptz 'epoch') AS until,
               make_interval(secs => $1) AS step
    ), flow AS (
        SELECT date_bin(span.step, sampled_at, timestamptz 'epoch') AS at,
               sum(received_bytes)::bigint AS received_bytes,
               sum(received_count)::bigint AS received_count,
               sum(secured_count)::bigint AS secured_count,
               sum(shed_count)::bigint AS shed_count,
               sum(failed_count)::bigint AS failed_count
          FROM span, traffic_samples
         WHERE sampled_at >= span.until - $2 * span.step
           AND sampled_at < span.until
      GROUP BY 1
    ), gauge AS (
        SELECT date_bin(span.step, sampled_at, timestamptz 'epoch') AS at,
               max(active_count) AS active_count, max(unsecured_bytes) AS unsecured_bytes,
               max(finishing_count) AS finishing_count, max(read_back_count) AS read_back_count,
               max(sequencing_count) AS sequencing_count, max(manifest_count) AS manifest_count,
               max(log_lag_s) AS log_lag_s
          FROM span, backlog_samples
         WHERE sampled_at >= span.until - $2 * span.step
           AND sampled_at < span.until
      GROUP BY 1
    )
    SELECT at, COALESCE(received_bytes, 0) AS received_bytes,
           COALESCE(received_count, 0) AS received_count,
           COALESCE(secured_count, 0) AS secured_count,
           COALESCE(shed_count, 0) AS shed_count,
           COALESCE(failed_count, 0) AS failed_count,
           active_count, unsecured_bytes, finishing_count, read_back_count, sequencing_count,
           manifest_count, log_lag_s
      FROM span
      JOIN generate_series(span.until - $2 * span.step, span.until - span.step, span.step) AS at
           ON true
 LEFT JOIN flow USING (at)
 LEFT JOIN gauge USING (at)
  ORDER BY at
"""


async def list_points(connection: Connection, *, step_s: int, count: int) -> list[Point]:
    """Return so many steps of the history, oldest first, the last one whole."""
    rows = await connection.fetch(LIST_POINTS, step_s, count)
    return [Point(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class StationWork(StationTraffic):
    """What came of a station's requests lately, and where it stands."""

    site_id: str
    borough: str


LIST_STATION_WORK: Final = """
    SELECT station_id, sum(request_count)::bigint AS request_count,
           sum(failed_count)::bigint AS failed_count,
           sum(received_bytes)::bigint AS received_bytes,
           sum(receiving_s) AS receiving_s, min(site_id) AS site_id, min(borough) AS borough
      FROM station_traffic
      JOIN stations USING (station_id)
     WHERE minute > now() - make_interval(secs => $1)
  GROUP BY station_id
  ORDER BY station_id
"""


async def list_station_work(connection: Connection, *, over_s: float) -> list[StationWork]:
    """Return the stations that asked for something in the last so many seconds."""
    rows = await connection.fetch(LIST_STATION_WORK, over_s)
    return [StationWork(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, at one moment."""

    active_count: int
    unsecured_bytes: int
    stalled_count: int
    finishing_count: int
    read_back_count: int
    sequencing_count: int
    manifest_count: int
    log_lag_s: float


HAS_BACKLOG: Final = """
    SELECT EXISTS (
           SELECT FROM backlog_samples
            WHERE sampled_at > now() - make_interval(secs => $1))
"""


async def has_backlog(connection: Connection, *, since_s: float) -> bool:
    """Tell whether a worker took a sample in the last so many seconds."""
    return bool(await connection.fetchval(HAS_BACKLOG, since_s))


INSERT_BACKLOG: Final = """
    INSERT INTO backlog_samples (
        sampled_at, active_count, unsecured_bytes, stalled_count, finishing_count,
        read_back_count, sequencing_count, manifest_count, log_lag_s)
    VALUES (now(), $1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT ON CONSTRAINT backlog_samples_pkey DO NOTHING
"""


async def insert_backlog(connection: Connection, backlog: Backlog) -> None:
    """Keep a sample of what waits."""
    await connection.execute(
        INSERT_BACKLOG,
        backlog.active_count,
        backlog.unsecured_bytes,
        backlog.stalled_count,
        backlog.finishing_count,
        backlog.read_back_count,
        backlog.sequencing_count,
        backlog.manifest_count,
        backlog.log_lag_s,
    )


FORGET_TRAFFIC: Final = "DELETE FROM traffic_samples WHERE sampled_at < now() - $1::interval"
FORGET_BACKLOG: Final = "DELETE FROM backlog_samples WHERE sampled_at < now() - $1::interval"
FORGET_STATIONS: Final = "DELETE FROM station_traffic WHERE minute < now() - $1::interval"


async def forget_samples(connection: Connection) -> None:
    """Delete samples that nobody is shown any more."""
    await connection.execute(FORGET_TRAFFIC, KEPT)
    await connection.execute(FORGET_BACKLOG, KEPT)
    await connection.execute(FORGET_STATIONS, KEPT)
