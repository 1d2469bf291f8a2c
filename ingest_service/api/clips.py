"""What downstream services ask: clips, their content, their chain of custody."""

import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest_service import errors, telemetry
from ingest_service.actions.check_erasure import is_being_erased
from ingest_service.actions.find_clips import (
    count_received,
    export_clips,
    find_clip_media,
    get_visible_clip,
    list_clips,
)
from ingest_service.actions.hold_for_purpose import hold_for_purpose
from ingest_service.actions.recall_assertions import list_history, recall_clip
from ingest_service.actions.record_access import record_access
from ingest_service.actions.register_derivative import find_lineage
from ingest_service.api.assertions import show_assertions
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.derivatives import show_derivative
from ingest_service.api.exports import show_clip, write_csv, write_json_lines
from ingest_service.api.problems import WITH_TOKEN, documented
from ingest_service.domain.clip import Clip, correct_time, explain_correction
from ingest_service.domain.custody import Actor, CustodyEvent, Happening
from ingest_service.domain.principal import CLIPS_READ, CONTENT_READ, UPLOAD, Principal
from ingest_service.ledger import custody
from ingest_service.ledger.connection import reading
from ingest_service.ledger.search import Search
from ingest_service.resources import Resources
from schemas import clip as bodies
from schemas.announcement import ClipState, EvidentialState, Moment
from schemas.media import MediaFacts, MediaFlag

router = APIRouter(prefix="/v1", tags=["clips"])

PAGE_MAX: Final = 500
EVENTS_PAGE: Final = 500
_READABLE_STATES: Final = frozenset({"sealed", "secured", "erase_pending", "quarantined"})
# Path separators, control characters, and those that change the direction of writing.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_NAME_CHARS_MAX: Final = 200
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
NOT_MODIFIED: Final[dict[int | str, dict[str, Any]]] = {
    304: {"description": "The ETag in If-None-Match is the present one"}
}

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


class ClipFilters(BaseModel):
    """The filters of the list; all given ones must hold."""

    model_config = ConfigDict(extra="forbid")

    device: Text | None = Field(default=None, description="device_serial")
    officer: Text | None = Field(default=None, description="officer_id, as believed now")
    station: Text | None = None
    site: Text | None = None
    borough: Text | None = None
    category: Text | None = None
    evidential_state: EvidentialState | None = None
    state: ClipState | None = None
    crime_ref: Text | None = None
    incident: Text | None = None
    exhibit_ref: Text | None = None
    tag: Text | None = Field(default=None, description="One of the clip's tags.")
    media_flag: MediaFlag | None = Field(
        default=None, description="What the latest look into the footage has found odd."
    )
    recorded_after: Moment | None = Field(
        default=None, description="Start of the recording, by the clock that `clock` names."
    )
    recorded_before: Moment | None = None
    clock: Literal["raw", "corrected"] | None = Field(
        default=None,
        description="Which start is meant by `recorded_*`, and what the list goes by: 'raw' as the "
        "camera's clock said, 'corrected' (if neither is named) moved by the offset that was "
        "measured or asserted, or raw where none is known.",
    )
    received_after: Moment | None = Field(default=None, description="Announcement time.")
    received_before: Moment | None = None
    held: bool | None = None
    erase_due_before: Moment | None = None

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "ClipFilters":
        for name in ("recorded", "received"):
            after, before = getattr(self, f"{name}_after"), getattr(self, f"{name}_before")
            if after is not None and before is not None and after >= before:
                message = f"{name}_after must be before {name}_before"
                raise ValueError(message)
        if self.clock is not None and self.recorded_after is None and self.recorded_before is None:
            message = "clock says how recorded_after and recorded_before are meant: give one"
            raise ValueError(message)
        return self

    def search(self) -> Search:
        """Return the filters as the ledger takes them."""
        return Search(**{name: getattr(self, name) for name in ClipFilters.model_fields})


class ClipQuery(ClipFilters):
    """The filters of the list, and the page."""

    cursor: str | None = Field(default=None, max_length=100)
    limit: int = Field(default=100, ge=1, le=PAGE_MAX)


@router.get(
    "/clips",
    summary="List clips",
    response_model=bodies.ClipPage,
    responses={
        **NOT_MODIFIED,
        **documented(*WITH_TOKEN, errors.InvalidRequest, errors.InvalidCursor),
    },
)
async def get_clips(
    query: Annotated[ClipQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(CLIPS_READ))],
) -> Response:
    """List clips, newest announcement first; the order is stable while clips come in.

    By `recorded_*` the list goes by the time of recording (newest first), by `erase_due_before`
    by the time of erasure (soonest first). A cursor is good for the filters it came with.
    """
    page = await list_clips(
        query.search(), principal, cursor=query.cursor, limit=query.limit, pool=opened.pool
    )
    body = bodies.ClipPage(
        clips=[bodies.Clip(**show_clip(clip, None)) for clip in page.clips],
        next_cursor=page.next_cursor,
        prev_cursor=page.prev_cursor,
    )
    return answer_conditionally(request, body)


class ExportQuery(ClipFilters):
    """The filters of an export, and its form."""

    form: Literal["csv", "jsonl"] | None = Field(
        default=None, alias="format", description="Or by Accept; JSON Lines if neither says."
    )


@router.get(
    "/clips/export",
    summary="All clips of a list, as CSV or JSON Lines",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"text/csv": {}, "application/jsonl": {}},
            "description": "One clip a line; an answer that breaks off is not complete",
        },
        **documented(*WITH_TOKEN, errors.InvalidRequest),
    },
)
async def get_export(
    query: Annotated[ExportQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(CLIPS_READ))],
) -> StreamingResponse:
    """Stream every clip that passes the filters, in the list's order, page by page."""
    is_csv = query.form == "csv" or (
        query.form is None and "text/csv" in request.headers.get("accept", "")
    )
    pages = export_clips(query.search(), principal, pool=opened.pool)
    # The first page is waited for: a ledger that is away is a problem, not a torn answer.
    lines = await _begin(write_csv(pages) if is_csv else write_json_lines(pages))
    headers = {
        "Content-Disposition": f'attachment; filename="clips.{"csv" if is_csv else "jsonl"}"',
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
        "Vary": "Accept",
    }
    media_type = "text/csv; charset=utf-8; header=present" if is_csv else "application/jsonl"
    return StreamingResponse(lines, 200, headers, media_type)


@router.get(
    "/clips/{clip_id}",
    summary="One clip",
    response_model=bodies.ClipDetail,
    responses={
        **NOT_MODIFIED,
        **documented(*WITH_TOKEN, errors.ClipNotFound, errors.NotYetKnown),
    },
)
async def get_clip(
    clip_id: UUID,
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted())],
    as_of: Annotated[
        Moment | None, Query(description="Answer with what was believed at this time.")
    ] = None,
    *,
    history: Annotated[bool, Query(description="Add all that was ever said of the clip.")] = False,
) -> Response:
    """Answer with everything that is known of a clip. A station sees only its own.

    `as_of` concerns what is asserted (officer, category, title, ...); raw metadata never changes,
    and state, storage and flags are those of now.
    """
    clip = await _get_allowed(clip_id, principal, opened, CLIPS_READ)
    received = await count_received(clip, pool=opened.pool)
    said = await list_history(clip, pool=opened.pool) if history else None
    media = await find_clip_media(clip, pool=opened.pool)
    if as_of is not None:
        if as_of > opened.now():
            reason = "query.as_of: lies in the future"
            raise errors.InvalidRequest(reason)
        clip = await recall_clip(clip, as_of, pool=opened.pool)
    lineage = await find_lineage(clip_id, pool=opened.pool)
    shown = show_clip(clip, received)
    detail = bodies.ClipDetail(
        **shown,
        as_of=as_of,
        history=None if said is None else show_assertions(said),
        ended_at_corrected=_correct_end(clip),
        clock=bodies.ClockCorrection.model_validate(explain_correction(clip), from_attributes=True),
        media=None if media is None else MediaFacts.model_validate(media, from_attributes=True),
        announcement=clip.announcement,
        bucket=clip.bucket,
        object_key=clip.object_key,
        object_version=clip.object_version,
        manifest=clip.manifest,
        event_count=clip.event_count,
        derived_from=[show_derivative(each) for each in lineage.derived_from],
        derivatives=[show_derivative(each) for each in lineage.derivatives],
    )
    return answer_conditionally(request, detail)


async def _get_allowed(clip_id: UUID, principal: Principal, opened: Opened, scope: str) -> Clip:
    """A station needs no more than being the one that sent the clip; others need the scope."""
    principal.require(UPLOAD if principal.kind == "station" else scope)
    telemetry.add_fields(clip_id=str(clip_id))
    return await get_visible_clip(clip_id, principal, pool=opened.pool)


def _correct_end(clip: Clip) -> datetime | None:
    """Move the end as the start was moved: a recording is as long as the device says."""
    return correct_time(clip.ended_at, explain_correction(clip).offset_ms)


@router.get(
    "/clips/{clip_id}/events",
    summary="The chain of custody of a clip",
    responses=documented(*WITH_TOKEN, errors.ClipNotFound),
)
async def get_events(
    clip_id: UUID,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted())],
    after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="clip_seq to go on after")] = -1,
) -> bodies.CustodyTrail:
    """List a clip's custody events in order, with the exact bytes that are hashed and chained."""
    await _get_allowed(clip_id, principal, opened, CLIPS_READ)
    async with reading(opened.pool) as connection:
        events = await custody.list_clip_events(
            connection, clip_id, after=after, limit=EVENTS_PAGE + 1
        )
    page = events[:EVENTS_PAGE]
    return bodies.CustodyTrail(
        clip_id=clip_id,
        events=[_show_event(event) for event in page],
        next_after=page[-1].clip_seq if len(events) > EVENTS_PAGE else None,
    )


def _show_event(event: CustodyEvent) -> bodies.CustodyEvent:
    text = event.leaf.decode()
    return bodies.CustodyEvent(
        event_id=event.event_id,
        clip_id=event.clip_id,
        clip_seq=event.clip_seq,
        type=event.type,
        recorded_at=event.recorded_at,
        leaf=json.loads(text),
        leaf_text=text,
        leaf_hash=event.leaf_hash.hex(),
    )


@router.get(
    "/clips/{clip_id}/content",
    summary="The footage",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The whole clip"},
        206: {"content": {"application/octet-stream": {}}, "description": "The asked-for range"},
        304: {"description": "The ETag in If-None-Match is the present one"},
        **documented(
            *WITH_TOKEN,
            errors.ClipNotFound,
            errors.ContentGone,
            errors.PurposeRequired,
            errors.RangeUnsatisfiable,
            errors.ErasureBegun,
            errors.UploadBusy,
            errors.StoredBytesLost,
            errors.VaultUnavailable,
        ),
    },
)
async def get_content(
    clip_id: UUID,
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(CONTENT_READ))],
    purpose: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$", description="Why.")
    ] = None,
) -> Response:
    """Stream the footage. The access is a custody event before the first byte leaves.

    A purpose that asks for it (as 'complaint' does by default) places a hold before that.
    """
    opened.purposes.require(CONTENT_READ, purpose)
    clip = await _get_allowed(clip_id, principal, opened, CONTENT_READ)

    async def record(start: int, stop: int, *, is_partial: bool) -> None:
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
        await record_access(
            clip_id,
            Happening(
                "footage.streamed" if is_partial else "footage.downloaded",
                Actor.of(principal),
                {"start": start, "stop": stop},
                purpose=purpose,
                request_id=telemetry.request_id(),
            ),
            pool=opened.pool,
            now=opened.now,
        )

    return await answer_content(request, clip, opened, record)


class RecordAccess(Protocol):
    """Records that so much of a clip (stop is exclusive) is about to be handed out."""

    async def __call__(self, start: int, stop: int, *, is_partial: bool) -> None:
        """Raise, and nothing is handed out."""


async def answer_content(
    request: Request, clip: Clip, opened: Resources, record: RecordAccess
) -> Response:
    """Return the footage of a clip, or the range that is asked for, once that is recorded.

    Raises:
        ContentGone: there are no bytes (any more, or yet).
        RangeUnsatisfiable: not of this clip. Nothing was recorded.
        StoredBytesLost, VaultUnavailable: it was recorded, and nothing handed out.
    """
    if clip.state not in _READABLE_STATES or clip.object_key is None or clip.size_bytes is None:
        raise errors.ContentGone(clip.clip_id, clip.state)
    etag = _etag_of(clip)
    if etag is not None and etag in _listed(request.headers.get("if-none-match")):
        return Response(status_code=304, headers={"ETag": etag})
    span = _parse_range(request, clip.size_bytes, etag)
    start, stop = span or (0, clip.size_bytes)
    await record(start, stop, is_partial=span is not None)
    headers = _content_headers(clip, etag, start, stop, is_partial=span is not None)
    try:
        blocks = await _begin(opened.vault.read(clip.object_key, clip.object_version, start, stop))
    except errors.StoredBytesLost as lost:
        if await is_being_erased(clip.clip_id, pool=opened.pool):
            raise errors.ContentGone(clip.clip_id, "being erased") from lost
        raise
    return StreamingResponse(blocks, 200 if span is None else 206, headers, headers["Content-Type"])


async def _begin(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Wait for the first block, so that a missing object is a problem and not a torn answer."""
    first = await anext(blocks, b"")

    async def resume() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return resume()


def _etag_of(clip: Clip) -> str | None:
    digest = clip.sha256 or clip.sha256_readback
    return None if digest is None else f'"{digest.hex()}"'


def answer_conditionally(request: Request, body: BaseModel) -> Response:
    """Return a body with its ETag, or 304 to who has it already."""
    content = body.model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    asked = _listed(request.headers.get("if-none-match"))
    if etag in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    return Response(content, 200, headers, "application/json")


def _listed(value: str | None) -> set[str]:
    return {each.strip().removeprefix("W/") for each in (value or "").split(",")}


def _parse_range(request: Request, size_bytes: int, etag: str | None) -> tuple[int, int] | None:
    """Return (start, stop) of a single range; None for the whole clip (RFC 9110, section 14)."""
    value = request.headers.get("range")
    if value is None:
        return None
    condition = request.headers.get("if-range")
    if condition is not None and condition != etag:
        return None
    matched = _RANGE.fullmatch(value.strip())
    if matched is None or matched[0] == "bytes=-":
        # Several ranges or another unit: a server may ignore the field and send everything.
        return None
    first, last = matched[1], matched[2]
    start = int(first) if first else max(0, size_bytes - int(last))
    stop = min(size_bytes, int(last) + 1) if first and last else size_bytes
    if start >= stop:
        raise errors.RangeUnsatisfiable(size_bytes)
    return start, stop


def _file_name(clip: Clip) -> str:
    """Return a name for the download that is no path and turns no text around."""
    name = str(clip.announcement.get("filename") or f"{clip.recording_id}-{clip.segment_no}")
    return _UNSAFE.sub("_", name)[:_NAME_CHARS_MAX].lstrip(".") or "clip"


def _content_headers(
    clip: Clip, etag: str | None, start: int, stop: int, *, is_partial: bool
) -> dict[str, str]:
    name = _file_name(clip)
    safe = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    declared = str(clip.announcement.get("content_type") or "")
    quoted = quote(name, safe="")
    headers = {
        "Content-Type": declared
        if declared.startswith("video/") and declared.isascii() and declared.isprintable()
        else "application/octet-stream",
        "Content-Length": str(stop - start),
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename=\"{safe}\"; filename*=UTF-8''{quoted}",
        "Cache-Control": "private, no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if etag is not None:
        headers["ETag"] = etag
    if is_partial:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{clip.size_bytes}"
    return headers
