"""Seal a clip that lies in one part: counted, sealed and witnessed by one statement.

A clip that fits one part is one PutObject, so there is nothing to finish: no state between
'receiving' and 'sealed', nothing that a job must drive on.
"""

from ingest_service import telemetry
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import chain_events
from ingest_service.domain.seal import SealedFacts, describe_seal, make_seal
from ingest_service.domain.upload import Part, Sealable, Surface
from ingest_service.ledger import clips
from ingest_service.ledger.connection import Pool, reading


async def seal_whole(
    sealable: Sealable,
    part: Part,
    sha256: bytes,
    *,
    surface: Surface,
    has_leftovers: bool,
    was_sole_writer: bool = False,
    pool: Pool,
    bucket: str,
    now: Clock,
) -> SealedFacts | None:
    """Count the only part of a clip and seal (or quarantine) it.

    None when upload or chain have changed since they were read: nothing was recorded.

    part    the object that the vault holds, under a key that only this writer wrote to
    sha256  of the whole clip
    was_sole_writer  nobody else ever wrote to the upload

    Raises:
        LedgerUnavailable: it may or may not be recorded.
    """
    upload = sealable.upload
    seal = make_seal(
        upload,
        [part],
        bucket=bucket,
        object_key=part.object_key or "",
        object_version=part.object_version,
        etag=part.etag,
        # One PutObject: its acknowledged length is the stored length, and the read-back follows.
        stored_bytes=None,
        sha256=sha256,
        sha256_device=sealable.sha256_device,
        surface=surface,
        now=now(),
    )
    events = chain_events(
        sealable.chain,
        describe_seal(upload, seal, sha256_device=sealable.sha256_device, surface=surface),
        now=seal.sealed_at,
        device_serial=sealable.device_serial,
    )
    async with reading(pool) as connection:
        is_sealed = await clips.seal_whole(
            connection,
            sealable.chain,
            upload,
            seal,
            events,
            part_sha256=part.sha256,
            surface=surface,
            has_leftovers=has_leftovers,
            was_sole_writer=was_sole_writer,
        )
    if not is_sealed:
        return None
    telemetry.CLIPS_RECEIVED.inc()
    return SealedFacts.made(upload.own_clip_id, seal)
