"""Chase clips that nobody has classified, before they expire: once for each date."""

from typing import Final

from ingest_service.actions.compute_retention import compute_clips
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import WORKER, Happening, chain_events, format_time
from ingest_service.domain.retention import RetentionRules, list_in_force
from ingest_service.ledger import retention
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips

BATCH_CLIPS: Final = 200


async def chase_unclassified(*, pool: Pool, rules: RetentionRules, now: Clock) -> int:
    """Tell, on the feed, of a batch of unclassified clips that will expire; return how many.

    However late that is: between the telling and the erasure's notice lie the days that are set.

    Raises:
        LedgerUnavailable: nobody was told.
    """
    async with reading(pool) as connection:
        found = await retention.list_unwarned(connection, now() + rules.warning, limit=BATCH_CLIPS)
    if not found:
        return 0
    async with writing(pool) as connection:
        moment = now()
        policies = list_in_force(await retention.list_policies(connection), moment)
        computed = await compute_clips(connection, found, policies, rules, moment)
        advances = []
        for each in computed:
            clip = each.clip
            if clip.due_at is None or clip.evidential_state != "unclassified" or clip.warned_at:
                continue
            facts = {
                "erase_due_at": format_time(clip.due_at),
                "policy": each.decision.policy,
                "borough": clip.borough,
                "category": clip.category,
                "evidential_state": clip.evidential_state,
            }
            warned = Happening("expiry.warned", WORKER, facts)
            events = chain_events(clip.head, [warned], now=moment, device_serial=clip.device_serial)
            advances.append(Advance(clip, events, clip.state, clip.is_held, clip.erase_due_at))
        if advances:
            await advance_clips(connection, advances)
            clip_ids = [advance.clip.clip_id for advance in advances]
            await retention.mark_warned(connection, clip_ids, moment, moment + rules.warning)
        gone = set(found) - {each.clip.clip_id for each in computed}
        await retention.forget_due(connection, list(gone))
    return len(found)
