"""Resumable uploads of the IETF on /files (draft-ietf-httpbis-resumable-upload)."""

import re
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote
from uuid import UUID

from fastapi import Request, Response

from ingest_service import errors, telemetry
from ingest_service.actions.open_upload import open_upload
from ingest_service.actions.take_upload import settle_upload
from ingest_service.api.admission import find_claim
from ingest_service.api.body import refuse_crowd
from ingest_service.api.problems import Variant, problem_response
from ingest_service.api.receiving import (
    Sent,
    announces_trailer,
    body_length,
    content_type,
    find_trailer,
    name_clip,
    parse_id,
    receive_bytes,
)
from ingest_service.domain.checksum import DIGEST_ALGORITHMS, BodyCheck, digest_size
from ingest_service.domain.clip import Clip
from ingest_service.domain.interop import Interop, find_interop
from ingest_service.domain.principal import Principal
from ingest_service.domain.structured_fields import (
    format_boolean,
    format_dictionary,
    parse_boolean,
    parse_dictionary,
    parse_length,
)
from ingest_service.domain.upload import Upload
from ingest_service.errors import (
    InconsistentLength,
    IngestError,
    InvalidHeader,
    OffsetMismatch,
    UnsupportedContentType,
    UploadGone,
)
from ingest_service.ledger.clips import find_clip
from ingest_service.ledger.connection import reading
from ingest_service.ledger.uploads import find_upload
from ingest_service.resources import Resources

UPLOAD_OFFSET: Final = "Upload-Offset"
INTEROP_VERSION: Final = "Upload-Draft-Interop-Version"
_COMPLETE_FIELDS: Final = ("Upload-Complete", "Upload-Incomplete")
_PROBLEM_TYPES: Final = "https://iana.org/assignments/http-problem-types#"
_PROGRESS_S: Final = 1.0
_QUOTED_NAME: Final = re.compile(r'filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)
_PLAIN_NAME: Final = re.compile(r"filename=([^\s\";]+)", re.IGNORECASE)
_EXTENDED_NAME: Final = re.compile(r"filename\*=utf-8'[^']*'([^\s;]+)", re.IGNORECASE)


def interop_of(request: Request) -> Interop:
    """Return the version of the draft that the client speaks."""
    return find_interop(parse_length(_field(request, INTEROP_VERSION)))


def is_ietf_creation(request: Request) -> bool:
    """Tell whether a request opens a resumable upload: it says whether it is all of it."""
    return "tus-resumable" not in request.headers and _is_complete(request) is not None


def may_be_ietf(request: Request) -> bool:
    """Tell whether a request to an upload may be one of the IETF's: it names no tus version."""
    return "tus-resumable" not in request.headers


async def is_ietf(request: Request, upload_id: UUID, opened: Resources) -> bool:
    """Tell whether a request to an upload speaks the IETF protocol.

    It names the draft's version or completes the upload; or it names nothing at all, and the
    upload was opened by that protocol.
    """
    if not may_be_ietf(request):
        return False
    if INTEROP_VERSION in request.headers or _is_complete(request) is not None:
        return True
    async with reading(opened.pool) as connection:
        upload = await find_upload(connection, upload_id)
    return upload is not None and upload.is_ietf


async def create(request: Request, opened: Resources, principal: Principal) -> Response:
    """Open an upload, tell its URL while the content still comes (104), store the content."""
    interop = interop_of(request)
    is_complete = bool(_is_complete(request))
    try:
        body_bytes = body_length(request)
        length_bytes = _read_length(request, 0, body_bytes, is_complete=is_complete)
        check = _find_check(request)
        has_body = is_complete or body_bytes != 0
        if has_body:
            refuse_crowd(opened, principal.id, metadata=request.headers.get("upload-metadata"))
        announced = await open_upload(
            length_bytes,
            request.headers.get("upload-metadata"),
            await opened.authenticator.station_of(principal),
            pool=opened.pool,
            directory=opened.directory,
            rules=opened.rules,
            now=opened.now,
            request_id=telemetry.request_id(),
            facts=_read_facts(request),
            is_ietf=True,
            claim=find_claim(request),
        )
        upload = announced.upload
        telemetry.UPLOADS_OPENED.labels("ietf").inc()
        telemetry.add_fields(clip_id=str(upload.clip_id), upload_id=str(upload.upload_id))
        location = {"Location": f"{opened.base_url}/files/{upload.upload_id}"}
        limits = _limits(interop, upload, opened)
        _inform(request, interop, {**location, **limits})
        if has_body:
            upload = await receive_bytes(
                request,
                upload.upload_id,
                Sent(
                    0,
                    body_bytes,
                    completion="with_this" if is_complete else "not_yet",
                    check=check,
                    surface="ietf",
                    progress=_Progress(request, interop),
                ),
                opened,
                principal,
                was_let_in=True,
            )
    except IngestError as error:
        return _refuse(interop, error)
    if is_complete:
        return await _answer_last(201, interop, upload, opened, location)
    headers = location | _state(interop, upload, is_complete=False) | limits
    return Response(status_code=201, headers=headers)


async def head(
    request: Request, upload_id: str, opened: Resources, principal: Principal
) -> Response:
    """Tell how much is durable; a request that still writes is interrupted first."""
    interop = interop_of(request)
    for name in (UPLOAD_OFFSET, *_COMPLETE_FIELDS):
        if name in request.headers:
            raise InvalidHeader(name, "not part of a question for the offset")
    upload = await settle_upload(
        parse_id(upload_id),
        principal.id,
        pool=opened.pool,
        holders=opened.holders,
        wait_s=opened.rules.take_over_wait_s,
        now=opened.now,
    )
    if upload.state not in ("open", "finishing", "finished"):
        raise UploadGone(upload.upload_id, upload.state)
    if upload.state == "open" and upload.expires_at <= opened.now():
        raise UploadGone(upload.upload_id, "expired")
    is_complete = upload.state == "finished"
    headers = _state(interop, upload, is_complete=is_complete) | _limits(interop, upload, opened)
    headers["Cache-Control"] = "no-store"
    if upload.length_bytes is not None:
        headers["Upload-Length"] = str(upload.length_bytes)
    if is_complete:
        headers |= await _digest(upload, opened)
    return Response(status_code=204, headers=headers)


async def _answer_last(
    status: int, interop: Interop, upload: Upload, opened: Resources, more: Mapping[str, str]
) -> Response:
    """Answer the request that completed an upload: the clip is sealed, or it is quarantined."""
    async with reading(opened.pool) as connection:
        clip = await find_clip(connection, upload.own_clip_id)
    state = _state(interop, upload, is_complete=True)
    if clip is not None and clip.state == "quarantined":
        # Kept for a person to look at, and no evidence: the camera keeps its copy.
        return problem_response(errors.ChunkCorrupted(), headers=state)
    return Response(status_code=status, headers={**more, **state, **_digest_of(clip)})


async def append(
    request: Request, upload_id: str, opened: Resources, principal: Principal
) -> Response:
    """Append the content at Upload-Offset; with Upload-Complete: ?1 it is the last."""
    interop = interop_of(request)
    is_complete = _is_complete(request)
    try:
        found_id = parse_id(upload_id)
        if interop.append_type is not None and content_type(request) != interop.append_type:
            raise UnsupportedContentType(interop.append_type)
        offset_bytes = parse_length(_field(request, UPLOAD_OFFSET))
        if offset_bytes is None:
            raise InvalidHeader(UPLOAD_OFFSET, "missing or not an Integer of 0 or more")
        if is_complete is None:
            raise InvalidHeader(interop.complete_field, "missing or not a Boolean")
        body_bytes = body_length(request)
        upload = await receive_bytes(
            request,
            found_id,
            Sent(
                offset_bytes,
                body_bytes,
                upload_length=_read_length(
                    request, offset_bytes, body_bytes, is_complete=is_complete
                ),
                completion="with_this" if is_complete else "not_yet",
                check=_find_check(request),
                surface="ietf",
                progress=_Progress(request, interop),
            ),
            opened,
            principal,
        )
    except IngestError as error:
        return _refuse(interop, error)
    if is_complete:
        return await _answer_last(204, interop, upload, opened, {})
    headers = _state(interop, upload, is_complete=False) | _limits(interop, upload, opened)
    return Response(status_code=interop.incomplete_status, headers=headers)


def limits_of(opened: Resources, expires_in_s: int | None = None) -> dict[str, str]:
    """Return the Upload-Limit of every upload here."""
    seconds = opened.rules.expires_after.total_seconds() if expires_in_s is None else expires_in_s
    members = {"max-size": opened.rules.clip_bytes_max, "max-age": max(0, int(seconds))}
    return {"Upload-Limit": format_dictionary(members)}


def _limits(interop: Interop, upload: Upload, opened: Resources) -> dict[str, str]:
    if not interop.has_limits:
        return {}
    return limits_of(opened, int((upload.expires_at - opened.now()).total_seconds()))


def _state(interop: Interop, upload: Upload, *, is_complete: bool) -> dict[str, str]:
    return {
        **name_clip(upload),
        UPLOAD_OFFSET: str(upload.offset_bytes),
        interop.complete_field: format_boolean(is_complete is not interop.is_inverted),
    }


async def _digest(upload: Upload, opened: Resources) -> dict[str, str]:
    """The clip's SHA-256 is known once it is sealed, and told unasked (RFC 9530)."""
    async with reading(opened.pool) as connection:
        clip = await find_clip(connection, upload.own_clip_id)
    return _digest_of(clip)


def _digest_of(clip: Clip | None) -> dict[str, str]:
    if clip is None or clip.sha256 is None:
        return {}
    return {"Repr-Digest": format_dictionary({"sha-256": clip.sha256})}


def _refuse(interop: Interop, error: IngestError) -> Response:
    """Answer with a problem document; the draft has names and statuses of its own for some."""
    # A refused append leaves the upload as it was. What the target itself refuses at creation is
    # its final answer.
    is_final = isinstance(error, errors.StoredBytesLost | errors.ClipTooLarge)
    headers = {interop.complete_field: format_boolean(is_final is not interop.is_inverted)}
    variant = Variant()
    if isinstance(error, OffsetMismatch):
        headers[UPLOAD_OFFSET] = str(error.expected_offset)
        facts = {
            "expected-offset": error.expected_offset,
            "provided-offset": error.provided_offset,
        }
        variant = Variant(f"{_PROBLEM_TYPES}mismatching-upload-offset", facts=facts)
    elif isinstance(error, InconsistentLength | errors.LengthExceeded):
        variant = Variant(f"{_PROBLEM_TYPES}inconsistent-upload-length", status=400)
    elif isinstance(error, errors.UploadClosed) and interop.names_completed:
        variant = Variant(f"{_PROBLEM_TYPES}completed-upload", status=400)
    elif isinstance(error, errors.ChecksumMismatch):
        variant = Variant(status=400)
    return problem_response(error, headers=headers, variant=variant)


def _is_complete(request: Request) -> bool | None:
    interop = interop_of(request)
    value = parse_boolean(_field(request, interop.complete_field))
    return value if value is None else value is not interop.is_inverted


def _field(request: Request, name: str) -> str | None:
    """Return a field's value; several lines are one value (RFC 9110, section 5.2)."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


def _read_length(
    request: Request, offset_bytes: int, body_bytes: int | None, *, is_complete: bool
) -> int | None:
    """Return the upload's length as this request tells it, in one way or two."""
    told = parse_length(_field(request, "Upload-Length"))
    end = None if body_bytes is None else offset_bytes + body_bytes
    if not is_complete:
        if told is not None and end is not None and end > told:
            raise InconsistentLength(told, end)
        return told
    if told is not None and end is not None and told != end:
        raise InconsistentLength(told, end)
    return told if end is None else end


def _find_check(request: Request) -> BodyCheck | None:
    """Return the digests of the content (RFC 9530); a field that cannot be read is ignored."""
    if "content-digest" in request.headers:
        expected = _read_digests(_field(request, "Content-Digest"))
        return BodyCheck(expected) if expected else None
    if announces_trailer(request, "Content-Digest"):
        return BodyCheck(
            None,
            algorithms=DIGEST_ALGORITHMS,
            trailer=lambda: _read_digests(find_trailer(request, "Content-Digest")),
        )
    return None


def _read_digests(value: str | None) -> dict[str, bytes]:
    members = parse_dictionary(value) or {}
    return {
        name: digest
        for name, digest in members.items()
        if name in DIGEST_ALGORITHMS
        and isinstance(digest, bytes)
        and len(digest) == digest_size(name)
    }


def _read_facts(request: Request) -> Mapping[str, str]:
    """Return what the headers say of the clip; all of it may be wrong or missing."""
    facts: dict[str, str] = {}
    media_type = content_type(request)
    if media_type:
        facts["content_type"] = media_type
    name = _read_file_name(request.headers.get("content-disposition", ""))
    if name:
        facts["filename"] = name
    # On creation it is of the whole representation: what the device says it recorded.
    digest = _read_digests(_field(request, "Repr-Digest")).get("sha-256")
    if digest is not None:
        facts["sha256_device"] = digest.hex()
    return facts


def _read_file_name(disposition: str) -> str:
    """Return the file name of a Content-Disposition (RFC 6266), without any path."""
    if matched := _EXTENDED_NAME.search(disposition):
        name = unquote(matched[1], "utf-8", "replace")
    elif matched := _QUOTED_NAME.search(disposition):
        name = re.sub(r"\\(.)", r"\1", matched[1])
    elif matched := _PLAIN_NAME.search(disposition):
        name = matched[1]
    else:
        return ""
    return re.split(r"[/\\]", name)[-1].replace("\x00", "")[:200]


def _inform(request: Request, interop: Interop, headers: Mapping[str, str]) -> None:
    """Send 104 (Upload Resumption Supported) to a client that knows it."""
    wire = (request.scope.get("extensions") or {}).get("ingest.wire", {})
    inform = wire.get("inform")
    if interop.version is not None and inform is not None:
        inform({**headers, INTEROP_VERSION: str(interop.version)})


class _Progress:
    """Tells the durable offset by 104, at most once a second."""

    def __init__(self, request: Request, interop: Interop) -> None:
        self._request = request
        self._interop = interop
        self._told_at = time.monotonic()

    def __call__(self, offset_bytes: int) -> None:
        now = time.monotonic()
        if now - self._told_at >= _PROGRESS_S:
            self._told_at = now
            _inform(self._request, self._interop, {UPLOAD_OFFSET: str(offset_bytes)})
