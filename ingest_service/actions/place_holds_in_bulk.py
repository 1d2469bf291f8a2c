"""Hold every clip that matches a filter: counted first, and then exactly those."""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ingest_service.actions.place_hold import Order, find_refusal, hold_locked, hold_objects
from ingest_service.domain.clock import Clock
from ingest_service.domain.ids import make_id
from ingest_service.domain.principal import Principal
from ingest_service.errors import HoldTooWide, PreviewOutdated
from ingest_service.ledger import holds
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.holds import Preview
from ingest_service.ledger.lifecycle import list_living, lock_clips
from ingest_service.ledger.queries import ClipFilter
from ingest_service.vault import Vault

PREVIEW_LASTS: Final = timedelta(hours=1)
BATCH_CLIPS: Final = 500
# One call does so many; the same call again goes on.
CALL_CLIPS: Final = 10_000
_REFUSED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class BulkHold:
    """How far a bulk hold is; refused: clips whose deletion had begun, the first hundred."""

    preview: Preview
    placed_count: int
    refused: list[UUID]

    @property
    def is_complete(self) -> bool:
        """Whether every clip that matched was come to."""
        return self.preview.is_done


async def preview_hold(
    asked: ClipFilter,
    described: dict[str, Any],
    principal: Principal,
    *,
    pool: Pool,
    now: Clock,
) -> Preview:
    """Count what a bulk hold would hold, and return it with the token of the second call.

    described  filter and order as they were sent; the second call must send the same

    Raises:
        LedgerUnavailable: nothing was recorded.
    """
    moment = now()
    async with reading(pool) as connection:
        clip_count, total_bytes = await holds.count_matching(
            connection, _limit(asked, principal), moment
        )
        preview = Preview(
            token=secrets.token_urlsafe(24),
            asked=described,
            made_by=principal.id,
            made_at=moment,
            expires_at=moment + PREVIEW_LASTS,
            clip_count=clip_count,
            total_bytes=total_bytes,
            group_id=make_id(moment),
        )
        await holds.insert_preview(connection, preview)
    return preview


async def place_holds(
    token: str,
    asked: ClipFilter,
    described: dict[str, Any],
    order: Order,
    principal: Principal,
    *,
    confirm_count: int | None,
    pool: Pool,
    vault: Vault,
    now: Clock,
    locks_objects: bool,
) -> BulkHold:
    """Hold what the dry run has counted; clips that were announced since are not among them.

    confirm_count  must be the exact number where the filter matches every clip there is

    A call that breaks off is sent again, and goes on where it stopped.

    Raises:
        PreviewOutdated: another filter, another person, too late, or the count has changed since.
        HoldTooWide: every clip matches, and that was not confirmed.
        VaultUnavailable, LedgerUnavailable: some may be held; send the same again.
    """
    limited = _limit(asked, principal)
    preview = await _check_preview(
        token, limited, described, principal, confirm_count, pool=pool, moment=now()
    )
    refused: list[UUID] = []
    for _ in range(CALL_CLIPS // BATCH_CLIPS):
        if preview.is_done:
            break
        preview, late = await _place_batch(
            preview,
            limited,
            replace(order, group_id=preview.group_id),
            pool=pool,
            vault=vault,
            now=now,
            locks_objects=locks_objects,
        )
        refused += late
    async with reading(pool) as connection:
        placed_count = await holds.count_group(connection, preview.group_id)
    return BulkHold(preview, placed_count, refused[:_REFUSED_MAX])


async def _check_preview(
    token: str,
    limited: ClipFilter,
    described: dict[str, Any],
    principal: Principal,
    confirm_count: int | None,
    *,
    pool: Pool,
    moment: datetime,
) -> Preview:
    async with reading(pool) as connection:
        preview = await holds.find_preview(connection, token)
        if preview is None or preview.made_by != principal.id:
            reason = "no dry run of yours has this token"
            raise PreviewOutdated(reason)
        if preview.asked != described:
            reason = "the dry run was made with another filter or for another hold"
            raise PreviewOutdated(reason)
        if preview.begun_at is not None:
            return preview
        if preview.expires_at <= moment:
            reason = "the dry run is older than an hour"
            raise PreviewOutdated(reason)
        clip_count, _ = await holds.count_matching(connection, limited, preview.made_at)
        is_unlimited = limited == ClipFilter(boroughs=limited.boroughs) or (
            clip_count > 1 and await holds.is_everything(connection, limited, preview.made_at)
        )
    if clip_count != preview.clip_count:
        reason = f"{preview.clip_count} clips matched then, {clip_count} of them match now"
        raise PreviewOutdated(reason)
    if is_unlimited and confirm_count != clip_count:
        raise HoldTooWide(clip_count)
    return preview


async def _place_batch(
    preview: Preview,
    limited: ClipFilter,
    order: Order,
    *,
    pool: Pool,
    vault: Vault,
    now: Clock,
    locks_objects: bool,
) -> tuple[Preview, list[UUID]]:
    """Hold the next clips; return how far it is now, and those that could not be held."""
    async with reading(pool) as connection:
        clip_ids = await holds.list_matching(
            connection, limited, preview.made_at, after=preview.done_after, limit=BATCH_CLIPS
        )
        living = await list_living(connection, clip_ids)
    if locks_objects:
        able = [clip for clip in living if find_refusal(clip) is None]
        await hold_objects(able, pool=pool, vault=vault, now=now)
    async with writing(pool) as connection:
        locked = await lock_clips(connection, clip_ids)
        moment = now()
        able = [clip for clip in locked if find_refusal(clip) is None]
        late = [clip.clip_id for clip in locked if find_refusal(clip) is not None]
        is_done = len(clip_ids) < BATCH_CLIPS
        done_after = clip_ids[-1] if clip_ids else preview.done_after
        if not await holds.move_preview(connection, preview, moment, done_after, is_done=is_done):
            reason = "another call with this token is under way"
            raise PreviewOutdated(reason)
        await hold_locked(connection, able, order, moment)
        if locks_objects:
            # Also for those that were sealed just then: the store is told once more.
            await holds.mark_sync(connection, [clip.clip_id for clip in able], moment)
    begun_at = preview.begun_at or moment
    return replace(preview, begun_at=begun_at, done_after=done_after, is_done=is_done), late


def _limit(asked: ClipFilter, principal: Principal) -> ClipFilter:
    limits = None if principal.boroughs is None else sorted(principal.boroughs)
    return replace(asked, boroughs=limits)
