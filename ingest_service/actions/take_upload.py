"""Take an upload in order to append to it: a newcomer always wins, and at once."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from ingest_service import telemetry
from ingest_service.domain.clock import Clock
from ingest_service.domain.upload import Upload
from ingest_service.errors import (
    ANOTHER_STATION,
    AppendToFinal,
    TakenOver,
    UploadBusy,
    UploadClosed,
    UploadGone,
    UploadNotFound,
)
from ingest_service.ledger import uploads
from ingest_service.ledger.connection import Pool, reading

_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.05
# Partials that a process joins at once. Who waits longer than a request may is told 201 anyway:
# the partials hold every byte.
JOINS_MAX: Final = 4


class Interruptible(Protocol):
    """A request body that can be told to stop."""

    def interrupt(self, reason: Exception) -> None:
        """Make the present (or next) read raise `reason`."""
        ...


@dataclass(slots=True)
class Holders:
    """The uploads that requests of this process are appending to now.

    name   of this process, for the ledger's leased_by
    joins  turns for joining partials: each reads and writes a whole clip, unasked for any longer
    """

    name: str
    bodies: dict[UUID, Interruptible] = field(default_factory=dict)
    joins: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(JOINS_MAX))

    def interrupt(self, upload_id: UUID) -> None:
        """Stop the request that holds this upload, if it is one of this process."""
        body = self.bodies.get(upload_id)
        if body is not None:
            body.interrupt(TakenOver(upload_id))


async def take_upload(
    upload_id: UUID,
    station_id: str,
    body: Interruptible,
    *,
    pool: Pool,
    holders: Holders,
    wait_s: float,
    now: Clock,
    joins: bool = False,
) -> Upload:
    """Lease an upload for this request and return it as it stands then.

    An idle upload is leased by one statement. A held one is interrupted: its holder gets wait_s
    seconds to store the prefix it received; then it is fenced off by the next epoch.

    joins  partials are joined into it: the one way to write to a final

    Raises:
        UploadNotFound, UploadGone, UploadClosed, UploadBusy, AppendToFinal: nothing was changed.
    """
    async with reading(pool) as connection:
        upload = await uploads.take_upload(
            connection, upload_id, station_id, holders.name, joins=joins
        )
    if upload is None:
        taker = _Taker(holders.name, joins=joins)
        upload = await _take_over(upload_id, station_id, taker, pool, holders, wait_s, now)
    holders.bodies[upload_id] = body
    return upload


async def settle_upload(
    upload_id: UUID, station_id: str, *, pool: Pool, holders: Holders, wait_s: float, now: Clock
) -> Upload:
    """Return an upload whose offset no running request can move any more (HEAD, DELETE).

    One row read when nobody is writing; a running writer is interrupted first.

    Raises:
        UploadNotFound: there is none.
    """
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, upload_id)
    if upload is None:
        raise UploadNotFound(str(upload_id))
    if upload.station_id != station_id:
        raise UploadNotFound(str(upload_id)).hiding(ANOTHER_STATION)
    if upload.state != "open" or upload.leased_by is None or upload.kind == "final":
        return upload
    try:
        return await _take_over(upload_id, station_id, None, pool, holders, wait_s, now)
    except (UploadBusy, UploadClosed, UploadGone):
        # The interrupted holder had just stored the last byte, or it ended meanwhile.
        async with reading(pool) as connection:
            ended = await uploads.find_upload(connection, upload_id)
        if ended is None:
            raise UploadNotFound(str(upload_id)) from None
        return ended


def leave_upload(upload_id: UUID, body: Interruptible, *, holders: Holders) -> None:
    """Forget that this request holds an upload."""
    if holders.bodies.get(upload_id) is body:
        del holders.bodies[upload_id]


@dataclass(frozen=True, slots=True)
class _Taker:
    """Who writes from now on."""

    name: str
    joins: bool


def refuse_ended(upload: Upload, now: Clock) -> None:
    """Raise what an upload that is not open means for whoever wants to write to it.

    Raises:
        UploadClosed: complete. UploadBusy: being finished. UploadGone: expired or terminated.
    """
    if upload.state == "finished":
        raise UploadClosed(upload.upload_id, upload.state)
    if upload.state == "finishing":
        raise UploadBusy(upload.upload_id, "being finished")
    if upload.state != "open":
        raise UploadGone(upload.upload_id, upload.state)
    if upload.expires_at <= now():
        raise UploadGone(upload.upload_id, "expired")


async def _take_over(
    upload_id: UUID,
    station_id: str,
    taker: _Taker | None,
    pool: Pool,
    holders: Holders,
    wait_s: float,
    now: Clock,
) -> Upload:
    deadline = time.monotonic() + wait_s
    pause_s = _FIRST_PAUSE_S
    while True:
        async with reading(pool) as connection:
            upload = await uploads.find_upload(connection, upload_id)
            if upload is None:
                raise UploadNotFound(str(upload_id))
            if upload.station_id != station_id:
                raise UploadNotFound(str(upload_id)).hiding(ANOTHER_STATION)
            if taker is not None and (upload.kind == "final") is not taker.joins:
                raise AppendToFinal(upload_id)
            refuse_ended(upload, now)
            if upload.leased_by is None and taker is None:
                return upload
            if upload.leased_by is None or time.monotonic() >= deadline:
                # Compare-and-set on the epoch: of several newcomers exactly one gets the row.
                name = None if taker is None else taker.name
                taken = await uploads.seize_upload(connection, upload_id, upload.epoch, name)
                if taken is not None:
                    if upload.leased_by is not None:
                        telemetry.TAKE_OVERS.inc()
                    return taken
            elif pause_s == _FIRST_PAUSE_S:
                await uploads.interrupt_holder(connection, upload_id)
        holders.interrupt(upload_id)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
