"""Derivatives: redacted copies and their like, tied to the clip that they were made from."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from ingest_service import errors, telemetry
from ingest_service.actions.register_derivative import DerivativeOrder, register_derivative
from ingest_service.api.bodies import JsonRoute
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.domain.derivative import Derivative
from ingest_service.domain.principal import DISCLOSURES_WRITE, Principal
from schemas import derivative as bodies

router = APIRouter(prefix="/v1", tags=["clips"], route_class=JsonRoute)


@router.post(
    "/clips/{clip_id}/derivatives",
    status_code=201,
    summary="Register what was made from a clip",
    responses=documented(*WITH_TOKEN, *WITH_JSON, errors.ClipNotFound, errors.DerivativeConflict),
)
async def post_derivative(
    clip_id: UUID,
    order: bodies.DerivativeOrder,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(DISCLOSURES_WRITE))],
) -> bodies.Derivative:
    """Tie a redacted copy to its master by the master's hash; the master is not touched.

    Both have it in their chain of custody, in their detail, and in their packs.
    """
    telemetry.add_fields(clip_id=str(clip_id))
    content: UUID | tuple[bytes, int] | None = order.derivative_clip_id
    if order.sha256 is not None and order.size_bytes is not None:
        content = (bytes.fromhex(order.sha256), order.size_bytes)
    if content is None:
        # The schema has seen to that.
        reason = "body: name derivative_clip_id, or sha256 and size_bytes"
        raise errors.InvalidRequest(reason)
    made = await register_derivative(
        clip_id,
        DerivativeOrder(content, order.kind, order.tool, order.parameters, order.made_by),
        principal,
        pool=opened.pool,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    return show_derivative(made)


def show_derivative(derivative: Derivative) -> bodies.Derivative:
    """Return a derivative as callers see it."""
    return bodies.Derivative(
        derivative_id=derivative.derivative_id,
        master_clip_id=derivative.master_clip_id,
        master_sha256=derivative.master_sha256.hex(),
        derivative_clip_id=derivative.derivative_clip_id,
        sha256=derivative.sha256.hex(),
        size_bytes=derivative.size_bytes,
        kind=derivative.kind,
        tool=derivative.tool,
        parameters=dict(derivative.parameters),
        made_by=derivative.made_by,
        registered_by=derivative.registered_by,
        registered_at=derivative.registered_at,
    )
