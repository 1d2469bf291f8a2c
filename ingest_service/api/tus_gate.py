"""What tus asks of every answer on /files, whoever gives it."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX: Final = "/files"
_OVERRIDABLE: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})
_PRECONDITION_FAILED: Final = 412


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
        for name, value in scope["headers"]:
            if name == b"x-http-method-override":
                method = value.decode("latin-1").strip().upper()
                if method in _OVERRIDABLE:
                    scope["method"] = method

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(b"tus-resumable", b"1.0.0")]
                if message["status"] == _PRECONDITION_FAILED:
                    added.append((b"tus-version", b"1.0.0"))
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, send_with_version)
