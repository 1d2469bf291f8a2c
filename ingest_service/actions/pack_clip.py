"""Pack: a clip with all that a stranger needs to check it, as one stream."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Final

import structlog

from ingest_service.actions.prove_log import PublishedHead, find_proof
from ingest_service.actions.record_access import record_access
from ingest_service.domain.checkpoint import Checkpoint, parse_checkpoint
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.cosignature import NO_WITNESSES, WitnessPolicy
from ingest_service.domain.custody import Happening
from ingest_service.domain.derivative import write_lineage
from ingest_service.domain.manifest import ManifestName
from ingest_service.domain.merkle import ProofInvalid, prove_consistency, verify_consistency
from ingest_service.domain.pack import (
    BagSums,
    PackContents,
    PackedEvent,
    PackedStamp,
    find_dated,
    name_clip_file,
    name_folder,
    write_payload,
    write_tags,
)
from ingest_service.domain.zip_stream import ZipStream
from ingest_service.errors import ContentGone, LogForked, LogPartNotFound, StoredBytesLost
from ingest_service.ledger import derivatives, log, packs
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.signer import Signer, list_verifier_keys
from ingest_service.vault import Vault

_LOG: Final = structlog.get_logger("ingest.pack")
PACKED_STATES: Final = frozenset({"sealed", "secured", "erase_pending", "quarantined"})


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that is ready to be sent: everything is at hand but the footage."""

    contents: PackContents
    file_name: str
    pieces: AsyncIterator[bytes]


async def pack_clip(
    clip: Clip,
    access: Happening,
    *,
    pool: Pool,
    vault: Vault,
    signer: Signer,
    now: Clock,
    witnesses: WitnessPolicy = NO_WITNESSES,
) -> Pack:
    """Return the pack of a clip; `access` is recorded before the first byte leaves.

    Its proofs are under one published checkpoint: events that it does not cover yet (this access
    is one) are left out, and counted. The checkpoint carries what `witnesses` have cosigned of it.

    Raises:
        ContentGone: the clip has no bytes (any more, or yet); nothing was recorded.
        LogPartNotFound: no published checkpoint covers any event of the clip yet.
        LogForked: the ledger does not hold what was signed.
        StoredBytesLost: the clip's manifest, or the first of its bytes, cannot be read.
    """
    if clip.state not in PACKED_STATES or clip.object_key is None or clip.size_bytes is None:
        raise ContentGone(clip.clip_id, clip.state)
    contents = await gather_contents(clip, pool, vault, signer, now, PublishedHead(witnesses))
    await record_access(clip.clip_id, access, pool=pool, now=now)
    folder = name_folder(clip)
    return Pack(contents, f"{folder}.zip", await begin_pack(_write(contents, folder, vault)))


async def gather_contents(
    clip: Clip, pool: Pool, vault: Vault, signer: Signer, now: Clock, head: PublishedHead
) -> PackContents:
    """Return everything of a clip's pack but the footage.

    Raises:
        LogPartNotFound, LogForked, StoredBytesLost: as `pack_clip`.
    """
    async with reading(pool) as connection:
        placed = await packs.list_placed_events(connection, clip.clip_id)
        events: list[PackedEvent] = []
        # The last one first: the checkpoint that covers it covers all.
        for event in reversed(placed):
            if event.leaf_index is None:
                continue
            proof = await find_proof(
                connection,
                event.leaf,
                event.leaf_index,
                head=head,
                verifier_key=signer.verifier_key,
            )
            if proof is not None:
                events.append(PackedEvent(event.leaf, event.leaf_index, proof))
        if not events or head.signed is None:
            reason = f"no published checkpoint covers clip {clip.clip_id} yet"
            raise LogPartNotFound(reason)
        events.reverse()
        # After the events: it says at least what they say.
        lineage = write_lineage(
            clip.clip_id, await derivatives.find_lineage(connection, clip.clip_id)
        )
        stamp = await _find_stamp(connection, find_dated(events).log_index, head.signed.checkpoint)
    manifest = None
    if clip.manifest_sha256 is not None:
        name = ManifestName(clip.clip_id, clip.manifest_sha256)
        manifest = b"".join([block async for block in vault.read(name.key, None)])
        if hashlib.sha256(manifest).digest() != clip.manifest_sha256:
            reason = f"{name.key} is not what was stored"
            raise StoredBytesLost(reason)
    return PackContents(
        clip=clip,
        events=events,
        manifest=manifest,
        checkpoint=head.signed.text,
        verifier_keys=list_verifier_keys(signer),
        left_out=len(placed) - len(events),
        made_at=now(),
        stamp=stamp,
        lineage=lineage,
    )


async def _find_stamp(
    connection: Connection, log_index: int, checkpoint: Checkpoint
) -> PackedStamp | None:
    """Return the oldest time stamp over an index, joined to the pack's checkpoint.

    Raises:
        LogForked: what was stamped is not of the log that was signed.
    """
    found = await log.find_covering_timestamp(connection, log_index)
    if found is None:
        return None
    stamped = parse_checkpoint(found.note)
    older, newer = sorted([stamped.checkpoint, checkpoint], key=lambda each: each.size)
    try:
        path = await prove_consistency(older.size, newer.size, partial(log.read_tiles, connection))
        verify_consistency(older.size, older.root, newer.size, newer.root, path)
    except ProofInvalid as error:
        reason = f"the time stamp over {older.size} leaves is of another log: {error}"
        raise LogForked(reason) from error
    return PackedStamp(stamped.body, found.token, found.gen_time, path)


async def begin_pack(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Wait for the first of the footage, so that a missing object is an answer and no torn file."""
    first = await anext(pieces)

    async def resume() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return resume()


async def _write(contents: PackContents, folder: str, vault: Vault) -> AsyncIterator[bytes]:
    """Yield the zip file: the footage first, what depends on its hash last.

    Raises:
        StoredBytesLost: the stored bytes are not what they were; the file ends without its
            directory, so that nobody takes it for whole.
    """
    archive, payload = ZipStream(contents.made_at), BagSums()
    async for piece in write_clip(contents, archive, payload, folder, vault):
        yield piece
    tags = write_tags(contents.clip.clip_id, contents.made_at, payload, read_verifier())
    for name, data in tags.items():
        yield archive.add(f"{folder}/{name}", data)
    yield archive.finish()


async def write_clip(
    contents: PackContents,
    archive: ZipStream,
    payload: BagSums,
    folder: str,
    vault: Vault,
    place: Callable[[str], str] = str,
) -> AsyncIterator[bytes]:
    """Yield the pieces of a zip file that carry one clip, and add its files to the bag's sums.

    place  returns where in the bag a file of a clip's pack lies

    Raises:
        StoredBytesLost: as `_write`.
    """
    clip = contents.clip
    digest, length = hashlib.sha256(), 0
    name = place(name_clip_file(clip))

    async def footage() -> AsyncIterator[bytes]:
        nonlocal length
        async for block in vault.read(clip.object_key or "", clip.object_version):
            digest.update(block)
            length += len(block)
            yield block

    async for piece in archive.stream(f"{folder}/{name}", clip.size_bytes or 0, footage()):
        yield piece
    expected = clip.sha256 if clip.state != "quarantined" else None
    if expected is not None and digest.digest() != expected:
        _LOG.error("pack_not_finished", clip_id=str(clip.clip_id), reason="stored bytes differ")
        reason = f"the stored bytes of clip {clip.clip_id} are not what was secured"
        raise StoredBytesLost(reason)
    payload.add(name, digest.hexdigest(), length)
    for payload_name, data in write_payload(contents).items():
        placed = place(payload_name)
        payload.add(placed, hashlib.sha256(data).hexdigest(), len(data))
        yield archive.add(f"{folder}/{placed}", data)


def read_verifier() -> bytes:
    """Return verify.py as it goes into every pack."""
    return resources.files("schemas").joinpath("verify_pack.py").read_bytes()
