"""Erase clips whose notice is over: intent first, then the bytes by version, then the certificate.

1. The rows are locked; holds and dates are looked at again; the intent is committed. From here a
   hold is refused, so that no hold that was answered with success ever lacks its bytes.
2. Nothing is deleted before that intent is published: a ledger that was lost and rebuilt knows it.
3. Every version under the clip's keys is deleted; that they are gone is looked at, not assumed.
4. The certificate is the event of the erasure.

A crash anywhere leaves a clip in 'notice' (nothing happened) or 'intended' (deleted once more).
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog

from ingest_service.actions.compute_retention import compute_clips
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import (
    WORKER,
    Actor,
    Happening,
    chain_events,
    format_time,
    hash_leaf,
)
from ingest_service.domain.receipt import ERASED_TYPE
from ingest_service.domain.replay import parse_leaf
from ingest_service.domain.retention import LivingClip, RetentionRules, list_in_force
from ingest_service.domain.upload import clip_prefix
from ingest_service.errors import ObjectLocked
from ingest_service.ledger import erasures, holds, log, retention
from ingest_service.ledger.connection import Pool, reading, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips, list_living, lock_clips
from ingest_service.tracing import spans
from ingest_service.vault import Vault

BATCH_CLIPS: Final = 200
_AT_ONCE: Final = 4
INTENDED_TYPE: Final = "erase.intended"
# A worker that is silent so long is believed dead, and another one deletes the clip.
_CLAIM: Final = timedelta(minutes=5)
_LOG = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Erased:
    """What came of a batch; waiting: their intent is not published yet."""

    executed: int = 0
    blocked: int = 0
    waiting: int = 0


async def intend_erasures(*, pool: Pool, rules: RetentionRules, now: Clock) -> int:
    """Commit the intent to delete a batch of clips; return how many.

    A clip that is held, or whose date has moved, since it was announced is left in peace.

    Raises:
        LedgerUnavailable: nothing is intended, or all of it: the batch is one transaction.
    """
    async with reading(pool) as connection:
        ready = await erasures.list_ready(connection, now(), "notice", limit=BATCH_CLIPS)
    if not ready:
        return 0
    async with writing(pool) as connection:
        moment = now()
        policies = list_in_force(await retention.list_policies(connection), moment)
        computed = await compute_clips(connection, ready, policies, rules, moment)
        # The flag on the clip says the same; who deletes asks twice.
        held = await holds.list_held(connection, ready)
        advances = []
        for each in computed:
            clip, decision = each.clip, each.decision
            # One that is not due any more was restored by the computing.
            is_over = clip.erase_after is not None and clip.erase_after <= moment
            if clip.phase != "notice" or clip.is_held or clip.clip_id in held or not is_over:
                continue
            facts: dict[str, Any] = {
                "policy": decision.policy,
                "reason": decision.reason,
                "inputs": _list_inputs(clip, decision.basis_reason),
                "erase_due_at": format_time(decision.erase_due_at or moment),
                "no_hold_existed_at": format_time(moment),
                "object_key": clip.object_key,
                "object_version": clip.object_version,
            }
            actor = Actor("policy", decision.policy or "")
            events = chain_events(
                clip.head,
                [Happening(INTENDED_TYPE, actor, facts)],
                now=moment,
                device_serial=clip.device_serial,
            )
            advances.append(
                Advance(clip, events, clip.state, is_held=False, erase_due_at=clip.erase_due_at)
            )
        if advances:
            await advance_clips(connection, advances)
            clip_ids = [advance.clip.clip_id for advance in advances]
            await erasures.set_intended(connection, clip_ids, moment)
    return len(advances)


async def execute_erasures(
    *, pool: Pool, vault: Vault, rules: RetentionRules, now: Clock
) -> Erased:
    """Delete the bytes of a batch of clips that are meant to be, a few at once.

    Raises:
        VaultUnavailable, LedgerUnavailable: what was not ended is gone on with later.
    """
    async with reading(pool) as connection:
        intended = await erasures.list_ready(connection, now(), "intended", limit=BATCH_CLIPS)
        newest = await log.find_newest_checkpoint(connection, only_published=True)
    published = 0 if newest is None else newest.tree_size
    outcomes: list[str | BaseException | None] = []
    for start in range(0, len(intended), _AT_ONCE):
        outcomes += await asyncio.gather(
            *[
                _execute(clip_id, published, pool=pool, vault=vault, rules=rules, now=now)
                for clip_id in intended[start : start + _AT_ONCE]
            ],
            return_exceptions=True,
        )
        # Those beside the one that failed were ended; the store is not asked for more just now.
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
    return Erased(
        executed=outcomes.count("executed"),
        blocked=outcomes.count("blocked"),
        waiting=outcomes.count("waiting"),
    )


async def _execute(
    clip_id: UUID,
    published: int,
    *,
    pool: Pool,
    vault: Vault,
    rules: RetentionRules,
    now: Clock,
) -> str | None:
    async with reading(pool) as connection:
        intent = await log.find_clip_leaf(connection, clip_id, INTENDED_TYPE)
        if intent is None or intent.leaf_index is None or intent.leaf_index >= published:
            return "waiting"
        moment = now()
        attempt = await erasures.claim_intended(
            connection, clip_id, until=moment + _CLAIM, now=moment
        )
        if attempt is None:
            return None
        [clip] = await list_living(connection, [clip_id])
    with spans.step("erase_clip", clip_id=clip_id):
        try:
            # The evidence first: as long as it is there, the intent can be taken back.
            await vault.delete(clip.object_key or "", clip.object_version)
        except ObjectLocked as refused:
            is_taken_back = await _record_refusal(
                clip, attempt, refused.reason, pool=pool, rules=rules, now=now
            )
            return "blocked" if is_taken_back else None
        await vault.sweep(clip_prefix(clip_id), keep_key=None)
        if await vault.get_facts(clip.object_key or "", clip.object_version) is not None:
            # The store has acknowledged what it did not do; it is told again.
            _LOG.error("erased_bytes_are_there", clip_id=str(clip_id), object_key=clip.object_key)
            return None
        # A crash here, or an answer that was lost, deletes what is not there once more.
        return await _record_erasure(clip_id, pool=pool, now=now)


async def _record_refusal(
    clip: LivingClip,
    attempt: int,
    reason: str,
    *,
    pool: Pool,
    rules: RetentionRules,
    now: Clock,
) -> bool:
    """Take the intent back: nothing was deleted, and the clip can be held and restored again."""
    async with writing(pool) as connection:
        [locked] = await lock_clips(connection, [clip.clip_id])
        if locked.phase != "intended" or locked.attempt != attempt:
            # Another worker has taken this clip over.
            return False
        moment = now()
        facts = {"object_key": clip.object_key, "object_version": clip.object_version}
        blocked = Happening("erase.blocked", WORKER, facts, "failed", reason[:200])
        events = chain_events(
            locked.head, [blocked], now=moment, device_serial=locked.device_serial
        )
        advance = Advance(
            locked, events, locked.state, locked.is_held, erase_due_at=locked.erase_due_at
        )
        await advance_clips(connection, [advance])
        await erasures.set_blocked(connection, clip.clip_id, moment + rules.blocked_pause, reason)
    return True


async def _record_erasure(clip_id: UUID, *, pool: Pool, now: Clock) -> str | None:
    """Record that the bytes are gone, with the certificate; once, whoever was there first."""
    async with writing(pool) as connection:
        [clip] = await lock_clips(connection, [clip_id])
        if clip.phase != "intended":
            return None
        intent = await log.find_clip_leaf(connection, clip_id, INTENDED_TYPE)
        moment = now()
        facts = make_certificate_facts(clip, None if intent is None else intent.leaf, moment)
        actor = Actor("policy", str(facts["policy"]))
        events = chain_events(
            clip.head,
            [Happening(ERASED_TYPE, actor, facts)],
            now=moment,
            device_serial=clip.device_serial,
        )
        advance = Advance(clip, events, "erased", clip.is_held, erase_due_at=clip.erase_due_at)
        await advance_clips(connection, [advance])
        await erasures.set_executed(connection, clip_id, moment)
    return "executed"


def make_certificate_facts(
    clip: LivingClip, intent: bytes | None, erased_at: datetime
) -> dict[str, Any]:
    """Return what the certificate of an erasure states; nothing of the content.

    intent  the leaf of the event with which the deletion was decided
    """
    decided = parse_leaf(intent)["facts"] if intent is not None else {}
    return {
        "clip_id": str(clip.clip_id),
        "device_serial": clip.device_serial,
        "size_bytes": clip.size_bytes,
        "sha256": None if clip.sha256 is None else clip.sha256.hex(),
        "bucket": clip.bucket,
        "object_key": clip.object_key,
        "object_version": clip.object_version,
        "policy": decided.get("policy"),
        "reason": decided.get("reason"),
        "inputs": decided.get("inputs"),
        "erase_due_at": decided.get("erase_due_at"),
        "no_hold_existed_at": decided.get("no_hold_existed_at"),
        "scheduled_at": None if clip.scheduled_at is None else format_time(clip.scheduled_at),
        "intended_leaf_hash": None if intent is None else hash_leaf(intent).hex(),
        "erased_at": format_time(erased_at),
    }


def _list_inputs(clip: LivingClip, basis_reason: str) -> dict[str, Any]:
    times = {
        name: None if moment is None else format_time(moment)
        for name, moment in (
            ("announced_at", clip.announced_at),
            ("secured_at", clip.secured_at),
            ("started_at", clip.started_at),
            ("started_at_corrected", clip.started_at_corrected),
            ("basis_at", clip.basis_at),
            ("restored_at", clip.restored_at),
        )
    }
    return times | {
        "category": clip.category,
        "evidential_state": clip.evidential_state,
        "clock_state": clip.clock_state,
        "basis": clip.basis,
        "basis_reason": basis_reason,
    }
