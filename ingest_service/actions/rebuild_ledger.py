"""Rebuild: an empty ledger, from the bucket alone.

The published leaves are the events, byte for byte; their chains and the manifests beside the clips
say what the rows were. Nothing is believed that its hash, its chain or a signed checkpoint does
not bear out. All of it is one transaction: a rebuild that breaks off leaves the ledger empty, and
is begun again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.actions.audit_tools import BEFORE_ALL, read_object
from ingest_service.actions.restore_attested import restore_cosignatures, restore_timestamps
from ingest_service.actions.sequence_log import sign_checkpoint
from ingest_service.domain.assertion import Assertion, replay_assertions
from ingest_service.domain.checkpoint import Checkpoint, parse_checkpoint, verify_any
from ingest_service.domain.clip import correct_time
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import (
    Actor,
    ChainHead,
    CustodyEvent,
    Happening,
    chain_events,
    make_device_events,
)
from ingest_service.domain.log_paths import (
    CHECKPOINTS_PREFIX,
    LEAVES_PREFIX,
    BundleInvalid,
    checkpoint_key,
    parse_checkpoint_key,
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
from ingest_service.domain.merkle import TILE_HEIGHT, TILE_WIDTH, Edge, TileId
from ingest_service.domain.note import NoteInvalid, VerifierKey, parse_verifier_key
from ingest_service.domain.replay import (
    History,
    LeafInvalid,
    find_link_flaw,
    fold_event,
    parse_leaf,
    read_event,
)
from ingest_service.domain.retention import Policy, Rule
from ingest_service.errors import StoredBytesLost
from ingest_service.ledger import audit as rows
from ingest_service.ledger import rebuild, retention
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.ledger.custody import insert_device_events
from ingest_service.ledger.rebuild import RestoredCheckpoint
from ingest_service.signer import Signer
from ingest_service.vault import Vault
from schemas.assertion import FIELDS_ALL

REBUILDER: Final = Actor("service", "ingest-rebuild")
BATCH_CLIPS: Final = 500
AT_ONCE: Final = 16
_OPTIONAL: Final = (
    *("device_recording_seq", "started_at", "ended_at", "clock_offset_ms", "clock_uncertainty_ms"),
    *("duplicate_of", "started_at_corrected", "sealed_at", "secured_at", "released_at"),
    *("officer_id", "incident_id", "crime_ref", "category", "title", "sha256", "sha256_readback"),
    *("sha256_device", "quarantine_reason", "bucket", "object_key", "object_version", "manifest"),
    *("size_bytes", "manifest_sha256", "last_fixity_at", "last_fixity_result"),
)
# What `clip.restored` says of a clip whose own events were never published.
_RESTORED_PLAIN: Final = (
    *("device_serial", "recording_id", "segment_no", "size_bytes", "clock_state", "flags"),
    *("station_id", "clock_offset_ms", "bucket", "object_key", "object_version"),
)
# What a later event of the chain knows better than the manifest.
_BY_EVENTS: Final = (
    *("secured_at", "released_at", "quarantine_reason", "manifest_sha256"),
    *("last_fixity_at", "last_fixity_result"),
)


# What decides when a clip is erased, as it was asserted last.
_BELIEVED: Final = ("officer_id", "category", "evidential_state")
_ASSERTED: Final = ("category", "evidential_state")


class RebuildRefused(Exception):
    """It cannot be rebuilt from this bucket, or not into this ledger; nothing was written."""


@dataclass(slots=True)
class Rebuilt:
    """What was written.

    unsigned_leaves  published leaves that no published checkpoint covers: believed for their
                     chains, signed anew
    restored         clips of which the published events do not tell all: they got `clip.restored`
    assertions       that their events tell; assertions_lost: of which they hold hashes only
    timestamps_lost  time stamps that an event names and the bucket does not hold (any more)
    """

    tree_size: int = 0
    checkpoints: int = 0
    unsigned_leaves: int = 0
    timestamps: int = 0
    timestamps_lost: int = 0
    cosignatures: int = 0
    clips: int = 0
    without_manifest: int = 0
    restored: int = 0
    assertions: int = 0
    assertions_lost: int = 0
    states: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RebuildTools:
    """Where it comes from and goes to; `tell` takes a step, how much is done, how much there is.

    keys       verifier keys that the log had
    witnesses  keys of those whose cosignatures are restored
    """

    pool: Pool
    vault: Vault
    signer: Signer
    keys: Sequence[VerifierKey]
    now: Clock
    tell: Callable[[str, int, int | None], None]
    witnesses: Sequence[VerifierKey] = ()


async def rebuild_ledger(tools: RebuildTools) -> Rebuilt:
    """Restore events, log, clips and stations; return what was written.

    Raises:
        RebuildRefused: the ledger is not empty, or the bucket does not hold a whole log.
        VaultUnavailable, LedgerUnavailable: begin again; nothing was written.
    """
    rebuilt = Rebuilt()
    # The one transaction that waits for the store: there is nobody else to keep waiting.
    async with writing(tools.pool) as connection:
        if not await rebuild.lock_empty(connection):
            message = "the ledger is not empty; a rebuild writes into a migrated, empty one only"
            raise RebuildRefused(message)
        root = await _restore_log(connection, tools, rebuilt)
        await _restore_clips(connection, tools, rebuilt)
        facts = {
            "tree_size": rebuilt.tree_size,
            "root": root.hex(),
            "unsigned_leaves": rebuilt.unsigned_leaves,
            "clips": rebuilt.clips,
            "clips_without_manifest": rebuilt.without_manifest,
        }
        done = Happening("ledger.rebuilt", REBUILDER, facts)
        await insert_device_events(connection, make_device_events(None, [done], now=tools.now()))
    return rebuilt


# --- the log ---------------------------------------------------------------------------------


async def _restore_log(connection: Connection, tools: RebuildTools, rebuilt: Rebuilt) -> bytes:
    """Write events, places, tiles and checkpoints; return the root."""
    sizes = await _list_checkpoints(tools.vault)
    newest = max(sizes, default=0)
    edge, signed, last_at = Edge(0, {}), 0, None
    keys = list(tools.keys)
    stamped: list[CustodyEvent] = []
    async for key in tools.vault.list_keys(LEAVES_PREFIX):
        start, stop = _read_span(key, edge.size)
        events = await _read_leaves(key, stop - start, tools.vault)
        _learn_keys(events, keys)
        stamped += [event for event in events if event.type == "log.timestamped"]
        await _insert_events(connection, start, events)
        await _restore_policies(connection, events)
        edge.extend([event.leaf_hash for event in events])
        await rebuild.copy_tiles(connection, edge.take_full())
        last_at = events[-1].recorded_at
        if stop in sizes:
            checkpoint = await _read_checkpoint(stop, edge.root(), last_at, tools, keys)
            await rebuild.copy_checkpoints(connection, [checkpoint])
            rebuilt.checkpoints += 1
            signed = stop
        tools.tell("events", stop, newest)
    if newest > edge.size or signed != newest:
        message = (
            f"{newest} leaves were published, the bucket holds the first {edge.size} "
            f"(the last checkpoint that they bear out is of {signed})"
        )
        raise RebuildRefused(message)
    await rebuild.copy_tiles(connection, _open_tiles(edge))
    if edge.size > signed and last_at is not None:
        # Published before the checkpoint that was to follow: it is signed and published now.
        note = sign_checkpoint(Checkpoint(tools.signer.name, edge.size, edge.root()), tools.signer)
        unsigned = RestoredCheckpoint(edge.size, note, tools.now(), None)
        await rebuild.copy_checkpoints(connection, [unsigned])
    await rebuild.close_log(connection, edge.size)
    rebuilt.tree_size, rebuilt.unsigned_leaves = edge.size, edge.size - signed
    rebuilt.timestamps = await restore_timestamps(connection, stamped, tools.vault)
    rebuilt.timestamps_lost = len(stamped) - rebuilt.timestamps
    rebuilt.cosignatures = await restore_cosignatures(connection, tools.witnesses, tools.vault)
    return edge.root()


async def _list_checkpoints(vault: Vault) -> set[int]:
    sizes: set[int] = set()
    async for key in vault.list_keys(CHECKPOINTS_PREFIX):
        size = parse_checkpoint_key(key)
        if size is None:
            message = f"{key} is not the key of a checkpoint"
            raise RebuildRefused(message)
        sizes.add(size)
    return sizes


def _read_span(key: str, size: int) -> tuple[int, int]:
    span = parse_leaves_key(key)
    if span is None:
        message = f"{key} is not the key of leaves"
        raise RebuildRefused(message)
    if span[0] != size or span[1] <= size:
        message = f"the leaves from {size} on are not in the bucket: {key} follows"
        raise RebuildRefused(message)
    return span


async def _read_leaves(key: str, count: int, vault: Vault) -> list[CustodyEvent]:
    try:
        leaves = split_bundle(await read_object(vault, key))
        events = [read_event(leaf) for leaf in leaves]
    except (BundleInvalid, LeafInvalid, StoredBytesLost) as error:
        message = f"{key} cannot be read: {error}"
        raise RebuildRefused(message) from error
    if len(events) != count:
        message = f"{key} holds {len(events)} leaves"
        raise RebuildRefused(message)
    return events


def _learn_keys(events: list[CustodyEvent], keys: list[VerifierKey]) -> None:
    """Take over the keys that the log names as its own."""
    for event in events:
        if event.type != "key.rotated":
            continue
        facts = parse_leaf(event.leaf)["facts"]
        for name in ("old_key", "new_key"):
            try:
                key = parse_verifier_key(str(facts.get(name)))
            except NoteInvalid:
                continue
            if key not in keys:
                keys.append(key)


async def _insert_events(connection: Connection, start: int, events: list[CustodyEvent]) -> None:
    first = [
        (event.clip_id, _read_first(event))
        for event in events
        if event.clip_id is not None and event.clip_seq == 0
    ]
    await rebuild.insert_placeholders(connection, first)
    await rebuild.copy_events(connection, events)
    await rebuild.place_leaves(connection, start, events)


async def _restore_policies(connection: Connection, events: Sequence[CustodyEvent]) -> None:
    """Write the retention policies as they were: without them clips would be erased by others."""
    for event in events:
        if event.type not in ("retention.policy_made", "retention.policy_approved"):
            continue
        facts = parse_leaf(event.leaf)["facts"]
        key = (facts["policy_id"], facts["version"])
        if event.type == "retention.policy_made":
            policy = Policy(
                *key,
                tuple(Rule(**rule) for rule in facts["rules"]),
                datetime.fromisoformat(facts["effective_from"]),
                facts["reason"],
                made_by=event.actor_id,
                made_at=event.recorded_at,
            )
            await retention.insert_policy(connection, policy)
            continue
        known = {(p.policy_id, p.version): p for p in await retention.list_policies(connection)}
        if key in known:
            await retention.insert_approval(
                connection, known[key], event.actor_id, event.recorded_at
            )


def _read_first(event: CustodyEvent) -> dict[str, Any]:
    members: dict[str, Any] = {}
    try:
        fold_event(members, parse_leaf(event.leaf))
    except (KeyError, TypeError, ValueError) as error:
        message = f"event {event.event_id} cannot be read: {error}"
        raise RebuildRefused(message) from error
    if "station_id" not in members:
        message = f"the chain of clip {event.clip_id} begins with {event.type}"
        raise RebuildRefused(message)
    return members


async def _read_checkpoint(
    size: int,
    root: bytes,
    signed_at: datetime,
    tools: RebuildTools,
    keys: Sequence[VerifierKey],
) -> RestoredCheckpoint:
    """Return a published checkpoint that the leaves bear out.

    When it was signed is not in it: the time of its last event stands for that.
    """
    key = checkpoint_key(size)
    try:
        note = (await read_object(tools.vault, key)).decode("utf-8", "replace")
        signed = parse_checkpoint(note)
        verify_any(signed, keys)
    except (NoteInvalid, StoredBytesLost) as error:
        message = f"{key}: {error}"
        raise RebuildRefused(message) from error
    if (signed.checkpoint.size, signed.checkpoint.root) != (size, root):
        message = f"{key} is not over the leaves in the bucket: they were changed"
        raise RebuildRefused(message)
    return RestoredCheckpoint(size, note, signed_at, signed_at)


def _open_tiles(edge: Edge) -> dict[TileId, bytes]:
    return {
        TileId(level, (edge.size >> (TILE_HEIGHT * level)) // TILE_WIDTH): hashes
        for level, hashes in edge.open_tiles().items()
    }


# --- the clips -------------------------------------------------------------------------------


async def _restore_clips(connection: Connection, tools: RebuildTools, rebuilt: Rebuilt) -> None:
    """Walk the chains and the manifests side by side."""
    total = await rows.count_clips(connection)
    names = _list_manifests(tools.vault)
    upcoming = await anext(names, None)
    after = BEFORE_ALL
    while True:
        chains = await rows.list_chains(connection, after, limit=BATCH_CLIPS)
        last = chains[-1].clip_id if chains else None
        found: dict[UUID, list[ManifestName]] = {}
        while upcoming is not None and (last is None or upcoming.clip_id <= last):
            found.setdefault(upcoming.clip_id, []).append(upcoming)
            upcoming = await anext(names, None)
        histories = _follow(chains)
        for clip_id in found:
            # Its events were never published; its bytes and its manifest are here.
            histories.setdefault(clip_id, History())
        await _restore_batch(connection, tools, rebuilt, histories, found)
        tools.tell("clips", rebuilt.clips, max(total, rebuilt.clips))
        if last is None:
            break
        after = last
    await rebuild.set_clip_places(connection)


async def _list_manifests(vault: Vault) -> AsyncIterator[ManifestName]:
    async for key in vault.list_keys(MANIFESTS_PREFIX):
        try:
            yield parse_manifest_key(key)
        except ManifestInvalid as error:
            raise RebuildRefused(str(error)) from error


def _follow(chains: Sequence[rows.ChainRow]) -> dict[UUID, History]:
    histories: dict[UUID, History] = {}
    for row in chains:
        history = histories.setdefault(row.clip_id, History())
        if row.event is None:
            continue
        try:
            leaf = parse_leaf(row.event.leaf)
            flaw = find_link_flaw(history, leaf)
            history.add(leaf, row.event.leaf_hash)
        except (LeafInvalid, KeyError, TypeError, ValueError) as error:
            flaw = f"an event cannot be read: {error}"
        if flaw is not None:
            message = f"the chain of clip {row.clip_id} does not hold: {flaw}"
            raise RebuildRefused(message)
    return histories


async def _restore_batch(
    connection: Connection,
    tools: RebuildTools,
    rebuilt: Rebuilt,
    histories: dict[UUID, History],
    found: dict[UUID, list[ManifestName]],
) -> None:
    clip_ids = sorted(histories)
    manifests: list[dict[str, Any] | None] = []
    for at in range(0, len(clip_ids), AT_ONCE):
        manifests += await asyncio.gather(
            *[
                _find_manifest(histories[clip_id], found.get(clip_id, []), tools.vault)
                for clip_id in clip_ids[at : at + AT_ONCE]
            ]
        )
    members: list[dict[str, Any]] = []
    events: list[CustodyEvent] = []
    said: list[Assertion] = []
    for clip_id, manifest in zip(clip_ids, manifests, strict=True):
        history = histories[clip_id]
        if history.event_count == 0 and manifest is None:
            continue
        clip = _combine(clip_id, history, manifest)
        told = history.members.get("assertions", ())
        found_said, lost = replay_assertions(clip_id, _list_announced(clip), told)
        _believe(clip, found_said)
        said += found_said
        rebuilt.assertions_lost += lost
        restored = _describe_restored(clip, history)
        if restored is not None:
            head = ChainHead(clip_id, history.event_count, history.last_leaf_hash)
            (event,) = chain_events(
                head, [restored], now=tools.now(), device_serial=clip["device_serial"]
            )
            events.append(event)
            clip |= {"event_count": history.event_count + 1, "last_leaf_hash": event.leaf_hash}
            rebuilt.restored += 1
        members.append(clip)
        rebuilt.without_manifest += manifest is None
        rebuilt.states[clip["state"]] = rebuilt.states.get(clip["state"], 0) + 1
    places = [
        (clip["station_id"], clip["site_id"], clip["borough"])
        for clip in members
        if clip["borough"] != rebuild.UNKNOWN
    ]
    await rebuild.set_station_places(connection, sorted(set(places)))
    await rebuild.restore_clips(connection, members)
    await rebuild.restore_lives(connection, members)
    await rebuild.restore_assertions(connection, said)
    rebuilt.assertions += len(said)
    await rebuild.copy_events(connection, events)
    rebuilt.clips += len(members)


async def _find_manifest(
    history: History, names: list[ManifestName], vault: Vault
) -> dict[str, Any] | None:
    """Return the manifest that the chain names; before it names one, any that is whole.

    Raises:
        RebuildRefused: the one that is named is not there, or is not what it was.
    """
    named = history.members.get("manifest_sha256")
    for name in names:
        if named is not None and name.sha256 != named:
            continue
        try:
            return parse_manifest(name, await read_object(vault, name.key))
        except (ManifestInvalid, StoredBytesLost) as error:
            if named is not None:
                raise RebuildRefused(str(error)) from error
    if named is not None:
        message = f"the manifest {named.hex()} that an event names is not in the bucket"
        raise RebuildRefused(message)
    return None


def _combine(clip_id: UUID, history: History, manifest: dict[str, Any] | None) -> dict[str, Any]:
    """Return the members of the clip's row."""
    stated = history.members
    clip: dict[str, Any] = dict.fromkeys(_OPTIONAL)
    clip |= {
        "clip_id": clip_id,
        "state": "sealed",
        "site_id": rebuild.UNKNOWN,
        "borough": rebuild.UNKNOWN,
        "evidential_state": "unclassified",
        "is_held": False,
        "erase_due_at": None,
        "event_count": history.event_count,
        "last_leaf_hash": history.last_leaf_hash,
    }
    clip |= stated
    if manifest is None:
        clip["announcement"] = {
            name: clip[name]
            for name in ("device_serial", "recording_id", "segment_no", "size_bytes")
        }
        clip["flags"] = [*clip["flags"], "rebuilt_without_manifest"]
    else:
        clip |= manifest
        clip |= {name: stated.get(name) for name in _BY_EVENTS}
        clip |= {name: stated[name] for name in _ASSERTED if name in stated}
        if stated.get("state") in (None, "receiving"):
            # Its seal was never published; the manifest bears witness to the very same.
            clip["state"] = "sealed"
        elif stated["state"] == "sealed":
            clip["sha256"] = stated.get("sha256")
        if clip["state"] == "sealed":
            # A read-back that was not recorded is done once more.
            clip["sha256_readback"] = None
    if clip["state"] == "receiving" or (clip["state"] == "sealed" and not _is_verifiable(clip)):
        # Its upload is lost, or there is nothing to hold its bytes against. No receipt was given
        # for it: the camera still has the clip and brings it again.
        clip["state"] = "expired"
        clip |= dict.fromkeys(("sealed_at", "bucket", "object_key", "object_version"))
    return clip


def _list_announced(clip: dict[str, Any]) -> dict[str, Any]:
    """Return what the dock said of the fields that can be asserted."""
    announced: dict[str, Any] = clip["announcement"]
    return {name: announced.get(name) for name in FIELDS_ALL} | {
        "evidential_state": announced.get("evidential_state", "unclassified"),
        "clock_offset_ms": clip["clock_offset_ms"],
    }


def _believe(clip: dict[str, Any], said: Sequence[Assertion]) -> None:
    """Let the last word on each field stand in the clip's row."""
    for each in said:
        if each.field == "clock_offset_ms":
            clip["started_at_corrected"] = correct_time(clip["started_at"], each.value)
        elif each.field in _BELIEVED:
            clip[each.field] = each.value


def _is_verifiable(clip: dict[str, Any]) -> bool:
    """Tell whether a read-back can compare: with the whole hash, or with that of every part."""
    return clip["object_key"] is not None and (
        clip["sha256"] is not None or clip["manifest"] is not None
    )


def _describe_restored(clip: dict[str, Any], history: History) -> Happening | None:
    """Return the event of a clip of which the published events do not tell all; else None."""
    if history.event_count and clip["state"] == history.members.get("state"):
        return None
    facts: dict[str, Any] = {"state": clip["state"]}
    if clip["state"] == "sealed":
        facts |= {name: clip[name] for name in _RESTORED_PLAIN}
        for name in ("upload_id", "duplicate_of"):
            facts[name] = None if clip[name] is None else str(clip[name])
        for name in ("sha256", "sha256_device"):
            facts[name] = None if clip[name] is None else clip[name].hex()
        for name in ("announced_at", "sealed_at"):
            facts[name] = None if clip[name] is None else clip[name].isoformat()
    return Happening("clip.restored", REBUILDER, facts, reason="the ledger was rebuilt")
