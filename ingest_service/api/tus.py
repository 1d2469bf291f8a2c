"""tus 1.0.0 on /files, every extension; requests of the IETF protocol go on to `ietf`."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from ingest_service import errors, telemetry
from ingest_service.actions.end_upload import terminate_upload
from ingest_service.actions.join_partials import join_within
from ingest_service.actions.open_upload import open_final, open_partial, open_upload
from ingest_service.actions.take_upload import settle_upload
from ingest_service.api import ietf
from ingest_service.api.admission import PRIORITY_PARAMETER, find_claim
from ingest_service.api.body import refuse_crowd
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.headers import parse_integer
from ingest_service.api.problems import WITH_TOKEN, documented
from ingest_service.api.receiving import (
    Sent,
    announces_trailer,
    body_length,
    content_type,
    find_trailer,
    finish,
    name_clip,
    parse_id,
    receive_bytes,
    receive_whole,
    tell_receipt_time,
)
from ingest_service.api.straight import StraightRoute
from ingest_service.domain.checksum import (
    TUS_ALGORITHMS,
    UPLOAD_CHECKSUM,
    BodyCheck,
    parse_upload_checksum,
)
from ingest_service.domain.concatenation import HEADER as UPLOAD_CONCAT
from ingest_service.domain.concatenation import parse_concat
from ingest_service.domain.principal import UPLOAD, Principal
from ingest_service.domain.upload import Upload
from ingest_service.errors import (
    AppendToFinal,
    InvalidHeader,
    LengthExceeded,
    OffsetMismatch,
    SurfaceMismatch,
    UnsupportedContentType,
    UnsupportedProtocolVersion,
    UploadBusy,
    UploadGone,
    UploadNotFound,
)
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import close_upload, find_upload
from ingest_service.resources import Resources

router = APIRouter(tags=["tus"], route_class=StraightRoute)

VERSION: Final = "1.0.0"
EXTENSIONS: Final = (
    "creation,creation-with-upload,creation-defer-length,checksum,checksum-trailer,expiration,"
    "termination,concatenation"
)
APPEND_TYPE: Final = "application/offset+octet-stream"
UPLOAD_LENGTH: Final = "Upload-Length"
DEFER_LENGTH: Final = "Upload-Defer-Length"
UPLOAD_COMPLETE: Final = "Upload-Complete"

Station = Annotated[Principal, Depends(Granted(UPLOAD))]
_BUSY = (errors.VaultUnavailable, errors.LedgerUnavailable, errors.ShuttingDown, errors.VaultFull)
_COMMON = (*WITH_TOKEN, errors.UnsupportedProtocolVersion, errors.InvalidHeader, *_BUSY)
_OLD_DRAFTS: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "Stored, and more is to come (IETF drafts up to -03)"}
}
_IETF_HEAD: Final[dict[int | str, dict[str, Any]]] = {204: {"description": "Where to go on (IETF)"}}
_BODY = (
    OffsetMismatch,
    LengthExceeded,
    errors.ClipTooLarge,
    errors.InconsistentLength,
    errors.ChecksumMismatch,
    errors.ChunkCorrupted,
    errors.UnknownDigestAlgorithm,
    errors.TakenOver,
    errors.BodyStalled,
)


@router.options("/files", summary="What this tus server serves", status_code=204)
@router.options("/files/{upload_id}", summary="What this tus server serves", status_code=204)
async def options(opened: Opened) -> Response:
    """Answer with version, extensions and the largest clip; needs no token and no version."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(opened.rules.clip_bytes_max),
        "Tus-Checksum-Algorithm": ",".join(TUS_ALGORITHMS),
        "Cache-Control": "no-store",
        **ietf.limits_of(opened),
    }
    return Response(status_code=204, headers=headers)


@router.post(
    "/files",
    summary="Open an upload",
    status_code=201,
    responses=documented(
        *_COMMON, *_BODY, errors.PartialUnusable, UploadNotFound, UploadGone, UploadBusy
    ),
    openapi_extra={"parameters": [PRIORITY_PARAMETER]},
)
async def post_upload(request: Request, opened: Opened, principal: Station) -> Response:
    """Open an upload (creation); a body of the append type is stored at once."""
    if ietf.is_ietf_creation(request):
        return await ietf.create(request, opened, principal)
    _require_version(request)
    concat = request.headers.get(UPLOAD_CONCAT)
    partial_ids = None if concat is None else parse_concat(concat, _hosts(request, opened))
    if concat is not None and partial_ids is not None:
        return await _post_final(request, concat, partial_ids, opened, principal)
    length_bytes = _parse_length(request)
    body_bytes = body_length(request)
    brings_bytes = content_type(request) == APPEND_TYPE
    has_body = brings_bytes and body_bytes != 0
    if has_body and None not in (body_bytes, length_bytes) and body_bytes > length_bytes:  # type: ignore[operator] # neither is None
        raise LengthExceeded(length_bytes or 0)
    check = find_check(request) if has_body else None
    if has_body:
        refuse_crowd(opened, principal.id, metadata=request.headers.get("upload-metadata"))
    station = await opened.authenticator.station_of(principal)
    metadata = request.headers.get("upload-metadata")
    # All of a small clip comes with what opens it.
    is_whole = (
        concat is None
        and has_body
        and check is None
        and length_bytes is not None
        and length_bytes == body_bytes
        and length_bytes <= opened.rules.part_bytes
    )
    if concat is None:
        announced = await open_upload(
            length_bytes,
            metadata,
            station,
            pool=opened.pool,
            directory=opened.directory,
            rules=opened.rules,
            now=opened.now,
            request_id=telemetry.request_id(),
            writes_at_once=is_whole,
            claim=find_claim(request),
        )
        upload = announced.upload
    else:
        upload = await open_partial(
            length_bytes,
            metadata,
            station,
            pool=opened.pool,
            rules=opened.rules,
            now=opened.now,
            claim=find_claim(request),
        )
    _note_opened(upload)
    if length_bytes == 0:
        upload = await _close_empty(upload, principal, opened)
    elif is_whole:
        upload = await receive_whole(request, announced, opened)
    elif has_body:
        sent = Sent(0, body_bytes, check=check)
        upload = await receive_bytes(
            request, upload.upload_id, sent, opened, principal, was_let_in=True
        )
    headers = {"Location": f"{opened.base_url}/files/{upload.upload_id}"} | name_clip(upload)
    headers |= tell_receipt_time(upload, opened)
    if brings_bytes or length_bytes == 0:
        headers["Upload-Offset"] = str(upload.offset_bytes)
    return Response(status_code=201, headers=headers | name_clip(upload) | _expiry(upload))


@router.put(
    "/files",
    summary="Open an upload (IETF, by PUT)",
    status_code=201,
    responses=documented(*_COMMON, *_BODY, UploadBusy),
    openapi_extra={"parameters": [PRIORITY_PARAMETER]},
)
async def put_upload(request: Request, opened: Opened, principal: Station) -> Response:
    """Open an upload as POST does: to the IETF the method is the client's choice."""
    return await _create_ietf(request, opened, principal)


@router.patch(
    "/files",
    summary="Open an upload (IETF, by PATCH)",
    status_code=201,
    responses=documented(*_COMMON, *_BODY, UploadBusy),
    openapi_extra={"parameters": [PRIORITY_PARAMETER]},
)
async def patch_target(request: Request, opened: Opened, principal: Station) -> Response:
    """Open an upload as POST does: to the IETF the method is the client's choice."""
    return await _create_ietf(request, opened, principal)


async def _create_ietf(request: Request, opened: Resources, principal: Principal) -> Response:
    if not ietf.is_ietf_creation(request):
        raise InvalidHeader(UPLOAD_COMPLETE, "missing: without it only POST opens an upload")
    return await ietf.create(request, opened, principal)


async def _post_final(
    request: Request,
    concat: str,
    partial_ids: list[UUID],
    opened: Resources,
    principal: Principal,
) -> Response:
    """Open a clip that is joined from partials, and join it."""
    for name in (UPLOAD_LENGTH, DEFER_LENGTH):
        if name in request.headers:
            raise InvalidHeader(name, "a final is as long as its partials")
    if content_type(request) == APPEND_TYPE and body_length(request) != 0:
        raise InvalidHeader(UPLOAD_CONCAT, "a final has no bytes of its own")
    upload = await open_final(
        partial_ids,
        concat,
        request.headers.get("upload-metadata"),
        await opened.authenticator.station_of(principal),
        pool=opened.pool,
        directory=opened.directory,
        rules=opened.rules,
        now=opened.now,
        request_id=telemetry.request_id(),
        claim=find_claim(request),
    )
    _note_opened(upload)
    upload = await join_within(
        upload.upload_id,
        pool=opened.pool,
        vault=opened.vault,
        holders=opened.holders,
        budget=opened.budget,
        rules=opened.rules,
        now=opened.now,
    )
    # The partials are durable and stay until they are joined, so this holds either way.
    location = f"{opened.base_url}/files/{upload.upload_id}"
    headers = {"Location": location} | name_clip(upload) | _expiry(upload)
    return Response(status_code=201, headers=headers)


@router.head(
    "/files/{upload_id}",
    summary="Where to go on",
    responses=_IETF_HEAD | documented(*_COMMON, UploadNotFound, UploadGone, UploadBusy),
)
async def head_upload(
    upload_id: str, request: Request, opened: Opened, principal: Station
) -> Response:
    """Answer with the durable offset; a request that still writes is interrupted first."""
    if await _is_ietf(request, upload_id, opened):
        return await ietf.head(request, upload_id, opened, principal)
    _require_version(request)
    upload = await settle_upload(
        parse_id(upload_id),
        principal.id,
        pool=opened.pool,
        holders=opened.holders,
        wait_s=opened.rules.take_over_wait_s,
        now=opened.now,
    )
    is_joining = upload.kind == "final" and upload.state in ("open", "finishing")
    if upload.state == "finishing" and not is_joining:
        # Offset == length would read as success, and the object is not there yet.
        raise UploadBusy(upload.upload_id, "being finished")
    refuse_gone(upload, opened)
    if upload.surface == "native" and upload.state == "open":
        # Its count is a sum of chunks in any order, and no offset to go on from.
        raise SurfaceMismatch(upload.upload_id, upload.surface)
    headers = {"Cache-Control": "no-store"}
    if not is_joining:
        headers["Upload-Offset"] = str(upload.offset_bytes)
    if upload.length_bytes is None:
        headers[DEFER_LENGTH] = "1"
    else:
        headers[UPLOAD_LENGTH] = str(upload.length_bytes)
    if upload.tus_metadata:
        headers["Upload-Metadata"] = upload.tus_metadata
    if upload.concat:
        headers[UPLOAD_CONCAT] = upload.concat
    return Response(status_code=200, headers=headers | name_clip(upload) | _expiry(upload))


@router.patch(
    "/files/{upload_id}",
    summary="Append bytes",
    status_code=204,
    responses=_OLD_DRAFTS
    | documented(
        *_COMMON,
        *_BODY,
        UploadNotFound,
        UploadGone,
        UploadBusy,
        UnsupportedContentType,
        AppendToFinal,
        SurfaceMismatch,
    ),
)
async def patch_upload(
    upload_id: str, request: Request, opened: Opened, principal: Station
) -> Response:
    """Append the body at Upload-Offset; what was received of a cut request is kept."""
    if await _is_ietf(request, upload_id, opened):
        return await ietf.append(request, upload_id, opened, principal)
    _require_version(request)
    found_id = parse_id(upload_id)
    try:
        sent = _read_append(request)
    except (UnsupportedContentType, InvalidHeader):
        await _refuse_final(found_id, opened, principal)
        raise
    upload = await receive_bytes(request, found_id, sent, opened, principal)
    headers = {"Upload-Offset": str(upload.offset_bytes)} | tell_receipt_time(upload, opened)
    return Response(status_code=204, headers=headers | name_clip(upload) | _expiry(upload))


def _read_append(request: Request) -> Sent:
    if content_type(request) != APPEND_TYPE:
        raise UnsupportedContentType(APPEND_TYPE)
    upload_length = None
    if UPLOAD_LENGTH in request.headers:
        upload_length = parse_integer(request.headers, UPLOAD_LENGTH)
    return Sent(
        parse_integer(request.headers, "Upload-Offset"),
        body_length(request),
        upload_length=upload_length,
        check=find_check(request),
    )


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
    if not await _is_ietf(request, upload_id, opened):
        _require_version(request)
    await terminate_upload(
        parse_id(upload_id),
        principal.id,
        pool=opened.pool,
        vault=opened.vault,
        holders=opened.holders,
        rules=opened.rules,
        now=opened.now,
    )
    return Response(status_code=204)


async def _is_ietf(request: Request, upload_id: str, opened: Resources) -> bool:
    # A client of tus says so: nothing is looked up for it.
    if not ietf.may_be_ietf(request):
        return False
    try:
        return await ietf.is_ietf(request, parse_id(upload_id), opened)
    except UploadNotFound:
        return ietf.INTEROP_VERSION in request.headers


async def _close_empty(upload: Upload, principal: Principal, opened: Resources) -> Upload:
    """An empty upload is complete at once; of a partial nothing is left to do."""
    if upload.kind == "partial":
        return upload
    async with reading(opened.pool) as connection:
        await close_upload(connection, upload.own_clip_id, principal.id, "tus", claim_s=0)
    return await finish(upload.upload_id, opened)


async def _refuse_final(upload_id: UUID, opened: Resources, principal: Principal) -> None:
    """Whatever else is wrong with an append to a final, that it is one is said first."""
    async with reading(opened.pool) as connection:
        upload = await find_upload(connection, upload_id)
    if upload is not None and upload.kind == "final" and upload.station_id == principal.id:
        raise AppendToFinal(upload_id)


def refuse_gone(upload: Upload, opened: Resources) -> None:
    """Raise what an upload that ended without a clip means for whoever asks for its offset.

    Raises:
        UploadGone: expired, terminated or failed.
    """
    if upload.state not in ("open", "finishing", "finished"):
        raise UploadGone(upload.upload_id, upload.state)
    may_expire = upload.state == "open" or upload.kind == "partial"
    if may_expire and upload.expires_at <= opened.now():
        raise UploadGone(upload.upload_id, "expired")


def find_check(request: Request) -> BodyCheck | None:
    """Return the checksum of the body, or the promise of one in its trailer.

    Raises:
        InvalidHeader, UnknownDigestAlgorithm: before a byte is read.
    """
    value = request.headers.get(UPLOAD_CHECKSUM)
    if value is not None:
        return BodyCheck(parse_upload_checksum(value))
    if announces_trailer(request, UPLOAD_CHECKSUM):
        # Which algorithm it will be is told last.
        return BodyCheck(None, algorithms=TUS_ALGORITHMS, trailer=partial(_read_trailer, request))
    return None


def _read_trailer(request: Request) -> Mapping[str, bytes]:
    value = find_trailer(request, UPLOAD_CHECKSUM)
    if value is None:
        raise InvalidHeader(UPLOAD_CHECKSUM, "announced for the trailer, but missing there")
    return parse_upload_checksum(value)


def _parse_length(request: Request) -> int | None:
    deferred = request.headers.get(DEFER_LENGTH)
    if deferred is None:
        return parse_integer(request.headers, UPLOAD_LENGTH)
    if deferred != "1":
        raise InvalidHeader(DEFER_LENGTH, "can only be 1")
    if UPLOAD_LENGTH in request.headers:
        raise InvalidHeader(DEFER_LENGTH, "comes together with Upload-Length")
    return None


def _hosts(request: Request, opened: Resources) -> set[str]:
    return {urlsplit(opened.base_url).netloc, request.headers.get("host", "")}


def _note_opened(upload: Upload) -> None:
    telemetry.UPLOADS_OPENED.labels("tus").inc()
    telemetry.add_fields(upload_id=str(upload.upload_id))
    if upload.clip_id is not None:
        telemetry.add_fields(clip_id=str(upload.clip_id))


def _require_version(request: Request) -> None:
    if request.headers.get("tus-resumable") != VERSION:
        raise UnsupportedProtocolVersion(VERSION)


def _expiry(upload: Upload) -> dict[str, str]:
    """An upload that may expire says when (RFC 9110 date)."""
    if upload.state != "open" and upload.kind != "partial":
        return {}
    return {"Upload-Expires": format_http_date(upload.expires_at)}


def format_http_date(moment: datetime) -> str:
    """Return an IMF-fixdate (RFC 9110, section 5.6.7)."""
    return format_datetime(moment, usegmt=True)
