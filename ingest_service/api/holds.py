"""Holds: placed by hand or in bulk, looked at, released."""

from dataclasses import asdict
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from ingest_service import errors, telemetry
from ingest_service.actions.find_clips import get_visible_clip
from ingest_service.actions.find_holds import get_visible_hold, list_holds
from ingest_service.actions.place_hold import Order, place_hold
from ingest_service.actions.place_holds_in_bulk import place_holds, preview_hold
from ingest_service.actions.release_hold import release_hold
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.domain.custody import Actor
from ingest_service.domain.holds import Hold
from ingest_service.domain.principal import CLIPS_READ, HOLDS_WRITE, Principal
from ingest_service.ledger.queries import ClipFilter
from schemas import hold as bodies

router = APIRouter(prefix="/v1", tags=["holds"], route_class=JsonRoute)

Writer = Annotated[Principal, Depends(Granted(HOLDS_WRITE))]


@router.post(
    "/clips/{clip_id}/holds",
    status_code=201,
    summary="Hold a clip",
    responses=documented(
        *WITH_TOKEN,
        *WITH_JSON,
        errors.ClipNotFound,
        errors.ErasureBegun,
        errors.UploadBusy,
        errors.StoredBytesLost,
        errors.VaultUnavailable,
    ),
)
async def post_hold(
    clip_id: UUID, order: bodies.HoldOrder, opened: Opened, principal: Writer
) -> bodies.Hold:
    """Keep a clip, whatever its date; several holds on one clip are independent of each other.

    Also of a clip that is still coming in. An erasure that was only announced is called off. Once
    this has answered 201, the bytes stay until every hold was released.
    """
    telemetry.add_fields(clip_id=str(clip_id))
    await get_visible_clip(clip_id, principal, pool=opened.pool)
    hold = await place_hold(
        clip_id,
        _make_order(order, principal),
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        locks_objects=opened.locks_objects,
    )
    return show_hold(hold)


@router.get(
    "/clips/{clip_id}/holds",
    summary="The holds of a clip",
    responses=documented(*WITH_TOKEN, errors.ClipNotFound),
)
async def get_holds(
    clip_id: UUID, opened: Opened, principal: Annotated[Principal, Depends(Granted(CLIPS_READ))]
) -> bodies.HoldList:
    """List a clip's holds, released ones too."""
    clip = await get_visible_clip(clip_id, principal, pool=opened.pool)
    found = await list_holds(clip_id, pool=opened.pool)
    return bodies.HoldList(
        clip_id=clip_id, is_held=clip.is_held, holds=[show_hold(hold) for hold in found]
    )


@router.post(
    "/holds",
    status_code=201,
    summary="Hold every clip that matches",
    responses={
        200: {"model": bodies.BulkHoldPreview, "description": "The dry run's counts and token"},
        202: {"model": bodies.BulkHoldResult, "description": "Some are held; send it again"},
        **documented(
            *WITH_TOKEN,
            *WITH_JSON,
            errors.PreviewOutdated,
            errors.HoldTooWide,
            errors.StoredBytesLost,
            errors.VaultUnavailable,
        ),
    },
)
async def post_holds(
    order: bodies.BulkHoldOrder, opened: Opened, principal: Writer, response: Response
) -> bodies.BulkHoldPreview | bodies.BulkHoldResult:
    """Hold in bulk, in two calls: the first one counts, the second one holds what was counted.

    Without `token` nothing is held. With it the rest of the body must be the same. 202: more than
    ten thousand clips; the same request goes on where this one stopped.
    """
    asked = ClipFilter(**order.filter.model_dump())
    described = order.model_dump(mode="json", exclude={"token", "confirm_count"})
    if order.token is None:
        preview = await preview_hold(asked, described, principal, pool=opened.pool, now=opened.now)
        response.status_code = 200
        return bodies.BulkHoldPreview(
            clip_count=preview.clip_count,
            total_bytes=preview.total_bytes,
            announced_until=preview.made_at,
            token=preview.token,
            expires_at=preview.expires_at,
        )
    placed = await place_holds(
        order.token,
        asked,
        described,
        _make_order(order, principal),
        principal,
        confirm_count=order.confirm_count,
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        locks_objects=opened.locks_objects,
    )
    response.status_code = 201 if placed.is_complete else 202
    return bodies.BulkHoldResult(
        group_id=placed.preview.group_id,
        clip_count=placed.preview.clip_count,
        placed_count=placed.placed_count,
        is_complete=placed.is_complete,
        refused=placed.refused,
    )


@router.get(
    "/holds/{hold_id}",
    summary="One hold",
    responses=documented(*WITH_TOKEN, errors.HoldNotFound),
)
async def get_hold(
    hold_id: UUID, opened: Opened, principal: Annotated[Principal, Depends(Granted(CLIPS_READ))]
) -> bodies.Hold:
    """Answer with one hold."""
    return show_hold(await get_visible_hold(hold_id, principal, pool=opened.pool))


@router.post(
    "/holds/{hold_id}/release",
    summary="Release a hold",
    responses=documented(
        *WITH_TOKEN,
        *WITH_JSON,
        errors.HoldNotFound,
        errors.AnotherPersonNeeded,
        errors.HoldReleased,
        errors.HoldNeeded,
    ),
)
async def post_release(
    hold_id: UUID, order: bodies.ReleaseOrder, opened: Opened, principal: Writer
) -> bodies.Hold:
    """End a hold. Who placed it does not release it, where the kind is set so.

    The clip may be erased once no hold is left and its date has come; that is announced first.
    """
    hold = await release_hold(
        hold_id,
        principal,
        authority=order.authority,
        pool=opened.pool,
        rules=opened.retention,
        now=opened.now,
        locks_objects=opened.locks_objects,
        request_id=telemetry.request_id(),
    )
    return show_hold(hold)


def show_hold(hold: Hold) -> bodies.Hold:
    """Return a hold as callers see it."""
    return bodies.Hold(**asdict(hold))


def _make_order(order: bodies.HoldOrder, principal: Principal) -> Order:
    return Order(
        order.kind,
        order.authority,
        order.reason,
        Actor.of(principal),
        review_at=order.review_at,
        request_id=telemetry.request_id(),
    )
