"""What every request gets: an id, one structured line, its metrics, and an answer to a surprise."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final
from uuid import UUID

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_service import telemetry
from ingest_service.api.problems import internal_error_response
from ingest_service.domain.clock import utc_now
from ingest_service.domain.ids import make_id
from ingest_service.tracing import spans

REQUEST_ID: Final = b"x-request-id"
# nginx's number for a caller that hung up before the answer; it never goes over the wire.
CALLER_GONE: Final = 499

_LOG: Final = structlog.get_logger("ingest.request")
_SERVER_ERRORS: Final = 500
# What the security log is for; tus's own 403 are of uploads, not of people.
_DENIALS: Final = frozenset(
    {"unauthorized", "token-expired", "key-revoked", "forbidden", "link-unknown", "link-ended"}
)
_ID_CHARS_MAX: Final = 64
_ID_CHARS: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:"
# Other methods share one label: a stranger must not make us a metric per invented word.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED: Final = "unmatched"
_SURFACES: Final = {"files": "tus", "v1": "queries", "log": "log", "d": "links"}
# What docks ask; the rest of /v1 is asked by people and services.
_NATIVE: Final = frozenset(
    {
        ("POST", "/v1/clips"),
        ("GET", "/v1/time"),
        ("POST", "/v1/clips/{clip_id}/chunks/{index}"),
        ("GET", "/v1/clips/{clip_id}/chunks"),
        ("POST", "/v1/clips/{clip_id}/seal"),
        ("GET", "/v1/clips/{clip_id}/receipt"),
        ("POST", "/v1/devices/{serial}/manifest"),
    }
)
# These take as long as their callers like; their time says nothing of the service.
_LONG: Final = {
    "/v1/events": "feed",
    "/v1/events/stream": "feed",
    "/v1/clips/export": "downloads",
    "/v1/clips/{clip_id}/content": "downloads",
    "/v1/clips/{clip_id}/pack": "downloads",
}
# Probes and open pages ask every few seconds; their lines would bury the others.
_QUIET_ROUTES: Final = frozenset({"/livez", "/readyz", "/metrics", "/v1/ops"})
# Asked every few seconds by machines, and of no upload; a stream would be a trace of days.
_UNTRACED_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics", "/v1/events/stream"})
# Thousands a second when it matters: they are counted, and one line tells of many.
_SHED_OUTCOMES: Final = frozenset({"overloaded", "ledger-busy"})
_SHED_LINE_EVERY_S: Final = 10.0
_OK_OUTCOMES: Final = ((200, "informed"), (300, "ok"), (400, "redirected"))


@dataclass(slots=True)
class _Answer:
    """What was sent back so far."""

    status: int = 0
    sent_bytes: int = 0


@dataclass(slots=True)
class _Meters:
    """The metrics of one (route, method), looked up once: a look-up costs more than counting."""

    surface: str
    route: str
    method: str
    seconds: telemetry.Tally
    by_status: dict[int, Any] = field(default_factory=dict)

    def count(self, status: int, seconds: float) -> None:
        counter = self.by_status.get(status)
        if counter is None:
            counter = telemetry.REQUESTS.labels(self.surface, self.method, self.route, str(status))
            self.by_status[status] = counter
        counter.inc()
        self.seconds.note(seconds)


class ObserveRequests:
    """The outermost middleware of ours; plain ASGI, for it sees every block of every body.

    A handler's exception that nobody made a problem of is answered and logged here, so that
    the answer carries the request id too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._meters: dict[tuple[str, str], _Meters] = {}
        self._shed_count = 0
        self._shed_told_at = -_SHED_LINE_EVERY_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        request_id = _find_request_id(scope["headers"]) or make_id(utc_now()).hex
        id_header = (REQUEST_ID, request_id.encode())
        fields: dict[str, object] = {"request_id": request_id}
        answer = _Answer()

        async def send_observed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                message["headers"] = [*message.get("headers", ()), id_header]
            elif message["type"] == "http.response.body":
                answer.sent_bytes += len(message.get("body", b""))
            await send(message)

        token = telemetry.REQUEST_FIELDS.set(fields)
        span = (
            spans.tracer.begin_request(scope["method"], scope["headers"])
            if spans.tracer is not None and scope["path"] not in _UNTRACED_PATHS
            else None
        )
        try:
            await self._serve(scope, receive, send_observed, answer)
        finally:
            self._record(scope, fields, answer, perf_counter() - started)
            telemetry.REQUEST_FIELDS.reset(token)
            if span is not None:
                _describe(span, scope, fields, answer.status or CALLER_GONE)
                span.leave()

    async def _serve(self, scope: Scope, receive: Receive, send: Send, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            telemetry.add_fields(outcome="caller-gone")
            answer.status = answer.status or CALLER_GONE
        except asyncio.CancelledError:
            telemetry.add_fields(outcome="cancelled")
            raise
        except Exception as error:
            spans.describe(exception__type=type(error).__name__)
            if answer.status:
                # The answer has begun, so it cannot turn into a problem: cut the connection,
                # or the caller would take half an answer for a whole one.
                telemetry.add_fields(outcome="broken-off")
                _LOG.exception("answer_broken_off")
                raise
            await internal_error_response(error)(scope, receive, send)

    def _record(
        self, scope: Scope, fields: dict[str, object], answer: _Answer, seconds: float
    ) -> None:
        meters = self._find_meters(_find_route(scope, fields) or _UNMATCHED, scope["method"])
        # Without an answer the process is going away, or the caller is.
        status = answer.status or CALLER_GONE
        meters.count(status, seconds)
        _note_traffic(scope, fields, status, seconds)
        # What is hidden is answered as what is not there, and is a refusal all the same.
        if fields.get("outcome") in _DENIALS or "denied" in fields:
            _note_denial(scope, meters, fields)
        if fields.get("outcome") in _SHED_OUTCOMES:
            self._tell_shed(meters, fields)
            return
        line = {
            "method": meters.method,
            "route": meters.route,
            "status": status,
            "ms": round(seconds * 1000, 2),
            "sent_bytes": answer.sent_bytes,
            "outcome": _name_outcome(status),
            **_find_ids(scope),
            **fields,
        }
        if status >= _SERVER_ERRORS:
            _LOG.error("request", **line)
        elif meters.route in _QUIET_ROUTES:
            _LOG.debug("request", **line)
        else:
            _LOG.info("request", **line)

    def _tell_shed(self, meters: _Meters, fields: dict[str, object]) -> None:
        self._shed_count += 1
        now = perf_counter()
        if now - self._shed_told_at >= _SHED_LINE_EVERY_S:
            _LOG.warning(
                "requests_shed",
                count=self._shed_count,
                outcome=fields["outcome"],
                method=meters.method,
                route=meters.route,
            )
            self._shed_count, self._shed_told_at = 0, now

    def _find_meters(self, route: str, method: str) -> _Meters:
        meters = self._meters.get((route, method))
        if meters is None:
            known_method = method if method in _METHODS else "other"
            surface = name_surface(known_method, route)
            seconds = telemetry.tally(telemetry.REQUEST_SECONDS, surface, known_method, route)
            meters = _Meters(surface, route, known_method, seconds)
            if method in _METHODS:
                self._meters[route, method] = meters
        return meters


def name_surface(method: str, route: str) -> str:
    """Return who asks here: the surface of the metrics."""
    if (method, route) in _NATIVE:
        return "native"
    return _LONG.get(route) or _SURFACES.get(route.lstrip("/").split("/", 1)[0], "ops")


def _find_route(scope: Scope, fields: dict[str, object]) -> str | None:
    """Return the template of the route that was taken."""
    route = fields.get("route") or getattr(scope.get("route"), "path", None)
    return None if route is None else str(route)


def _describe(span: spans.Request, scope: Scope, fields: dict[str, object], status: int) -> None:
    """Tell of a request what its line in the log tells, less what a caller wrote.

    Not its path: what stands there may be a link's token.
    """
    route = _find_route(scope, fields)
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    shown = "HTTP" if method == "_OTHER" else method
    span.rename(shown if route is None else f"{shown} {route}")
    outcome, received = fields.get("outcome"), fields.get("bytes")
    ids = {**_find_ids(scope), **fields}
    span.describe(
        http__request__method=method,
        http__route=route,
        http__response__status_code=status,
        http__request__body__size=received if isinstance(received, int) else None,
        url__scheme=scope.get("scheme"),
        request_id=str(fields["request_id"]),
        outcome=_name_outcome(status) if outcome is None else str(outcome),
        **{name: str(ids[name]) for name in ("clip_id", "upload_id") if name in ids},
    )
    if status >= _SERVER_ERRORS:
        span.fail(str(status) if outcome is None else str(outcome))


def _note_traffic(scope: Scope, fields: dict[str, object], status: int, seconds: float) -> None:
    """Note the request for the operators."""
    opened = getattr(scope["app"].state, "resources", None)
    if opened is None:
        # Nothing is open yet, or no more.
        return
    received = fields.get("bytes")
    opened.traffic.note(
        str(fields["principal"]) if fields.get("principal_kind") == "station" else None,
        status=status,
        is_shed=fields.get("outcome") in _SHED_OUTCOMES,
        received_bytes=received if isinstance(received, int) else 0,
        seconds=seconds,
    )


def _note_denial(scope: Scope, meters: _Meters, fields: dict[str, object]) -> None:
    """Note in the security log that somebody was refused."""
    kind, name = fields.get("principal_kind"), fields.get("principal")
    client = scope.get("client")
    scope["app"].state.resources.security.note(
        principal=None if kind is None else (str(kind), str(name)),
        method=meters.method,
        route=meters.route,
        problem=str(fields.get("denied") or fields.get("outcome", "refused")),
        request_id=str(fields["request_id"]),
        source=str(client[0]) if client else None,
    )


def _find_ids(scope: Scope) -> dict[str, str]:
    """Return the ids in the request's path: also of a request that was refused before its handler.

    What is no id may be anything, a token pasted into the wrong place too.
    """
    named: dict[str, object] = scope.get("path_params") or {}
    found: dict[str, str] = {}
    for name in ("clip_id", "upload_id"):
        if name in named:
            with suppress(ValueError):
                found[name] = str(UUID(str(named[name])))
    return found


def _find_request_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the caller's own id of the request, if it is harmless in a log."""
    for name, value in headers:
        if name == REQUEST_ID:
            is_sane = 0 < len(value) <= _ID_CHARS_MAX and not value.translate(None, _ID_CHARS)
            return value.decode("ascii") if is_sane else None
    return None


def _name_outcome(status: int) -> str:
    for limit, name in _OK_OUTCOMES:
        if status < limit:
            return name
    return "refused" if status < _SERVER_ERRORS else "failed"
