"""Revoke a disclosure: from the moment this returns its link opens nothing."""

from uuid import UUID

from ingest_service.actions.find_disclosures import is_visible
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.disclosure import Disclosure
from ingest_service.domain.principal import Principal
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    DisclosureEnded,
    DisclosureNotFound,
)
from ingest_service.ledger import disclosures
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.ledger.lifecycle import advance_alike, lock_clips


async def revoke_disclosure(
    disclosure_id: UUID,
    principal: Principal,
    *,
    authority: str,
    pool: Pool,
    now: Clock,
    request_id: str | None = None,
) -> Disclosure:
    """End a disclosure before its time; an answer that is under way goes on to its end.

    Its holds stand until the date that was set when they were placed: revoking is no way round
    the second person whom the release of a hold needs.

    Raises:
        DisclosureNotFound: none of that id is visible to this principal.
        DisclosureEnded: it was revoked before, or its time is over.
    """
    async with writing(pool) as connection:
        found = await disclosures.lock_disclosure(connection, disclosure_id)
        if found is None:
            raise DisclosureNotFound(str(disclosure_id))
        if not is_visible(found, principal):
            raise DisclosureNotFound(str(disclosure_id)).hiding(ANOTHER_BOROUGH)
        moment = now()
        if (state := found.state_at(moment)) != "open":
            raise DisclosureEnded(disclosure_id, state)
        revoked = Happening(
            "disclosure.revoked",
            Actor.of(principal),
            {**found.describe(), "authority": authority},
            purpose=found.purpose,
            request_id=request_id,
        )
        disclosed = await disclosures.list_disclosed(connection, disclosure_id)
        clips = await lock_clips(connection, [each.clip_id for each in disclosed])
        await advance_alike(connection, clips, revoked, moment)
        await disclosures.revoke_disclosure(
            connection, disclosure_id, at=moment, by=principal.id, authority=authority
        )
        return await _get(connection, disclosure_id)


async def _get(connection: Connection, disclosure_id: UUID) -> Disclosure:
    found = await disclosures.find_disclosure(connection, disclosure_id)
    if found is None:
        raise DisclosureNotFound(str(disclosure_id))
    return found
