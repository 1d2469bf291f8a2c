"""Custody packs: what goes to a prosecutor, a defence, a court's expert."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from ingest_service import errors, telemetry
from ingest_service.actions.find_clips import get_visible_clip
from ingest_service.actions.hold_for_purpose import hold_for_purpose
from ingest_service.actions.pack_clip import pack_clip
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import documented
from ingest_service.domain.custody import Actor, Happening
from ingest_service.domain.principal import (
    CONTENT_READ,
    DISCLOSURES_WRITE,
    HOLDS_WRITE,
    Principal,
)

router = APIRouter(prefix="/v1", tags=["clips"])


@router.get(
    "/clips/{clip_id}/pack",
    summary="The custody pack of a clip",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/zip": {}}, "description": "A BagIt bag, zipped"},
        **documented(
            errors.Unauthorized,
            errors.TokenExpired,
            errors.KeyRevoked,
            errors.Forbidden,
            errors.ClipNotFound,
            errors.ContentGone,
            errors.ErasureBegun,
            errors.PurposeRequired,
            errors.LogPartNotFound,
            errors.LogForked,
            errors.StoredBytesLost,
            errors.UploadBusy,
            errors.VaultUnavailable,
            errors.LedgerUnavailable,
        ),
    },
)
async def get_pack(
    clip_id: UUID,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(CONTENT_READ))],
    purpose: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="Why.")
    ] = None,
) -> StreamingResponse:
    """Stream the clip with manifest, events, proofs, receipt, a report and a verifier.

    For who may disclose or hold clips. The access is a custody event before the first byte leaves.
    A file that breaks off, or has no directory at its end, is no pack.
    """
    principal.require_any(DISCLOSURES_WRITE, HOLDS_WRITE)
    opened.purposes.require(CONTENT_READ, purpose)
    telemetry.add_fields(clip_id=str(clip_id))
    clip = await get_visible_clip(clip_id, principal, pool=opened.pool)
    await hold_for_purpose(
        clip_id,
        purpose,
        Actor.of(principal),
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        rules=opened.retention,
        locks_objects=opened.locks_objects,
        request_id=telemetry.request_id(),
    )
    access = Happening(
        "export.created",
        Actor.of(principal),
        {"form": "custody-pack"},
        purpose=purpose,
        request_id=telemetry.request_id(),
    )
    pack = await pack_clip(
        clip,
        access,
        pool=opened.pool,
        vault=opened.vault,
        signer=opened.signer,
        now=opened.now,
        witnesses=opened.head.witnesses,
    )
    headers = {
        "Content-Disposition": f'attachment; filename="{pack.file_name}"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(pack.pieces, 200, headers, "application/zip")
