"""Pack a disclosure: many clips in one bag, each with all that proves it, as one stream."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from ingest_service.actions.pack_clip import (
    PACKED_STATES,
    begin_pack,
    gather_contents,
    read_verifier,
    write_clip,
)
from ingest_service.actions.prove_log import PublishedHead
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.cosignature import NO_WITNESSES, WitnessPolicy
from ingest_service.domain.disclosure import Disclosure
from ingest_service.domain.pack import (
    BagSums,
    PackContents,
    PackedClip,
    name_clip_file,
    place_of,
    write_disclosure,
    write_tags,
)
from ingest_service.domain.zip_stream import ZipStream
from ingest_service.errors import ContentGone
from ingest_service.ledger.connection import Pool
from ingest_service.signer import Signer
from ingest_service.vault import Vault


async def pack_disclosure(
    disclosure: Disclosure,
    clips: Sequence[Clip],
    record: Callable[[], Awaitable[None]],
    *,
    pool: Pool,
    vault: Vault,
    signer: Signer,
    now: Clock,
    witnesses: WitnessPolicy = NO_WITNESSES,
) -> AsyncIterator[bytes]:
    """Return the pieces of the pack; `record` is awaited before the first of them.

    One clip at a time is at hand, and of that everything but the footage. A clip that fails after
    the first one tears the file: it ends without its directory, so nobody takes it for whole.

    Raises:
        ContentGone, LogPartNotFound, LogForked, StoredBytesLost: as `pack_clip`; nothing is sent.
    """
    for clip in clips:
        if clip.state not in PACKED_STATES or clip.object_key is None or clip.size_bytes is None:
            raise ContentGone(clip.clip_id, clip.state)

    async def gather(clip: Clip) -> PackContents:
        return await gather_contents(clip, pool, vault, signer, now, PublishedHead(witnesses))

    first = await gather(clips[0])
    await record()
    return await begin_pack(_write(disclosure, clips, first, gather, vault))


async def _write(
    disclosure: Disclosure,
    clips: Sequence[Clip],
    first: PackContents,
    gather: Callable[[Clip], Awaitable[PackContents]],
    vault: Vault,
) -> AsyncIterator[bytes]:
    folder = f"disclosure-{disclosure.disclosure_id}"
    archive, payload = ZipStream(first.made_at), BagSums()
    packed: list[PackedClip] = []
    for number, clip in enumerate(clips):
        contents = first if number == 0 else await gather(clip)
        place = partial(place_of, clip.clip_id)
        async for piece in write_clip(contents, archive, payload, folder, vault, place):
            yield piece
        name = place(name_clip_file(clip))
        packed.append(PackedClip(clip, name, payload.sums[name], clip.size_bytes or 0))
    for name, data in write_disclosure(disclosure, packed, first.made_at).items():
        payload.add(name, hashlib.sha256(data).hexdigest(), len(data))
        yield archive.add(f"{folder}/{name}", data)
    tags = write_tags(disclosure.disclosure_id, first.made_at, payload, read_verifier())
    for name, data in tags.items():
        yield archive.add(f"{folder}/{name}", data)
    yield archive.finish()
