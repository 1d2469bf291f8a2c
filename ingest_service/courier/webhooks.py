"""One signed message to one URL, without being led into our own network."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from ingest_service.domain.webhook import find_fault, is_public
from ingest_service.tracing import spans

TIMEOUT_S: Final = 15.0
_FAILURE_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a message.

    status       of HTTP; None: no answer
    failure      in words; None: it was taken
    retry_after  the header as it came
    """

    status: int | None
    failure: str | None
    retry_after: str | None = None


@dataclass(slots=True)
class Courier:
    """Sends messages; one pool of connections for all of them.

    The name in a URL is resolved here, every address it has is judged, and the connection goes to
    the one that was judged: a name that changes its mind in between leads nowhere. Redirects are
    not followed, proxies of the environment not used, answers not read.

    may_be_private  also to addresses of this network, and without TLS
    """

    may_be_private: bool = False
    timeout_s: float = TIMEOUT_S
    _http: httpx.AsyncClient | None = field(default=None)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a message; whatever goes wrong is an answer.

        Where tracing is on, whoever takes it is told of which trace it is.
        """
        current = spans.CURRENT.get()
        if current is None:
            return await self._try(url, body, headers)
        span = current.begin("POST webhook", is_call=True, http__request__method="POST")
        try:
            answer = await self._try(url, body, {**headers, **span.carry()})
            span.describe(http__response__status_code=answer.status)
            if answer.failure is not None:
                # Not its words: an address in them may be a secret.
                span.fail("no_answer" if answer.status is None else str(answer.status))
        except BaseException as error:
            span.end(error)
            raise
        span.end()
        return answer

    async def _try(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._send(httpx.URL(url), body, headers)
        except TimeoutError:
            return Answer(None, f"no answer within {self.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Answer(None, f"{type(error).__name__}: {error}"[:_FAILURE_CHARS_MAX])

    async def close(self) -> None:
        """Hang up."""
        if self._http is not None:
            await self._http.aclose()

    async def _send(self, url: httpx.URL, body: bytes, headers: Mapping[str, str]) -> Answer:
        fault = find_fault(str(url), may_be_private=self.may_be_private)
        if fault is not None:
            return Answer(None, f"nothing is sent there: {fault}")
        address = await self._resolve(url)
        if address is None:
            return Answer(None, "nothing is sent there: it leads into this network")
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=self.timeout_s, trust_env=False, follow_redirects=False
            )
        request = self._http.build_request(
            "POST",
            url.copy_with(host=address),
            content=body,
            headers={**headers, "Host": url.netloc.decode("ascii")},
            extensions={"sni_hostname": url.raw_host.decode("ascii")},
        )
        answer = await self._http.send(request, stream=True)
        try:
            status = answer.status_code
            failure = None if answer.is_success else f"HTTP {status}"
            return Answer(status, failure, answer.headers.get("retry-after"))
        finally:
            await answer.aclose()

    async def _resolve(self, url: httpx.URL) -> str | None:
        """Return the address to connect to; None: it has one that is not to be connected to."""
        found = await asyncio.get_running_loop().getaddrinfo(
            url.raw_host.decode("ascii").strip("[]"),
            url.port or (443 if url.scheme == "https" else 80),
            type=socket.SOCK_STREAM,
        )
        addresses = [str(entry[4][0]) for entry in found]
        if not self.may_be_private and not all(map(is_public, addresses)):
            return None
        return addresses[0] if addresses else None
