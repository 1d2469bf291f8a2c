"""What tus asks of every answer on /files, whoever gives it."""

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX: Final = "/files"
# A browser page of any origin may speak to us: no cookie or other ambient right is ever used,
# so a page can do no more than the token that its user gave it.
_CORS: Final = [
    (b"access-control-allow-origin", b"*"),
    (
        b"access-control-expose-headers",
        (
            b"Upload-Offset, Location, Upload-Length, Tus-Version, Tus-Resumable, Tus-Max-Size,"
            b" Tus-Extension, Tus-Checksum-Algorithm, Upload-Metadata, Upload-Defer-Length,"
            b" Upload-Concat, Upload-Expires, Upload-Complete, Upload-Limit,"
            b" Upload-Draft-Interop-Version, Repr-Digest, Retry-After, X-Request-Id,"
            b" Ingest-Clip-Id, Ingest-Receipt-After"
        ),
    ),
]
_PREFLIGHT: Final = [
    (b"access-control-allow-methods", b"POST, HEAD, PATCH, OPTIONS, GET, DELETE, PUT"),
    (
        b"access-control-allow-headers",
        (
            b"Authorization, Origin, X-Requested-With, X-Request-ID, X-HTTP-Method-Override,"
            b" Content-Type, Content-Disposition, Upload-Length, Upload-Offset, Tus-Resumable,"
            b" Upload-Metadata, Upload-Defer-Length, Upload-Concat, Upload-Checksum,"
            b" Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version, Content-Digest,"
            b" Repr-Digest, Want-Repr-Digest, Priority"
        ),
    ),
    (b"access-control-max-age", b"86400"),
]
_OVERRIDABLE: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})
_PRECONDITION_FAILED: Final = 412
_LOCKED: Final = 423
_UNAVAILABLE: Final = 503


class TusGate:
    """Puts the overriding method in force before routing, and the version on every answer.

    tus 1.0.0, headers X-HTTP-Method-Override, Tus-Resumable and Tus-Version.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        sent_method = scope["method"]
        method = _find_override(scope["headers"]) or sent_method
        scope["method"] = method
        # The server leaves bodies out by the overriding method, the caller expects them by the
        # one that it sent: without a body both agree where the answer ends.
        is_bare = method != sent_method and "HEAD" in {method, sent_method}

        names = {name for name, _ in scope["headers"]}
        is_tus = b"tus-resumable" in names
        cors = list(_CORS) if b"origin" in names else []
        if cors and method == "OPTIONS" and b"access-control-request-method" in names:
            cors += _PREFLIGHT

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"tus-resumable", b"1.0.0"), *cors]
                if message["status"] == _UNAVAILABLE and method == "HEAD" and is_tus:
                    # By 503 (or 429) tus-js-client takes the upload for lost and opens another.
                    message["status"] = _LOCKED
                if message["status"] == _PRECONDITION_FAILED:
                    headers.append((b"tus-version", b"1.0.0"))
                if is_bare:
                    headers = [field for field in headers if field[0] != b"content-length"]
                    headers.append((b"content-length", b"0"))
                message["headers"] = headers
            elif is_bare:
                message["body"] = b""
            await send(message)

        await self._app(scope, receive, send_with_version)


def _find_override(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the overriding method, if it is one that may override."""
    for name, value in headers:
        if name == b"x-http-method-override":
            method = value.decode("latin-1").strip().upper()
            return method if method in _OVERRIDABLE else None
    return None
