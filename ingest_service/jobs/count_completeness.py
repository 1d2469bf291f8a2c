"""Keep the counts of cameras up to date, and measure what is at risk."""

from ingest_service import telemetry
from ingest_service.actions.count_completeness import count_next, measure_risk
from ingest_service.ledger.completeness import CompletenessFilter, sum_completeness
from ingest_service.ledger.connection import reading
from ingest_service.resources import Resources


async def count_completeness(opened: Resources) -> int:
    """Count cameras again that the log names; returns how many events were read."""
    return await count_next(pool=opened.pool, tail=opened.feed, now=opened.now)


async def measure_at_risk(opened: Resources) -> int:
    """Measure evidence at risk; there is never more of it to do at once."""
    risk = await measure_risk(
        expires_after=opened.rules.expires_after, pool=opened.pool, now=opened.now
    )
    async with reading(opened.pool) as connection:
        totals = await sum_completeness(connection, CompletenessFilter())
    age_s = 0.0
    if risk.unsecured_since is not None:
        age_s = max(0.0, (opened.now() - risk.unsecured_since).total_seconds())
    telemetry.AT_RISK_BYTES.set(risk.unsecured_bytes)
    telemetry.AT_RISK_RECORDINGS.set(risk.unsecured_count)
    telemetry.AT_RISK_OLDEST_S.set(age_s)
    telemetry.STALLED_STATIONS.set(len(risk.stalled))
    telemetry.UNACCOUNTED.set(totals.unaccounted_count)
    return 0
