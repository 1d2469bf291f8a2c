"""Announce erasures: clips whose date has come are erased when their notice is over."""

from datetime import datetime
from typing import Final

from ingest_service.actions.compute_retention import (
    Recomputed,
    compute_clips,
    describe_decision,
    is_due,
)
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events, format_time
from ingest_service.domain.retention import RetentionRules, list_in_force
from ingest_service.ledger import erasures, retention
from ingest_service.ledger.connection import Connection, Pool, reading, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips

BATCH_CLIPS: Final = 200


async def schedule_due(*, pool: Pool, rules: RetentionRules, now: Clock) -> int:
    """Announce the erasure of a batch of clips; return how many were.

    Each date is computed again, from the clip as it is once its row is locked.

    Raises:
        LedgerUnavailable: nothing was announced.
    """
    async with reading(pool) as connection:
        due = await retention.list_due(connection, now(), limit=BATCH_CLIPS)
    if not due:
        return 0
    async with writing(pool) as connection:
        moment = now()
        policies = list_in_force(await retention.list_policies(connection), moment)
        computed = await compute_clips(connection, due, policies, rules, moment)
        ripe = [each for each in computed if _is_ripe(each, moment)]
        await _announce(connection, ripe, rules, moment)
        # Those that are not ripe got another date, or none, so that nobody looks again.
        gone = set(due) - {each.clip.clip_id for each in computed}
        await retention.forget_due(connection, list(gone))
    return len(ripe)


def _is_ripe(each: Recomputed, moment: datetime) -> bool:
    clip = each.clip
    return (
        clip.state == "secured"
        and not clip.is_held
        and is_due(each.decision, moment)
        and clip.due_at is not None
        and clip.due_at <= moment
        # Nobody erases what nobody was told of.
        and (clip.evidential_state != "unclassified" or clip.warned_at is not None)
    )


async def _announce(
    connection: Connection, ripe: list[Recomputed], rules: RetentionRules, moment: datetime
) -> None:
    if not ripe:
        return
    erase_after = moment + rules.notice
    advances = []
    for each in ripe:
        clip, decision = each.clip, each.decision
        facts = describe_decision(clip, decision) | {"erase_after": format_time(erase_after)}
        facts["due_at"] = format_time(clip.due_at or moment)
        scheduled = Happening("erase.scheduled", Actor("policy", decision.policy or ""), facts)
        events = chain_events(clip.head, [scheduled], now=moment, device_serial=clip.device_serial)
        advances.append(
            Advance(clip, events, "erase_pending", is_held=False, erase_due_at=clip.erase_due_at)
        )
    clips = [each.clip for each in ripe]
    await advance_clips(connection, advances)
    await erasures.insert_notices(connection, clips, moment, erase_after)
    await retention.set_due(connection, clips, [None] * len(clips))
