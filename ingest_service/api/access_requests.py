"""Subject access requests: received, extended, linked to clips, fulfilled."""

from datetime import UTC, date
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from ingest_service import errors, telemetry
from ingest_service.actions.extend_access_request import extend_access_request
from ingest_service.actions.find_access_requests import get_visible_request, list_requests
from ingest_service.actions.fulfil_access_request import fulfil_access_request
from ingest_service.actions.link_access_request import link_access_request
from ingest_service.actions.receive_access_request import receive_access_request
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.domain.access_request import AccessRequest
from ingest_service.domain.clock import Clock
from ingest_service.domain.principal import DISCLOSURES_WRITE, Principal
from ingest_service.ledger.access_requests import RequestFilter
from ingest_service.resources import Resources
from schemas import access_request as bodies

router = APIRouter(
    prefix="/v1/subject-access-requests", tags=["subject access requests"], route_class=JsonRoute
)

PAGE_MAX: Final = 200
Discloser = Annotated[Principal, Depends(Granted(DISCLOSURES_WRITE))]


@router.post(
    "",
    status_code=201,
    summary="Take a subject access request in",
    responses=documented(*WITH_TOKEN, *WITH_JSON, errors.AccessRequestConflict),
)
async def post_request(
    order: bodies.AccessRequestOrder, opened: Opened, principal: Discloser
) -> bodies.AccessRequest:
    """Start the statutory clock: the request is due one calendar month after its receipt."""
    made = await receive_access_request(
        order.reference,
        order.subject,
        order.received_at,
        principal,
        pool=opened.pool,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    return bodies.AccessRequest(**_show(made, opened.now))


@router.get(
    "",
    summary="List subject access requests",
    responses=documented(*WITH_TOKEN, errors.InvalidRequest),
)
async def get_requests(
    opened: Opened,
    principal: Discloser,
    state: Annotated[bodies.State | None, Query(description="As of now.")] = None,
    due_before: Annotated[date | None, Query(description="Exclusive.")] = None,
    after: Annotated[UUID | None, Query(description="`next_after` of the last page.")] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> bodies.AccessRequestPage:
    """List requests, those first that are due first."""
    today = opened.now().astimezone(UTC).date()
    if state == "overdue":
        due_before = today if due_before is None else min(today, due_before)
    asked = RequestFilter(
        is_fulfilled=None if state is None else state == "fulfilled",
        due_from=today if state == "open" else None,
        due_before=due_before,
    )
    found = await list_requests(asked, principal, after=after, limit=limit + 1, pool=opened.pool)
    page = found[:limit]
    return bodies.AccessRequestPage(
        access_requests=[bodies.AccessRequest(**_show(each, opened.now)) for each in page],
        next_after=page[-1].request_id if len(found) > limit else None,
    )


@router.get(
    "/{access_request_id}",
    summary="One subject access request",
    responses=documented(*WITH_TOKEN, errors.AccessRequestNotFound),
)
async def get_request(
    access_request_id: UUID, opened: Opened, principal: Discloser
) -> bodies.AccessRequestDetail:
    """Answer with a request and the clips that are held for it."""
    return await _show_detail(access_request_id, principal, opened)


@router.post(
    "/{access_request_id}/extend",
    summary="Give a subject access request more time",
    responses=documented(
        *WITH_TOKEN, *WITH_JSON, errors.AccessRequestNotFound, errors.AccessRequestConflict
    ),
)
async def post_extension(
    access_request_id: UUID, order: bodies.ExtensionOrder, opened: Opened, principal: Discloser
) -> bodies.AccessRequest:
    """Extend a request by one or two months: once, and before it is due."""
    extended = await extend_access_request(
        access_request_id,
        principal,
        months=order.months,
        reason=order.reason,
        pool=opened.pool,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    return bodies.AccessRequest(**_show(extended, opened.now))


@router.post(
    "/{access_request_id}/clips",
    summary="Hold clips for a subject access request",
    responses=documented(
        *WITH_TOKEN,
        *WITH_JSON,
        errors.AccessRequestNotFound,
        errors.AccessRequestConflict,
        errors.ClipsNotDisclosable,
        errors.DisclosureTooWide,
        errors.ClipBusy,
        errors.StoredBytesLost,
        errors.VaultUnavailable,
    ),
)
async def post_clips(
    access_request_id: UUID, order: bodies.LinkOrder, opened: Opened, principal: Discloser
) -> bodies.AccessRequestDetail:
    """Link clips to a request, all of them or none: each is held until the request is fulfilled."""
    await link_access_request(
        access_request_id,
        order.clip_ids,
        principal,
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        rules=opened.disclosing,
        locks_objects=opened.locks_objects,
        request_id=telemetry.request_id(),
    )
    return await _show_detail(access_request_id, principal, opened)


@router.post(
    "/{access_request_id}/fulfil",
    summary="Fulfil a subject access request",
    responses=documented(
        *WITH_TOKEN,
        *WITH_JSON,
        errors.AccessRequestNotFound,
        errors.DisclosureNotFound,
        errors.AccessRequestConflict,
    ),
)
async def post_fulfilment(
    access_request_id: UUID, order: bodies.FulfilOrder, opened: Opened, principal: Discloser
) -> bodies.AccessRequest:
    """Say what the request was answered with; its holds end.

    A hold that this principal has placed stays, where holds of the kind are released by another
    person (`INGEST_HOLD_RELEASE_BY_ANOTHER`); all of them, with `INGEST_DISCLOSURE_KEEP_HOLDS`.
    """
    fulfilled = await fulfil_access_request(
        access_request_id,
        principal,
        outcome=order.outcome,
        disclosure_id=order.disclosure_id,
        pool=opened.pool,
        now=opened.now,
        disclosing=opened.disclosing,
        rules=opened.retention,
        locks_objects=opened.locks_objects,
        request_id=telemetry.request_id(),
    )
    return bodies.AccessRequest(**_show(fulfilled, opened.now))


async def _show_detail(
    access_request_id: UUID, principal: Principal, opened: Resources
) -> bodies.AccessRequestDetail:
    found, linked = await get_visible_request(access_request_id, principal, pool=opened.pool)
    return bodies.AccessRequestDetail(
        **_show(found, opened.now),
        clips=[
            bodies.LinkedClip(
                clip_id=each.clip_id,
                hold_id=each.hold_id,
                linked_by=each.linked_by,
                linked_at=each.linked_at,
            )
            for each in linked
        ],
    )


def _show(request: AccessRequest, now: Clock) -> dict[str, Any]:
    """Return the members of `schemas.access_request.AccessRequest`."""
    shown: dict[str, Any] = {
        name: getattr(request, name)
        for name in bodies.AccessRequest.model_fields
        if name not in ("access_request_id", "state")
    }
    return {**shown, "access_request_id": request.request_id, "state": request.state_at(now())}
