"""Assert a shift's metadata at once: each clip whole or not at all, and safe to send again."""

import hashlib
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from ingest_service.actions.assert_metadata import AssertTools, assert_metadata
from ingest_service.actions.find_clips import get_visible_clip
from ingest_service.domain.assertion import Statement
from ingest_service.domain.canonical import dump_canonical
from ingest_service.domain.custody import Actor
from ingest_service.domain.principal import Principal
from ingest_service.errors import BatchKeyReused, ClipBusy, ClipNotFound
from ingest_service.ledger import assertions
from ingest_service.ledger.connection import Pool, reading
from schemas.assertion import AssertionBatch, BatchItem

# A camera records some clips in a shift; an interval with more is a mistake.
CLIPS_PER_ITEM_MAX: Final = 100

Outcome = Literal["asserted", "repeated", "clip_not_found", "no_clip", "too_many", "busy"]


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """What became of one clip of one item; clip_id is None when none was found."""

    item: int
    clip_id: UUID | None
    outcome: Outcome
    assertion_ids: list[UUID] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)


async def assert_batch(
    batch: AssertionBatch,
    principal: Principal,
    *,
    tools: AssertTools,
    request_id: str | None,
) -> list[ClipOutcome]:
    """Record a batch clip by clip; what an earlier request of its key recorded stays as it is.

    A crash half-way leaves whole clips recorded: the same batch sent again does the rest.

    Raises:
        BatchKeyReused: the key came with another content before; nothing was recorded.
        VaultUnavailable, LedgerUnavailable: some clips may be recorded; send the same again.
    """
    pool = tools.pool
    digest = hashlib.sha256(dump_canonical(batch.model_dump(mode="json"))).digest()
    async with reading(pool) as connection:
        if not await assertions.open_batch(
            connection, principal.id, batch.key, digest, tools.now()
        ):
            raise BatchKeyReused(batch.key)
    outcomes: list[ClipOutcome] = []
    for number, item in enumerate(batch.items):
        found = await _find_clips(item, principal, pool)
        if not found or len(found) > CLIPS_PER_ITEM_MAX:
            outcomes.append(ClipOutcome(number, None, "too_many" if found else "no_clip"))
            continue
        said = Statement(
            item.fields.said(),
            Actor.of(principal),
            batch.source or principal.kind,
            request_id=request_id,
            batch_key=batch.key,
            batch_item=number,
        )
        outcomes += [
            await _assert_one(number, clip_id, said, principal, tools) for clip_id in found
        ]
    return outcomes


async def _find_clips(item: BatchItem, principal: Principal, pool: Pool) -> list[UUID]:
    if item.clip_id is not None:
        return [item.clip_id]
    if item.device_serial is None or item.recorded_from is None or item.recorded_to is None:
        return []  # the schema has refused it
    limits = None if principal.boroughs is None else sorted(principal.boroughs)
    async with reading(pool) as connection:
        return await assertions.find_recorded(
            connection,
            item.device_serial,
            start=item.recorded_from,
            stop=item.recorded_to,
            boroughs=limits,
            limit=CLIPS_PER_ITEM_MAX + 1,
        )


async def _assert_one(
    number: int,
    clip_id: UUID,
    said: Statement,
    principal: Principal,
    tools: AssertTools,
) -> ClipOutcome:
    try:
        await get_visible_clip(clip_id, principal, pool=tools.pool)
        asserted = await assert_metadata(clip_id, said, tools=tools)
    except ClipNotFound:
        return ClipOutcome(number, clip_id, "clip_not_found")
    except ClipBusy:
        return ClipOutcome(number, clip_id, "busy")
    return ClipOutcome(
        number,
        clip_id,
        "repeated" if asserted.is_repeat else "asserted",
        [each.assertion_id for each in asserted.assertions],
        asserted.clip.flags,
    )
