"""A proxy before a real S3 that fails on demand, with the request lost or carried out."""

import asyncio
import hashlib
import io
import re
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web
from yarl import URL

# With `stored` and in `truncated` the request was carried out; in all others it was not.
Fault = Literal[
    "500",
    "slow_down",
    "full",
    "denied",
    "no_such_upload",
    "lost",
    "silent",
    "error_in_200",
    "stored",
    "stored_500",
    "stored_error_in_200",
    "truncated",
]

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>on demand</Message></Error>"
_REFUSALS: dict[Fault, tuple[int, str]] = {
    "500": (500, "InternalError"),
    "stored_500": (500, "InternalError"),
    "slow_down": (503, "SlowDown"),
    "full": (507, "InsufficientStorage"),
    "denied": (403, "AccessDenied"),
    "no_such_upload": (404, "NoSuchUpload"),
    "error_in_200": (200, "InternalError"),
    "stored_error_in_200": (200, "InternalError"),
}


_CARRIED_OUT = frozenset({"stored", "stored_500", "stored_error_in_200", "truncated"})
_TAG = re.compile(rb"[0-9a-f]{32}")


@dataclass
class _Plan:
    method: str
    query: str
    fault: Fault


class FaultyS3:
    """Forwards everything; the next requests that match a plan fail as planned."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._plans: list[_Plan] = []
        # A store that takes any x-amz-checksum-sha256; such a PUT is answered here.
        self.ignores_checksums = False
        # A store that encrypts with its own keys: tags look like MD5, and are none.
        self.has_opaque_tags = False
        self._tags: dict[bytes, bytes] = {}
        self.seen: list[str] = []

    def fail_next(self, method: str, fault: Fault, *, query: str = "", times: int = 1) -> None:
        """Fail the next `times` requests of this method whose query holds `query`."""
        self._plans += [_Plan(method, query, fault)] * times

    def forget_plans(self) -> None:
        """Fail no more."""
        self._plans.clear()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def _take_fault(self, request: web.Request) -> Fault | None:
        for plan in self._plans:
            if plan.method == request.method and plan.query in request.query_string:
                self._plans.remove(plan)
                return plan.fault
        return None

    def _veil(self, text: bytes) -> bytes:
        """Replace the store's tags by others of the same form."""

        def other(tag: re.Match[bytes]) -> bytes:
            veiled = hashlib.md5(b"opaque" + tag[0], usedforsecurity=False).hexdigest().encode()
            self._tags[veiled] = tag[0]
            return veiled

        return _TAG.sub(other, text) if self.has_opaque_tags else text

    def _veil_tags_of(self, answer: bytes) -> bytes:
        return re.sub(rb"<ETag>.*?</ETag>", lambda tag: self._veil(tag[0]), answer)

    def _unveil(self, text: bytes) -> bytes:
        return _TAG.sub(lambda tag: self._tags.get(tag[0], tag[0]), text)

    async def _forward(self, request: web.Request) -> tuple[aiohttp.ClientResponse, bytes]:
        body, headers = await request.read(), request.headers.copy()
        if request.method == "POST":
            body = self._unveil(body)
        if "If-Match" in headers:
            headers["If-Match"] = self._unveil(headers["If-Match"].encode()).decode()
        url = URL(f"{self._upstream}{request.raw_path}", encoded=True)
        async with self._session.request(
            request.method, url, data=io.BytesIO(body), headers=headers
        ) as answer:
            content = await answer.read()
        return answer, self._veil_tags_of(content) if request.method == "POST" else content

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._take_fault(request)
        self.seen.append(f"{request.method} {request.raw_path}")
        if self.ignores_checksums and "x-amz-checksum-sha256" in request.headers:
            return web.Response(headers={"ETag": '"0"', "x-amz-version-id": "v0"})
        await request.read()
        answer, content = None, b""
        if fault is None or fault in _CARRIED_OUT:
            answer, content = await self._forward(request)
        if fault in _REFUSALS:
            status, code = _REFUSALS[fault]
            text = _ERROR.format(code)
            return web.Response(status=status, text=text, content_type="application/xml")
        if fault == "silent":
            await asyncio.sleep(60)
        if answer is None or fault == "stored":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        headers = answer.headers.copy()
        headers.popall("Transfer-Encoding", None)
        if "ETag" in headers:
            headers["ETag"] = self._veil(headers["ETag"].encode()).decode()
        if request.method == "HEAD":
            return web.Response(status=answer.status, headers=headers)
        headers["Content-Length"] = str(len(content))
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        if fault == "truncated":
            await response.write(content[: len(content) // 2])
            assert request.transport is not None
            # Let the half arrive before the cut.
            await asyncio.sleep(0.05)
            request.transport.abort()
            return response
        if answer.status != 204:
            await response.write(content)
        return response
