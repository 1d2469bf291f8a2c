"""Release a hold: where policy says so, by another person than who placed it."""

from datetime import datetime
from uuid import UUID

from ingest_service.actions.compute_retention import find_due_at
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.holds import Hold
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import LivingClip, RetentionRules
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    AnotherPersonNeeded,
    HoldNeeded,
    HoldNotFound,
    HoldReleased,
)
from ingest_service.ledger import disclosures, holds, retention
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips, lock_clips


async def release_hold(
    hold_id: UUID,
    principal: Principal,
    *,
    authority: str,
    pool: Pool,
    rules: RetentionRules,
    now: Clock,
    locks_objects: bool,
    request_id: str | None = None,
) -> Hold:
    """End a hold; the clip is held no longer once all of its holds have ended.

    The ledger first: the store lets go of the bytes later, when the ledger still says so.

    Raises:
        HoldNotFound: no such hold is visible to this principal.
        AnotherPersonNeeded: who placed a hold of this kind does not release it.
        HoldReleased: somebody else has.
        HoldNeeded: it keeps what an open link gives out; that is revoked first.
    """
    async with writing(pool) as connection:
        hold = await _get_hold(connection, hold_id)
        [clip] = await lock_clips(connection, [hold.clip_id])
        if not principal.may_see_borough(clip.borough):
            raise HoldNotFound(str(hold_id)).hiding(ANOTHER_BOROUGH)
        # Once more, now that nobody else can release it.
        hold = await _get_hold(connection, hold_id)
        if hold.released_by is not None:
            if hold.released_by != principal.id:
                raise HoldReleased(hold_id, hold.released_by)
            return hold
        if hold.kind in rules.by_another and hold.placed_by == principal.id:
            raise AnotherPersonNeeded(principal.id, "placed this hold and may not release it")
        if hold.group_id is not None:
            shared = await disclosures.find_disclosure(connection, hold.group_id)
            if shared is not None and shared.state_at(now()) == "open":
                raise HoldNeeded(hold_id, shared.disclosure_id)
        await release_locked(
            connection,
            clip,
            hold,
            Actor.of(principal),
            authority=authority,
            moment=now(),
            rules=rules,
            locks_objects=locks_objects,
            request_id=request_id,
        )
        return await _get_hold(connection, hold_id)


async def release_locked(
    connection: Connection,
    clip: LivingClip,
    hold: Hold,
    actor: Actor,
    *,
    authority: str,
    moment: datetime,
    rules: RetentionRules,
    locks_objects: bool,
    request_id: str | None = None,
) -> None:
    """End a hold that stands, of a locked clip; who may do so was asked before."""
    others = [
        each
        for each in await holds.list_holds(connection, clip.clip_id)
        if each.released_at is None and each.hold_id != hold.hold_id
    ]
    released = Happening(
        "hold.released",
        actor,
        {
            "hold_id": str(hold.hold_id),
            "kind": hold.kind,
            "authority": authority,
            "holds_left": len(others),
        },
        request_id=request_id,
    )
    events = chain_events(clip.head, [released], now=moment, device_serial=clip.device_serial)
    is_held = bool(others)
    await advance_clips(connection, [Advance(clip, events, clip.state, is_held, clip.erase_due_at)])
    await holds.release_hold(
        connection,
        hold.hold_id,
        released_at=moment,
        released_by=actor.id,
        authority=authority,
    )
    due_at = find_due_at(
        clip.erase_due_at,
        rules,
        is_held=is_held,
        is_under_way=clip.phase is not None,
        warned_at=clip.warned_at,
    )
    await retention.set_due(connection, [clip], [due_at])
    if locks_objects:
        await holds.mark_sync(connection, [clip.clip_id], moment)


async def _get_hold(connection: Connection, hold_id: UUID) -> Hold:
    hold = await holds.find_hold(connection, hold_id)
    if hold is None:
        raise HoldNotFound(str(hold_id))
    return hold
