"""The native API as a dock sees it: one method per call, one attempt per method."""

import base64
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError

from ingest_service.dock.clock import ClockReading, measure_clock
from ingest_service.dock.failures import Refused, TargetUnusable, Trouble
from ingest_service.dock.patience import parse_http_date, parse_retry_after
from ingest_service.dock.station_token import StationToken
from ingest_service.dock.target import Target
from schemas.announcement import (
    AnnouncedClip,
    MissingChunks,
    SealedClip,
    ServerTime,
    StoredChunk,
)
from schemas.device import DeviceManifest, ReportedManifest
from schemas.problem import Problem
from schemas.receipt import PendingReceipt, Receipt

PROBLEM_PREFIX: Final = "urn:ingest:problem:"
ACTIONS: Final = frozenset({"fix", "retry", "stop"})
# Statuses that mean "later" when a proxy answers for the service, without a problem document.
_LATER: Final = frozenset({408, 421, 423, 425, 429})
Body = TypeVar("Body", bound=BaseModel)

# A stalled write or a silent server is a cut connection; a seal may take `finish_wait_s`.
_TIMEOUT: Final = httpx.Timeout(connect=10, read=90, write=30, pool=None)
_KEEP_ALIVE_S: Final = 60
_CLOCK_FRESH_S: Final = 600


@dataclass(frozen=True, slots=True)
class FoundReceipt:
    """A receipt, and the document it came in (which may say more than this client knows)."""

    receipt: Receipt
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class NoReceiptYet:
    """The clip is not secured yet; retry_after_s is what the service asks us to wait."""

    state: str
    retry_after_s: float | None


class Service:
    """Calls of the native API.

    Every method raises Trouble (network, busy, restarting: the same again later) or Refused (fix
    or stop). URLs are made from the configured address, never taken from an answer: the token
    goes to no other host.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        token: StationToken,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._token = token
        self._now = now
        self._monotonic = monotonic
        self._clock: ClockReading | None = None
        self._clock_read_at = 0.0

    async def read_clock(self) -> ClockReading:
        """Return how far the server's clock is ahead of ours, at most ten minutes old."""
        if self._clock is None or self._monotonic() - self._clock_read_at > _CLOCK_FRESH_S:
            try:
                self._clock = await self._measure_clock()
            except Refused as refusal:
                if refusal.status != HTTPStatus.UNAUTHORIZED or refusal.action == "stop":
                    raise
                # Our clock may be so wrong that the token looked expired; the refusal's Date
                # header has set the token right meanwhile.
                self._clock = await self._measure_clock()
            self._clock_read_at = self._monotonic()
            self._token.set_offset(self._clock.offset_ms / 1000)
        return self._clock

    async def _measure_clock(self) -> ClockReading:
        return await measure_clock(self.get_time, now=self._now, monotonic=self._monotonic)

    async def get_time(self) -> ServerTime:
        """Ask for the server's clock."""
        return self._parse(ServerTime, await self._exchange("GET", "/v1/time"))

    async def announce(
        self, announcement: dict[str, Any], *, is_urgent: bool = False
    ) -> tuple[AnnouncedClip, bool]:
        """Announce a clip, any number of times; tell also whether the service did not know it.

        is_urgent  it matters more than others: claims priority (RFC 9218)
        """
        headers = {"Priority": "u=0"} if is_urgent else None
        response = await self._exchange("POST", "/v1/clips", json=announcement, headers=headers)
        return self._parse(AnnouncedClip, response), response.status_code == HTTPStatus.CREATED

    async def send_chunk(
        self,
        clip_id: UUID,
        index: int,
        *,
        length_bytes: int,
        sha256: bytes,
        blocks: AsyncIterable[bytes],
    ) -> StoredChunk:
        """Send one chunk; on return it is durable. Errors of `blocks` pass through."""
        response = await self._exchange(
            "POST",
            f"/v1/clips/{clip_id}/chunks/{index}",
            content=blocks,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(length_bytes),
                # RFC 9530, section 2
                "Content-Digest": f"sha-256=:{base64.b64encode(sha256).decode()}:",
            },
        )
        return self._parse(StoredChunk, response)

    async def get_missing(self, clip_id: UUID) -> MissingChunks:
        """Ask which chunks are still to be sent."""
        response = await self._exchange("GET", f"/v1/clips/{clip_id}/chunks")
        return self._parse(MissingChunks, response)

    async def seal(self, clip_id: UUID) -> SealedClip:
        """Say that every chunk was sent."""
        return self._parse(SealedClip, await self._exchange("POST", f"/v1/clips/{clip_id}/seal"))

    async def get_receipt(self, clip_id: UUID) -> FoundReceipt | NoReceiptYet:
        """Ask for the receipt."""
        response = await self._exchange("GET", f"/v1/clips/{clip_id}/receipt")
        if response.status_code == HTTPStatus.ACCEPTED:
            pending = self._parse(PendingReceipt, response)
            return NoReceiptYet(pending.state, self._read_wait(response))
        return FoundReceipt(self._parse(Receipt, response), response.json())

    async def report_manifest(self, serial: str, manifest: DeviceManifest) -> ReportedManifest:
        """Say what a device holds."""
        response = await self._exchange(
            "POST",
            f"/v1/devices/{quote(serial, safe='')}/manifest",
            json=manifest.model_dump(mode="json", exclude_none=True),
        )
        return self._parse(ReportedManifest, response)

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: AsyncIterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {self._token.get()}"}
        try:
            response = await self._http.request(
                method, path, json=json, content=content, headers=authorization | (headers or {})
            )
        except httpx.RequestError as error:
            # Its text is often empty; its name (ConnectError, ReadTimeout, ...) never is.
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise Trouble(reason) from error
        if response.is_success:
            return response
        raise self._read_refusal(response)

    def _read_refusal(self, response: httpx.Response) -> Refused | Trouble:
        status = response.status_code
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            problem = Problem(type="", title=_phrase(status), status=status, remedy="", action="")
        is_later = problem.action == "retry"
        if problem.action not in ACTIONS:
            # A proxy speaks here, not the service.
            is_later = status in _LATER or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if is_later:
            reason = ": ".join(part for part in (problem.title, problem.detail) if part)
            return Trouble(f"{reason} ({status})", self._read_wait(response))
        server_time = parse_http_date(response.headers.get("Date"))
        if status == HTTPStatus.UNAUTHORIZED and server_time is not None:
            # Good to a second, which is enough for a token that is believed.
            self._token.set_offset(server_time.timestamp() - self._now())
        name = problem.type.removeprefix(PROBLEM_PREFIX)
        return Refused(
            status,
            name,
            problem.action or "stop",
            problem.title,
            problem.detail or "",
            problem.remedy,
        )

    def _read_wait(self, response: httpx.Response) -> float | None:
        return parse_retry_after(
            response.headers.get("Retry-After"),
            date=response.headers.get("Date"),
            now=datetime.fromtimestamp(self._now(), UTC),
        )

    @staticmethod
    def _parse(shape: type[Body], response: httpx.Response) -> Body:
        try:
            return shape.model_validate_json(response.content)
        except ValidationError as error:
            # Something between us and the service answered in its place (a portal, a proxy).
            message = f"an answer that is not the service's: {response.text[:100]!r}"
            raise Trouble(message) from error


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"


@asynccontextmanager
async def open_service(target: Target, *, connections_max: int) -> AsyncIterator[Service]:
    """Open keep-alive connections to a service; nothing is sent yet.

    Raises:
        TargetUnusable: the certificate file cannot be read.
    """
    try:
        verify = ssl.create_default_context(cafile=target.ca_file) if target.ca_file else True
    except (OSError, ssl.SSLError) as error:
        message = f"{target.ca_file} cannot be used: {error}"
        raise TargetUnusable(message) from error
    limits = httpx.Limits(
        max_connections=connections_max,
        max_keepalive_connections=connections_max,
        keepalive_expiry=_KEEP_ALIVE_S,
    )
    async with httpx.AsyncClient(
        base_url=target.url,
        headers={"User-Agent": "ingest-dock/1"},
        limits=limits,
        timeout=_TIMEOUT,
        verify=verify,
        trust_env=not target.is_loopback,
    ) as http:
        yield Service(http, StationToken(target.station_id, target.key))
