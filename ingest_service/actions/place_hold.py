"""Place a hold: from the moment this returns the clip's bytes stay."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.holds import Hold, HoldKind
from ingest_service.domain.ids import make_id
from ingest_service.domain.retention import LivingClip
from ingest_service.errors import ClipNotFound, ErasureBegun, UploadBusy
from ingest_service.ledger import erasures, holds, retention
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips, list_living, lock_clips
from ingest_service.vault import Vault

# Clips that move to another object while they are held (sealed just then) are looked at again.
_TRIES: Final = 8
# A legal hold that was set for nothing (the process died, the clip was being erased) is taken off
# again after this.
_SETTLE: Final = timedelta(minutes=1)
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Order:
    """What a hold is placed for.

    authority   a reference (case, request, order), never a name: it goes into the log
    purpose     code of the access that asked for it
    is_single   not placed again while one of its kind and authority stands
    """

    kind: HoldKind
    authority: str
    reason: str
    actor: Actor
    review_at: datetime | None = None
    group_id: UUID | None = None
    purpose: str | None = None
    request_id: str | None = None
    is_single: bool = False


async def place_hold(
    clip_id: UUID, order: Order, *, pool: Pool, vault: Vault, now: Clock, locks_objects: bool
) -> Hold:
    """Hold one clip and return the hold; an erasure that was only announced is called off.

    locks_objects  the store sets a legal hold as well

    The store first, the ledger second: between the two the bytes are held twice, never not at all.

    Raises:
        ClipNotFound: nothing was recorded.
        ErasureBegun: the intent to delete is committed; nothing was recorded.
        UploadBusy: the clip kept changing; ask again.
        StoredBytesLost: there are no bytes to hold; nothing was recorded.
        VaultUnavailable, LedgerUnavailable: perhaps the bytes are held; ask again.
    """
    for _ in range(_TRIES):
        async with reading(pool) as connection:
            living = await list_living(connection, [clip_id])
        if not living:
            raise ClipNotFound(str(clip_id))
        if find_refusal(living[0]) is not None:
            raise ErasureBegun(clip_id, living[0].state)
        if locks_objects:
            await hold_objects(living, pool=pool, vault=vault, now=now)
        async with writing(pool) as connection:
            [locked] = await lock_clips(connection, [clip_id])
            if find_refusal(locked) is not None:
                raise ErasureBegun(clip_id, locked.state)
            if locks_objects and _object_of(locked) != _object_of(living[0]):
                continue
            if order.is_single:
                standing = _find_standing(await holds.list_holds(connection, clip_id), order)
                if standing is not None:
                    return standing
            [hold] = await hold_locked(connection, [locked], order, now())
            if locks_objects:
                await holds.mark_sync(connection, [clip_id], now())
        return hold
    raise UploadBusy(clip_id, "it is being sealed")


def find_refusal(clip: LivingClip) -> str | None:
    """Return why a clip cannot be held any more; None when it can."""
    if clip.phase in ("intended", "executed"):
        return clip.phase
    return clip.state if clip.state == "erased" else None


async def hold_objects(
    clips: Sequence[LivingClip],
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    settle: timedelta = _SETTLE,
) -> None:
    """Set the store's legal hold on the objects of these clips, where they have one yet.

    settle  after this the store is told what the ledger says by then

    A clip that has none gets it with its read-back.
    """
    stored = [clip for clip in clips if clip.object_key is not None and clip.state != "erased"]
    async with reading(pool) as connection:
        # First: a legal hold that nobody knows of would never come off.
        await holds.mark_sync(connection, [c.clip_id for c in stored], now() + settle)
    for start in range(0, len(stored), _AT_ONCE):
        await asyncio.gather(
            *[
                vault.set_legal_hold(clip.object_key or "", clip.object_version, is_on=True)
                for clip in stored[start : start + _AT_ONCE]
            ]
        )


async def hold_locked(
    connection: Connection, clips: Sequence[LivingClip], order: Order, moment: datetime
) -> list[Hold]:
    """Record a hold on each of these locked clips, none of which is being deleted."""
    placed: list[Hold] = []
    advances: list[Advance] = []
    for clip in clips:
        hold = Hold(
            make_id(moment),
            clip.clip_id,
            order.kind,
            order.authority,
            order.reason,
            placed_by=order.actor.id,
            placed_at=moment,
            review_at=order.review_at,
            group_id=order.group_id,
        )
        happenings = [
            Happening(
                "hold.placed",
                order.actor,
                hold.describe(),
                purpose=order.purpose,
                request_id=order.request_id,
            )
        ]
        state = clip.state
        if clip.phase == "notice":
            facts = {"hold_id": str(hold.hold_id)}
            happenings.append(
                Happening("erase.restored", order.actor, facts, reason="a hold was placed")
            )
            state = "secured"
        events = chain_events(clip.head, happenings, now=moment, device_serial=clip.device_serial)
        advances.append(Advance(clip, events, state, is_held=True, erase_due_at=clip.erase_due_at))
        placed.append(hold)
    if advances:
        await advance_clips(connection, advances)
        await holds.insert_holds(connection, placed)
        await retention.set_due(connection, clips, [None] * len(clips))
        await erasures.cancel_notices(connection, [clip.clip_id for clip in clips])
    return placed


def _object_of(clip: LivingClip) -> tuple[str | None, str | None]:
    return clip.object_key, clip.object_version


def _find_standing(placed: Sequence[Hold], order: Order) -> Hold | None:
    for hold in placed:
        is_alike = (hold.kind, hold.authority) == (order.kind, order.authority)
        if hold.released_at is None and is_alike:
            return hold
    return None
