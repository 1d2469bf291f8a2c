"""The service that lives through the year: its own actions and jobs, on a clock that is moved."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ingest_service.actions.announce_clip import Announced, announce_clip
from ingest_service.actions.append_bytes import append_bytes
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
from ingest_service.dev.year.clock import DAY, MovedClock
from ingest_service.dev.year.plan import Fate
from ingest_service.domain.admission import Door
from ingest_service.domain.bytestream import ReplayBudget
from ingest_service.domain.read_back_lag import ReadBackLag
from ingest_service.domain.retention import RetentionRules
from ingest_service.domain.token import TokenRules, import_signing_key, make_private_key
from ingest_service.domain.upload import UploadRules
from ingest_service.jobs.compute_retention import compute_retention
from ingest_service.jobs.enforce_retention import enforce_retention
from ingest_service.jobs.expire_uploads import expire_uploads
from ingest_service.jobs.fold_counts import fold_counts
from ingest_service.jobs.settle_disclosures import settle_disclosures
from ingest_service.jobs.sweep_leftovers import sweep_leftovers
from ingest_service.keyring import open_keyring
from ingest_service.ledger.connection import Pool, reading
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
_RECORDED_AT: Final = timedelta(hours=3)
_RECORDING_LASTS: Final = timedelta(minutes=12)

# Uploads end by the clock of Postgres, which nobody moves. What is over by the simulation's is made
# to be over by that one; and the five minutes after an upload's end have passed by the evening.
_MOVE_DEADLINES: Final = """
    UPDATE uploads
       SET expires_at = CASE WHEN state = 'open' AND expires_at <= $1
                             THEN now() - ($1 - expires_at) ELSE expires_at END,
           sweep_after = CASE WHEN state <> 'open' THEN now() ELSE sweep_after END
     WHERE (state = 'open' AND expires_at <= $1)
        OR sweep_after > now()
"""

_NOTHING_MOVED: Final = "UPDATE 0"


class YearFailed(Exception):
    """The service did something that the simulation did not expect; the message says what."""


@dataclass(frozen=True, slots=True)
class Received:
    """A clip that came in; its recording by the camera's clock, which is right.

    day  on which it came, counted from 0
    """

    clip_id: UUID
    day: int
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
    clock: MovedClock
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
            received += await asyncio.gather(
                *[self.receive(fate, recorded_on=fate.day, day=fate.day) for fate in some]
            )
        return received

    async def receive(self, fate: Fate, *, recorded_on: int, day: int) -> Received:
        """Announce, store, seal and read back one clip, at the station where its camera is.

        recorded_on  the day of the recording; a camera that was lost comes later, and elsewhere

        Raises:
            YearFailed: it did not become what it should.
        """
        opened = self.opened
        started_at = self._tell_start(recorded_on)
        station = self.stations[(fate.number + (day != recorded_on)) % len(self.stations)]
        announced = await self._announce(fate, station, started_at)
        clip_id = announced.clip.clip_id
        sha256 = hashlib.sha256(fate.footage).digest()
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
            day,
            fate,
            announced.clip.device_serial,
            started_at,
            started_at + _RECORDING_LASTS,
            opened.now(),
        )

    async def receive_half(self, fate: Fate) -> tuple[UUID, UUID]:
        """Announce a clip and take half of it, by tus; return the clip and its upload.

        Raises:
            YearFailed: more or less than the half was counted.
        """
        opened = self.opened
        station = self.stations[fate.number % len(self.stations)]
        announced = await self._announce(fate, station, self._tell_start(fate.day))
        half = fate.footage[: len(fate.footage) // 2]
        upload = await append_bytes(
            announced.upload.upload_id,
            station.station_id,
            0,
            len(half),
            _Body(half),
            pool=opened.pool,
            vault=opened.vault,
            holders=opened.holders,
            budget=opened.budget,
            rules=opened.rules,
            now=opened.now,
        )
        if (upload.state, upload.offset_bytes) != ("open", len(half)):
            message = f"upload {upload.upload_id} is {upload.state} at {upload.offset_bytes}"
            raise YearFailed(message)
        return announced.clip.clip_id, upload.upload_id

    def _tell_start(self, day: int) -> datetime:
        """Return when a camera began to record what it brings on a day."""
        return self.clock.start + day * DAY + _RECORDED_AT

    async def _announce(self, fate: Fate, station: Station, started_at: datetime) -> Announced:
        opened = self.opened
        footage = b"damaged" if fate.is_damaged else fate.footage
        raw: dict[str, Any] = {
            "device_serial": f"BWC-{fate.number % _DEVICES:05}",
            "recording_id": f"rec-{fate.number}",
            "size_bytes": len(fate.footage),
            "sha256_device": hashlib.sha256(footage).hexdigest(),
            "started_at": started_at.isoformat(),
            "ended_at": (started_at + _RECORDING_LASTS).isoformat(),
            "clock_state": "synced",
            "clock_offset_ms": 0,
        }
        return await announce_clip(
            Announcement.model_validate(raw),
            raw,
            station,
            pool=opened.pool,
            directory=opened.directory,
            rules=opened.rules,
            now=opened.now,
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
        await self._end_abandoned()
        while True:
            await self.compute()
            if not await enforce_retention(self.opened):
                break
        await self.publish()
        while await fold_counts(self.opened):
            pass
        halts = await list_halts(pool=self.opened.pool, now=self.opened.now)
        return next((halt for halt in halts if halt.released_at is None), None)

    async def _end_abandoned(self) -> None:
        """End uploads that nobody continued in time, and sweep what the others have left."""
        async with reading(self.opened.pool) as connection:
            moved = await connection.execute(_MOVE_DEADLINES, self.opened.now())
        # On most days nothing has moved, and the jobs would only look at the published log twice.
        if moved == _NOTHING_MOVED:
            return
        while await sweep_leftovers(self.opened):
            pass
        while await expire_uploads(self.opened):
            pass
