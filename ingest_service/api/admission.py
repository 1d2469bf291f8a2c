"""At the door: a request that cannot be finished in time is refused before anything is done for it.

No token is looked at, no body read, the ledger not asked, no line logged: a refusal must cost far
less than the request, or refusing is one more load.
"""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest_service import telemetry
from ingest_service.api.problems import problem_response
from ingest_service.domain.admission import Door, Kind
from ingest_service.domain.draining import Drain
from ingest_service.errors import Overloaded, ShuttingDown

# What a request for a clip is to its dock, by what follows the id in the path.
_CLIP_KINDS: Final[dict[str, Kind]] = {"chunks": "bytes", "seal": "bytes", "receipt": "ask"}
_CLIP_PARTS_MIN: Final = 5
# What costs less than its refusal (a clock that is asked late is measured badly); and what
# operators look at when the house is full.
_NEVER_REFUSED: Final = frozenset({"/v1/time", "/v1/ops"})


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
        retry_after_s = door.enter(kind)
        if retry_after_s is not None:
            telemetry.SHED.labels(kind).inc()
            telemetry.add_fields(route=route)
            await problem_response(Overloaded(retry_after_s))(scope, receive, send)
            return
        visit = _Visit(door, drain, receive, send)
        drain.in_flight += 1
        try:
            await self._app(scope, visit.receive, visit.send)
        finally:
            drain.in_flight -= 1
            visit.end()


class _Visit:
    """A request in work; not while it waits for its caller."""

    __slots__ = ("_door", "_drain", "_is_in_work", "_receive", "_send")

    def __init__(self, door: Door, drain: Drain, receive: Receive, send: Send) -> None:
        self._door = door
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
            self._door.resume()
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
            self._door.leave()


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
