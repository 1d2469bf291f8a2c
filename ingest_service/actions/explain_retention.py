"""Explain a clip's date: every input, what won, what lost."""

from dataclasses import dataclass
from uuid import UUID

from ingest_service.domain.clock import Clock
from ingest_service.domain.holds import Hold
from ingest_service.domain.retention import (
    Decision,
    LivingClip,
    Policy,
    RetentionRules,
    decide,
    list_in_force,
)
from ingest_service.errors import ClipNotFound
from ingest_service.ledger import holds, retention
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.lifecycle import list_living


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a clip has its date.

    decision  made just now from what is recorded; None until the clip is secured
    holds     those that stand
    """

    clip: LivingClip
    policies: list[Policy]
    decision: Decision | None
    holds: list[Hold]


async def explain_retention(
    clip_id: UUID, *, pool: Pool, rules: RetentionRules, now: Clock
) -> Explanation:
    """Return why a clip has its date.

    Raises:
        ClipNotFound: there is no such clip.
    """
    async with reading(pool) as connection:
        living = await list_living(connection, [clip_id])
        if not living:
            raise ClipNotFound(str(clip_id))
        policies = list_in_force(await retention.list_policies(connection), now())
        placed = await holds.list_holds(connection, clip_id)
    clip = living[0]
    decision = None if clip.secured_at is None else decide(clip, policies, floor=rules.floor)
    return Explanation(
        clip, policies, decision, [hold for hold in placed if hold.released_at is None]
    )
