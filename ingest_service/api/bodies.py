"""JSON bodies: read no further than an honest one reaches, and no longer than a dock may stall."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from ingest_service.api.deps import Granted, authenticate, resources_of
from ingest_service.errors import BodyStalled, BodyTooLarge, InvalidHeader, UnsupportedContentType

_JSON: Final = "application/json"
_CONTENT_LENGTH: Final = "Content-Length"


class JsonRoute(APIRoute):
    """A route whose JSON body is bounded: `APIRouter(route_class=JsonRoute)`.

    FastAPI reads a body whole before it looks at anything else. Handlers that take no JSON
    (streams of footage) are left alone.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler: it is given a body that was read already."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle
        needs_token = any(isinstance(each.call, Granted) for each in self.dependant.dependencies)

        async def handle_bounded(request: Request) -> Response:
            resources = resources_of(request)
            if needs_token:
                # Strangers are turned away before anything of theirs is read.
                await authenticate(request.headers, resources.authenticator)
            body = await read_json_body(
                request,
                bytes_max=resources.json_bytes_max,
                stall_timeout_s=resources.rules.body_stall_timeout_s,
            )
            return await handle(Request(request.scope, _replay(body, request.receive)))

        return handle_bounded


async def read_json_body(request: Request, *, bytes_max: int, stall_timeout_s: float) -> bytes:
    """Return the whole body of a JSON request.

    Raises:
        UnsupportedContentType: the request does not say that it brings JSON; nothing was read.
        BodyTooLarge: it says that it is longer, or it turned out to be; not read to its end.
        BodyStalled: no byte for `stall_timeout_s`.
        ClientDisconnect: the caller hung up.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != _JSON and not content_type.endswith("+json"):
        raise UnsupportedContentType(_JSON)
    declared = request.headers.get("content-length")
    if declared is not None:
        if not (declared.isascii() and declared.isdigit()):
            raise InvalidHeader(_CONTENT_LENGTH, "must be a number")
        if len(declared) > len(str(bytes_max)) or int(declared) > bytes_max:
            raise BodyTooLarge(bytes_max)
    blocks: list[bytes] = []
    received_bytes = 0
    while True:
        try:
            async with asyncio.timeout(stall_timeout_s):
                message = await request.receive()
        except TimeoutError as error:
            raise BodyStalled(stall_timeout_s) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        block: bytes = message.get("body", b"")
        received_bytes += len(block)
        if received_bytes > bytes_max:
            raise BodyTooLarge(bytes_max)
        blocks.append(block)
        if not message.get("more_body", False):
            return b"".join(blocks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that hands the body over in one block, then what comes after it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again
