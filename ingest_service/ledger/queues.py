"""What waits in the ledger for a job, and for how long: for those who watch."""

from datetime import datetime
from typing import Final, NamedTuple

from ingest_service.ledger.connection import Connection


class Waiting(NamedTuple):
    """One queue.

    waiting    how many, counted up to 10,000
    oldest_s   for how many seconds the oldest is due; 0 when none is
    """

    queue: str
    waiting: int
    oldest_s: float


# Each is the beginning of an index, whatever the tables have grown to.
MEASURE_QUEUES: Final = """
    SELECT queue, waiting, GREATEST(0, EXTRACT(EPOCH FROM now() - oldest))::float8 AS oldest_s
      FROM (
        SELECT 'read_back' AS queue,
               (SELECT count(*) FROM (
                    SELECT FROM clips WHERE state = 'sealed' LIMIT 10000) AS each) AS waiting,
               (SELECT min(sealed_at) FROM clips WHERE state = 'sealed') AS oldest
         UNION ALL
        SELECT 'finish',
               (SELECT count(*) FROM (
                    SELECT FROM uploads WHERE state = 'finishing' LIMIT 10000) AS each),
               (SELECT min(finish_after) FROM uploads WHERE state = 'finishing')
         UNION ALL
        SELECT 'expire',
               (SELECT count(*) FROM (
                    SELECT FROM uploads
                     WHERE state = 'open' AND expires_at <= now() LIMIT 10000) AS each),
               (SELECT min(expires_at) FROM uploads WHERE state = 'open')
         UNION ALL
        SELECT 'sweep',
               (SELECT count(*) FROM (
                    SELECT FROM uploads
                     WHERE sweep_after <= now()
                       AND state NOT IN ('open', 'finishing', 'failed')
                       AND NOT (kind = 'partial' AND state = 'finished')
                     LIMIT 10000) AS each),
               (SELECT min(sweep_after) FROM uploads
                 WHERE sweep_after <= now()
                   AND state NOT IN ('open', 'finishing', 'failed')
                   AND NOT (kind = 'partial' AND state = 'finished'))
         UNION ALL
        SELECT 'erase',
               (SELECT count(*) FROM (
                    SELECT FROM erasures
                     WHERE phase <> 'executed' AND try_after <= now() LIMIT 10000) AS each),
               (SELECT min(try_after) FROM erasures WHERE phase <> 'executed')
         UNION ALL
        SELECT 'legal_holds',
               (SELECT count(*) FROM (
                    SELECT FROM legal_hold_syncs WHERE due_at <= now() LIMIT 10000) AS each),
               (SELECT min(due_at) FROM legal_hold_syncs)
         UNION ALL
        SELECT 'probe',
               (SELECT count(*) FROM (
                    SELECT FROM media_probes WHERE due_at <= now() LIMIT 10000) AS each),
               (SELECT min(due_at) FROM media_probes)
         UNION ALL
        SELECT 'log',
               (SELECT count(*) FROM (SELECT FROM log_queue LIMIT 10000) AS each),
               (SELECT custody_events.recorded_at
                  FROM (SELECT event_id FROM log_queue ORDER BY queue_id LIMIT 1) AS first
                  JOIN custody_events USING (event_id))
         UNION ALL
        SELECT 'publish',
               (SELECT count(*) FROM (
                    SELECT FROM log_checkpoints
                     WHERE published_at IS NULL LIMIT 10000) AS each),
               (SELECT min(signed_at) FROM log_checkpoints WHERE published_at IS NULL)
      ) AS queues
"""


async def measure_queues(connection: Connection) -> list[Waiting]:
    """Return every queue, also those in which nothing waits."""
    rows = await connection.fetch(MEASURE_QUEUES)
    return [Waiting(row["queue"], row["waiting"], row["oldest_s"] or 0.0) for row in rows]


# The newest that a quorum has cosigned is near the end, unless witnesses are away.
MEASURE_QUORUM: Final = """
    WITH cosigned AS (
        SELECT tree_size
          FROM log_cosignatures
         WHERE witness = ANY ($1::text[])
      GROUP BY tree_size
        HAVING count(*) >= $2
      ORDER BY tree_size DESC
         LIMIT 1
    )
    SELECT GREATEST(0, EXTRACT(EPOCH FROM now() - published_at))::float8
      FROM log_checkpoints
     WHERE published_at IS NOT NULL
       AND tree_size > COALESCE((SELECT tree_size FROM cosigned), -1)
  ORDER BY tree_size
     LIMIT 1
"""


async def measure_quorum(connection: Connection, witnesses: list[str], quorum: int) -> float:
    """Return for how many seconds the log lacks its witnesses' quorum; 0 when it has it."""
    lag_s: float | None = await connection.fetchval(MEASURE_QUORUM, witnesses, quorum)
    return lag_s or 0.0


# A server that has archived nothing yet is as late as it is old.
MEASURE_ARCHIVE: Final = """
    SELECT CASE
           WHEN current_setting('archive_mode') = 'off' THEN 0
           ELSE EXTRACT(EPOCH FROM
                    now() - COALESCE(last_archived_time, pg_postmaster_start_time()))
           END::float8
      FROM pg_stat_archiver
"""


async def measure_archive(connection: Connection) -> float:
    """Return how old the newest archived WAL segment is, in seconds; 0 where none is archived."""
    age_s: float = await connection.fetchval(MEASURE_ARCHIVE)
    return age_s


ASK_CLOCK: Final = "SELECT clock_timestamp()"


async def ask_clock(connection: Connection) -> datetime:
    """Return the time by the clock of Postgres, now."""
    moment: datetime = await connection.fetchval(ASK_CLOCK)
    return moment
