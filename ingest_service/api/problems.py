"""Every refusal as an RFC 9457 problem document: the only map from errors to HTTP."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, Final, Literal

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from ingest_service import errors, telemetry
from ingest_service.errors import IngestError, public_facts
from schemas.problem import Problem

Action = Literal["fix", "retry", "stop"]

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:ingest:problem:"

_LOG: Final = structlog.get_logger("ingest.problems")
_FIELDS_MAX: Final = 10
_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class HttpRow:
    """How an error looks in HTTP.

    status         of the answer
    action         what the dock does next: fix the request, retry the same, stop
    retry_after_s  shortest and longest Retry-After; the jitter between them spreads a herd
    """

    status: int
    action: Action
    retry_after_s: tuple[int, int] | None = None


_FIX_400: Final = HttpRow(400, "fix")
_FIX_401: Final = HttpRow(401, "fix")
_FIX_409: Final = HttpRow(409, "fix")
_FIX_413: Final = HttpRow(413, "fix")
_STOP_404: Final = HttpRow(404, "stop")
_RETRY_503: Final = HttpRow(503, "retry", (1, 5))

HTTP_ROWS: Final[Mapping[type[IngestError], HttpRow]] = {
    # who is asking
    errors.Unauthorized: _FIX_401,
    errors.TokenExpired: _FIX_401,
    errors.KeyRevoked: HttpRow(401, "stop"),
    errors.Forbidden: HttpRow(403, "stop"),
    errors.PurposeRequired: HttpRow(422, "fix"),
    # things that are not there
    errors.NotFound: _STOP_404,
    errors.RouteNotFound: _STOP_404,
    errors.ClipNotFound: _STOP_404,
    errors.UploadNotFound: _STOP_404,
    errors.LogPartNotFound: _STOP_404,
    errors.StationNotFound: _STOP_404,
    errors.WebhookNotFound: _STOP_404,
    errors.DeadLetterNotFound: _STOP_404,
    errors.StationKeyNotFound: _STOP_404,
    errors.NotYetKnown: _STOP_404,
    errors.HoldNotFound: _STOP_404,
    errors.PolicyNotFound: _STOP_404,
    errors.HaltNotFound: _STOP_404,
    errors.CertificateNotFound: _STOP_404,
    errors.DisclosureNotFound: _STOP_404,
    errors.AccessRequestNotFound: _STOP_404,
    errors.LinkUnknown: _STOP_404,
    errors.LinkEnded: HttpRow(410, "stop"),
    errors.UploadGone: HttpRow(410, "fix"),
    errors.ContentGone: HttpRow(410, "stop"),
    # the request does not fit the state
    errors.Conflict: _FIX_409,
    errors.OffsetMismatch: _FIX_409,
    errors.ChunkConflict: HttpRow(409, "stop"),
    errors.AnnouncementConflict: HttpRow(409, "stop"),
    errors.ChunksMissing: _FIX_409,
    errors.SurfaceMismatch: _FIX_409,
    errors.UploadClosed: _FIX_409,
    # tus clients retry 423 and give up on most other 4xx.
    errors.UploadBusy: HttpRow(423, "retry", (1, 1)),
    errors.TakenOver: _FIX_409,
    errors.ClipBusy: HttpRow(423, "retry", (1, 1)),
    errors.CorrectionMismatch: _FIX_409,
    errors.BatchKeyReused: _FIX_409,
    errors.StationConflict: HttpRow(409, "stop"),
    errors.StationKeyConflict: HttpRow(409, "stop"),
    errors.ErasureBegun: HttpRow(409, "stop"),
    errors.NothingToRestore: HttpRow(409, "stop"),
    errors.HoldReleased: HttpRow(409, "stop"),
    errors.HoldNeeded: HttpRow(409, "stop"),
    errors.PreviewOutdated: _FIX_409,
    errors.PolicyConflict: _FIX_409,
    errors.AnotherPersonNeeded: HttpRow(403, "stop"),
    errors.HoldTooWide: HttpRow(422, "fix"),
    errors.ClipsNotDisclosable: HttpRow(422, "fix"),
    errors.DisclosureTooWide: HttpRow(422, "fix"),
    errors.DisclosureEnded: HttpRow(409, "stop"),
    errors.AccessRequestConflict: _FIX_409,
    errors.DerivativeConflict: _FIX_409,
    errors.TermsNotAccepted: HttpRow(403, "fix"),
    errors.DisclosureForbids: HttpRow(403, "stop"),
    # It knows when there will be room.
    errors.TooManyMisses: HttpRow(429, "retry"),
    errors.TerminationRefused: HttpRow(403, "stop"),
    errors.AppendToFinal: HttpRow(403, "stop"),
    errors.PartialUnusable: _FIX_400,
    # the request is malformed
    errors.InvalidRequest: HttpRow(422, "fix"),
    errors.MalformedBody: _FIX_400,
    errors.MalformedRequest: _FIX_400,
    errors.HeadTooLarge: HttpRow(431, "fix"),
    errors.InvalidHeader: _FIX_400,
    errors.InvalidCursor: _FIX_400,
    errors.InvalidLogRange: _FIX_400,
    errors.WebhookUrlRefused: HttpRow(422, "fix"),
    errors.TooManyWebhooks: HttpRow(409, "stop"),
    errors.CursorBeyondLog: HttpRow(400, "stop"),
    errors.UnknownDigestAlgorithm: _FIX_400,
    errors.UnsupportedContentType: HttpRow(415, "fix"),
    errors.UnsupportedProtocolVersion: HttpRow(412, "fix"),
    errors.MethodNotAllowed: HttpRow(405, "fix"),
    errors.ChunkIndexOutOfRange: _FIX_400,
    errors.ChunkMisshapen: _FIX_400,
    errors.ChunkCorrupted: HttpRow(422, "fix"),
    errors.LengthExceeded: _FIX_413,
    errors.InconsistentLength: _FIX_400,
    # tus 1.0.0, checksum: the status has no name in HTTP.
    errors.ChecksumMismatch: HttpRow(460, "fix"),
    errors.ClipTooLarge: _FIX_413,
    errors.BodyTooLarge: _FIX_413,
    errors.RangeUnsatisfiable: HttpRow(416, "fix"),
    errors.BodyStalled: HttpRow(408, "retry"),
    # later
    errors.Unavailable: _RETRY_503,
    errors.VaultUnavailable: _RETRY_503,
    errors.ObjectLocked: _RETRY_503,
    errors.LedgerUnavailable: _RETRY_503,
    # These two know when there will be room.
    errors.LedgerBusy: _RETRY_503,
    errors.Overloaded: _RETRY_503,
    errors.FeedFull: HttpRow(503, "retry", (5, 30)),
    errors.ShuttingDown: _RETRY_503,
    # Space does not come back in seconds, and 507 tells docks apart from a busy moment.
    errors.VaultFull: HttpRow(507, "retry", (120, 600)),
    # broken
    errors.CustodyBroken: HttpRow(500, "stop"),
    errors.StoredBytesLost: HttpRow(500, "stop"),
    errors.LogForked: HttpRow(500, "stop"),
}


def http_row(error: type[IngestError]) -> HttpRow:
    """Return how this class of error looks in HTTP; one without a row looks like its family."""
    for ancestor in error.__mro__:
        if issubclass(ancestor, IngestError) and ancestor in HTTP_ROWS:
            return HTTP_ROWS[ancestor]
    return HttpRow(500, "stop")


def problem_name(error: type[IngestError]) -> str:
    """Return the stable name of an error: ChunkCorrupted is `chunk-corrupted`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


@dataclass(frozen=True, slots=True)
class Variant:
    """How another protocol calls an error that it has a name for."""

    type_uri: str | None = None
    status: int | None = None
    facts: Mapping[str, object] | None = None


def problem_response(
    error: IngestError,
    *,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    variant: Variant | None = None,
) -> Response:
    """Return the answer to a request that ended in this error.

    Counts it, and adds it to the line of the request being served. `request_id` is taken from
    there when not given. Every surface answers with this, tus included.
    """
    row = http_row(type(error))
    if variant is not None and variant.status is not None:
        row = replace(row, status=variant.status)
    name = problem_name(type(error))
    telemetry.PROBLEMS.labels(name).inc()
    # A path that leads nowhere may be a link with its key, mistyped.
    reason = error.title if isinstance(error, errors.RouteNotFound) else str(error)
    telemetry.add_fields(outcome=name, reason=reason[:_CHARS_MAX])
    if isinstance(error, errors.Rejected) and error.denial:
        telemetry.add_fields(denied=error.denial)
    if isinstance(error, errors.CustodyBroken):
        _LOG.error("custody_broken", problem=name, facts=error.facts())
    detail = str(error) if isinstance(error, errors.Rejected) and error.detail else None
    body = _make_body(
        name,
        row,
        error.title,
        detail=detail,
        remedy=error.remedy,
        facts={**public_facts(error), **((variant and variant.facts) or {})},
        request_id=request_id,
    )
    if variant is not None and variant.type_uri is not None:
        body["type"] = variant.type_uri
    if isinstance(error, errors.Overloaded | errors.LedgerBusy | errors.TooManyMisses):
        headers = {"Retry-After": str(error.retry_after_s), **(headers or {})}
    return _respond(body, row, headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error that leaves a handler become a problem document, and OpenAPI know of it."""
    app.add_exception_handler(IngestError, _handle_ours)
    app.add_exception_handler(RequestValidationError, _handle_invalid)
    app.add_exception_handler(HTTPException, _handle_framework)
    app.add_exception_handler(Exception, _handle_surprise)
    make_schema = app.openapi

    def openapi() -> dict[str, Any]:
        schema = make_schema()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            _document_everywhere(schema)
            # FastAPI lists only bodies of JSON answers; ours have a media type of their own.
            schemas["Problem"] = Problem.model_json_schema()
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # the documented way to extend it


# What any call that needs a token may be refused with, and any that brings a JSON body.
WITH_TOKEN: Final = (
    errors.Unauthorized,
    errors.TokenExpired,
    errors.KeyRevoked,
    errors.Forbidden,
    errors.LedgerUnavailable,
)
WITH_JSON: Final = (
    errors.InvalidRequest,
    errors.MalformedBody,
    errors.UnsupportedContentType,
    errors.BodyTooLarge,
    errors.BodyStalled,
)


def documented(*kinds: type[IngestError]) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses=` for these errors: body, meaning and one example of each."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        row = http_row(kind)
        phrase = _phrase(row.status)
        response = responses.setdefault(
            row.status,
            {
                "description": phrase,
                "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA, "examples": {}}},
            },
        )
        name = problem_name(kind)
        response["content"][MEDIA_TYPE]["examples"][name] = {
            "summary": kind.title,
            "value": _make_body(
                name,
                row,
                kind.title,
                detail=None,
                remedy=kind.remedy,
                request_id="0199c0de5f0a7b7c",
            ),
        }
    return responses


def _document_everywhere(schema: dict[str, Any]) -> None:
    """Add what any call may answer, and say truly how invalid parameters are refused."""
    invalid = documented(errors.InvalidRequest)[422]
    surprise = {
        "description": HTTPStatus(500).phrase,
        "content": {MEDIA_TYPE: {"schema": _PROBLEM_SCHEMA}},
    }
    overloaded = documented(errors.Overloaded)[503]
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            if path.startswith(_MAY_BE_REFUSED) and method != "options":
                refused = responses.setdefault("503", {**overloaded, "content": {}})
                content = refused["content"].setdefault(MEDIA_TYPE, {"schema": _PROBLEM_SCHEMA})
                content["examples"] = {
                    **content.get("examples", {}),
                    **overloaded["content"][MEDIA_TYPE]["examples"],
                }
            responses.setdefault("500", surprise)
            _settle_types(responses)
            if "application/json" in responses.get("422", {}).get("content", {}):
                responses["422"] = invalid


def _settle_types(responses: dict[str, Any]) -> None:
    """Let a body be what its model says.

    FastAPI takes every media type of an answer that is not its own JSON for text, and says so
    beside the model, as if it were both.
    """
    for response in responses.values():
        for content in response.get("content", {}).values():
            if "$ref" in content.get("schema", {}):
                content["schema"].pop("type", None)


def _phrase(status: int) -> str:
    return "Checksum Mismatch" if status == _CHECKSUM_MISMATCH else HTTPStatus(status).phrase


_CHECKSUM_MISMATCH: Final = 460
# The surfaces behind the door (api/admission.py).
_MAY_BE_REFUSED: Final = ("/v1/", "/files", "/log/", "/d/")
# Of disclosures (api/links.py): what follows is a secret.
_LINKS: Final = "/d/"
_PROBLEM_SCHEMA: Final = {"$ref": "#/components/schemas/Problem"}


async def _handle_ours(_request: Request, error: Exception) -> Response:
    if not isinstance(error, IngestError):  # registered for IngestError alone
        raise error
    headers = None
    if isinstance(error, errors.RangeUnsatisfiable):
        headers = {"Content-Range": f"bytes */{error.size_bytes}"}
    return problem_response(error, headers=headers)


async def _handle_invalid(_request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    if any(item.get("type") == "json_invalid" for item in found):
        reason = "the body is not JSON"
        return problem_response(errors.MalformedBody(reason))
    return problem_response(errors.InvalidRequest(describe_invalid(found)))


def describe_invalid(found: Sequence[Mapping[str, Any]]) -> str:
    """Name the fields that pydantic refused and why, never what was sent in them."""
    shown = [
        f"{_printable('.'.join(str(step) for step in item.get('loc', ())))}:"
        f" {_printable(str(item.get('msg', 'is invalid')))}"
        for item in found[:_FIELDS_MAX]
    ]
    if len(found) > _FIELDS_MAX:
        shown.append(f"and {len(found) - _FIELDS_MAX} more")
    return "; ".join(shown)


async def _handle_framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):  # registered for HTTPException alone
        raise error
    method = _printable(request.method)
    match error.status_code:
        case 404:
            return problem_response(
                errors.RouteNotFound(method, _hide_token(_printable(request.scope["path"])))
            )
        case 405:
            return problem_response(
                errors.MethodNotAllowed(method), headers=_list_allowed(request, error)
            )
        case 400:
            reason = "the body is not JSON in UTF-8"
            return problem_response(errors.MalformedBody(reason))
        case status:
            row = HttpRow(status, "retry" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "fix")
            name = f"http-{status}"
            telemetry.add_fields(outcome=name)
            phrase = HTTPStatus(status).phrase
            body = _make_body(name, row, phrase, detail=None, remedy=IngestError.remedy)
            return _respond(body, row, error.headers)


def _hide_token(path: str) -> str:
    """Return a path as it may stand in a log: whoever reads it there must not have the link."""
    return f"{_LINKS}..." if path.startswith(_LINKS) else path


def _list_allowed(request: Request, error: HTTPException) -> Mapping[str, str] | None:
    """Return the Allow header of a path; the framework names only its first route's methods."""
    path = getattr(request.scope.get("route"), "path", None)
    operations = request.app.openapi()["paths"].get(path)
    if not operations:
        return error.headers
    return {"Allow": ", ".join(sorted(method.upper() for method in operations))}


async def _handle_surprise(_request: Request, error: Exception) -> Response:
    return internal_error_response(error)


def internal_error_response(error: Exception) -> Response:
    """Return the answer to an error that nobody foresaw: logged here, nothing of it sent."""
    _LOG.error("request_failed", exc_info=error)
    telemetry.PROBLEMS.labels("internal-error").inc()
    telemetry.add_fields(outcome="internal-error")
    row = HttpRow(500, "retry", (5, 30))
    remedy = (
        "Send the same request again after Retry-After seconds; tell the operator the request_id."
    )
    body = _make_body("internal-error", row, "The service failed", detail=None, remedy=remedy)
    return _respond(body, row, None)


def _make_body(
    name: str,
    row: HttpRow,
    title: str,
    *,
    detail: str | None,
    remedy: str,
    facts: Mapping[str, object] | None = None,
    request_id: str | None = None,
) -> dict[str, object]:
    body: dict[str, object] = {
        # Facts come first: none of them can stand in for a member that RFC 9457 defines.
        **(facts or {}),
        "type": TYPE_PREFIX + name,
        "title": title,
        "status": row.status,
    }
    if detail is not None:
        body["detail"] = detail
    return body | {
        "remedy": remedy,
        "action": row.action,
        "request_id": request_id or telemetry.request_id(),
    }


def _respond(body: Mapping[str, object], row: HttpRow, extra: Mapping[str, str] | None) -> Response:
    headers = {"Cache-Control": "no-store", **(extra or {})}
    if row.retry_after_s is not None:
        headers.setdefault("Retry-After", str(random.randint(*row.retry_after_s)))  # noqa: S311 - jitter, no secret
    if row.status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", 'Bearer realm="ingest"')
    content = json.dumps(body, default=str, ensure_ascii=True)
    return Response(content, row.status, headers, MEDIA_TYPE)


def _printable(text: str) -> str:
    """Shorten what came from outside and make it harmless in logs and terminals."""
    return "".join(char if char.isprintable() else "?" for char in text[:_CHARS_MAX])
