"""Issue the release receipt: the signed word that a camera may erase its copy."""

from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.receipt import make_receipt, signed_message
from ingest_service.errors import ClipNotFound
from ingest_service.ledger import clips, uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.custody import find_last_event
from ingest_service.signer import Signer
from schemas.receipt import Receipt

_CHAIN_TRIES: Final = 8
# These clips were read back once: their receipt stands, whatever became of them since.
_RELEASED_STATES: Final = frozenset({"secured", "erase_pending", "erased"})


async def issue_receipt(
    clip_id: UUID, station_id: str, *, pool: Pool, signer: Signer, now: Clock
) -> tuple[Clip, Receipt | None]:
    """Return the clip and its receipt; None while the clip is not secured.

    The receipt is the same every time: the clip.secured leaf and a deterministic signature. The
    first one is recorded as `release.issued`, before it is handed out.

    Raises:
        ClipNotFound: no such clip was sent by this station.
    """
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            found = await clips.find_clip(connection, clip_id)
            upload = await uploads.find_clip_upload(connection, clip_id)
            if found is None or upload is None or upload.station_id != station_id:
                raise ClipNotFound(str(clip_id))
            clip = found
            if clip.state not in _RELEASED_STATES:
                return clip, None
            secured = await find_last_event(connection, clip_id, "clip.secured")
            if secured is None:
                return clip, None
            if clip.released_at is None:
                moment = now()
                issued = Happening(
                    "release.issued",
                    Actor("station", station_id),
                    {"secured_leaf_hash": secured.leaf_hash.hex(), "key_id": signer.key_id},
                )
                events = chain_events(
                    clip.head, [issued], now=moment, device_serial=clip.device_serial
                )
                if not await clips.release_clip(connection, clip, moment, events):
                    continue
        signature = signer.sign(signed_message(secured.leaf))
        return clip, make_receipt(secured.leaf, signer.name, signer.key_id, signature)
    return clip, None
