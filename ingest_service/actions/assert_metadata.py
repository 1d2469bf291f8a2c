"""Assert: somebody says what a clip is, and it is recorded beside what was said before."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from ingest_service.actions.place_hold import hold_objects
from ingest_service.domain.assertion import Assertion, Statement, assert_fields
from ingest_service.domain.clip import Clip
from ingest_service.domain.clock import Clock
from ingest_service.domain.custody import chain_events
from ingest_service.domain.retention import LivingClip, RetentionRules, decide, list_in_force
from ingest_service.errors import ClipBusy, ClipNotFound, StoredBytesLost
from ingest_service.ledger import assertions, clips, retention
from ingest_service.ledger.connection import Connection, Pool, reading
from ingest_service.ledger.directory import Directory
from ingest_service.ledger.lifecycle import list_living
from ingest_service.vault import Vault

_TRIES: Final = 20
_RETAINED: Final = frozenset({"secured", "erase_pending"})
# The clip's date follows within seconds, by a job. A legal hold that was set for nothing (the
# process died before it recorded what was said) is taken off after this.
_SETTLE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Asserted:
    """What was recorded; `is_repeat`: by an earlier request with the same key."""

    clip: Clip
    assertions: list[Assertion]
    is_repeat: bool = False


@dataclass(frozen=True, slots=True)
class AssertTools:
    """What asserting needs.

    vault, rules  what makes a clip evidence is told to the store, where that locks objects
    """

    pool: Pool
    vault: Vault
    directory: Directory
    rules: RetentionRules
    now: Clock


async def assert_metadata(clip_id: UUID, said: Statement, *, tools: AssertTools) -> Asserted:
    """Record what is said of a clip: present values, assertions and custody events at once.

    An officer or category that the directory does not have is flagged, never refused.

    What makes a clip evidence, so that no date erases it any more, is told to the store first:
    whoever was answered that it is kept has its bytes held.

    Raises:
        ClipNotFound, CorrectionMismatch: nothing was recorded.
        ClipBusy: too many wrote to this clip at once; nothing was recorded.
        VaultUnavailable: nothing was recorded; perhaps the store holds the bytes for a while.
    """
    pool, now = tools.pool, tools.now
    known = await tools.directory.entries(pool)
    held: LivingClip | None = None
    for _ in range(_TRIES):
        async with reading(pool) as connection:
            clip = await clips.find_clip(connection, clip_id)
            if clip is None:
                raise ClipNotFound(str(clip_id))
            # Read after the clip: what is younger than it makes the compare-and-set below fail.
            later = await assertions.list_assertions(connection, clip_id)
            if repeated := _find_repeated(later, said):
                return Asserted(clip, repeated, is_repeat=True)
            moment = now()
            believed, made, happenings = assert_fields(
                clip, later, said, lambda kind, name: (kind, name) in known, now=moment
            )
            events = chain_events(
                clip.head, happenings, now=moment, device_serial=clip.device_serial
            )
            kept = await _find_kept(connection, clip, believed, tools.rules, moment)
            if kept is None or _is_same_object(kept, held):
                if await assertions.record_assertions(connection, believed, made, events):
                    return Asserted(believed, made)
                continue
        # No connection is kept while the store is asked. Then once more, as the clip is by then.
        await _hold_object(kept, tools)
        held = kept
    raise ClipBusy(clip_id)


async def _find_kept(
    connection: Connection, clip: Clip, believed: Clip, rules: RetentionRules, moment: datetime
) -> LivingClip | None:
    """Return the clip if what is said keeps it without a date, and the store is to be told."""
    is_reclassified = (clip.category, clip.evidential_state) != (
        believed.category,
        believed.evidential_state,
    )
    if not rules.locks_objects or not is_reclassified or clip.state not in _RETAINED:
        return None
    policies = list_in_force(await retention.list_policies(connection), moment)
    [living] = await list_living(connection, [clip.clip_id])
    changed = replace(
        living, category=believed.category, evidential_state=believed.evidential_state
    )
    is_kept = decide(changed, policies, floor=rules.floor).erase_due_at is None
    return living if is_kept and living.state in _RETAINED else None


async def _hold_object(kept: LivingClip, tools: AssertTools) -> None:
    try:
        await hold_objects(
            [kept], pool=tools.pool, vault=tools.vault, now=tools.now, settle=_SETTLE
        )
    except StoredBytesLost:
        # What is said of the clip is true all the same, and fixity tells of the loss.
        return


def _is_same_object(kept: LivingClip, held: LivingClip | None) -> bool:
    return held is not None and (kept.object_key, kept.object_version) == (
        held.object_key,
        held.object_version,
    )


def _find_repeated(later: Sequence[Assertion], said: Statement) -> list[Assertion]:
    if said.batch_key is None:
        return []
    return [
        each
        for each in later
        if each.batch_key == said.batch_key
        and each.batch_item == said.batch_item
        and each.asserted_by_id == said.actor.id
    ]
