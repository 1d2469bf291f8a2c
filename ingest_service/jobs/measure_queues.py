"""Measure what waits for the jobs, and how far the custody log is behind."""

from typing import Final

from ingest_service import telemetry
from ingest_service.ledger import log, queues
from ingest_service.ledger.connection import reading
from ingest_service.resources import Resources

# An event waits for its place, and then for the checkpoint that covers it.
_LOG_QUEUES: Final = frozenset({"log", "publish"})


async def measure_queues(opened: Resources) -> int:
    """Measure every queue; there is never more of it to do at once."""
    witnesses = opened.witnesses
    quorum_lag_s = 0.0
    async with reading(opened.pool) as connection:
        found = await queues.measure_queues(connection)
        size = await log.get_size(connection)
        halt = await log.find_halt(connection)
        if witnesses.policy.quorum:
            quorum_lag_s = await queues.measure_quorum(
                connection, witnesses.names, witnesses.policy.quorum
            )
        archive_age_s = await queues.measure_archive(connection)
    for each in found:
        telemetry.QUEUE_WAITING.labels(each.queue).set(each.waiting)
        telemetry.QUEUE_OLDEST_S.labels(each.queue).set(each.oldest_s)
    telemetry.LOG_LAG_S.set(max(each.oldest_s for each in found if each.queue in _LOG_QUEUES))
    telemetry.LOG_SIZE.set(size)
    telemetry.LOG_QUORUM_LAG_S.set(quorum_lag_s)
    # The one that met the fork may not be the one that leads later: all follow the ledger.
    telemetry.LOG_FORKED.set(halt is not None)
    telemetry.LEDGER_ARCHIVE_AGE_S.set(archive_age_s)
    return 0
