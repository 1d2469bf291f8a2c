"""Compute when clips are to be erased: as they are secured, and whenever that may change."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import (
    Actor,
    Happening,
    chain_events,
    format_time,
)
from ingest_service.domain.retention import (
    Decision,
    LivingClip,
    Policy,
    RetentionRules,
    decide,
    is_changed,
    list_in_force,
)
from ingest_service.ledger import erasures, holds, retention
from ingest_service.ledger.connection import Connection, Pool, writing
from ingest_service.ledger.lifecycle import Advance, advance_clips, lock_clips
from ingest_service.ledger.retention import Computed, Progress

# What may give a clip another date.
TOUCHING: Final = (
    "clip.secured",
    "clip.restored",
    "quarantine.resolved",
    "category.changed",
    "evidential_state.changed",
    "metadata.asserted",
    "metadata.corrected",
)
EVENTS_MAX: Final = 2000
CLIPS_MAX: Final = 500
_BEFORE_ALL: Final = UUID(int=0)
_COMPUTED_STATES: Final = frozenset({"secured", "erase_pending"})


@dataclass(frozen=True, slots=True)
class Dating:
    """What dates are decided by: the policies in force, and the knobs."""

    policies: Sequence[Policy]
    rules: RetentionRules


def decide_first(
    clip: Clip, secured_at: datetime, dating: Dating
) -> tuple[Happening, Computed] | None:
    """Return the first date of a clip that is about to be secured, and the event that tells it.

    None for one that is held or kept without a date: the job that follows the log knows what else
    is to be done then.
    """
    living = LivingClip(
        clip_id=clip.clip_id,
        state="secured",
        device_serial=clip.device_serial,
        borough=clip.borough,
        size_bytes=clip.size_bytes,
        sha256=clip.sha256,
        bucket=clip.bucket,
        object_key=clip.object_key,
        object_version=clip.object_version,
        category=clip.category,
        evidential_state=clip.evidential_state,
        clock_state=clip.clock_state,
        started_at=clip.started_at,
        started_at_corrected=clip.started_at_corrected,
        announced_at=clip.announced_at,
        secured_at=secured_at,
        is_held=clip.is_held,
        erase_due_at=None,
        event_count=clip.event_count,
        last_leaf_hash=clip.last_leaf_hash,
    )
    decision = decide(living, dating.policies, floor=dating.rules.floor)
    if living.is_held or decision.erase_due_at is None:
        return None
    return _describe(living, decision), _compute(living, decision, dating.rules, warned_at=None)


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A locked clip after its date was computed again."""

    clip: LivingClip
    decision: Decision


async def compute_next(*, pool: Pool, rules: RetentionRules, now: Clock) -> int:
    """Compute a batch; return how many events and clips were looked at.

    First those that the log says were secured or changed; then, after a change of the policies,
    all others.

    Raises:
        LedgerUnavailable: nothing was recorded; the next pass begins where this one did.
    """
    async with writing(pool) as connection:
        progress = await retention.lock_progress(connection)
        if progress is None:
            return 0
        moment = now()
        policies = list_in_force(await retention.list_policies(connection), moment)
        names = ",".join(policy.name for policy in policies)
        if progress.swept_policies != names:
            progress = Progress(progress.log_index, names, _BEFORE_ALL)
        next_index, touched = await retention.list_touched(
            connection, progress.log_index, TOUCHING, limit=EVENTS_MAX
        )
        swept: list[UUID] = []
        sweep_after = progress.sweep_after
        if next_index == progress.log_index and sweep_after is not None:
            swept = await retention.list_computed_after(connection, sweep_after, limit=CLIPS_MAX)
            sweep_after = swept[-1] if swept else None
        for start in range(0, len(touched), CLIPS_MAX):
            await compute_clips(
                connection, touched[start : start + CLIPS_MAX], policies, rules, moment
            )
        await compute_clips(connection, swept, policies, rules, moment)
        await retention.set_progress(
            connection, Progress(next_index, progress.swept_policies, sweep_after)
        )
        return next_index - progress.log_index + len(swept)


async def compute_clips(
    connection: Connection,
    clip_ids: Sequence[UUID],
    policies: Sequence[Policy],
    rules: RetentionRules,
    moment: datetime,
) -> list[Recomputed]:
    """Lock clips, compute their dates and record what has changed; return those that may be erased.

    policies  those in force

    Run inside `writing`. A clip that is about to be erased and has got a later date, or none, is
    restored. Of one whose deletion is intended nothing changes any more.
    """
    if not clip_ids:
        return []
    living = [
        clip
        for clip in await lock_clips(connection, clip_ids)
        if clip.state in _COMPUTED_STATES and clip.phase in (None, "notice")
    ]
    advances: list[Advance] = []
    computed: list[Computed] = []
    cancelled: list[UUID] = []
    after: list[Recomputed] = []
    for clip in living:
        decision = decide(clip, policies, floor=rules.floor)
        is_restored = clip.phase == "notice" and not is_due(decision, moment)
        if not (is_restored or is_changed(clip, decision)):
            after.append(Recomputed(clip, decision))
            continue
        advance, record = _record_decision(clip, decision, rules, moment, is_restored=is_restored)
        advances.append(advance)
        computed.append(record)
        if is_restored:
            cancelled.append(clip.clip_id)
        after.append(Recomputed(_advanced(clip, advance, record), decision))
    if advances:
        await advance_clips(connection, advances)
        await retention.record_retention(connection, computed, moment)
        await erasures.cancel_notices(connection, cancelled)
    if rules.locks_objects:
        turned = [each.clip.clip_id for each in advances if _turns(each)]
        await holds.mark_sync(connection, turned, moment)
    return after


def _turns(advance: Advance) -> bool:
    """Tell whether a clip is kept without a date now, and was not; or the other way round."""
    was_kept = advance.clip.computed_at is not None and advance.clip.erase_due_at is None
    return was_kept is not (advance.erase_due_at is None)


def is_due(decision: Decision, moment: datetime) -> bool:
    """Tell whether a clip's date has come."""
    return decision.erase_due_at is not None and decision.erase_due_at <= moment


def find_due_at(
    erase_due_at: datetime | None,
    rules: RetentionRules,
    *,
    is_held: bool,
    is_under_way: bool,
    warned_at: datetime | None,
) -> datetime | None:
    """Return when something is to be done about a clip; None: held, kept, or under way."""
    if erase_due_at is None or is_held or is_under_way:
        return None
    return erase_due_at if warned_at is None else max(erase_due_at, warned_at + rules.warning)


def describe_decision(clip: LivingClip, decision: Decision) -> dict[str, Any]:
    """Return a decision as facts of an event: what it was made from, and what won."""
    return {
        "erase_due_at": _format(decision.erase_due_at),
        "policy": decision.policy,
        "reason": decision.reason,
        "basis": decision.basis,
        "basis_at": format_time(decision.basis_at),
        "basis_reason": decision.basis_reason,
        "category": clip.category,
        "evidential_state": clip.evidential_state,
        "secured_at": _format(clip.secured_at),
    }


def _record_decision(
    clip: LivingClip,
    decision: Decision,
    rules: RetentionRules,
    moment: datetime,
    *,
    is_restored: bool,
) -> tuple[Advance, Computed]:
    told = _describe(clip, decision)
    happenings = [told]
    if is_restored:
        reason = "its date was computed again"
        happenings.append(Happening("erase.restored", told.actor, reason=reason))
    events = chain_events(clip.head, happenings, now=moment, device_serial=clip.device_serial)
    is_same_date = clip.erase_due_at == decision.erase_due_at
    is_unclassified = clip.evidential_state == "unclassified"
    # Told once for each date.
    warned_at = clip.warned_at if is_same_date and is_unclassified else None
    is_under_way = clip.phase is not None and not is_restored
    state = "secured" if is_restored else clip.state
    advance = Advance(clip, events, state, clip.is_held, decision.erase_due_at)
    return advance, _compute(clip, decision, rules, warned_at, is_under_way=is_under_way)


def _describe(clip: LivingClip, decision: Decision) -> Happening:
    return Happening(
        "retention.computed",
        Actor("policy", decision.policy or "none"),
        describe_decision(clip, decision) | {"before": _format(clip.erase_due_at)},
    )


def _compute(
    clip: LivingClip,
    decision: Decision,
    rules: RetentionRules,
    warned_at: datetime | None,
    *,
    is_under_way: bool = False,
) -> Computed:
    due_at = find_due_at(
        decision.erase_due_at,
        rules,
        is_held=clip.is_held,
        is_under_way=is_under_way,
        warned_at=warned_at,
    )
    return Computed(
        clip.clip_id,
        decision,
        due_at,
        clip.evidential_state == "unclassified",
        warned_at,
        clip.restored_at,
        clip.size_bytes or 0,
    )


def _advanced(clip: LivingClip, advance: Advance, computed: Computed) -> LivingClip:
    decision = computed.decision
    return replace(
        clip,
        state=advance.state,
        erase_due_at=advance.erase_due_at,
        event_count=clip.event_count + len(advance.events),
        last_leaf_hash=advance.events[-1].leaf_hash,
        policy=decision.policy,
        basis=decision.basis,
        basis_at=decision.basis_at,
        reason=decision.reason,
        is_unclassified=computed.is_unclassified,
        warned_at=computed.warned_at,
        due_at=computed.due_at,
        phase=None if advance.state == "secured" else clip.phase,
    )


def _format(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
