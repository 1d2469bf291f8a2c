"""Issue the release receipt: the provable word that a camera may erase its copy."""

from typing import Final
from uuid import UUID

from ingest_service.actions.prove_log import PublishedHead, find_proof
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events, hash_leaf
from ingest_service.domain.receipt import SECURED_TYPE, make_receipt, signed_message
from ingest_service.errors import ClipNotFound
from ingest_service.ledger import clips, log, uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.signer import Signer
from schemas.receipt import Receipt

_CHAIN_TRIES: Final = 8
# These clips were read back once: their receipt stands, whatever became of them since.
_RELEASED_STATES: Final = frozenset({"secured", "erase_pending", "erased"})


async def issue_receipt(
    clip_id: UUID,
    station_id: str,
    *,
    pool: Pool,
    signer: Signer,
    head: PublishedHead,
    now: Clock,
) -> tuple[Clip, Receipt | None]:
    """Return the clip and its receipt; None while there is none to give.

    That is: until the clip is secured, its event has a place in the log, and a checkpoint that
    covers it is outside the ledger. The leaf is the same every time; a later proof may be under
    a later checkpoint. The first one is recorded as `release.issued`, before it is handed out.

    Raises:
        ClipNotFound: no such clip was sent by this station.
        LogForked: the ledger does not hold what was signed; nothing is issued.
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
            secured = await log.find_clip_leaf(connection, clip_id, SECURED_TYPE)
            if secured is None or secured.leaf_index is None:
                return clip, None
            proof = await find_proof(
                connection,
                secured.leaf,
                secured.leaf_index,
                head=head,
                verifier_key=signer.verifier_key,
            )
            if proof is None:
                return clip, None
            if clip.released_at is None:
                moment = now()
                issued = Happening(
                    "release.issued",
                    Actor("station", station_id),
                    {"secured_leaf_hash": hash_leaf(secured.leaf).hex(), "key_id": signer.key_id},
                )
                events = chain_events(
                    clip.head, [issued], now=moment, device_serial=clip.device_serial
                )
                if not await clips.release_clip(connection, clip, moment, events):
                    continue
        return clip, make_receipt(
            secured.leaf,
            secured.leaf_index,
            proof,
            signer_name=signer.name,
            key_id=signer.key_id,
            signature=signer.sign(signed_message(secured.leaf)),
        )
    return clip, None
