"""Hold a fixed list of clips, all of them or none: for disclosures and subject access requests."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from ingest_service.actions.place_hold import Order, find_refusal, hold_locked, hold_objects
from ingest_service.domain.clock import Clock
from ingest_service.domain.holds import Hold
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import LivingClip
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    ClipBusy,
    ClipsNotDisclosable,
)
from ingest_service.ledger import holds
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.ledger.lifecycle import list_living, lock_clips
from ingest_service.vault import Vault

# Whose bytes are all there, and are looked at no more.
_GIVEN_OUT: Final = frozenset({"secured", "erase_pending", "quarantined"})
_REFUSED_MAX: Final = 100


async def prepare_clips(
    clip_ids: Sequence[UUID],
    principal: Principal,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    locks_objects: bool,
) -> list[LivingClip]:
    """Look whether every clip can be given out, and have the store hold their bytes.

    A legal hold of the store that nothing follows is taken off again (`sync_legal_holds`).

    Raises:
        ClipsNotDisclosable: one of them at least cannot be; nothing was held.
        StoredBytesLost, VaultUnavailable: perhaps the store holds some; nothing was recorded.
    """
    async with reading(pool) as connection:
        living = await list_living(connection, clip_ids)
    _refuse(clip_ids, living, principal)
    if locks_objects:
        await hold_objects(living, pool=pool, vault=vault, now=now)
    return living


async def hold_prepared(
    connection: Connection,
    prepared: Sequence[LivingClip],
    principal: Principal,
    order: Order,
    moment: datetime,
    *,
    locks_objects: bool,
) -> tuple[list[LivingClip], list[Hold]]:
    """Record a hold on each of these clips; return them as they are then, locked, in order of id.

    Run inside `writing`.

    Raises:
        ClipsNotDisclosable, ClipBusy: one of them has changed meanwhile; roll back.
    """
    clip_ids = [clip.clip_id for clip in prepared]
    locked = await lock_clips(connection, clip_ids)
    _refuse(clip_ids, locked, principal)
    for before, clip in zip(prepared, locked, strict=True):
        if (before.object_key, before.object_version) != (clip.object_key, clip.object_version):
            raise ClipBusy(clip.clip_id)
    placed = await hold_locked(connection, locked, order, moment)
    if locks_objects:
        await holds.mark_sync(connection, clip_ids, moment)
    return await list_living(connection, clip_ids), placed


def _refuse(clip_ids: Sequence[UUID], found: Sequence[LivingClip], principal: Principal) -> None:
    """Raise ClipsNotDisclosable unless all were found and can be given out."""
    known = {clip.clip_id: clip for clip in found}
    refused: list[dict[str, str]] = []
    hidden = [clip for clip in found if not principal.may_see_borough(clip.borough)]
    for clip_id in clip_ids:
        clip = known.get(clip_id)
        if clip is None or not principal.may_see_borough(clip.borough):
            refused.append({"clip_id": str(clip_id), "reason": "unknown"})
        elif (phase := find_refusal(clip)) is not None:
            reason = "erased" if clip.state == "erased" else f"erasure {phase}"
            refused.append({"clip_id": str(clip_id), "reason": reason})
        elif clip.state not in _GIVEN_OUT:
            refused.append({"clip_id": str(clip_id), "reason": clip.state})
    if refused:
        raise ClipsNotDisclosable(len(refused), refused[:_REFUSED_MAX]).hiding(
            ANOTHER_BOROUGH if hidden else None
        )
