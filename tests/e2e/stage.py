"""Everything a crash happens on: a ledger, a vault, processes of the service, and the judge."""

import asyncio
import hashlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
from aiobotocore.session import get_session

from ingest_service.actions.end_upload import expire_upload, sweep_upload
from ingest_service.actions.finish_upload import finish_upload
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.read_back_clip import read_back_clip
from ingest_service.actions.register_station import register_station
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.dev.postgres import EmbeddedPostgres
from ingest_service.dev.seaweed import REGION, EmbeddedSeaweed
from ingest_service.domain.receipt import verify_receipt
from ingest_service.domain.token import import_signing_key, make_private_key, sign_station_token
from ingest_service.ledger.connection import reading
from ingest_service.ledger.stations import Station
from ingest_service.ledger.uploads import close_upload
from ingest_service.resources import Resources, open_resources
from ingest_service.settings import Settings
from ingest_service.signer import make_signing_key
from schemas.receipt import Receipt
from tests.e2e.honest_dock import Dock
from tests.fakes import MemoryVault

STATION = Station("crash-station", site_id="site-01", borough="Camden")
PART_BYTES = 5 * 1024 * 1024
START_TIMEOUT_S = 90
END_TIMEOUT_S = 60
ROOT = Path(__file__).parents[2]
# One for all stages: it keeps the models of S3, which are most of what a client costs.
SESSION = get_session()


class Nursery:
    """Forks processes of the service; see `mortal_server`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        self.log = folder / "nursery.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.mortal_server"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def order(self, role: str, die_at: int | str, settings: dict, rules: dict) -> "Process":
        report = self._folder / f"report-{next(self._numbers)}"
        report.touch()
        order = {
            "role": role,
            "die_at": die_at,
            "report": str(report),
            "settings": settings,
            "rules": rules,
        }
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return Process(report, self.log)

    def close(self) -> None:
        # The children die with their parent.
        self._process.stdin.close()
        self._process.wait(10)


@dataclass
class Process:
    """A forked process, known by its report."""

    report: Path
    log: Path

    async def hear(self, name: str, timeout_s: float) -> Any:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while asyncio.get_running_loop().time() < deadline:
            facts = self.said()
            if name in facts:
                return facts[name]
            if "ended" in facts:
                break
            await asyncio.sleep(0.005)
        message = f"{name} was not said: {self.said()}\n{self.log.read_text()[-3000:]}"
        raise AssertionError(message)

    def said(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for line in self.report.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                facts |= json.loads(line)
        return facts


@dataclass
class Stage:
    """One ledger and one vault, and whoever works on them."""

    folder: Path
    nursery: Nursery
    settings: dict[str, Any]
    opened: Resources
    owner: asyncpg.Pool
    s3: Any
    token: str
    pids: list[int] = field(default_factory=list)

    # --- processes ----------------------------------------------------------------------

    async def start(
        self,
        *,
        role: str = "serve",
        die_at: int | str = 0,
        rules: dict | None = None,
        **settings: Any,
    ) -> Process:
        process = self.nursery.order(role, die_at, self.settings | settings, rules or {})
        self.pids.append(await process.hear("pid", START_TIMEOUT_S))
        return process

    def dial(self, process: Process, *, timeout_s: float = 60) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=process.said()["base_url"],
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=timeout_s,
            trust_env=False,
        )

    # --- what the jobs would do ---------------------------------------------------------

    async def let_claims_lapse(self, dock: Dock) -> None:
        """Two minutes pass: what a dead process had claimed is free again."""
        await self.owner.execute(
            "UPDATE uploads SET finish_after = now() FROM clips WHERE uploads.state = 'finishing'"
            " AND uploads.clip_id = clips.clip_id AND clips.device_serial = $1",
            dock.recording.serial,
        )

    async def close(self, dock: Dock) -> None:
        """Begin the finishing of a native upload as a process does that dies right after."""
        async with reading(self.opened.pool) as connection:
            for clip in await self.clips_of(dock):
                assert await close_upload(
                    connection, clip["clip_id"], STATION.station_id, "native", claim_s=0
                )

    async def finish(self, dock: Dock) -> None:
        """Do what the worker does with uploads that are complete."""
        for upload in await self.uploads_of(dock):
            if upload["state"] == "finishing":
                await finish_upload(
                    upload["upload_id"],
                    pool=self.opened.pool,
                    vault=self.opened.vault,
                    now=self.opened.now,
                )

    async def secure(self, dock: Dock) -> None:
        """Do what the worker does: finish, then read back."""
        await self.finish(dock)
        for clip in await self.clips_of(dock):
            await read_back_clip(
                clip["clip_id"],
                pool=self.opened.pool,
                vault=self.opened.vault,
                now=self.opened.now,
            )

    async def publish_log(self) -> None:
        """Do what the sequencer does: place every event, publish the checkpoint."""
        opened = self.opened
        while await sequence_log(
            Sequencer(), pool=opened.pool, signer=opened.signer, now=opened.now
        ):
            pass
        # The store is shared by tests, and each has a log of its own: publish where none meet.
        await publish_checkpoints(pool=opened.pool, vault=MemoryVault())

    async def sweep(self, dock: Dock) -> None:
        """Five minutes pass: what is marked as maybe having leftovers is swept."""
        for upload in await self.uploads_of(dock):
            if upload["sweep_after"] is not None and upload["state"] not in {"open", "finishing"}:
                await sweep_upload(
                    upload["upload_id"], pool=self.opened.pool, vault=self.opened.vault
                )

    # --- what there is ------------------------------------------------------------------

    async def clips_of(self, dock: Dock) -> list[asyncpg.Record]:
        return await self.owner.fetch(
            "SELECT * FROM clips WHERE device_serial = $1", dock.recording.serial
        )

    async def uploads_of(self, dock: Dock) -> list[asyncpg.Record]:
        return await self.owner.fetch(
            "SELECT uploads.* FROM uploads JOIN clips USING (clip_id) WHERE device_serial = $1",
            dock.recording.serial,
        )

    async def find_clip(self, dock: Dock) -> asyncpg.Record:
        """Return the clip that the dock was told of."""
        clips = await self.clips_of(dock)
        path = getattr(dock, "path", None)
        if path is None:
            (found,) = [clip for clip in clips if str(clip["clip_id"]) == dock.clip_id]
        else:
            (found,) = [clip for clip in clips if path.endswith(str(clip["upload_id"]))]
        return found

    async def read(self, clip: asyncpg.Record) -> bytes:
        blocks = self.opened.vault.read(clip["object_key"], clip["object_version"])
        return b"".join([block async for block in blocks])

    async def list_vault(self, clip_id: UUID, upload_id: UUID) -> list[str]:
        """Return every version and open multipart upload of an upload, markers too."""
        found: list[str] = []
        for prefix in (f"clips/{clip_id}/", f"tails/{upload_id}/"):
            bucket = {"Bucket": self.opened.vault.bucket, "Prefix": prefix}
            listed = await self.s3.list_object_versions(**bucket)
            found += [f"{each['Key']} {each['VersionId']}" for each in listed.get("Versions", ())]
            found += [f"marker of {each['Key']}" for each in listed.get("DeleteMarkers", ())]
            listed = await self.s3.list_multipart_uploads(**bucket)
            found += [f"multipart of {each['Key']}" for each in listed.get("Uploads", ())]
        return found

    # --- the judge ----------------------------------------------------------------------

    async def judge(self, dock: Dock, http: httpx.AsyncClient) -> None:
        """Assert all that is promised of a clip that was brought in, whatever died meanwhile."""
        clip = await self.find_clip(dock)
        assert clip["state"] == "secured", f"{clip['state']}: {clip['quarantine_reason']}"
        assert await self.read(clip) == dock.recording.content, "the stored bytes differ"
        assert clip["sha256"].hex() == dock.recording.sha256
        await self._judge_receipt(dock, clip, http)
        for each in await self.clips_of(dock):
            await self._judge_chain(each)
            await self._judge_other(dock, each, clip)
        await self.sweep(dock)
        for each in await self.clips_of(dock):
            await self._judge_leftovers(each)

    async def _judge_receipt(
        self, dock: Dock, clip: asyncpg.Record, http: httpx.AsyncClient
    ) -> None:
        receipt = await self.ask_receipt(dock, http)
        facts = verify_receipt(receipt, self.opened.signer.verifier_key)
        assert (facts.sha256_readback, facts.size_bytes, facts.object_version) == (
            dock.recording.sha256,
            len(dock.recording.content),
            clip["object_version"],
        )

    async def ask_receipt(self, dock: Dock, http: httpx.AsyncClient) -> Receipt:
        clip = await self.find_clip(dock)
        await self.publish_log()
        answer = await http.get(f"/v1/clips/{clip['clip_id']}/receipt")
        assert answer.status_code == 200, answer.text
        return Receipt.model_validate_json(answer.content)

    async def _judge_chain(self, clip: asyncpg.Record) -> None:
        rows = await self.owner.fetch(
            "SELECT clips.event_count, clips.last_leaf_hash, clip_seq, type, leaf, leaf_hash"
            "  FROM custody_events JOIN clips USING (clip_id)"
            " WHERE clip_id = $1 ORDER BY clip_seq",
            clip["clip_id"],
        )
        previous = None
        for number, row in enumerate(rows):
            leaf = json.loads(row["leaf"])
            assert (row["clip_seq"], leaf["clip_seq"], leaf["prev"]) == (number, number, previous)
            assert hashlib.sha256(b"\0" + row["leaf"]).digest() == row["leaf_hash"]
            previous = row["leaf_hash"].hex()
        assert (rows[-1]["event_count"], rows[-1]["last_leaf_hash"].hex()) == (len(rows), previous)
        types = Counter(row["type"] for row in rows)
        once = int(clip["state"] == "secured")
        assert (types["clip.announced"], types["clip.sealed"], types["clip.secured"]) == (
            1,
            once,
            once,
        ), f"events of a {clip['state']} clip: {types}"

    async def _judge_other(self, dock: Dock, each: asyncpg.Record, clip: asyncpg.Record) -> None:
        """A second clip is an upload whose address the dock never heard: secured or expired."""
        if each["clip_id"] == clip["clip_id"]:
            return
        assert not isinstance(dock.clip_id, str), "a native dock has one clip"
        if each["state"] == "secured":
            assert await self.read(each) == dock.recording.content
        else:
            assert each["state"] == "receiving"
            await self.owner.execute(
                "UPDATE uploads SET expires_at = now() WHERE upload_id = $1", each["upload_id"]
            )
            await self._expire(each["upload_id"])

    async def _expire(self, upload_id: UUID) -> None:
        assert await expire_upload(
            upload_id, pool=self.opened.pool, vault=self.opened.vault, now=self.opened.now
        )

    async def _judge_leftovers(self, clip: asyncpg.Record) -> None:
        expected = (
            [f"{clip['object_key']} {clip['object_version']}"] if clip["state"] == "secured" else []
        )
        found = await self.list_vault(clip["clip_id"], clip["upload_id"])
        assert found == expected, f"left over in the vault of a {clip['state']} clip: {found}"
        (rows,) = await self.owner.fetch(
            "SELECT (SELECT count(*) FROM parts WHERE upload_id = $1) AS parts,"
            "       (SELECT count(*) FROM tails WHERE upload_id = $1) AS tails",
            clip["upload_id"],
        )
        assert (rows["parts"], rows["tails"]) == (0, 0), "part rows outlive their upload"


@asynccontextmanager
async def open_stage(
    folder: Path,
    nursery: Nursery,
    *,
    postgres: EmbeddedPostgres,
    database: str,
    seaweed: EmbeddedSeaweed,
    **knobs: Any,
) -> AsyncIterator[Stage]:
    """Register a station on a migrated ledger, and open what the judge needs."""
    signing_key = folder / "custody.pem"
    make_signing_key(signing_key)
    settings = {
        "ledger_dsn": postgres.service_dsn(database),
        "ledger_connections_max": 6,
        "vault_endpoint": seaweed.endpoint,
        "vault_region": REGION,
        "vault_bucket": seaweed.bucket,
        "vault_access_key": seaweed.access_key,
        "vault_secret_key": seaweed.secret_key,
        "vault_checks_sha256": "yes",
        "signing_key_file": str(signing_key),
        "part_bytes": PART_BYTES,
    } | knobs
    station_key = import_signing_key(make_private_key())
    now = datetime.now(UTC)
    async with (
        open_resources(Settings(**settings)) as opened,
        asyncpg.create_pool(postgres.owner_dsn(database), min_size=0, max_size=4) as owner,
        SESSION.create_client(
            "s3",
            region_name=REGION,
            endpoint_url=seaweed.endpoint,
            aws_access_key_id=seaweed.access_key,
            aws_secret_access_key=seaweed.secret_key,
        ) as s3,
    ):
        await register_station(STATION, station_key.verifying_key.public_jwk, pool=opened.pool)
        token = sign_station_token(
            station_key, STATION.station_id, now=now, lifetime=timedelta(minutes=50)
        )
        yield Stage(folder, nursery, settings, opened, owner, s3, token)
