"""Retention in Postgres: policies, what was computed of each clip, and how far the computing is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ingest_service.domain.retention import Decision, LivingClip, Policy, Rule
from ingest_service.ledger.connection import Connection

# --- policies --------------------------------------------------------------------------------

LIST_POLICIES: Final = """
    SELECT policy_id, version, rules, effective_from, reason, policy.made_by, made_at,
           approved_by, approved_at
      FROM retention_policies AS policy
 LEFT JOIN retention_approvals USING (policy_id, version)
  ORDER BY policy_id, version
"""


async def list_policies(connection: Connection) -> list[Policy]:
    """Return every version of every policy."""
    return [_read_policy(row) for row in await connection.fetch(LIST_POLICIES)]


def _read_policy(row: Any) -> Policy:  # noqa: ANN401 - asyncpg's record
    members = dict(row)
    return Policy(**(members | {"rules": tuple(Rule(**each) for each in members["rules"])}))


# Two who make a version at once: the second one finds its number taken.
INSERT_POLICY: Final = """
    INSERT INTO retention_policies (
        policy_id, version, rules, effective_from, reason, made_by, made_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT DO NOTHING
 RETURNING version
"""


async def insert_policy(connection: Connection, policy: Policy) -> bool:
    """Record a new version; False: there is one of this number."""
    row = await connection.fetchrow(
        INSERT_POLICY,
        policy.policy_id,
        policy.version,
        dump_rules(policy.rules),
        policy.effective_from,
        policy.reason,
        policy.made_by,
        policy.made_at,
    )
    return row is not None


def dump_rules(rules: Sequence[Rule]) -> list[dict[str, Any]]:
    """Return rules as JSON values."""
    return [
        {"category": r.category, "evidential_state": r.evidential_state, "days": r.days}
        for r in rules
    ]


INSERT_APPROVAL: Final = """
    INSERT INTO retention_approvals (policy_id, version, made_by, approved_by, approved_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
 RETURNING version
"""


async def insert_approval(
    connection: Connection, policy: Policy, approved_by: str, approved_at: datetime
) -> bool:
    """Record that a version was approved; False: it was before."""
    row = await connection.fetchrow(
        INSERT_APPROVAL, policy.policy_id, policy.version, policy.made_by, approved_by, approved_at
    )
    return row is not None


# --- what was computed -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Computed:
    """What is recorded of a clip's retention beside its row.

    due_at  when something is to be done about it; None: held, kept, or under way
    """

    clip_id: UUID
    decision: Decision
    due_at: datetime | None
    is_unclassified: bool
    warned_at: datetime | None
    restored_at: datetime | None
    size_bytes: int


RECORD_RETENTION: Final = """
    INSERT INTO retention (
        clip_id, policy, basis, basis_at, reason, erase_due_at, due_at, is_unclassified,
        size_bytes, computed_at, warned_at, restored_at)
    SELECT clip_id, policy, basis, basis_at, reason, erase_due_at, due_at, is_unclassified,
           size_bytes, $12, warned_at, restored_at
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[],
                  $6::timestamptz[], $7::timestamptz[], $8::boolean[], $9::timestamptz[],
                  $10::timestamptz[], $11::bigint[])
        AS given (clip_id, policy, basis, basis_at, reason, erase_due_at, due_at,
                  is_unclassified, warned_at, restored_at, size_bytes)
    ON CONFLICT (clip_id) DO UPDATE SET
        policy = EXCLUDED.policy,
        basis = EXCLUDED.basis,
        basis_at = EXCLUDED.basis_at,
        reason = EXCLUDED.reason,
        erase_due_at = EXCLUDED.erase_due_at,
        due_at = EXCLUDED.due_at,
        is_unclassified = EXCLUDED.is_unclassified,
        computed_at = EXCLUDED.computed_at,
        warned_at = EXCLUDED.warned_at,
        restored_at = EXCLUDED.restored_at
"""


async def record_retention(
    connection: Connection, computed: Sequence[Computed], computed_at: datetime
) -> None:
    """Record what was computed of locked clips."""
    await connection.execute(
        RECORD_RETENTION,
        [each.clip_id for each in computed],
        [each.decision.policy for each in computed],
        [each.decision.basis for each in computed],
        [each.decision.basis_at for each in computed],
        [each.decision.reason for each in computed],
        [each.decision.erase_due_at for each in computed],
        [each.due_at for each in computed],
        [each.is_unclassified for each in computed],
        [each.warned_at for each in computed],
        [each.restored_at for each in computed],
        [each.size_bytes for each in computed],
        computed_at,
    )


SET_DUE: Final = """
    UPDATE retention
       SET due_at = given.due_at
      FROM unnest($1::uuid[], $2::timestamptz[]) AS given (clip_id, due_at)
     WHERE retention.clip_id = given.clip_id
"""


async def set_due(
    connection: Connection, clips: Sequence[LivingClip], due_at: Sequence[datetime | None]
) -> None:
    """Set when something is to be done about locked clips."""
    await connection.execute(SET_DUE, [clip.clip_id for clip in clips], due_at)


# --- how far it is ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the computing is.

    log_index       of the first event that was not looked at
    swept_policies  names of those in force when every clip was computed last
    sweep_after     the clip that was last in a walk through all; None: no walk is under way
    """

    log_index: int
    swept_policies: str | None
    sweep_after: UUID | None


GET_PROGRESS: Final = "SELECT log_index, swept_policies, sweep_after FROM retention_progress"
# One worker at a time: who comes meanwhile has nothing to do.
LOCK_PROGRESS: Final = """
    SELECT log_index, swept_policies, sweep_after
      FROM retention_progress
       FOR UPDATE SKIP LOCKED
"""


async def lock_progress(connection: Connection) -> Progress | None:
    """Return how far it is, and let nobody else go on; None: somebody else is at it."""
    row = await connection.fetchrow(LOCK_PROGRESS)
    return None if row is None else Progress(**row)


async def get_progress(connection: Connection) -> Progress:
    """Return how far it is."""
    row = await connection.fetchrow(GET_PROGRESS)
    return Progress(**row) if row is not None else Progress(0, None, None)


SET_PROGRESS: Final = """
    UPDATE retention_progress SET log_index = $1, swept_policies = $2, sweep_after = $3
"""


async def set_progress(connection: Connection, progress: Progress) -> None:
    """Record how far it is, in the transaction of what was done."""
    await connection.execute(
        SET_PROGRESS, progress.log_index, progress.swept_policies, progress.sweep_after
    )


# In log order: no event is overtaken by one that was committed later.
LIST_TOUCHED: Final = """
    SELECT max(leaf_index) + 1 AS next_index,
           array_agg(DISTINCT clip_id) FILTER (WHERE type = ANY ($3)) AS clip_ids
      FROM log_leaves
      JOIN custody_events USING (event_id)
     WHERE leaf_index >= $1
       AND leaf_index < $1 + $2
"""


async def list_touched(
    connection: Connection, log_index: int, types: Sequence[str], *, limit: int
) -> tuple[int, list[UUID]]:
    """Return the index to go on from, and the clips of which the next events say such a thing."""
    row = await connection.fetchrow(LIST_TOUCHED, log_index, limit, types)
    if row is None or row["next_index"] is None:
        return log_index, []
    return row["next_index"], [clip_id for clip_id in row["clip_ids"] or () if clip_id is not None]


LIST_COMPUTED_AFTER: Final = """
    SELECT clip_id
      FROM retention
     WHERE clip_id > $1
  ORDER BY clip_id
     LIMIT $2
"""


async def list_computed_after(connection: Connection, after: UUID, *, limit: int) -> list[UUID]:
    """Return the next clips of which something was computed."""
    return [row["clip_id"] for row in await connection.fetch(LIST_COMPUTED_AFTER, after, limit)]


# As `clips.CLAIM_READ_BACKS` has it: each step of an upload renews its expiry.
IS_RECEIVING: Final = """
    SELECT 4 <= count(*)
      FROM (SELECT
              FROM uploads
             WHERE state = 'open'
               AND expires_at > now() + make_interval(secs => $1 - 3)
             LIMIT 4) AS moving
"""


async def is_receiving(connection: Connection, *, expires_after_s: float) -> bool:
    """Tell whether several uploads move just now."""
    return bool(await connection.fetchval(IS_RECEIVING, expires_after_s))


# --- what is due -----------------------------------------------------------------------------

LIST_DUE: Final = """
    SELECT clip_id
      FROM retention
     WHERE due_at <= $1
  ORDER BY due_at
     LIMIT $2
"""


async def list_due(connection: Connection, now: datetime, *, limit: int) -> list[UUID]:
    """Return clips whose date has come, oldest first."""
    return [row["clip_id"] for row in await connection.fetch(LIST_DUE, now, limit)]


LIST_UNWARNED: Final = """
    SELECT clip_id
      FROM retention
     WHERE due_at <= $1
       AND is_unclassified
       AND warned_at IS NULL
  ORDER BY due_at
     LIMIT $2
"""


async def list_unwarned(connection: Connection, before: datetime, *, limit: int) -> list[UUID]:
    """Return unclassified clips that are due before then, and of which nobody was told."""
    return [row["clip_id"] for row in await connection.fetch(LIST_UNWARNED, before, limit)]


MARK_WARNED: Final = """
    UPDATE retention
       SET warned_at = $2,
           due_at = GREATEST(due_at, $3)
     WHERE clip_id = ANY ($1::uuid[])
"""


async def mark_warned(
    connection: Connection, clip_ids: Sequence[UUID], warned_at: datetime, not_before: datetime
) -> None:
    """Record that somebody was told; nothing is done about the clips before then."""
    await connection.execute(MARK_WARNED, clip_ids, warned_at, not_before)


FORGET_DUE: Final = "UPDATE retention SET due_at = NULL WHERE clip_id = ANY ($1::uuid[])"


async def forget_due(connection: Connection, clip_ids: Sequence[UUID]) -> None:
    """Let nobody look again at clips that are in no state to be erased."""
    await connection.execute(FORGET_DUE, clip_ids)
