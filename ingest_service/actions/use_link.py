"""Use a disclosure's link: looked up by its hash, and every use recorded before anything leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Happening, make_device_events
from ingest_service.domain.disclosure import AccessKind, Allowed, Disclosure, hash_link_token
from ingest_service.domain.retention import LivingClip
from ingest_service.errors import (
    ClipNotFound,
    ContentGone,
    DisclosureForbids,
    LinkEnded,
    LinkUnknown,
    TermsNotAccepted,
)
from ingest_service.ledger import clips, custody, disclosures
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.disclosures import Acceptance, Access
from ingest_service.ledger.lifecycle import advance_alike, list_living, lock_clips

_GONE_PHASES: Final = frozenset({"intended", "executed"})


@dataclass(frozen=True, slots=True)
class Use:
    """What somebody does with a link.

    source  the address that it came from; it stays in the ledger, out of the log
    """

    what: AccessKind
    source: str | None = None
    request_id: str | None = None
    start: int | None = None
    stop: int | None = None


async def find_link(token: str, *, pool: Pool, now: Clock) -> Disclosure:
    """Return the disclosure that a link opens.

    Raises:
        LinkUnknown: there is none; every token costs one look-up by its hash.
        LinkEnded: it was revoked, or its time is over.
    """
    async with reading(pool) as connection:
        found = await disclosures.find_link(connection, hash_link_token(token))
    if found is None:
        raise LinkUnknown
    _check_open(found, now)
    return found


async def list_linked(disclosure: Disclosure, *, pool: Pool) -> list[LivingClip]:
    """Return the clips of a disclosure as they are, in order of id."""
    async with reading(pool) as connection:
        listed = await disclosures.list_disclosed(connection, disclosure.disclosure_id)
        return await list_living(connection, [each.clip_id for each in listed])


async def find_acceptance(disclosure: Disclosure, *, pool: Pool) -> Acceptance | None:
    """Return who was the first to accept the terms."""
    async with reading(pool) as connection:
        found = await disclosures.list_acceptances(connection, disclosure.disclosure_id, limit=1)
    return found[0] if found else None


async def check_use(
    disclosure: Disclosure, allowed: Allowed, clip_id: UUID | None, *, pool: Pool
) -> list[Clip]:
    """Return the clips that are asked for: one, or all of them (None).

    Raises:
        TermsNotAccepted: nobody has accepted the terms yet.
        DisclosureForbids: that is not part of this disclosure.
        ClipNotFound: that clip is not.
    """
    if allowed not in disclosure.allows:
        raise DisclosureForbids(allowed)
    async with reading(pool) as connection:
        await _check_accepted(connection, disclosure)
        listed = await disclosures.list_disclosed(connection, disclosure.disclosure_id)
        wanted = [each.clip_id for each in listed if clip_id in (None, each.clip_id)]
        if not wanted:
            raise ClipNotFound(str(clip_id))
        found = [await clips.find_clip(connection, each) for each in wanted]
    return [clip for clip in found if clip is not None]


async def record_use(
    disclosure: Disclosure,
    use: Use,
    clip_ids: Sequence[UUID] = (),
    *,
    pool: Pool,
    now: Clock,
    accepted_by: str | None = None,
) -> None:
    """Record a use of the link, in the chain of every clip that is given out by it.

    Who revokes the disclosure meanwhile waits for this, or comes first: after a revocation nothing
    is recorded, and so nothing leaves. A use that gives out no clip is an event of no clip.

    Raises:
        LinkEnded, TermsNotAccepted, ContentGone: nothing was recorded, and nothing may leave.
    """
    async with writing(pool) as connection:
        found = await disclosures.lock_disclosure(
            connection, disclosure.disclosure_id, is_shared=True
        )
        if found is None:
            raise LinkUnknown
        _check_open(found, now)
        moment = now()
        happening = _describe(found, use)
        if clip_ids:
            await _check_accepted(connection, found)
            locked = await lock_clips(connection, sorted(clip_ids))
            for clip in locked:
                if clip.phase in _GONE_PHASES or clip.object_key is None:
                    raise ContentGone(clip.clip_id, clip.state)
            await advance_alike(connection, locked, happening, moment)
        else:
            events = make_device_events(None, [happening], now=moment)
            await custody.insert_device_events(connection, events)
        if accepted_by is not None:
            accepted = Acceptance(moment, accepted_by, use.source)
            await disclosures.insert_acceptance(connection, found.disclosure_id, accepted)
        access = Access(
            use.what,
            moment,
            clip_ids[0] if use.what == "clip" else None,
            use.start,
            use.stop,
            source=use.source,
            request_id=use.request_id,
        )
        await disclosures.insert_access(connection, found.disclosure_id, access)


def _describe(disclosure: Disclosure, use: Use) -> Happening:
    facts = {**disclosure.describe(), "what": use.what}
    if use.start is not None:
        facts |= {"start": use.start, "stop": use.stop}
    return Happening(
        "disclosure.accessed",
        disclosure.actor,
        facts,
        purpose=disclosure.purpose,
        request_id=use.request_id,
    )


def _check_open(disclosure: Disclosure, now: Clock) -> None:
    if (state := disclosure.state_at(now())) != "open":
        raise LinkEnded(state)


async def _check_accepted(connection: Connection, disclosure: Disclosure) -> None:
    if not await disclosures.list_acceptances(connection, disclosure.disclosure_id, limit=1):
        raise TermsNotAccepted
