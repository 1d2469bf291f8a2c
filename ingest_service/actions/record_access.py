"""Record that a clip was looked at, before anything of it is handed out."""

from typing import Final
from uuid import UUID

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Happening, chain_events
from ingest_service.errors import ClipNotFound, UploadBusy
from ingest_service.ledger import clips
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.custody import append_events

_CHAIN_TRIES: Final = 20


async def record_access(clip_id: UUID, happening: Happening, *, pool: Pool, now: Clock) -> None:
    """Append an access to the clip's chain of custody.

    Raises:
        ClipNotFound: nothing was recorded.
        UploadBusy: too many wrote to this chain at once; nothing was recorded, ask again.
    """
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            found = await clips.find_clip(connection, clip_id)
            if found is None:
                raise ClipNotFound(str(clip_id))
            clip = found
            events = chain_events(
                clip.head, [happening], now=now(), device_serial=clip.device_serial
            )
            if await append_events(connection, clip_id, clip.event_count, events):
                return
    raise UploadBusy(clip.upload_id, "its chain of custody is being written")
