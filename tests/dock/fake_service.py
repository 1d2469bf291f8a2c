"""A small native API that is as strict as the documented one, and fails when it is told to."""

import asyncio
import base64
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from uuid import UUID, uuid4

import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from ingest_service.dock.target import Target, make_target
from ingest_service.domain.note import make_verifier_key
from ingest_service.domain.receipt import make_receipt, signed_message
from schemas.announcement import Announcement
from tests.paper_log import PaperLog

SIGNER_NAME = "fake.local/custody"
CHUNK_BYTES = 64 * 1024


class Signer:
    def __init__(self):
        self.key = Ed25519PrivateKey.generate()
        self.public_key = self.key.public_key().public_bytes_raw()
        self.verifier_key = make_verifier_key(SIGNER_NAME, self.public_key)

    def sign_receipt(self, leaf: dict):
        raw = json.dumps(leaf, sort_keys=True, separators=(",", ":")).encode()
        log = PaperLog(SIGNER_NAME, self.key, [b"before", b"and", raw, b"after"])
        return self.make_receipt(raw, log.proof(2))

    def make_receipt(self, raw: bytes, proof: str):
        return make_receipt(
            raw,
            2,
            proof,
            signer_name=SIGNER_NAME,
            key_id=self.verifier_key.split("+")[1],
            signature=self.key.sign(signed_message(raw)),
        )


def make_leaf(clip_id: UUID, sha256_hex: str, size_bytes: int, **changed) -> dict:
    moment = "2026-11-21T22:14:05.000000Z"
    facts = {
        "clip_id": str(clip_id),
        "device_serial": "BWC-1",
        "recording_id": "r-1",
        "segment_no": 0,
        "size_bytes": size_bytes,
        "sha256": sha256_hex,
        "sha256_readback": sha256_hex,
        "bucket": "evidence",
        "object_key": "k",
        "object_version": "v1",
        "announced_at": moment,
        "sealed_at": moment,
        "secured_at": moment,
    }
    facts |= changed
    return {"type": "clip.secured", "clip_id": facts["clip_id"], "facts": facts}


@dataclass
class FakeClip:
    announcement: dict
    clip_id: UUID = field(default_factory=uuid4)
    state: str = "receiving"
    chunks: dict[int, bytes] = field(default_factory=dict)
    polls: int = 0

    @property
    def size_bytes(self) -> int:
        return self.announcement["size_bytes"]

    @property
    def chunk_count(self) -> int:
        return -(-self.size_bytes // CHUNK_BYTES)

    @property
    def content(self) -> bytes:
        return b"".join(self.chunks[index] for index in sorted(self.chunks))

    @property
    def missing(self) -> list[list[int]]:
        return [[i, i] for i in range(self.chunk_count) if i not in self.chunks]


@dataclass
class Fault:
    """What is answered instead, to the next `count` requests whose 'METHOD path' matches.

    is_after   the request is carried out first: only its answer is lost
    """

    pattern: str
    answer: Callable[[], Response]
    count: int
    is_after: bool


def problem(status: int, name: str, action: str, headers: dict | None = None) -> Response:
    body = {
        "type": f"urn:ingest:problem:{name}",
        "title": name,
        "status": status,
        "remedy": "see the documentation",
        "action": action,
    }
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


class FakeService:
    """State of the service, and the clocks and keys that tests play with."""

    def __init__(self):
        self.signer = Signer()
        self.station_key = Ed25519PrivateKey.generate()
        self.clips: dict[tuple, FakeClip] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.announcements: list[dict] = []
        self.priorities: list[str | None] = []
        self.manifests: list[tuple[str, dict]] = []
        self.clock_ahead_s = 0.0
        self.is_time_public = True
        self.polls_until_secured = 1
        self.seals_at_once = False
        self.receipt_after_s = 0
        self.receipt_leaf: Callable[[FakeClip], dict] | None = None
        self.receipt_signer = self.signer
        self.port = 0
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    # --- life -------------------------------------------------------------------------

    def start(self) -> None:
        config = uvicorn.Config(
            self._make_app(),
            host="127.0.0.1",
            port=self.port,
            log_level="critical",
            ws="none",
            lifespan="off",
            date_header=False,
            timeout_graceful_shutdown=0,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self._server.started
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive()

    def target(self, *, port: int | None = None) -> Target:
        pem = self.station_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return make_target(
            url=f"http://127.0.0.1:{port or self.port}",
            station_id="station-1",
            key_pem=pem,
            verifier_key=self.signer.verifier_key,
        )

    def fail(
        self,
        pattern: str,
        answer: Callable[[], Response],
        *,
        count: int = 1,
        is_after: bool = False,
    ) -> None:
        self.faults.append(Fault(pattern, answer, count, is_after))

    # --- what tests ask ---------------------------------------------------------------

    @property
    def clip(self) -> FakeClip:
        (clip,) = self.clips.values()
        return clip

    @property
    def chunk_requests(self) -> list[int]:
        sent = (re.fullmatch(r"POST .*/chunks/(\d+)", line) for line in self.requests)
        return [int(match[1]) for match in sent if match]

    def count(self, pattern: str) -> int:
        return Counter(bool(re.search(pattern, line)) for line in self.requests)[True]

    # --- the API ----------------------------------------------------------------------

    def now(self) -> float:
        return time.time() + self.clock_ahead_s

    def _find(self, clip_id: str) -> FakeClip | None:
        return next((c for c in self.clips.values() if str(c.clip_id) == clip_id), None)

    def _check_token(self, request: Request) -> Response | None:
        try:
            token = request.headers["authorization"].removeprefix("Bearer ")
            signing_input, _, signature = token.rpartition(".")
            raw = base64.urlsafe_b64decode(signature + "==")
            self.station_key.public_key().verify(raw, signing_input.encode())
            claims = json.loads(base64.urlsafe_b64decode(signing_input.split(".")[1] + "=="))
        except Exception:  # noqa: BLE001  whatever is wrong with it
            return problem(401, "unauthorized", "fix")
        if claims["exp"] < self.now() or claims["iat"] > self.now() + 30:
            return problem(401, "token-expired", "fix")
        return None

    def _make_app(self) -> FastAPI:  # noqa: C901, PLR0915  one function per route
        app = FastAPI()

        @app.middleware("http")
        async def gate(request: Request, call_next):
            line = f"{request.method} {request.url.path}"
            self.requests.append(line)
            response = None
            if not (self.is_time_public and request.url.path == "/v1/time"):
                response = self._check_token(request)
            if response is None:
                for fault in self.faults:
                    if fault.count and re.search(fault.pattern, line):
                        fault.count -= 1
                        if fault.is_after:
                            await call_next(request)
                        else:
                            # Read what is sent: a cut in the middle of a body is another test.
                            await request.body()
                        response = fault.answer()
                        break
            response = response or await call_next(request)
            response.headers["Date"] = formatdate(self.now(), usegmt=True)
            return response

        @app.get("/v1/time")
        async def get_time():
            now = self.now()
            return {
                "now": datetime.fromtimestamp(now, UTC).isoformat(),
                "unix_ms": int(now * 1000),
            }

        @app.post("/v1/clips")
        async def announce(request: Request):
            body = await request.json()
            announcement = Announcement.model_validate(body)
            self.announcements.append(body)
            self.priorities.append(request.headers.get("priority"))
            identity = (
                announcement.device_serial,
                announcement.recording_id,
                announcement.segment_no,
            )
            status = 200
            clip = self.clips.get(identity)
            if clip is None or clip.state == "expired":
                clip = self.clips[identity] = FakeClip(body)
                status = 201
            elif clip.announcement["sha256_device"] != body["sha256_device"]:
                return problem(409, "announcement-conflict", "stop")
            url = f"http://elsewhere.invalid/v1/clips/{clip.clip_id}"
            plan = {
                "clip_id": str(clip.clip_id),
                "state": clip.state,
                "size_bytes": clip.size_bytes,
                "chunk_bytes": CHUNK_BYTES,
                "chunk_count": clip.chunk_count,
                "chunks_url": f"{url}/chunks",
                "tus_url": "http://elsewhere.invalid/files/x",
                "seal_url": f"{url}/seal",
                "receipt_url": f"{url}/receipt",
                "expires_at": None,
                "flags": [],
            }
            return JSONResponse(plan, status)

        @app.post("/v1/clips/{clip_id}/chunks/{index}")
        async def store(clip_id: str, index: int, request: Request):
            clip = self._find(clip_id)
            if clip is None:
                return problem(404, "clip-not-found", "stop")
            if clip.state != "receiving":
                return problem(409, "upload-closed", "fix")
            body = await request.body()
            expected = min(CHUNK_BYTES, clip.size_bytes - index * CHUNK_BYTES)
            if len(body) != expected:
                return problem(400, "chunk-misshapen", "fix")
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            if request.headers["content-digest"] != f"sha-256=:{digest}:":
                return problem(422, "chunk-corrupted", "fix")
            if clip.chunks.get(index, body) != body:
                return problem(409, "chunk-conflict", "stop")
            status = 200 if index in clip.chunks else 201
            clip.chunks[index] = body
            stored = {
                "clip_id": clip_id,
                "index": index,
                "size_bytes": len(body),
                "received_bytes": len(clip.content),
            }
            return JSONResponse(stored, status)

        @app.get("/v1/clips/{clip_id}/chunks")
        async def missing(clip_id: str):
            clip = self._find(clip_id)
            if clip is None:
                return problem(404, "clip-not-found", "stop")
            return {
                "clip_id": clip_id,
                "state": clip.state,
                "chunk_bytes": CHUNK_BYTES,
                "chunk_count": clip.chunk_count,
                "received_bytes": len(clip.content),
                "missing_count": len(clip.missing),
                "missing": clip.missing[:3],
                "is_truncated": len(clip.missing) > 3,
            }

        @app.post("/v1/clips/{clip_id}/seal")
        async def seal(clip_id: str):
            clip = self._find(clip_id)
            if clip.missing:
                return problem(409, "chunks-missing", "fix")
            if clip.state == "receiving":
                is_whole = (
                    hashlib.sha256(clip.content).hexdigest() == clip.announcement["sha256_device"]
                )
                good = "sealed" if self.seals_at_once else "finishing"
                clip.state = good if is_whole else "quarantined"
            is_bad = clip.state == "quarantined"
            sealed = {
                "clip_id": clip_id,
                "state": clip.state,
                "size_bytes": clip.size_bytes,
                "sha256": None,
                "receipt_url": "http://elsewhere.invalid/",
                "receipt_after_s": self.receipt_after_s,
                "quarantine_reason": "the device's hash differs" if is_bad else None,
            }
            return JSONResponse(sealed, 202 if clip.state == "finishing" else 200)

        @app.get("/v1/clips/{clip_id}/receipt")
        async def receipt(clip_id: str):
            clip = self._find(clip_id)
            clip.polls += 1
            if clip.state in {"finishing", "sealed"} and clip.polls <= self.polls_until_secured:
                clip.state = "sealed"
            elif clip.state in {"finishing", "sealed"}:
                clip.state = "secured"
            if clip.state != "secured":
                pending = {"clip_id": clip_id, "state": clip.state}
                return JSONResponse(pending, 202, headers={"Retry-After": "0"})
            leaf = (self.receipt_leaf or make_honest_leaf)(clip)
            signed = self.receipt_signer.sign_receipt(leaf)
            return signed.model_dump() | {"later": "kept although this client knows nothing of it"}

        @app.post("/v1/devices/{serial}/manifest")
        async def report(serial: str, request: Request):
            self.manifests.append((serial, await request.json()))
            now = datetime.now(UTC).isoformat()
            return {"manifest_id": str(uuid4()), "reported_at": now, "unknown": []}

        return app


def make_honest_leaf(clip: FakeClip) -> dict:
    content = clip.content
    return make_leaf(clip.clip_id, hashlib.sha256(content).hexdigest(), len(content))


async def until(is_true: Callable[[], bool], *, within_s: float = 10) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(within_s):
        while not is_true():  # noqa: ASYNC110  it may come true in another thread
            await asyncio.sleep(0.02)
