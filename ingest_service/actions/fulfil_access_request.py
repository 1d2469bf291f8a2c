"""Fulfil a subject access request: say with what, and let go of what was held for it."""

from typing import Final
from uuid import UUID

from ingest_service.actions.find_access_requests import check_visible, lock_visible_request
from ingest_service.actions.find_disclosures import is_visible
from ingest_service.actions.release_hold import release_locked
from ingest_service.domain.access_request import AccessRequest, Outcome, find_deadline
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, make_device_events
from ingest_service.domain.disclosure import Disclosure, DisclosureRules
from ingest_service.domain.holds import Hold
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import RetentionRules
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    AccessRequestConflict,
    DisclosureNotFound,
)
from ingest_service.ledger import access_requests, custody, disclosures, holds
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.ledger.lifecycle import lock_clips

_RECIPIENT: Final = "data_subject"


async def fulfil_access_request(
    access_request_id: UUID,
    principal: Principal,
    *,
    outcome: Outcome,
    disclosure_id: UUID | None,
    pool: Pool,
    now: Clock,
    disclosing: DisclosureRules,
    rules: RetentionRules,
    locks_objects: bool,
    request_id: str | None = None,
) -> AccessRequest:
    """Record the answer to a request and return it; late or not, it is fulfilled once.

    disclosure_id  by which the subject gets the clips; with the outcome 'disclosed', else None

    Its holds end, unless policy keeps them, or this principal placed them and holds of the kind are
    released by another person: those stand, and that person releases them. What was disclosed is
    held by the disclosure.

    Raises:
        AccessRequestNotFound, DisclosureNotFound: there is none for this principal.
        AccessRequestConflict: it was fulfilled before; or the disclosure is not the subject's, or
            has ended. Nothing was recorded.
    """
    async with writing(pool) as connection:
        found = await lock_visible_request(connection, access_request_id, principal)
        moment = now()
        if found.fulfilled_at is not None:
            reason = "it is fulfilled"
            raise AccessRequestConflict(reason)
        if disclosure_id is not None:
            shared = await disclosures.lock_disclosure(connection, disclosure_id, is_shared=True)
            if shared is None:
                raise DisclosureNotFound(str(disclosure_id))
            if not is_visible(shared, principal):
                raise DisclosureNotFound(str(disclosure_id)).hiding(ANOTHER_BOROUGH)
            if shared.recipient_kind != _RECIPIENT or shared.state_at(moment) != "open":
                reason = _name_flaw(shared)
                raise AccessRequestConflict(reason)
        await access_requests.fulfil_request(
            connection,
            access_request_id,
            outcome=outcome,
            disclosure_id=disclosure_id,
            by=principal.id,
            at=moment,
        )
        linked = await access_requests.list_requested(connection, access_request_id)
        locked = await lock_clips(connection, [each.clip_id for each in linked])
        released = 0
        for clip, each in zip(locked, linked, strict=True):
            hold = await _find_releasable(
                connection, each.hold_id, principal, rules, keeps=disclosing.keeps_holds
            )
            if hold is None:
                continue
            await release_locked(
                connection,
                clip,
                hold,
                Actor.of(principal),
                authority=f"{hold.authority}/fulfilled",
                moment=moment,
                rules=rules,
                locks_objects=locks_objects,
                request_id=request_id,
            )
            released += 1
        fulfilled = Happening(
            "sar.fulfilled",
            Actor.of(principal),
            {
                **found.describe(),
                "outcome": outcome,
                "disclosure_id": None if disclosure_id is None else str(disclosure_id),
                "is_in_time": moment < find_deadline(found.due_on),
                "clip_count": len(linked),
                "holds_released": released,
            },
            request_id=request_id,
        )
        events = make_device_events(None, [fulfilled], now=moment)
        await custody.insert_device_events(connection, events)
        return check_visible(
            await access_requests.find_request(connection, access_request_id),
            access_request_id,
            principal,
        )


async def _find_releasable(
    connection: Connection,
    hold_id: UUID,
    principal: Principal,
    rules: RetentionRules,
    *,
    keeps: bool,
) -> Hold | None:
    """Return a hold that stands, and that this principal may end by fulfilling the request."""
    hold = await holds.find_hold(connection, hold_id)
    if hold is None or hold.released_at is not None or keeps:
        return None
    if hold.kind in rules.by_another and hold.placed_by == principal.id:
        return None
    return hold


def _name_flaw(disclosure: Disclosure) -> str:
    if disclosure.recipient_kind != _RECIPIENT:
        return f"the disclosure is for {disclosure.recipient_kind} and not for a data subject"
    return "the disclosure has ended"
