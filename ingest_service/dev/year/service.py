"""The service that lives through the year: its own actions and jobs, on a clock that is moved."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ingest_service.actions.announce_clip import announce_clip
from ingest_service.actions.halt_erasure import list_halts
from ingest_service.actions.identify_principal import Authenticator
from ingest_service.actions.publish_checkpoint import publish_checkpoints
from ingest_service.actions.read_back_clip import read_back_clip
from ingest_service.actions.read_feed import FeedTail
from ingest_service.actions.record_denials import SecurityLog
from ingest_service.actions.register_station import register_station
from ingest_service.actions.sequence_log import Sequencer, sequence_log
from ingest_service.actions.store_chunk import Chunk, store_chunk
from ingest_service.actions.take_upload import Holders
from ingest_service.dev.year.clock import MovedClock
from ingest_service.dev.year.plan import Fate
from ingest_service.domain.admission import Door
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.read_back_lag import ReadBackLag
from ingest_service.domain.retention import RetentionRules
from ingest_service.domain.token import TokenRules, import_signing_key, make_private_key
from ingest_service.domain.upload import UploadRules
from ingest_service.jobs.compute_retention import compute_retention
from ingest_service.jobs.enforce_retention import enforce_retention
from ingest_service.jobs.fold_counts import fold_counts
from ingest_service.jobs.settle_disclosures import settle_disclosures
from ingest_service.keyring import open_keyring
from ingest_service.ledger.connection import Pool
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.erasures import Halt
from ingest_service.ledger.stations import Station
from ingest_service.resources import JobRules, Resources
from ingest_service.signer import Signer
from ingest_service.vault import Vault
from schemas.announcement import Announcement

CONNECTIONS: Final = 10
AT_ONCE: Final = 8
_BOROUGHS: Final = 32
_DEVICES: Final = 22_000
_MIB: Final = 1024 * 1024
_RECORDED_BEFORE: Final = timedelta(hours=4)
_RECORDING_LASTS: Final = timedelta(minutes=12)


class YearFailed(Exception):
    """The service did something that the simulation did not expect; the message says what."""


@dataclass(frozen=True, slots=True)
class Received:
    """A clip that came in; its recording by the camera's clock, which is right."""

    clip_id: UUID
    fate: Fate
    device_serial: str
    started_at: datetime
    ended_at: datetime
    secured_at: datetime


def make_resources(
    pool: Pool, vault: Vault, signer: Signer, clock: MovedClock, rules: RetentionRules
) -> Resources:
    """Return the resources of a service whose clock is moved; nothing of it listens to anybody."""
    return Resources(
        pool=pool,
        directory=Directory(),
        vault=vault,
        signer=signer,
        authenticator=Authenticator(
            pool=pool,
            keyring=open_keyring(None),
            rules=TokenRules(
                audience="ingest", issuer="year.dev", leeway_s=30, station_lifetime_max_s=3600
            ),
        ),
        holders=Holders("year"),
        budget=ReplayBudget(64 * _MIB),
        rules=UploadRules(
            part_bytes=8 * _MIB,
            clip_bytes_max=1024 * _MIB,
            expires_after=timedelta(days=7),
            take_over_wait_s=1,
            body_stall_timeout_s=10,
            finish_wait_s=10,
        ),
        jobs=JobRules(interval_s=1, read_back_concurrency=AT_ONCE, read_back_yield_s=0),
        now=clock,
        base_url="http://127.0.0.1",
        json_bytes_max=_MIB,
        worker_stale_after_s=30,
        door=Door(256),
        lag=ReadBackLag(),
        feed=FeedTail(pool=pool, seats_max=1),
        security=SecurityLog(pool=pool, now=clock),
        retention=rules,
    )


class _Body:
    """The body of a chunk's request, all of it at hand."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self, bytes_max: int) -> bytes:
        """Return the next bytes."""
        taken, self._data = self._data[:bytes_max], self._data[bytes_max:]
        return taken

    def interrupt(self, reason: Exception) -> None:
        """Go on: nobody takes an upload over here."""


@dataclass(slots=True)
class Service:
    """Brings clips in, and does at the end of a day what `ingest work` does all the time."""

    opened: Resources
    stations: Sequence[Station] = ()
    sequencer: Sequencer = field(default_factory=Sequencer)

    async def register_stations(self) -> None:
        """Register a station for each borough."""
        stations = []
        for number in range(_BOROUGHS):
            station = Station(f"dock-{number:02}", f"site-{number:02}", f"Borough {number:02}")
            key = import_signing_key(make_private_key("P-256")).verifying_key
            await register_station(station, key.public_jwk, pool=self.opened.pool)
            stations.append(station)
        self.stations = stations

    async def receive_day(self, fates: Sequence[Fate]) -> list[Received]:
        """Bring a day's clips in, some at once."""
        received: list[Received] = []
        for start in range(0, len(fates), AT_ONCE):
            some = fates[start : start + AT_ONCE]
            received += await asyncio.gather(*[self._receive(fate) for fate in some])
        return received

    async def _receive(self, fate: Fate) -> Received:
        """Announce, store, seal and read back one clip.

        Raises:
            YearFailed: it did not become what it should.
        """
        opened = self.opened
        station = self.stations[fate.number % len(self.stations)]
        started_at = opened.now() - _RECORDED_BEFORE
        sha256 = hashlib.sha256(fate.footage).digest()
        announced_sha256 = hashlib.sha256(b"damaged").digest() if fate.is_damaged else sha256
        device_serial = f"BWC-{fate.number % _DEVICES:05}"
        raw: dict[str, Any] = {
            "device_serial": device_serial,
            "recording_id": f"rec-{fate.number}",
            "size_bytes": len(fate.footage),
            "sha256_device": announced_sha256.hex(),
            "started_at": started_at.isoformat(),
            "ended_at": (started_at + _RECORDING_LASTS).isoformat(),
            "clock_state": "synced",
            "clock_offset_ms": 0,
        }
        announced = await announce_clip(
            Announcement.model_validate(raw),
            raw,
            station,
            pool=opened.pool,
            directory=opened.directory,
            rules=opened.rules,
            now=opened.now,
        )
        clip_id = announced.clip.clip_id
        stored = await store_chunk(
            clip_id,
            station.station_id,
            Chunk(0, len(fate.footage), sha256),
            _Body(fate.footage),
            pool=opened.pool,
            vault=opened.vault,
            budget=opened.budget,
            rules=opened.rules,
            now=opened.now,
            seals=True,
        )
        if stored.sealed is None:
            message = f"clip {clip_id} was stored and not sealed"
            raise YearFailed(message)
        state = await read_back_clip(clip_id, pool=opened.pool, vault=opened.vault, now=opened.now)
        if (state == "secured") is fate.is_damaged:
            message = f"clip {clip_id} became {state or stored.sealed.state}"
            raise YearFailed(message)
        return Received(
            clip_id,
            fate,
            device_serial,
            started_at,
            started_at + _RECORDING_LASTS,
            opened.now(),
        )

    async def publish(self) -> None:
        """Place what waits for its place in the log, and publish it."""
        opened = self.opened
        while await sequence_log(
            self.sequencer, pool=opened.pool, signer=opened.signer, now=opened.now
        ):
            pass
        while await publish_checkpoints(pool=opened.pool, vault=opened.vault):
            pass

    async def compute(self) -> None:
        """Compute the dates of all that has changed."""
        await self.publish()
        while await compute_retention(self.opened):
            await self.publish()

    async def work(self) -> Halt | None:
        """Do what the jobs do until there is nothing left to do now; the halt that stands then."""
        while await settle_disclosures(self.opened):
            pass
        while True:
            await self.compute()
            if not await enforce_retention(self.opened):
                break
        await self.publish()
        while await fold_counts(self.opened):
            pass
        halts = await list_halts(pool=self.opened.pool, now=self.opened.now)
        return next((halt for halt in halts if halt.released_at is None), None)
