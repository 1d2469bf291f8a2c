"""See to a disclosure whose time is over: say so once, and let go of what it held."""

from typing import Final
from uuid import UUID

from ingest_service.actions.release_hold import release_locked
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import WORKER, Happening
from ingest_service.domain.disclosure import DisclosureRules
from ingest_service.domain.retention import RetentionRules
from ingest_service.ledger import disclosures, holds
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.lifecycle import advance_alike, lock_clips

_BATCH: Final = 10


async def settle_due_disclosures(
    *,
    pool: Pool,
    now: Clock,
    disclosing: DisclosureRules,
    rules: RetentionRules,
    locks_objects: bool,
) -> int:
    """Settle a batch of disclosures; return how many were looked at.

    The link itself needs nobody for its end: it opens nothing from its date on.

    Raises:
        LedgerUnavailable: the rest is done again.
    """
    async with reading(pool) as connection:
        due = await disclosures.list_unsettled(connection, now(), limit=_BATCH)
    for disclosure_id in due:
        if not disclosing.keeps_holds:
            await _release_holds(
                disclosure_id, pool=pool, now=now, rules=rules, locks_objects=locks_objects
            )
        await _settle(disclosure_id, pool=pool, now=now)
    return len(due)


async def _release_holds(
    disclosure_id: UUID, *, pool: Pool, now: Clock, rules: RetentionRules, locks_objects: bool
) -> None:
    """Release its holds, clip by clip: one that was released by hand is left alone.

    Until its date nobody could shorten them by ending the disclosure; so no second person is
    asked. A crash leaves some released and the disclosure unsettled: the rest is done again.
    """
    async with reading(pool) as connection:
        found = await disclosures.find_disclosure(connection, disclosure_id)
        disclosed = await disclosures.list_disclosed(connection, disclosure_id)
    for each in disclosed if found is not None else ():
        async with writing(pool) as connection:
            [clip] = await lock_clips(connection, [each.clip_id])
            hold = await holds.find_hold(connection, each.hold_id)
            if hold is None or hold.released_at is not None:
                continue
            await release_locked(
                connection,
                clip,
                hold,
                WORKER,
                authority=f"{hold.authority}/expired",
                moment=now(),
                rules=rules,
                locks_objects=locks_objects,
            )


async def _settle(disclosure_id: UUID, *, pool: Pool, now: Clock) -> None:
    async with writing(pool) as connection:
        found = await disclosures.lock_disclosure(connection, disclosure_id)
        # Another worker may have been here.
        if found is None or found.settled_at is not None:
            return
        moment = now()
        if found.revoked_at is None:
            disclosed = await disclosures.list_disclosed(connection, disclosure_id)
            clips = await lock_clips(connection, [each.clip_id for each in disclosed])
            expired = Happening(
                "disclosure.expired", WORKER, found.describe(), purpose=found.purpose
            )
            await advance_alike(connection, clips, expired, moment)
        await disclosures.settle_disclosure(connection, disclosure_id, moment)
