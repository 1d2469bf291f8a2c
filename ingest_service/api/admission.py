"""At the door: a request that cannot be finished in time is refused before anything is done for it.

No token is looked at, no body read, the ledger not asked, no line logged: a refusal must cost far
less than the request, or refusing is one more load. The one header that is looked at, and only
where an announcement would be refused, is the one that may get it in.
"""

from typing import Any, Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_service import telemetry
from ingest_service.api.problems import problem_response
from ingest_service.domain.admission import Door, Kind
from ingest_service.domain.draining import Drain
from ingest_service.domain.priority import PRIORITY, PriorityClaim, claims_priority
from ingest_service.errors import Overloaded, ShuttingDown

# What a request for a clip is to its dock, by what follows the id in the path.
_CLIP_KINDS: Final[dict[str, Kind]] = {"chunks": "bytes", "seal": "bytes", "receipt": "ask"}
_CLIP_PARTS_MIN: Final = 5
# What costs less than its refusal (a clock that is asked late is measured badly); and what
# operators look at when the house is full.
_NEVER_REFUSED: Final = frozenset({"/v1/time", "/v1/ops"})
# What brings a clip to be known: to the IETF the method of a creation is the client's choice.
_BEGINNINGS: Final = frozenset(
    {("POST", "/v1/clips"), ("POST", "/files"), ("PUT", "/files"), ("PATCH", "/files")}
)
_PRIORITY_FIELD: Final = PRIORITY.lower().encode()
_WAS_URGENT: Final = "ingest.was_urgent"
PRIORITY_PARAMETER: Final[dict[str, Any]] = {
    "name": PRIORITY,
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "RFC 9218. `u=0` claims that this clip matters more than others: it is let in "
    "where ordinary announcements are refused, as far as there is room. For clips of urgent "
    "categories alone; every claim is in the clip's chain of custody.",
    "example": "u=0",
}


class Admission:
    """Takes a request in work, or tells its caller when to come back.

    Probes and metrics are always answered: a busy process that is taken for a dead one leaves its
    load to its neighbours.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        asked = classify(scope["path"], scope["method"]) if scope["type"] == "http" else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        kind, route = asked
        resources = scope["app"].state.resources
        drain: Drain = resources.drain
        if drain.is_refusing:
            telemetry.add_fields(route=route)
            # The next connection leads to a process that stays.
            refusal = problem_response(ShuttingDown(), headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        door: Door = resources.door
        if kind == "new" and door.is_closed_to(kind) and _may_be_urgent(scope):
            kind = "urgent"
        retry_after_s = door.enter(kind)
        if retry_after_s is not None:
            telemetry.SHED.labels(kind).inc()
            telemetry.add_fields(route=route)
            await problem_response(Overloaded(retry_after_s))(scope, receive, send)
            return
        if kind == "urgent":
            telemetry.PRIORITY_ADMITTED.inc()
            scope[_WAS_URGENT] = True
        visit = _Visit(door, kind, drain, receive, send)
        drain.in_flight += 1
        try:
            await self._app(scope, visit.receive, visit.send)
        finally:
            drain.in_flight -= 1
            visit.end()


class _Visit:
    """A request in work; not while it waits for its caller."""

    __slots__ = ("_door", "_drain", "_is_in_work", "_kind", "_receive", "_send")

    def __init__(self, door: Door, kind: Kind, drain: Drain, receive: Receive, send: Send) -> None:
        self._door = door
        self._kind = kind
        self._drain = drain
        self._receive = receive
        self._send = send
        self._is_in_work = True

    async def receive(self) -> Message:
        """Hand on what comes; until the body's end we wait for the dock, not it for us."""
        self._wait()
        message = await self._receive()
        if not message.get("more_body", False) and not self._is_in_work:
            self._is_in_work = True
            self._door.resume(self._kind)
        return message

    async def send(self, message: Message) -> None:
        """Hand on the answer; a long one goes as fast as the caller reads."""
        if message.get("more_body", False):
            self._wait()
        elif self._drain.is_leaving and message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await self._send(message)

    def end(self) -> None:
        """Leave."""
        self._wait()

    def _wait(self) -> None:
        if self._is_in_work:
            self._is_in_work = False
            self._door.leave(self._kind)


def _may_be_urgent(scope: Scope) -> bool:
    if (scope["method"], scope["path"]) not in _BEGINNINGS:
        return False
    lines = [value for name, value in scope["headers"] if name == _PRIORITY_FIELD]
    return bool(lines) and claims_priority(b", ".join(lines).decode("latin-1"))


def find_claim(request: Request) -> PriorityClaim | None:
    """Return the claim that a clip matters more than others; None: the dock makes none."""
    was_used = _WAS_URGENT in request.scope
    return PriorityClaim(was_used) if was_used or _may_be_urgent(request.scope) else None


def classify(path: str, method: str) -> tuple[Kind, str] | None:
    """Return what a request is to its dock, and its route for the metrics.

    None: it is never refused.
    """
    if method == "OPTIONS" or path in _NEVER_REFUSED:
        return None
    if path.startswith("/v1/"):
        parts = path.split("/")
        is_of_clip = len(parts) >= _CLIP_PARTS_MIN and parts[2] == "clips"
        if is_of_clip and (kind := _CLIP_KINDS.get(parts[4])) is not None:
            index = "/{index}" if len(parts) > _CLIP_PARTS_MIN else ""
            return kind, f"/v1/clips/{{clip_id}}/{parts[4]}{index}"
        return "new", "/v1/clips" if path == "/v1/clips" else "/v1/*"
    if path.startswith("/files"):
        return ("new", "/files") if path == "/files" else ("bytes", "/files/{upload_id}")
    if path.startswith("/d/"):
        return "new", "/d/*"
    return ("new", "/log/*") if path.startswith("/log/") else None
