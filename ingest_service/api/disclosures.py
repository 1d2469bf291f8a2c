"""Disclosures, from the side of those who make them."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from ingest_service import errors, telemetry
from ingest_service.actions.disclose_clips import DisclosureOrder, disclose_clips
from ingest_service.actions.find_disclosures import get_visible_disclosure, list_disclosures
from ingest_service.actions.revoke_disclosure import revoke_disclosure
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.domain.clock import Clock
from ingest_service.domain.disclosure import Disclosure, Recipient
from ingest_service.domain.principal import DISCLOSURES_WRITE, Principal
from ingest_service.ledger.queries import ClipFilter
from schemas import disclosure as bodies

router = APIRouter(prefix="/v1", tags=["disclosures"], route_class=JsonRoute)

PAGE_MAX: Final = 200
Discloser = Annotated[Principal, Depends(Granted(DISCLOSURES_WRITE))]


@router.post(
    "/disclosures",
    status_code=201,
    summary="Disclose clips",
    responses=documented(
        *WITH_TOKEN,
        *WITH_JSON,
        errors.ClipsNotDisclosable,
        errors.DisclosureTooWide,
        errors.ClipBusy,
        errors.StoredBytesLost,
        errors.VaultUnavailable,
    ),
)
async def post_disclosure(
    order: bodies.DisclosureOrder, opened: Opened, principal: Discloser
) -> bodies.DisclosureMade:
    """Give clips out by a link: all of them, or none.

    Every clip is held until `expires_at`. The link is in this answer and nowhere else; if the
    answer is lost, revoke the disclosure and make another.
    """
    case = order.filter
    clips = order.clip_ids or ClipFilter(
        crime_ref=None if case is None else case.crime_ref,
        incident=None if case is None else case.incident,
    )
    made, token = await disclose_clips(
        DisclosureOrder(
            Recipient(**order.recipient.model_dump()),
            clips,
            order.purpose,
            order.legal_basis,
            expires_at=order.expires_at,
            allows=order.allows,
            terms=order.terms,
        ),
        principal,
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        rules=opened.disclosing,
        locks_objects=opened.locks_objects,
        request_id=telemetry.request_id(),
    )
    record = await get_visible_disclosure(made.disclosure_id, principal, pool=opened.pool)
    return bodies.DisclosureMade(
        **show_disclosure(made, opened.now),
        link=f"{opened.base_url}/d/{token}",
        clip_ids=[each.clip_id for each in record.clips],
    )


@router.get(
    "/disclosures",
    summary="List disclosures",
    responses=documented(*WITH_TOKEN, errors.InvalidRequest),
)
async def get_disclosures(
    opened: Opened,
    principal: Discloser,
    before: Annotated[UUID | None, Query(description="`next_before` of the last page.")] = None,
    clip_id: Annotated[UUID | None, Query(description="Only those of this clip.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> bodies.DisclosurePage:
    """List disclosures, newest first; of those with clips of other boroughs none is shown."""
    found = await list_disclosures(
        principal, before=before, clip_id=clip_id, limit=limit + 1, pool=opened.pool
    )
    page = found[:limit]
    return bodies.DisclosurePage(
        disclosures=[bodies.Disclosure(**show_disclosure(each, opened.now)) for each in page],
        next_before=page[-1].disclosure_id if len(found) > limit else None,
    )


@router.get(
    "/disclosures/{disclosure_id}",
    summary="One disclosure",
    responses=documented(*WITH_TOKEN, errors.DisclosureNotFound),
)
async def get_disclosure(
    disclosure_id: UUID, opened: Opened, principal: Discloser
) -> bodies.DisclosureDetail:
    """Answer with a disclosure, who has accepted its terms, and every use of its link."""
    record = await get_visible_disclosure(disclosure_id, principal, pool=opened.pool)
    counts = record.access_counts
    return bodies.DisclosureDetail(
        **show_disclosure(record.disclosure, opened.now),
        clips=[
            bodies.DisclosedClip(clip_id=each.clip_id, hold_id=each.hold_id)
            for each in record.clips
        ],
        acceptances=[
            bodies.Acceptance(accepted_at=each.accepted_at, name=each.name, source=each.source)
            for each in record.acceptances
        ],
        download_count=counts.get("pack", 0) + counts.get("clip", 0),
        page_count=counts.get("page", 0),
        accesses=[
            bodies.Access(
                what=each.what,
                accessed_at=each.accessed_at,
                clip_id=each.clip_id,
                start_byte=each.start_byte,
                stop_byte=each.stop_byte,
                source=each.source,
                request_id=each.request_id,
            )
            for each in record.accesses
        ],
    )


@router.post(
    "/disclosures/{disclosure_id}/revoke",
    summary="Revoke a disclosure",
    responses=documented(
        *WITH_TOKEN, *WITH_JSON, errors.DisclosureNotFound, errors.DisclosureEnded
    ),
)
async def post_revoke(
    disclosure_id: UUID, order: bodies.RevokeOrder, opened: Opened, principal: Discloser
) -> bodies.Disclosure:
    """End a disclosure before its time: once this has answered, its link opens nothing.

    Its holds stand until `expires_at`, or until somebody releases them.
    """
    revoked = await revoke_disclosure(
        disclosure_id,
        principal,
        authority=order.authority,
        pool=opened.pool,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    return bodies.Disclosure(**show_disclosure(revoked, opened.now))


def show_disclosure(disclosure: Disclosure, now: Clock) -> dict[str, Any]:
    """Return the members of `schemas.disclosure.Disclosure`."""
    told = disclosure.recipient
    shown: dict[str, Any] = {
        name: getattr(disclosure, name)
        for name in bodies.Disclosure.model_fields
        if name not in ("state", "recipient")
    }
    shown["state"] = disclosure.state_at(now())
    shown["recipient"] = bodies.Recipient(
        kind=told.kind,
        organisation=told.organisation,
        person=told.person,
        reference=told.reference,
    )
    return shown
