"""Take a clip back from an erasure that was announced, while its bytes are there."""

from dataclasses import replace
from uuid import UUID

from ingest_service.actions.compute_retention import compute_clips
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import Actor, Happening, chain_events
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import LivingClip, RetentionRules, decide, list_in_force
from ingest_service.errors import ClipNotFound, ErasureBegun, NothingToRestore
from ingest_service.ledger import erasures, retention
from ingest_service.ledger.connection import Pool, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips, lock_clips
from ingest_service.ledger.retention import Computed


async def restore_clip(
    clip_id: UUID,
    principal: Principal,
    *,
    authority: str,
    pool: Pool,
    rules: RetentionRules,
    now: Clock,
    request_id: str | None = None,
) -> LivingClip:
    """Call an erasure off, and give the clip its shortest term once more; return the clip.

    Raises:
        ClipNotFound: there is no such clip.
        NothingToRestore: it is not about to be erased.
        ErasureBegun: the intent to delete is committed.
    """
    async with writing(pool) as connection:
        living = await lock_clips(connection, [clip_id])
        if not living:
            raise ClipNotFound(str(clip_id))
        clip = living[0]
        if clip.phase in ("intended", "executed") or clip.state == "erased":
            raise ErasureBegun(clip_id, clip.state)
        if clip.phase != "notice":
            raise NothingToRestore(clip_id, clip.state)
        moment = now()
        restored = replace(clip, restored_at=moment, state="secured", phase=None)
        policies = list_in_force(await retention.list_policies(connection), moment)
        decision = decide(restored, policies, floor=rules.floor)
        happening = Happening(
            "erase.restored",
            Actor.of(principal),
            {"authority": authority},
            reason="it was taken back",
            request_id=request_id,
        )
        events = chain_events(clip.head, [happening], now=moment, device_serial=clip.device_serial)
        await advance_clips(
            connection, [Advance(clip, events, "secured", clip.is_held, clip.erase_due_at)]
        )
        await erasures.cancel_notices(connection, [clip_id])
        computed = Computed(
            clip_id,
            decision,
            None,
            clip.is_unclassified is True,
            None,
            moment,
            clip.size_bytes or 0,
        )
        await retention.record_retention(connection, [computed], moment)
        [again] = await compute_clips(connection, [clip_id], policies, rules, moment)
    return again.clip
