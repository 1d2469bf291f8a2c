"""Issue the release receipt: the provable word that a camera may erase its copy."""

from typing import Final
from uuid import UUID

from ingest_service.actions.prove_log import PublishedHead, find_proof
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events, hash_leaf
from ingest_service.domain.receipt import make_receipt, signed_message
from ingest_service.errors import (
    ANOTHER_STATION,
    ClipNotFound,
)
from ingest_service.ledger import releases
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.releases import Release
from ingest_service.signer import Signer
from schemas.receipt import Receipt

_CHAIN_TRIES: Final = 8


async def issue_receipt(
    clip_id: UUID,
    station_id: str,
    *,
    pool: Pool,
    signer: Signer,
    head: PublishedHead,
    now: Clock,
) -> tuple[Release, Receipt | None]:
    """Return how far the clip is, and its receipt; None while there is none to give.

    That is: until the clip is secured, its event has a place in the log, and a checkpoint that
    covers it is outside the ledger. The leaf is the same every time; a later proof may be under
    a later checkpoint. The first one is recorded as `release.issued`, before it is handed out.

    Raises:
        ClipNotFound: no such clip was sent by this station.
        LogForked: the ledger does not hold what was signed; nothing is issued.
    """
    for _ in range(_CHAIN_TRIES):
        async with reading(pool) as connection:
            found = await releases.find_release(connection, clip_id)
            if found is None:
                raise ClipNotFound(str(clip_id))
            if found.station_id != station_id:
                raise ClipNotFound(str(clip_id)).hiding(ANOTHER_STATION)
            release = found
            leaf, index = release.secured_leaf, release.leaf_index
            if leaf is None or index is None:
                return release, None
            proof = await find_proof(
                connection, leaf, index, head=head, verifier_key=signer.verifier_key
            )
            if proof is None:
                return release, None
            if release.released_at is None:
                moment = now()
                issued = Happening(
                    "release.issued",
                    Actor("station", station_id),
                    {"secured_leaf_hash": hash_leaf(leaf).hex(), "key_id": signer.key_id},
                )
                events = chain_events(
                    release.head, [issued], now=moment, device_serial=release.device_serial
                )
                if not await releases.release_clip(connection, release.head, moment, events):
                    continue
        return release, make_receipt(
            leaf,
            index,
            proof,
            signer_name=signer.name,
            key_id=signer.key_id,
            signature=signer.sign(signed_message(leaf)),
        )
    return release, None
