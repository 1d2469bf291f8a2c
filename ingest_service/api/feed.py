"""The feed: custody events in log order, by page, by long poll, as a stream."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from ingest_service import errors, telemetry
from ingest_service.actions.read_feed import (
    FeedPage,
    FeedTail,
    await_events,
    follow_feed,
    read_feed,
)
from ingest_service.api.deps import Granted, Opened
from ingest_service.api.problems import WITH_TOKEN, documented
from ingest_service.domain.event_types import EVENT_TYPES
from ingest_service.domain.feed import TYPE_PREFIX, FeedEvent, FeedFilter, dump_cloud_event
from ingest_service.domain.principal import EVENTS_READ, Principal
from schemas.feed import CloudEventBatch

router = APIRouter(prefix="/v1", tags=["feed"])

BATCH: Final = "application/cloudevents-batch+json"
PAGE_MAX: Final = 1000
WAIT_MAX_S: Final = 60
BEAT_S: Final = 15.0
# Then the consumer comes again and shows a token that is still good.
STREAM_MAX_S: Final = 600.0
# Who takes nothing for so long is cut off; it resumes from its last id.
STALL_MAX_S: Final = 30.0
_STREAM_PAGE: Final = 200
_INDEX_MAX: Final = 2**63 - 2
_FILTERS_MAX: Final = 50
_LOG: Final = structlog.get_logger("ingest.feed")

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


def _known_type(name: str) -> str:
    """Return the type without the prefix."""
    bare = name.removeprefix(TYPE_PREFIX)
    if bare not in EVENT_TYPES:
        message = "no such type of event; docs/feed.md lists them"
        raise ValueError(message)
    return bare


EventType = Annotated[str, Field(max_length=100), AfterValidator(_known_type)]
Index = Annotated[int, Field(ge=-1, le=_INDEX_MAX)]


class FeedQuery(BaseModel):
    """The filters of the feed; all given ones must hold. A repeated one asks for any of them."""

    model_config = ConfigDict(extra="forbid")

    type: list[EventType] = Field(
        default=[], max_length=_FILTERS_MAX, description="With or without the prefix."
    )
    clip: UUID | None = Field(default=None, description="clip_id")
    device: Text | None = Field(default=None, description="device_serial")
    borough: list[Text] = Field(default=[], max_length=_FILTERS_MAX)

    def for_principal(self, principal: Principal) -> FeedFilter:
        """Return what this principal asks for."""
        return FeedFilter.of(
            principal,
            types=frozenset(self.type) or None,
            clip_id=self.clip,
            device=self.device,
            boroughs=frozenset(self.borough) or None,
        )


class PageQuery(FeedQuery):
    """A page of the feed."""

    after: Index = Field(
        default=-1, description="Log index to go on after; -1: from the beginning of the log."
    )
    limit: int = Field(default=100, ge=1, le=PAGE_MAX)
    wait_s: float = Field(
        default=0,
        ge=0,
        le=WAIT_MAX_S,
        description="If there is nothing new, wait so long for it (long poll).",
    )


class StreamQuery(FeedQuery):
    """Where a stream begins, if there is no Last-Event-ID."""

    after: Index = -1


class BatchResponse(Response):
    """CloudEvents in batched content mode."""

    media_type = BATCH


@router.get(
    "/events",
    summary="Events in log order",
    response_class=BatchResponse,
    responses={
        200: {
            "model": CloudEventBatch,
            "description": "CloudEvents 1.0, batched content mode. An empty batch means no more "
            "than that nothing was found up to Ingest-Next-After.",
            "headers": {
                "Ingest-Next-After": {
                    "description": "Log index up to which was looked: the next `after`.",
                    "schema": {"type": "integer"},
                },
                "Ingest-Log-Size": {
                    "description": "Events in the published log.",
                    "schema": {"type": "integer"},
                },
                "Link": {
                    "description": 'The next page, rel="next".',
                    "schema": {"type": "string"},
                },
            },
        },
        **documented(
            *WITH_TOKEN,
            errors.InvalidRequest,
            errors.CursorBeyondLog,
            errors.FeedFull,
        ),
    },
)
async def get_feed(
    query: Annotated[PageQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(EVENTS_READ))],
) -> Response:
    """Answer with the events after a log index. The index has no gaps and never changes.

    A consumer keeps Ingest-Next-After with what it made of the events, in one transaction, and goes
    on from there: killed at any point it misses nothing, and what comes twice has the same `id`.
    """
    asked = query.for_principal(principal)
    tail = opened.feed
    page = await read_feed(asked, after=query.after, limit=query.limit, tail=tail)
    if query.wait_s > 0 and not page.events:
        waited = await _wait_for_events(asked, page, query, request, tail)
        page = waited or page
    telemetry.add_fields(events=len(page.events), scanned_to=page.scanned_to)
    source = opened.signer.name
    body = b",\n".join(dump_cloud_event(event, source) for event in page.events)
    asked_again = [
        *((name, value) for name, value in request.query_params.multi_items() if name != "after"),
        ("after", str(page.scanned_to)),
    ]
    headers = {
        "Ingest-Next-After": str(page.scanned_to),
        "Ingest-Log-Size": str(page.log_size),
        "Link": f'<{opened.base_url}/v1/events?{urlencode(asked_again)}>; rel="next"',
        "Cache-Control": "private, no-store",
    }
    return BatchResponse(b"[" + body + b"]\n", 200, headers)


async def _wait_for_events(
    asked: FeedFilter, page: FeedPage, query: PageQuery, request: Request, tail: FeedTail
) -> FeedPage | None:
    """Wait beside the caller, who may go away; None: it did, or the process drains."""
    with tail.take_seat():
        waiting = asyncio.create_task(
            await_events(asked, page, limit=query.limit, wait_s=query.wait_s, tail=tail)
        )
        others = [
            # Reading also lets the door know that this request is not in work.
            asyncio.create_task(_wait_until_gone(request.receive)),
            asyncio.create_task(_watch_ending(request.scope).wait()),
        ]
        try:
            await asyncio.wait([waiting, *others], return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() else None
        finally:
            for task in (waiting, *others):
                task.cancel()
            await asyncio.gather(waiting, *others, return_exceptions=True)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _watch_ending(scope: Any) -> asyncio.Event:  # noqa: ANN401 - ASGI's mapping
    """Return the event of the process's draining (api/wire.py)."""
    wire = scope.get("extensions", {}).get("ingest.wire")
    return asyncio.Event() if wire is None else wire["watch_ending"]()


@router.get(
    "/events/stream",
    summary="Events as they come",
    response_class=Response,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "Server-sent events: `id` is the log index, `data` a CloudEvent. A "
            "frame with an id and no data moves the cursor on. Ends after ten minutes and when the "
            "process drains: come again with Last-Event-ID.",
        },
        **documented(
            *WITH_TOKEN,
            errors.InvalidRequest,
            errors.InvalidHeader,
            errors.CursorBeyondLog,
            errors.FeedFull,
        ),
    },
)
async def get_stream(
    query: Annotated[StreamQuery, Query()],
    request: Request,
    opened: Opened,
    principal: Annotated[Principal, Depends(Granted(EVENTS_READ))],
) -> Response:
    """Stream the events after Last-Event-ID (or `after`), and go on as they come."""
    after = _read_last_id(request, query.after)
    size = await opened.feed.look()
    if after >= size and after != -1:
        raise errors.CursorBeyondLog(after, size)
    if opened.feed.is_full:
        raise errors.FeedFull(opened.feed.seats_max)
    return EventStream(
        query.for_principal(principal), after, tail=opened.feed, source=opened.signer.name
    )


def _read_last_id(request: Request, default: int) -> int:
    value = request.headers.get("last-event-id", "").strip()
    if not value:
        return default
    digits = value.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) < len(str(_INDEX_MAX))):
        name = "Last-Event-ID"
        raise errors.InvalidHeader(name, "not a log index")
    return max(-1, int(value))


class EventStream(Response):
    """A feed without end; it holds a cursor, and never a queue."""

    media_type = "text/event-stream"

    def __init__(self, asked: FeedFilter, after: int, *, tail: FeedTail, source: str) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._asked = asked
        self._after = after
        self._tail = tail
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the consumer is gone, stalls, has had its time, or the process drains."""
        with self._tail.take_seat():
            sending = asyncio.create_task(self._send_all(_watch_ending(scope), send))
            gone = asyncio.create_task(_wait_until_gone(receive))
            try:
                await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                for task in (sending, gone):
                    task.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)

    async def _send_all(self, ending: asyncio.Event, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        frames = self._frames(ending)
        try:
            async for frame in frames:
                async with asyncio.timeout(STALL_MAX_S):
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        except TimeoutError:
            telemetry.add_fields(outcome="stalled")
            # Not an end as it should be: the connection is cut.
            raise
        finally:
            with suppress(RuntimeError):
                await frames.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _frames(self, ending: asyncio.Event) -> AsyncGenerator[bytes, None]:
        yield b"retry: 2000\n\n"
        try:
            async for page in follow_feed(
                self._asked,
                after=self._after,
                limit=_STREAM_PAGE,
                beat_s=BEAT_S,
                last_s=STREAM_MAX_S,
                tail=self._tail,
                ending=ending,
            ):
                yield self._frame(page)
        except errors.Unavailable as error:
            # The consumer comes again with its last id, and is then told when to come.
            _LOG.warning("stream_ended", reason=str(error.facts()))

    def _frame(self, page: FeedPage) -> bytes:
        told = [_format(event, self._source) for event in page.events]
        if not told or page.scanned_to > page.events[-1].log_index:
            # Without data nothing is dispatched, but the last id moves on (WHATWG HTML, 9.2.6).
            told.append(b"id: %d\n: alive\n\n" % page.scanned_to)
        return b"".join(told)


def _format(event: FeedEvent, source: str) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (event.log_index, dump_cloud_event(event, source))
