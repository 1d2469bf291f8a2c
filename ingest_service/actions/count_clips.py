"""Count clips for those who may see them."""

from dataclasses import replace

from ingest_service.domain.principal import Principal
from ingest_service.errors import InvalidRequest
from ingest_service.ledger import counts
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.counts import Counted, CountFilter

GROUPS_MAX = 10_000


async def count_clips(
    asked: CountFilter, principal: Principal, *, by: frozenset[str], pool: Pool
) -> list[Counted]:
    """Return clips and bytes by the named groups, within the principal's boroughs.

    Raises:
        InvalidRequest: more groups than an answer holds.
    """
    boroughs = asked.boroughs
    if principal.boroughs is not None:
        boroughs = sorted(principal.boroughs.intersection(boroughs or principal.boroughs))
    async with reading(pool) as connection:
        found = await counts.count_clips(
            connection, replace(asked, boroughs=boroughs), by=by, limit=GROUPS_MAX + 1
        )
    if len(found) > GROUPS_MAX:
        reason = f"more than {GROUPS_MAX} groups: ask for fewer days, or by fewer members"
        raise InvalidRequest(reason)
    return found
