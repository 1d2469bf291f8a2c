"""What docks speak natively: announce, chunks, seal, receipt."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status
from fastapi.responses import JSONResponse, PlainTextResponse

from ingest_service import errors, telemetry
from ingest_service.actions.announce_clip import Announced, announce_clip
from ingest_service.actions.issue_receipt import issue_receipt
from ingest_service.actions.report_manifest import report_manifest
from ingest_service.actions.seal_upload import list_missing, seal_upload
from ingest_service.actions.store_chunk import Chunk, store_chunk
from ingest_service.api.admission import PRIORITY_PARAMETER, find_claim
from ingest_service.api.body import receiving
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.headers import parse_integer, prefers_text
from ingest_service.api.problems import WITH_JSON, WITH_TOKEN, documented
from ingest_service.api.raw_json import read_raw_object
from ingest_service.api.straight import StraightRoute
from ingest_service.domain.digest import CONTENT_DIGEST, parse_content_digest
from ingest_service.domain.principal import UPLOAD, Principal
from ingest_service.domain.receipt import format_leaf_proof
from ingest_service.domain.seal import SealedFacts
from ingest_service.resources import Resources
from schemas.announcement import (
    AnnouncedClip,
    Announcement,
    MissingChunks,
    SealedClip,
    ServerTime,
    StoredChunk,
)
from schemas.device import DeviceManifest, ReportedManifest
from schemas.receipt import PendingReceipt, Receipt

router = APIRouter(prefix="/v1", tags=["docks"], route_class=StraightRoute)

Station = Annotated[Principal, Depends(Granted(UPLOAD))]
OCTETS: Final = "application/octet-stream"
_SEAL_RETRY_S: Final = "1"
# A receipt never goes bad: a later one is under a later checkpoint, that is all.
_KEPT: Final = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept"}
_BUSY = (errors.VaultUnavailable, errors.LedgerUnavailable, errors.ShuttingDown, errors.VaultFull)


@router.get("/time", summary="The server's clock", responses=documented(*WITH_TOKEN))
async def get_time(
    opened: Opened, _principal: Annotated[Principal, Depends(Granted())]
) -> ServerTime:
    """Answer with the server's time, so that a dock can measure its offset."""
    now = opened.now()
    return ServerTime(now=now, unix_ms=int(now.timestamp() * 1000))


@router.post(
    "/clips",
    summary="Announce a clip",
    status_code=status.HTTP_201_CREATED,
    responses={
        200: {"model": AnnouncedClip, "description": "Announced before: the same clip"},
        **documented(
            *WITH_TOKEN,
            *WITH_JSON,
            errors.AnnouncementConflict,
            errors.ClipTooLarge,
            errors.UploadBusy,
        ),
    },
    openapi_extra={"parameters": [PRIORITY_PARAMETER]},
)
async def post_clip(
    announcement: Announcement,
    request: Request,
    response: Response,
    opened: Opened,
    principal: Station,
) -> AnnouncedClip:
    """Record what the dock will send, and answer how to cut it and where to send it.

    Repeatable: the same identity is the same clip, whatever its state.
    """
    announced = await announce_clip(
        announcement,
        await read_raw_object(request),
        await opened.authenticator.station_of(principal),
        pool=opened.pool,
        directory=opened.directory,
        rules=opened.rules,
        now=opened.now,
        request_id=telemetry.request_id(),
        claim=find_claim(request),
    )
    telemetry.add_fields(
        clip_id=str(announced.clip.clip_id), upload_id=str(announced.upload.upload_id)
    )
    if announced.is_new:
        telemetry.CLIPS_ANNOUNCED.inc()
    else:
        response.status_code = status.HTTP_200_OK
    return _show_plan(announced, opened)


def _show_plan(announced: Announced, opened: Resources) -> AnnouncedClip:
    clip, upload = announced.clip, announced.upload
    root = f"{opened.base_url}/v1/clips/{clip.clip_id}"
    return AnnouncedClip(
        clip_id=clip.clip_id,
        state=clip.state,
        size_bytes=clip.size_bytes or 0,
        chunk_bytes=upload.part_bytes,
        chunk_count=upload.part_count,
        chunks_url=f"{root}/chunks",
        tus_url=f"{opened.base_url}/files/{upload.upload_id}",
        seal_url=f"{root}/seal",
        receipt_url=f"{root}/receipt",
        expires_at=upload.expires_at if upload.state == "open" else None,
        flags=clip.flags,
    )


@router.post(
    "/clips/{clip_id}/chunks/{index}",
    summary="Send a chunk",
    status_code=status.HTTP_201_CREATED,
    responses={
        200: {"model": StoredChunk, "description": "This very chunk is stored already"},
        **documented(
            *WITH_TOKEN,
            errors.ClipNotFound,
            errors.InvalidHeader,
            errors.UnknownDigestAlgorithm,
            errors.ChunkIndexOutOfRange,
            errors.ChunkMisshapen,
            errors.ChunkConflict,
            errors.SurfaceMismatch,
            errors.ChunkCorrupted,
            errors.InvalidRequest,
            errors.UploadGone,
            errors.UploadClosed,
            errors.UploadBusy,
            errors.BodyStalled,
            *_BUSY,
        ),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
        },
        "parameters": [
            {
                "name": CONTENT_DIGEST,
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "SHA-256 of this chunk (RFC 9530).",
                "example": "sha-256=:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=:",
            }
        ],
    },
)
async def post_chunk(
    clip_id: UUID,
    index: Annotated[int, Path(ge=-(2**31), le=2**31 - 1, description="Counts from 0.")],
    request: Request,
    response: Response,
    opened: Opened,
    principal: Station,
    *,
    seal: Annotated[bool, Query(description="Seal the clip if no chunk is missing then.")] = False,
) -> StoredChunk:
    """Store one chunk: any order, in parallel, as often as needed.

    201 and 200 mean that it is durable. Every chunk but the last has exactly `chunk_bytes` bytes.
    `?seal=true` on the last chunk saves the request that seals; `sealed` in the answer says so.
    """
    digest = parse_content_digest(request.headers.get(CONTENT_DIGEST))
    chunk = Chunk(index, _content_length(request), digest)
    telemetry.add_fields(clip_id=str(clip_id), chunk_index=index)
    with receiving(request, opened, principal.id, upload_id=clip_id) as body:
        stored = await store_chunk(
            clip_id,
            principal.id,
            chunk,
            body,
            pool=opened.pool,
            vault=opened.vault,
            budget=opened.budget,
            rules=opened.rules,
            now=opened.now,
            seals=seal,
            place=body.place,
        )
    if stored.is_new:
        telemetry.CHUNK_BYTES.labels("native").inc(chunk.length_bytes)
    else:
        response.status_code = status.HTTP_200_OK
    sealed = stored.sealed
    if seal and stored.is_complete and sealed is None:
        sealed = await _try_seal(clip_id, principal, opened)
    return StoredChunk(
        clip_id=clip_id,
        index=index,
        size_bytes=chunk.length_bytes,
        received_bytes=stored.received_bytes,
        sealed=None if sealed is None else _show_seal(sealed, opened),
    )


async def _try_seal(clip_id: UUID, principal: Principal, opened: Resources) -> SealedFacts | None:
    """Seal behind a chunk that is stored already: whatever hinders it, the dock can ask again."""
    try:
        return await seal_upload(
            clip_id,
            principal.id,
            pool=opened.pool,
            vault=opened.vault,
            rules=opened.rules,
            now=opened.now,
        )
    except errors.IngestError:
        return None


def _content_length(request: Request) -> int:
    return parse_integer(request.headers, "Content-Length")


@router.get(
    "/clips/{clip_id}/chunks",
    summary="Which chunks are missing",
    responses=documented(*WITH_TOKEN, errors.ClipNotFound),
)
async def get_chunks(clip_id: UUID, opened: Opened, principal: Station) -> MissingChunks:
    """List the ranges of chunk indices that are still to be sent."""
    missing = await list_missing(clip_id, principal.id, pool=opened.pool)
    return MissingChunks(
        clip_id=clip_id,
        state=missing.clip.state,
        chunk_bytes=missing.upload.part_bytes,
        chunk_count=missing.upload.part_count,
        received_bytes=missing.upload.offset_bytes,
        missing_count=missing.count,
        missing=missing.ranges,
        is_truncated=missing.is_truncated,
    )


@router.post(
    "/clips/{clip_id}/seal",
    summary="Seal a clip",
    responses={
        202: {"model": SealedClip, "description": "Still finishing: seal again in a second"},
        **documented(
            *WITH_TOKEN,
            errors.ClipNotFound,
            errors.ChunksMissing,
            errors.SurfaceMismatch,
            errors.UploadGone,
            *_BUSY,
        ),
    },
)
async def post_seal(
    clip_id: UUID, response: Response, opened: Opened, principal: Station
) -> SealedClip:
    """Say that the clip is complete: nothing is written to it any more. Repeatable.

    The camera keeps its copy until the receipt says that the clip was read back from storage.
    """
    telemetry.add_fields(clip_id=str(clip_id))
    clip = await seal_upload(
        clip_id,
        principal.id,
        pool=opened.pool,
        vault=opened.vault,
        rules=opened.rules,
        now=opened.now,
    )
    if clip.state == "finishing":
        response.status_code = status.HTTP_202_ACCEPTED
        response.headers["Retry-After"] = _SEAL_RETRY_S
    return _show_seal(clip, opened)


def _show_seal(clip: SealedFacts, opened: Resources) -> SealedClip:
    return SealedClip(
        clip_id=clip.clip_id,
        state=clip.state,
        size_bytes=clip.size_bytes,
        sha256=None if clip.sha256 is None else clip.sha256.hex(),
        receipt_url=f"{opened.base_url}/v1/clips/{clip.clip_id}/receipt",
        receipt_after_s=opened.lag.choose_first_wait(),
        quarantine_reason=clip.quarantine_reason,
    )


@router.get(
    "/clips/{clip_id}/receipt",
    summary="The release receipt",
    response_model=Receipt,
    responses={
        200: {
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "description": "Leaf and proof: only with these may the camera erase its copy",
        },
        202: {
            "model": PendingReceipt,
            "description": "Not secured, or not published yet: ask after Retry-After",
        },
        **documented(*WITH_TOKEN, errors.ClipNotFound, errors.LogForked),
    },
)
async def get_receipt(
    clip_id: UUID, request: Request, response: Response, opened: Opened, principal: Station
) -> Receipt | Response:
    """Answer with the proof that the clip was read back, once the log that says so is published.

    As text/plain, if that is what Accept prefers: the leaf's exact bytes on one line, a newline,
    then the tlog-proof@v1.
    """
    release, receipt = await issue_receipt(
        clip_id,
        principal.id,
        pool=opened.pool,
        signer=opened.signer,
        head=opened.head,
        now=opened.now,
    )
    telemetry.add_fields(clip_id=str(clip_id), clip_state=release.state)
    moment = opened.now()
    if receipt is None:
        retry_after_s = opened.lag.choose_wait(moment - (release.sealed_at or moment))
        pending = PendingReceipt(clip_id=clip_id, state=release.state)
        return JSONResponse(
            pending.model_dump(mode="json"),
            status.HTTP_202_ACCEPTED,
            {"Retry-After": str(retry_after_s)},
        )
    if release.secured_at is not None and release.sealed_at is not None:
        opened.lag.note_secured(release.secured_at - release.sealed_at, moment - release.secured_at)
    if prefers_text(request.headers):
        text = format_leaf_proof(receipt.leaf.encode(), receipt.proof)
        return PlainTextResponse(text, headers=_KEPT)
    response.headers.update(_KEPT)
    return receipt


@router.post(
    "/devices/{serial}/manifest",
    summary="Report what a camera holds",
    status_code=status.HTTP_201_CREATED,
    responses=documented(*WITH_TOKEN, *WITH_JSON),
)
async def post_manifest(
    serial: Annotated[str, Path(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")],
    manifest: DeviceManifest,
    request: Request,
    opened: Opened,
    principal: Station,
) -> ReportedManifest:
    """Record the camera's own inventory; answers which recordings were never announced."""
    reported = await report_manifest(
        serial,
        principal.id,
        manifest,
        await read_raw_object(request),
        pool=opened.pool,
        now=opened.now,
    )
    return ReportedManifest(
        manifest_id=reported.manifest_id,
        reported_at=reported.reported_at,
        unknown=reported.unknown,
    )
