"""Find disclosures, and what was done with their links."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.domain.disclosure import Disclosure
from ingest_service.domain.principal import Principal
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    DisclosureNotFound,
)
from ingest_service.ledger import disclosures
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.disclosures import Acceptance, Access, DisclosedClip

ACCESSES_SHOWN: Final = 500
_ACCEPTANCES_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class DisclosureRecord:
    """A disclosure with all that happened to it; accesses: the newest ones, newest first."""

    disclosure: Disclosure
    clips: Sequence[DisclosedClip]
    acceptances: Sequence[Acceptance]
    accesses: Sequence[Access]
    access_counts: Mapping[str, int]


async def list_disclosures(
    principal: Principal,
    *,
    before: UUID | None,
    clip_id: UUID | None,
    limit: int,
    pool: Pool,
) -> list[Disclosure]:
    """Return disclosures of which every clip may be seen by this principal, newest first."""
    limits = None if principal.boroughs is None else sorted(principal.boroughs)
    async with reading(pool) as connection:
        return await disclosures.list_disclosures(
            connection, before=before, boroughs=limits, clip_id=clip_id, limit=limit
        )


async def get_visible_disclosure(
    disclosure_id: UUID, principal: Principal, *, pool: Pool
) -> DisclosureRecord:
    """Return a disclosure that exists for this principal, with its record.

    Raises:
        DisclosureNotFound: it does not exist, or one of its clips is in another borough.
    """
    async with reading(pool) as connection:
        found = await disclosures.find_disclosure(connection, disclosure_id)
        if found is None:
            raise DisclosureNotFound(str(disclosure_id))
        if not is_visible(found, principal):
            raise DisclosureNotFound(str(disclosure_id)).hiding(ANOTHER_BOROUGH)
        return DisclosureRecord(
            found,
            await disclosures.list_disclosed(connection, disclosure_id),
            await disclosures.list_acceptances(connection, disclosure_id, limit=_ACCEPTANCES_SHOWN),
            await disclosures.list_accesses(connection, disclosure_id, limit=ACCESSES_SHOWN),
            await disclosures.count_accesses(connection, disclosure_id),
        )


def is_visible(disclosure: Disclosure, principal: Principal) -> bool:
    """Tell whether a disclosure exists for this principal."""
    return all(principal.may_see_borough(borough) for borough in disclosure.boroughs)
