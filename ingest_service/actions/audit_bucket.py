"""Audit of the bucket: the published leaves, the manifests, and a share of the objects."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

from ingest_service.actions.audit_tools import BEFORE_ALL, AuditTools, read_object
from ingest_service.actions.check_erasure import is_being_erased
from ingest_service.domain.audit import AuditState, is_chosen
from ingest_service.domain.clip import Clip
from ingest_service.domain.custody import hash_leaf
from ingest_service.domain.log_paths import (
    LEAVES_PREFIX,
    BundleInvalid,
    leaves_key,
    parse_leaves_key,
    split_bundle,
)
from ingest_service.domain.manifest import (
    MANIFESTS_PREFIX,
    ManifestInvalid,
    ManifestName,
    parse_manifest,
    parse_manifest_key,
)
from ingest_service.errors import StoredBytesLost
from ingest_service.ledger import audit as rows
from ingest_service.ledger import clips
from ingest_service.ledger.connection import reading

BATCH_CLIPS: Final = 500
# Small objects that are asked for at once.
AT_ONCE: Final = 16
# What no event may change once a clip is sealed.
_FIXED: Final = (
    "upload_id",
    "device_serial",
    "recording_id",
    "segment_no",
    "announcement",
    "size_bytes",
    "sha256",
    "sha256_device",
    "sha256_readback",
    "announced_at",
    "sealed_at",
    "bucket",
    "object_key",
    "object_version",
    "manifest",
)
_RETAINED: Final = frozenset({"secured", "erase_pending"})


# --- the leaves ------------------------------------------------------------------------------


async def audit_leaves(state: AuditState, tools: AuditTools) -> None:
    """Compare the published leaves with the ledger's: the ledger can be rebuilt from them."""
    covered = int(state.cursor or 0)
    async with reading(tools.pool) as connection:
        sizes = await rows.list_published_sizes(connection)
    total = max([size for size in sizes if size <= state.tree_size], default=0)
    async for key in tools.vault.list_keys(LEAVES_PREFIX):
        span = parse_leaves_key(key)
        if span is None:
            state.add("published leaves", key, "this is not the key of leaves")
            continue
        start, stop = span
        if stop <= covered or start >= total:
            continue
        if start != covered:
            detail = f"the leaves from {covered} to {start} are not in the bucket"
            state.add("published leaves", leaves_key(covered, start), detail)
        await _compare_leaves(state, tools, key, start, stop)
        covered = stop
        state.cursor = str(covered)
        tools.tell("leaves", min(covered, total), total)
        tools.save(state)
    if covered < total:
        detail = f"the leaves from {covered} to {total} are not in the bucket"
        state.add("published leaves", leaves_key(covered, total), detail)


async def _compare_leaves(
    state: AuditState, tools: AuditTools, key: str, start: int, stop: int
) -> None:
    try:
        leaves = split_bundle(await read_object(tools.vault, key))
    except StoredBytesLost:
        state.add("published leaves", key, "it is listed and cannot be read")
        return
    except BundleInvalid:
        state.add("published leaves", key, "it ends within a leaf")
        return
    async with reading(tools.pool) as connection:
        expected = await rows.get_leaf_hashes(connection, start, stop)
    state.counts["published leaves compared"] += len(leaves)
    hashes = [hash_leaf(leaf) for leaf in leaves]
    if hashes != expected:
        pairs = enumerate(zip(hashes, expected, strict=False))
        first = next((number for number, (ours, its) in pairs if ours != its), None)
        where = f"leaf {start + first} differs" if first is not None else "their number differs"
        state.add("published leaves", key, f"they are not the ledger's: {where}")


# --- the manifests ---------------------------------------------------------------------------


async def audit_manifests(state: AuditState, tools: AuditTools) -> None:
    """Walk the manifests in the bucket and the clips of the ledger side by side."""
    after = BEFORE_ALL if state.cursor is None else UUID(state.cursor)
    async with reading(tools.pool) as connection:
        total = await rows.count_clips(connection)
    # A key after every key of the clip that was last.
    begin = "" if state.cursor is None else f"{MANIFESTS_PREFIX}{after}0"
    names = _list_manifests(state, tools, begin)
    upcoming = await anext(names, None)
    while True:
        async with reading(tools.pool) as connection:
            batch = await rows.list_clips_after(connection, after, limit=BATCH_CLIPS)
        last = batch[-1].clip_id if batch else None
        stored: list[ManifestName] = []
        while upcoming is not None and (last is None or upcoming.clip_id <= last):
            stored.append(upcoming)
            upcoming = await anext(names, None)
        await _compare_manifests(state, tools, batch, stored)
        if last is None:
            return
        after = last
        state.cursor = str(after)
        tools.tell("manifests", state.counts["clips beside manifests"], total)
        tools.save(state)


async def _list_manifests(
    state: AuditState, tools: AuditTools, begin: str
) -> AsyncIterator[ManifestName]:
    async for key in tools.vault.list_keys(MANIFESTS_PREFIX, after=begin):
        try:
            yield parse_manifest_key(key)
        except ManifestInvalid as error:
            state.add("manifest", key, str(error))


async def _compare_manifests(
    state: AuditState, tools: AuditTools, batch: list[Clip], stored: list[ManifestName]
) -> None:
    known = {clip.clip_id: clip for clip in batch}
    held = set(stored)
    for name in stored:
        if name.clip_id in known:
            continue
        # A clip that was announced since its neighbours were read is not unknown.
        async with reading(tools.pool) as connection:
            found = await clips.find_clip(connection, name.clip_id)
        if found is None:
            state.add("manifest", name.key, "the ledger does not know this clip")
    named = [
        (clip, ManifestName(clip.clip_id, clip.manifest_sha256))
        for clip in batch
        if clip.manifest_sha256 is not None
    ]
    for number in range(0, len(named), AT_ONCE):
        await asyncio.gather(
            *[
                _compare_manifest(state, tools, clip, name, is_listed=name in held)
                for clip, name in named[number : number + AT_ONCE]
            ]
        )
    state.counts["clips beside manifests"] += len(batch)


async def _compare_manifest(
    state: AuditState, tools: AuditTools, clip: Clip, name: ManifestName, *, is_listed: bool
) -> None:
    state.counts["manifests compared"] += 1
    try:
        members = parse_manifest(name, await read_object(tools.vault, name.key))
    except StoredBytesLost:
        what = "it is listed and cannot be read" if is_listed else "it is not in the bucket"
        state.add("manifest", name.key, what)
        return
    except ManifestInvalid as error:
        state.add("manifest", name.key, str(error))
        return
    for member in _FIXED:
        ours, its = getattr(clip, member), members[member]
        if ours != its:
            detail = f"{member} of the clip is {_show(ours)}, its manifest says {_show(its)}"
            state.add("clip", str(clip.clip_id), detail)


def _show(value: Any) -> str:  # noqa: ANN401 - any member of a clip
    return value.hex() if isinstance(value, bytes) else str(value)[:200]


# --- the objects -----------------------------------------------------------------------------


async def audit_objects(state: AuditState, tools: AuditTools) -> None:
    """Look for every object, and read the chosen share of retained ones again, whole.

    A clip that is retained must have its bytes, and one that was erased must not.
    """
    if state.objects_share <= 0:
        return
    after = BEFORE_ALL if state.cursor is None else UUID(state.cursor)
    async with reading(tools.pool) as connection:
        total = await rows.count_clips(connection)
    while True:
        async with reading(tools.pool) as connection:
            batch = await rows.list_clips_after(connection, after, limit=BATCH_CLIPS)
        if not batch:
            return
        for number in range(0, len(batch), AT_ONCE):
            await asyncio.gather(
                *[_look_for(state, tools, clip) for clip in batch[number : number + AT_ONCE]]
            )
        for clip in batch:
            if clip.state in _RETAINED and is_chosen(
                clip.clip_id, seed=state.seed, share=state.objects_share
            ):
                await _read_again(state, tools, clip)
            after = clip.clip_id
            # An object may be of gigabytes: after each one there is something to save.
            state.cursor = str(after)
            state.counts["clips drawn from"] += 1
            tools.tell("objects", state.counts["clips drawn from"], total)
            tools.save(state)


async def _look_for(state: AuditState, tools: AuditTools, clip: Clip) -> None:
    """Ask the store for an object; what is to be read whole is missed there."""
    is_read = is_chosen(clip.clip_id, seed=state.seed, share=state.objects_share)
    if clip.object_key is None or (clip.state in _RETAINED and is_read):
        return
    if clip.state not in _RETAINED and clip.state != "erased":
        return
    found = await tools.vault.get_facts(clip.object_key, clip.object_version)
    state.counts["objects looked for"] += 1
    subject = f"{clip.object_key}?versionId={clip.object_version}"
    if clip.state == "erased":
        if found is not None:
            state.add("object", subject, "the clip was erased, and its bytes are there")
    elif found is None and not await is_being_erased(clip.clip_id, pool=tools.pool):
        state.add("object", subject, "no such object", "not_verifiable")
    elif found is not None and found.size_bytes != clip.size_bytes:
        state.add("object", subject, f"it has {found.size_bytes} bytes, the clip {clip.size_bytes}")


async def _read_again(state: AuditState, tools: AuditTools, clip: Clip) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    subject = f"{clip.object_key}?versionId={clip.object_version}"
    try:
        async for block in tools.vault.read(clip.object_key or "", clip.object_version):
            digest.update(block)
            size_bytes += len(block)
    except StoredBytesLost as lost:
        if await is_being_erased(clip.clip_id, pool=tools.pool):
            return
        # Absent is not altered.
        state.add("object", subject, lost.reason, "not_verifiable")
        return
    state.counts["objects read"] += 1
    state.counts["object bytes read"] += size_bytes
    if size_bytes != clip.size_bytes:
        detail = f"it has {size_bytes} bytes, the clip {clip.size_bytes}"
        state.add("object", subject, detail)
    elif digest.digest() != clip.sha256:
        state.add("object", subject, f"its SHA-256 is {digest.hexdigest()}, not the clip's")
