"""The real application behind a real socket: what the tests of `tests/api` speak to."""

import asyncio
import hashlib
import json
import secrets
import socket
import ssl
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import uvicorn
import uvloop

from ingest_service.actions.identify_principal import Authenticator
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.read_back_clip import read_back_clip
from ingest_service.actions.read_feed import FeedTail
from ingest_service.actions.record_denials import SecurityLog
from ingest_service.actions.register_station import register_station
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.actions.take_upload import Holders
from ingest_service.api.wire import GuardedProtocol
from ingest_service.app import create_app
from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.domain.admission import Door
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.clock import utc_now
from ingest_service.domain.digest import format_content_digest
from ingest_service.domain.principal import ROLE_SCOPES
from ingest_service.domain.read_back_lag import ReadBackLag
from ingest_service.domain.token import (
    SigningKey,
    TokenRules,
    import_signing_key,
    make_private_key,
    sign_token,
)
from ingest_service.domain.upload import UploadRules
from ingest_service.keyring import open_keyring
from ingest_service.ledger.connection import open_pool, reading
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.interrupts import listening
from ingest_service.ledger.stations import Station
from ingest_service.resources import JobRules, Resources
from ingest_service.settings import Settings
from ingest_service.signer import make_signing_key, open_local_signer
from schemas.problem import Problem
from tests.fakes import MemoryVault

# Small parts make clips of many chunks cheap; the rules of the grid are the same.
PART_BYTES = 64 * 1024
CLIP_BYTES_MAX = 10 * 1024**3
JSON_BYTES_MAX = 256 * 1024
KEEP_ALIVE_S = 20
ISSUER = "idp.test"
TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}

_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_COUNTED = """
    SELECT (SELECT count(*) FROM clips) AS clips,
           (SELECT count(*) FROM custody_events) AS events,
           (SELECT count(*) FROM uploads) AS uploads,
           (SELECT sum(offset_bytes) FROM uploads) AS received_bytes,
           (SELECT count(*) FROM parts WHERE etag IS NOT NULL) AS parts,
           (SELECT count(*) FROM tails) AS tails,
           (SELECT count(*) FROM device_manifests) AS manifests,
           (SELECT string_agg(state || upload_id, ',' ORDER BY upload_id) FROM uploads) AS states
"""


class Witness:
    """Notes every answer that a documented call gave: (method, route, status)."""

    def __init__(self, app):
        self.app = app
        self.seen: set[tuple[str, str, int]] = set()

    async def __call__(self, scope, receive, send):
        async def noting_send(message):
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path_format", None)
                if route is not None:
                    self.seen.add((scope["method"], route, message["status"]))
            await send(message)

        await self.app(scope, receive, noting_send)


class Served:
    """A running service: uvicorn in a thread of its own, with its own event loop.

    Tests share it, and are strangers to each other: each registers stations of its own.
    """

    def __init__(self, dsn: str, folder: Path) -> None:
        self._dsn = dsn
        self._folder = folder
        self._thread = threading.Thread(target=self._serve, name="served")
        self._is_ready = threading.Event()
        self._failure: BaseException | None = None
        self.vault = MemoryVault(part_bytes_min=1)
        self.issuer_key = import_signing_key(make_private_key("P-256"))
        self.app: Any
        self.witness: Witness
        self.loop: asyncio.AbstractEventLoop
        self.port = 0

    def start(self) -> None:
        self._thread.start()
        self._is_ready.wait(30)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)

    def _serve(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except BaseException as error:  # noqa: BLE001 - shown to the one who started us
            self._failure = error
            self._is_ready.set()

    async def _run(self) -> None:
        self.loop = asyncio.get_running_loop()
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = listener.getsockname()[1]
        pool = await open_pool(self._dsn, connections_max=12, statement_timeout_s=10)
        resources = self._make_resources(pool)
        async with listening(pool, resources.holders.interrupt, resources.feed.ring):
            self.app = create_app(Settings.model_construct(), resources)
            self.witness = Witness(self.app)
            # As `ingest serve` has it.
            config = uvicorn.Config(
                self.witness,
                http=GuardedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=1,
            )
            self._server = uvicorn.Server(config)
            serving = asyncio.create_task(self._server.serve(sockets=[listener]))
            while not self._server.started and not serving.done():  # noqa: ASYNC110 - not ours
                await asyncio.sleep(0.005)
            self._is_ready.set()
            await serving
        await pool.close()

    def _make_resources(self, pool) -> Resources:
        jwks = self._folder / "jwks.json"
        key = self.issuer_key.verifying_key
        jwks.write_text(json.dumps({"keys": [{**key.public_jwk, "kid": key.key_id}]}))
        make_signing_key(self._folder / "signing.pem")
        rules = TokenRules(
            audience="ingest", issuer=ISSUER, leeway_s=30, station_lifetime_max_s=3600
        )
        return Resources(
            pool=pool,
            directory=Directory(fresh_s=0),
            vault=self.vault,
            signer=open_local_signer(self._folder / "signing.pem", "ingest.test/custody"),
            authenticator=Authenticator(
                pool=pool, keyring=open_keyring(str(jwks)), rules=rules, look_again_s=0
            ),
            holders=Holders("served"),
            budget=ReplayBudget(64 * 1024 * 1024),
            rules=UploadRules(
                part_bytes=PART_BYTES,
                clip_bytes_max=CLIP_BYTES_MAX,
                expires_after=timedelta(days=7),
                take_over_wait_s=0.6,
                body_stall_timeout_s=10,
                finish_wait_s=10,
            ),
            jobs=JobRules(interval_s=1, read_back_concurrency=1, read_back_yield_s=0),
            now=utc_now,
            base_url=f"http://127.0.0.1:{self.port}",
            json_bytes_max=JSON_BYTES_MAX,
            worker_stale_after_s=30,
            door=Door(256, pressure=pool.line.pressure),
            lag=ReadBackLag(),
            feed=FeedTail(pool=pool, seats_max=20),
            security=SecurityLog(pool=pool),
        )

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def resources(self) -> Resources:
        return self.app.state.resources

    @contextmanager
    def changed(self, **resources) -> Iterator[None]:
        """Let requests find other resources for a while; `rules` may be a dict of changes."""
        before = self.resources
        if isinstance(rules := resources.get("rules"), dict):
            resources["rules"] = replace(before.rules, **rules)
        self._set(replace(before, **resources))
        try:
            yield
        finally:
            self._set(before)

    def _set(self, resources: Resources) -> None:
        self.app.state.resources = resources
        self.app.state.readiness_check = None

    async def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine where the service's pool lives."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.loop))

    @property
    def dsn(self) -> str:
        """Where the ledger is, for another process of the service."""
        return self._dsn

    async def sql(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Look into the ledger, or move things there, past the API."""

        async def run():
            async with reading(self.resources.pool) as connection:
                return [dict(row) for row in await connection.fetch(statement, *values)]

        return await self.call(run())

    async def leased(self, path: str) -> None:
        """Wait until a request holds the upload of this path and waits for bytes."""
        upload_id = UUID(path.rsplit("/", 1)[1])
        statement = "SELECT leased_by FROM uploads WHERE upload_id = $1"
        async with asyncio.timeout(5):
            while (await self.sql(statement, upload_id))[0]["leased_by"] is None:  # noqa: ASYNC110 - Postgres cannot set an event
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)

    async def counted(self) -> dict[str, Any]:
        """What the service has counted and stored so far, all together."""
        (row,) = await self.sql(_COUNTED)
        objects = {
            key: [version.data for version in versions]
            for key, versions in self.vault._versions.items()
            if versions
        }
        parts = {
            (number, part): data
            for number, multipart in self.vault._multiparts.items()
            for part, (data, _) in multipart.parts.items()
        }
        return {**row, "objects": objects, "multipart": parts}

    @asynccontextmanager
    async def nothing_changes(self):
        """Assert that the block leaves ledger and vault as they were."""
        before = await self.counted()
        yield
        assert await self.counted() == before

    async def register(self, *, borough: str = "Camden") -> "tuple[Station, SigningKey]":
        key = import_signing_key(make_private_key())
        station = Station(f"dock-{secrets.token_hex(6)}", f"site-{secrets.token_hex(4)}", borough)
        jwk = key.verifying_key.public_jwk
        await self.call(register_station(station, jwk, pool=self.resources.pool))
        return station, key

    def token(self, *scopes: str, key: SigningKey | None = None, **claims: object) -> str:
        """A service's token with these scopes; claims given as None are left out."""
        now = datetime.now(UTC).timestamp()
        made = {
            "iss": ISSUER,
            "sub": "svc-test",
            "aud": "ingest",
            "iat": int(now),
            "exp": int(now) + 600,
            "scope": " ".join(scopes),
            **claims,
        }
        kept = {name: value for name, value in made.items() if value is not None}
        return sign_token(key or self.issuer_key, kept)

    async def read_back(self, clip_id: str) -> str | None:
        """Do the job of `ingest work` for one clip."""
        opened = self.resources
        return await self.call(
            read_back_clip(clip_id, pool=opened.pool, vault=opened.vault, now=opened.now)
        )

    async def sequence_log(self) -> None:
        """Do the job of the sequencer: place every event."""
        opened = self.resources

        async def run() -> None:
            while await sequence_log(
                Sequencer(), pool=opened.pool, signer=opened.signer, now=opened.now
            ):
                pass

        await self.call(run())

    async def publish_log(self) -> None:
        """Place every event, and publish the checkpoint that covers them."""
        opened = self.resources
        await self.sequence_log()
        await self.call(publish_checkpoints(pool=opened.pool, vault=opened.vault))

    def client(self, token: str | None = None) -> httpx.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        # There is no TLS here, and loading certificates takes longer than most tests.
        return httpx.AsyncClient(
            base_url=self.base_url, headers=headers, timeout=20, verify=_NO_TLS
        )


READER_SCOPES = ROLE_SCOPES["reader"]


@dataclass
class Dock:
    """A registered station and its way to the service."""

    served: Served
    station: Station
    key: SigningKey
    token: str
    http: httpx.AsyncClient

    @property
    def authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def announce(self, size_bytes: int = 3 * PART_BYTES, **members: object) -> dict[str, Any]:
        response = await self.http.post("/v1/clips", json=announcement(size_bytes, **members))
        assert response.status_code in {200, 201}, response.text
        return response.json()

    async def send(
        self,
        clip_id: str,
        index: object,
        data: bytes,
        *,
        digest: str | None = "",
        **headers: str,
    ) -> httpx.Response:
        """Send one chunk; `digest` replaces the right Content-Digest, None leaves it out."""
        sent = {"Content-Type": "application/octet-stream", **headers}
        if digest is not None:
            sent["Content-Digest"] = digest or digest_of(data)
        return await self.http.post(
            f"/v1/clips/{clip_id}/chunks/{index}", content=data, headers=sent
        )

    async def send_all(self, clip_id: str, data: bytes) -> None:
        for index, chunk in enumerate(cut(data)):
            response = await self.send(clip_id, index, chunk)
            assert response.status_code == 201, response.text

    async def seal(self, clip_id: str) -> httpx.Response:
        return await self.http.post(f"/v1/clips/{clip_id}/seal")

    async def bring_in(self, data: bytes, **members: object) -> str:
        """Announce, send and seal; returns the clip's id."""
        plan = await self.announce(len(data), **members)
        await self.send_all(plan["clip_id"], data)
        response = await self.seal(plan["clip_id"])
        assert response.status_code == 200, response.text
        return plan["clip_id"]

    async def secure(self, data: bytes, **members: object) -> str:
        """Bring a clip in, have it read back and its proof published."""
        clip_id = await self.bring_in(data, **members)
        assert await self.served.read_back(clip_id) == "secured"
        await self.served.publish_log()
        return clip_id

    async def create(
        self, length_bytes: int, metadata: str | None = None, **more: str
    ) -> httpx.Response:
        """Open an upload by tus."""
        headers = {**TUS, "Upload-Length": str(length_bytes), **more}
        if metadata is not None:
            headers["Upload-Metadata"] = metadata
        return await self.http.post("/files", headers=headers)

    async def open(self, length_bytes: int, metadata: str | None = None) -> str:
        """Open an upload by tus; returns its path."""
        response = await self.create(length_bytes, metadata)
        assert response.status_code == 201, response.text
        return httpx.URL(response.headers["location"]).path

    async def append(
        self, path: str, offset: object, data: bytes, **headers: str
    ) -> httpx.Response:
        sent = {**APPEND, "Upload-Offset": str(offset), **headers}
        return await self.http.patch(path, content=data, headers=sent)

    async def head(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.head(path, headers={**TUS, **headers})

    async def offset(self, path: str) -> int:
        response = await self.head(path)
        assert response.status_code == 200, response.status_code
        return int(response.headers["upload-offset"])

    async def delete(self, path: str) -> httpx.Response:
        return await self.http.delete(path, headers=TUS)


def announcement(size_bytes: int = 3 * PART_BYTES, **members: object) -> dict[str, Any]:
    """An announcement that nobody made before; members given as None are left out."""
    made = {
        "device_serial": f"BWC-{secrets.token_hex(4)}",
        "recording_id": secrets.token_hex(8),
        "size_bytes": size_bytes,
        **members,
    }
    return {name: value for name, value in made.items() if value is not None}


def digest_of(data: bytes) -> str:
    return format_content_digest(hashlib.sha256(data).digest())


def cut(data: bytes) -> list[bytes]:
    return [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]


def assert_problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    """Assert that this is the documented refusal, complete; returns its members."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    Problem.model_validate(body)
    assert body["type"] == f"urn:ingest:problem:{name}"
    assert body["status"] == status
    for member in ("title", "detail", "remedy"):
        assert isinstance(body.get(member), str), f"{member} is missing: {body}"
        assert body[member]
    assert body["action"] in {"fix", "retry", "stop"}
    assert body["request_id"] == response.headers["x-request-id"]
    return body


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        return json.loads(self.body)["type"].removeprefix("urn:ingest:problem:")


class Wire:
    """One raw connection: what no HTTP library would send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> None:
        """Send a request's head, and what of its body is given."""
        lines = [f"{method} {path} HTTP/1.1", "Host: test"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def answer(self, *, method: str = "GET", within_s: float = 10) -> Answer:
        """Read one answer, whole."""
        async with asyncio.timeout(within_s):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.rstrip().split("\r\n")
            status = int(first.split(" ")[1])
            fields = (line.partition(":") for line in lines)
            headers = {name.lower(): value.strip() for name, _, value in fields}
            has_body = method != "HEAD" and status >= 200 and status not in {204, 304}
            length = int(headers.get("content-length", "0")) if has_body else 0
            return Answer(status, headers, await self.reader.readexactly(length))

    async def is_closed(self, within_s: float = 5) -> bool:
        """Whether the service hangs up, and says nothing more."""
        try:
            async with asyncio.timeout(within_s):
                return await self.reader.read(1) == b""
        except TimeoutError:
            return False
        except ConnectionError:
            return True

    async def hang_up(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@contextmanager
def serve_apart(postgres: EmbeddedPostgres, template: str, name: str) -> "Iterator[Served]":
    """A service with a ledger of its own, for tests that what others left behind would disturb."""
    postgres.copy_database(name, template=template)
    with tempfile.TemporaryDirectory(prefix="ingest-test-api-") as folder:
        service = Served(postgres.service_dsn(name), Path(folder))
        service.start()
        try:
            yield service
        finally:
            service.stop()


@asynccontextmanager
async def open_wire(served: Served):
    wire = Wire(*await asyncio.open_connection("127.0.0.1", served.port))
    try:
        yield wire
    finally:
        await wire.hang_up()
