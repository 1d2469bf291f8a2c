"""What a recipient sees of a disclosure: a page, its terms, a pack, single clips.

The link's token is the only key, so it stands in no log line, and no page here leads elsewhere.
"""

import asyncio
import base64
import hashlib
import html
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute

from ingest_service import errors, telemetry
from ingest_service.actions.pack_disclosure import pack_disclosure
from ingest_service.actions.use_link import (
    Use,
    check_use,
    find_acceptance,
    find_link,
    list_linked,
    record_use,
)
from ingest_service.api.clips import answer_content
from ingest_service.api.deps import Opened, resources_of
from ingest_service.api.page_headers import PAGE_HEADERS
from ingest_service.api.problems import documented, problem_response
from ingest_service.domain.custody import format_time
from ingest_service.domain.disclosure import AccessKind, Disclosure
from ingest_service.domain.retention import LivingClip
from ingest_service.ledger.disclosures import Acceptance
from ingest_service.resources import Resources

Token = Annotated[str, Path(max_length=200, description="The secret of the link.")]
FORM: Final = "application/x-www-form-urlencoded"
_FORM_BYTES_MAX: Final = 4096
_FORM_FIELDS_MAX: Final = 10
_NAME: Final = re.compile(r"(?=.*\w)[^\x00-\x1f\x7f]{1,200}")
_HTML: Final = "text/html; charset=utf-8"
_STYLE: Final = (
    "body{font:17px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;"
    "color:#1a1a1a;background:#fff}dt{font-weight:bold}dd{margin:0 0 .5rem}"
    ".terms{white-space:pre-wrap;border:1px solid #767676;padding:.5rem 1rem}"
    "table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:bold}"
    "th,td{border:1px solid #999;padding:.3rem .5rem;text-align:left;vertical-align:top}"
    "code{overflow-wrap:anywhere}input[type=text],button{font:inherit;padding:.3rem .6rem}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# One style, known by its hash; no script, nothing loaded, and the form leads here alone.
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_SECURITY: Final = {
    **PAGE_HEADERS,
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex, nofollow",
}
_LINK: Final = (
    errors.LinkUnknown,
    errors.LinkEnded,
    errors.TooManyMisses,
    errors.InvalidRequest,
    errors.LedgerUnavailable,
)
_GIVEN: Final = (
    errors.TermsNotAccepted,
    errors.DisclosureForbids,
    errors.ContentGone,
    errors.StoredBytesLost,
    errors.VaultUnavailable,
)


class LinkRoute(APIRoute):
    """A route below a link: who guesses is made to wait, and people are answered with a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handle = super().get_route_handler()

        async def handle_guarded(request: Request) -> Response:
            guard = resources_of(request).link_guard
            address = _address_of(request)
            try:
                wait_s = guard.find_wait(address)
                if wait_s is not None:
                    raise errors.TooManyMisses(wait_s)
                return await handle(request)
            except errors.Rejected as refusal:
                if isinstance(refusal, errors.LinkUnknown):
                    guard.miss(address)
                if not _wants_html(request):
                    raise
                return _show_refusal(refusal)

        return handle_guarded


router = APIRouter(prefix="/d", tags=["links"], route_class=LinkRoute)


@router.get(
    "/{token}",
    summary="The page of a link",
    response_class=Response,
    responses={
        200: {
            "content": {"text/html": {}},
            "description": "Who, for what, terms, and what there is",
        },
        **documented(*_LINK),
    },
)
async def get_page(token: Token, request: Request, opened: Opened) -> Response:
    """Show what is disclosed, to whom and under which terms; every look at it is recorded."""
    disclosure = await find_link(token, pool=opened.pool, now=opened.now)
    telemetry.add_fields(disclosure_id=str(disclosure.disclosure_id))
    await record_use(disclosure, _make_use("page", request), pool=opened.pool, now=opened.now)
    accepted = await find_acceptance(disclosure, pool=opened.pool)
    clips = [] if accepted is None else await list_linked(disclosure, pool=opened.pool)
    return _show(200, "Disclosed clips", _write_page(token, disclosure, accepted, clips))


@router.post(
    "/{token}/accept",
    summary="Accept the terms of a link",
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                FORM: {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string", "maxLength": 200},
                            "accept": {"type": "string", "enum": ["yes"]},
                        },
                        "required": ["name", "accept"],
                    }
                }
            },
        }
    },
    responses={
        303: {"description": "Accepted; back to the page"},
        **documented(
            *_LINK,
            errors.MalformedBody,
            errors.UnsupportedContentType,
            errors.BodyTooLarge,
            errors.BodyStalled,
        ),
    },
)
async def post_accept(token: Token, request: Request, opened: Opened) -> Response:
    """Accept the terms, by name: from then on the link gives out what it allows."""
    disclosure = await find_link(token, pool=opened.pool, now=opened.now)
    telemetry.add_fields(disclosure_id=str(disclosure.disclosure_id))
    form = await _read_form(request, opened)
    name = form.get("name", "").strip()
    if not _NAME.fullmatch(name):
        reason = "body.name: who accepts the terms, in at most 200 characters"
        raise errors.InvalidRequest(reason)
    if form.get("accept") != "yes":
        reason = "body.accept: must be 'yes'"
        raise errors.InvalidRequest(reason)
    await record_use(
        disclosure,
        _make_use("accept", request),
        pool=opened.pool,
        now=opened.now,
        accepted_by=name,
    )
    # Relative: whatever stands before the link's path on its way here stays.
    return Response(status_code=303, headers={**_SECURITY, "Location": f"../{token}"})


@router.get(
    "/{token}/pack",
    summary="All clips of a link, with what proves them",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/zip": {}}, "description": "A BagIt bag, zipped"},
        **documented(*_LINK, *_GIVEN, errors.LogPartNotFound, errors.LogForked),
    },
)
async def get_pack(token: Token, request: Request, opened: Opened) -> Response:
    """Stream every clip with its events, proofs and a verifier.

    A file that breaks off, or has no directory at its end, is no pack.
    """
    disclosure = await find_link(token, pool=opened.pool, now=opened.now)
    telemetry.add_fields(disclosure_id=str(disclosure.disclosure_id))
    clips = await check_use(disclosure, "pack", None, pool=opened.pool)

    async def record() -> None:
        await record_use(
            disclosure,
            _make_use("pack", request),
            [clip.clip_id for clip in clips],
            pool=opened.pool,
            now=opened.now,
        )

    pieces = await pack_disclosure(
        disclosure,
        clips,
        record,
        pool=opened.pool,
        vault=opened.vault,
        signer=opened.signer,
        now=opened.now,
        witnesses=opened.head.witnesses,
    )
    file_name = f"disclosure-{disclosure.disclosure_id}.zip"
    headers = {**_SECURITY, "Content-Disposition": f'attachment; filename="{file_name}"'}
    return StreamingResponse(pieces, 200, headers, "application/zip")


@router.get(
    "/{token}/clips/{clip_id}",
    summary="The footage of one clip of a link",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The whole clip"},
        206: {"content": {"application/octet-stream": {}}, "description": "The asked-for range"},
        304: {"description": "The ETag in If-None-Match is the present one"},
        **documented(*_LINK, *_GIVEN, errors.ClipNotFound, errors.RangeUnsatisfiable),
    },
)
async def get_clip(token: Token, clip_id: UUID, request: Request, opened: Opened) -> Response:
    """Stream one clip, or a range of it; each of them is recorded before its first byte."""
    disclosure = await find_link(token, pool=opened.pool, now=opened.now)
    telemetry.add_fields(disclosure_id=str(disclosure.disclosure_id), clip_id=str(clip_id))
    [clip] = await check_use(disclosure, "clips", clip_id, pool=opened.pool)

    async def record(start: int, stop: int, *, is_partial: bool) -> None:  # noqa: ARG001 - both are told by start and stop
        await record_use(
            disclosure,
            _make_use("clip", request, start, stop),
            [clip_id],
            pool=opened.pool,
            now=opened.now,
        )

    answer = await answer_content(request, clip, opened, record)
    answer.headers.update(_SECURITY)
    return answer


def _make_use(
    what: AccessKind, request: Request, start: int | None = None, stop: int | None = None
) -> Use:
    return Use(what, _address_of(request), telemetry.request_id(), start, stop)


def _address_of(request: Request) -> str | None:
    return None if request.client is None else request.client.host


async def _read_form(request: Request, opened: Resources) -> dict[str, str]:
    """Return the fields of a small form.

    Raises:
        UnsupportedContentType, BodyTooLarge, BodyStalled, MalformedBody: nothing was recorded.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise errors.UnsupportedContentType(FORM)
    data = bytearray()
    try:
        async with asyncio.timeout(opened.rules.body_stall_timeout_s):
            async for block in request.stream():
                data += block
                if len(data) > _FORM_BYTES_MAX:
                    raise errors.BodyTooLarge(_FORM_BYTES_MAX)
    except TimeoutError as error:
        raise errors.BodyStalled(opened.rules.body_stall_timeout_s) from error
    try:
        fields = parse_qsl(
            data.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_FORM_FIELDS_MAX,
        )
    except ValueError as error:
        reason = "the body is no form"
        raise errors.MalformedBody(reason) from error
    return dict(fields)


# --- the pages -------------------------------------------------------------------------------


def _wants_html(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _show(status: int, title: str, body: str, headers: Mapping[str, str] | None = None) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"<main><h1>{html.escape(title)}</h1>{body}</main></body></html>\n"
    )
    told = {**_SECURITY, "Content-Security-Policy": _POLICY, **(headers or {})}
    return Response(text, status, told, _HTML)


def _show_refusal(refusal: errors.Rejected) -> Response:
    """Return a refusal as a page: the same status, and what to do."""
    problem = problem_response(refusal)
    kept = {
        name: problem.headers[name]
        for name in ("Retry-After", "Content-Range")
        if name in problem.headers
    }
    body = f"<p>{html.escape(str(refusal))}.</p><p>{html.escape(refusal.remedy)}</p>"
    return _show(problem.status_code, refusal.title, body, kept)


def _write_page(
    token: str, disclosure: Disclosure, accepted: Acceptance | None, clips: Sequence[LivingClip]
) -> str:
    names = [disclosure.organisation, disclosure.person]
    facts = {
        "For": ", ".join(name for name in names if name is not None),
        "Your reference": disclosure.reference,
        "Purpose": disclosure.purpose,
        "Legal basis": disclosure.legal_basis,
        "Clips": str(disclosure.clip_count),
        "This link ends": format_time(disclosure.expires_at),
    }
    listed = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>"
        for name, value in facts.items()
    )
    offered = (
        _write_form(token) if accepted is None else _write_offer(token, disclosure, accepted, clips)
    )
    return (
        f"<dl>{listed}</dl><h2>Terms</h2>"
        f'<div class="terms">{html.escape(disclosure.terms)}</div>{offered}'
        "<p>Every use of this link is recorded. Do not pass it on.</p>"
    )


def _write_form(token: str) -> str:
    return (
        f'<form method="post" action="{html.escape(token)}/accept">'
        '<p><label for="name">Your name</label><br>'
        '<input type="text" id="name" name="name" required maxlength="200" autocomplete="name"></p>'
        '<p><label><input type="checkbox" name="accept" value="yes" required> '
        "I accept the terms.</label></p><p><button>Accept</button></p></form>"
    )


def _write_offer(
    token: str, disclosure: Disclosure, accepted: Acceptance, clips: Sequence[LivingClip]
) -> str:
    link = html.escape(token)
    told = (
        f"<p>Accepted by {html.escape(accepted.name)} on "
        f"{html.escape(format_time(accepted.accepted_at))}.</p>"
    )
    pack = (
        f'<p><a href="{link}/pack">Fetch all clips as one zip file</a>, with what proves them. '
        "In it, report.html says how to check it.</p>"
        if "pack" in disclosure.allows
        else ""
    )
    rows = "".join(_write_row(link, disclosure, clip) for clip in clips)
    table = (
        "<table><caption>The clips</caption><thead><tr>"
        '<th scope="col">Clip</th><th scope="col">Began, by the camera\'s clock (UTC)</th>'
        '<th scope="col">Bytes</th><th scope="col">SHA-256</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )
    return told + pack + table


def _write_row(link: str, disclosure: Disclosure, clip: LivingClip) -> str:
    name = str(clip.clip_id)
    if "clips" in disclosure.allows:
        name = f'<a href="{link}/clips/{name}">{name}</a>'
    began = "not known" if clip.started_at is None else format_time(clip.started_at)
    digest = "" if clip.sha256 is None else clip.sha256.hex()
    return (
        f"<tr><td>{name}</td><td>{began}</td><td>{clip.size_bytes}</td>"
        f"<td><code>{digest}</code></td></tr>"
    )
