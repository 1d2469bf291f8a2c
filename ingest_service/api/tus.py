"""tus 1.0.0 on /files: core, creation, creation-with-upload, expiration, termination."""

from datetime import datetime
from email.utils import format_datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from ingest_service import errors, telemetry
from ingest_service.actions.append_bytes import append_bytes
from ingest_service.actions.end_upload import terminate_upload
from ingest_service.actions.finish_upload import wait_until_finished
from ingest_service.actions.open_upload import open_upload
from ingest_service.actions.take_upload import settle_upload
from ingest_service.api.body import RequestBody
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.headers import parse_integer
from ingest_service.api.problems import documented
from ingest_service.domain.bytestream import Disconnected
from ingest_service.domain.principal import UPLOAD, Principal
from ingest_service.domain.upload import Upload
from ingest_service.errors import (
    InvalidHeader,
    LengthExceeded,
    OffsetMismatch,
    StoredBytesLost,
    UnsupportedContentType,
    UnsupportedProtocolVersion,
    UploadBusy,
    UploadClosed,
    UploadGone,
    UploadNotFound,
)
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import close_upload
from ingest_service.resources import Resources

router = APIRouter(tags=["tus"])

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,expiration,termination"
APPEND_TYPE: Final = "application/offset+octet-stream"
UPLOAD_LENGTH: Final = "Upload-Length"

Station = Annotated[Principal, Depends(Granted(UPLOAD))]
_NO_TOKEN = (errors.Unauthorized, errors.TokenExpired, errors.KeyRevoked, errors.Forbidden)
_BUSY = (errors.VaultUnavailable, errors.LedgerUnavailable, errors.ShuttingDown, errors.VaultFull)
_COMMON = (*_NO_TOKEN, errors.UnsupportedProtocolVersion, errors.InvalidHeader, *_BUSY)


@router.options("/files", summary="What this tus server serves", status_code=204)
@router.options("/files/{upload_id}", summary="What this tus server serves", status_code=204)
async def options(opened: Opened) -> Response:
    """Answer with version, extensions and the largest clip; needs no token and no version."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(opened.rules.clip_bytes_max),
        "Cache-Control": "no-store",
    }
    return Response(status_code=204, headers=headers)


@router.post(
    "/files",
    summary="Open an upload",
    status_code=201,
    responses=documented(*_COMMON, errors.ClipTooLarge, LengthExceeded),
)
async def post_upload(request: Request, opened: Opened, principal: Station) -> Response:
    """Open an upload (creation); a body of the append type is stored at once."""
    _require_version(request)
    if request.headers.get("upload-concat") or request.headers.get("upload-defer-length"):
        reason = "concatenation and deferred lengths are not served"
        raise InvalidHeader(UPLOAD_LENGTH, reason)
    length_bytes = parse_integer(request.headers, UPLOAD_LENGTH)
    body_bytes = _body_length(request)
    brings_bytes = _content_type(request) == APPEND_TYPE
    has_body = brings_bytes and body_bytes != 0
    if has_body and body_bytes is not None and body_bytes > length_bytes:
        raise LengthExceeded(length_bytes)
    announced = await open_upload(
        length_bytes,
        request.headers.get("upload-metadata"),
        await opened.authenticator.station_of(principal),
        pool=opened.pool,
        rules=opened.rules,
        now=opened.now,
        request_id=telemetry.request_id(),
    )
    upload = announced.upload
    telemetry.UPLOADS_OPENED.labels("tus").inc()
    telemetry.add_fields(clip_id=str(upload.clip_id), upload_id=str(upload.upload_id))
    if length_bytes == 0:
        async with reading(opened.pool) as connection:
            await close_upload(connection, upload.clip_id, principal.id, "tus", claim_s=0)
        upload = await _finish(upload.upload_id, opened)
    elif has_body:
        upload = await _append(request, upload.upload_id, 0, body_bytes, opened, principal)
    headers = {"Location": f"{opened.base_url}/files/{upload.upload_id}"}
    if brings_bytes or length_bytes == 0:
        headers["Upload-Offset"] = str(upload.offset_bytes)
    return Response(status_code=201, headers=headers | _expiry(upload))


@router.head(
    "/files/{upload_id}",
    summary="Where to go on",
    responses=documented(*_COMMON, UploadNotFound, UploadGone, UploadBusy),
)
async def head_upload(
    upload_id: str, request: Request, opened: Opened, principal: Station
) -> Response:
    """Answer with the durable offset; a request that still writes is interrupted first."""
    _require_version(request)
    upload = await settle_upload(
        _parse_id(upload_id),
        principal.id,
        pool=opened.pool,
        holders=opened.holders,
        wait_s=opened.rules.take_over_wait_s,
        now=opened.now,
    )
    if upload.state == "finishing":
        # Offset == length would read as success, and the object is not there yet.
        raise UploadBusy(upload.upload_id, "being finished")
    if upload.state not in ("open", "finished"):
        raise UploadGone(upload.upload_id, upload.state)
    if upload.state == "open" and upload.expires_at <= opened.now():
        raise UploadGone(upload.upload_id, "expired")
    headers = {"Upload-Offset": str(upload.offset_bytes), "Cache-Control": "no-store"}
    if upload.length_bytes is not None:
        headers["Upload-Length"] = str(upload.length_bytes)
    if upload.tus_metadata:
        headers["Upload-Metadata"] = upload.tus_metadata
    return Response(status_code=200, headers=headers | _expiry(upload))


@router.patch(
    "/files/{upload_id}",
    summary="Append bytes",
    status_code=204,
    responses=documented(
        *_COMMON,
        UploadNotFound,
        UploadGone,
        UploadBusy,
        OffsetMismatch,
        LengthExceeded,
        UnsupportedContentType,
        errors.SurfaceMismatch,
        errors.TakenOver,
        errors.BodyStalled,
    ),
)
async def patch_upload(
    upload_id: str, request: Request, opened: Opened, principal: Station
) -> Response:
    """Append the body at Upload-Offset; what was received of a cut request is kept."""
    _require_version(request)
    if _content_type(request) != APPEND_TYPE:
        raise UnsupportedContentType(APPEND_TYPE)
    offset_bytes = parse_integer(request.headers, "Upload-Offset")
    upload = await _append(
        request, _parse_id(upload_id), offset_bytes, _body_length(request), opened, principal
    )
    headers = {"Upload-Offset": str(upload.offset_bytes)}
    return Response(status_code=204, headers=headers | _expiry(upload))


@router.delete(
    "/files/{upload_id}",
    summary="Take an upload back",
    status_code=204,
    responses=documented(
        *_COMMON, UploadNotFound, UploadGone, UploadBusy, errors.TerminationRefused
    ),
)
async def delete_upload(
    upload_id: str, request: Request, opened: Opened, principal: Station
) -> Response:
    """Terminate an unfinished upload and free its storage; a complete one is evidence: 403."""
    _require_version(request)
    await terminate_upload(
        _parse_id(upload_id),
        principal.id,
        pool=opened.pool,
        vault=opened.vault,
        holders=opened.holders,
        rules=opened.rules,
        now=opened.now,
    )
    return Response(status_code=204)


async def _append(
    request: Request,
    upload_id: UUID,
    offset_bytes: int,
    body_bytes: int | None,
    opened: Resources,
    principal: Principal,
) -> Upload:
    telemetry.add_fields(upload_id=str(upload_id))
    body = RequestBody(request.receive, stall_timeout_s=opened.rules.body_stall_timeout_s)
    telemetry.ACTIVE_BODIES.inc()
    try:
        upload = await append_bytes(
            upload_id,
            principal.id,
            offset_bytes,
            body_bytes,
            body,
            pool=opened.pool,
            vault=opened.vault,
            holders=opened.holders,
            budget=opened.budget,
            rules=opened.rules,
            now=opened.now,
        )
    except Disconnected as gone:
        raise ClientDisconnect from gone
    except (UploadClosed, UploadBusy) as closed:
        upload = await _answer_repeat(upload_id, offset_bytes, body_bytes, opened, closed)
    finally:
        body.close()
        telemetry.ACTIVE_BODIES.dec()
        telemetry.add_fields(bytes=body.received_bytes)
    telemetry.CHUNK_BYTES.labels("tus").inc(upload.offset_bytes - offset_bytes)
    if upload.state == "finishing":
        return await _finish(upload_id, opened)
    return upload


async def _answer_repeat(
    upload_id: UUID,
    offset_bytes: int,
    body_bytes: int | None,
    opened: Resources,
    closed: UploadClosed | UploadBusy,
) -> Upload:
    """An empty append at the end of a complete upload is a repeat: it drives the finishing on."""
    upload = await wait_until_finished(
        upload_id, pool=opened.pool, vault=opened.vault, now=opened.now, wait_s=0
    )
    if body_bytes == 0 and offset_bytes == upload.offset_bytes == upload.length_bytes:
        return upload
    if upload.offset_bytes != offset_bytes:
        raise OffsetMismatch(upload.offset_bytes, offset_bytes) from closed
    if isinstance(closed, UploadClosed) and body_bytes:
        raise LengthExceeded(upload.length_bytes or 0) from closed
    raise closed


async def _finish(upload_id: UUID, opened: Resources) -> Upload:
    """Wait until the object is whole: only then is the last byte acknowledged."""
    upload = await wait_until_finished(
        upload_id,
        pool=opened.pool,
        vault=opened.vault,
        now=opened.now,
        wait_s=opened.rules.finish_wait_s,
    )
    if upload.state == "finishing":
        raise UploadBusy(upload_id, "being finished")
    if upload.state == "failed":
        reason = f"upload {upload_id} lost stored bytes"
        raise StoredBytesLost(reason)
    telemetry.UPLOADS_FINISHED.inc()
    return upload


def _require_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise UnsupportedProtocolVersion(VERSION)


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";", 1)[0].strip().lower()


def _body_length(request: Request) -> int | None:
    """Return the announced length of the body; None when it comes in chunked coding."""
    if request.headers.get("transfer-encoding") is not None:
        return None
    if request.headers.get("content-length") is None:
        return 0
    return parse_integer(request.headers, "Content-Length")


def _parse_id(upload_id: str) -> UUID:
    try:
        return UUID(upload_id)
    except ValueError:
        raise UploadNotFound(upload_id[:64]) from None


def _expiry(upload: Upload) -> dict[str, str]:
    """An upload that may expire says when (RFC 9110 date)."""
    if upload.state != "open":
        return {}
    return {"Upload-Expires": format_http_date(upload.expires_at)}


def format_http_date(moment: datetime) -> str:
    """Return an IMF-fixdate (RFC 9110, section 5.6.7)."""
    return format_datetime(moment, usegmt=True)
