"""What the jobs ask every few seconds costs as much as there is to do, not as much as there is."""

import asyncpg
import pytest

from ingest_service.ledger import erasures, holds, retention

NOW = "'2026-03-01T00:00:00Z'::timestamptz"
ASKED = {
    "due": (retention.LIST_DUE, f"{NOW}, 200", "retention_due_idx"),
    "unwarned": (retention.LIST_UNWARNED, f"{NOW}, 200", "retention_warning_idx"),
    "due by day": (erasures.COUNT_DUE_BY_DAY, f"{NOW}, {NOW}", "retention_due_idx"),
    "scheduled by day": (erasures.COUNT_SCHEDULED_BY_DAY, f"{NOW}, {NOW}", "erasures_day_idx"),
    "scheduled today": (erasures.COUNT_TODAY, NOW, "erasures_scheduled_idx"),
    "intended today": (erasures.COUNT_TODAY, NOW, "erasures_intended_idx"),
    "ready": (erasures.LIST_READY, f"{NOW}, 'notice', 200", "erasures_due_idx"),
    "how many are ready": (erasures.COUNT_READY, NOW, "erasures_due_idx"),
    "touched": (retention.LIST_TOUCHED, "5, 2000, '{clip.secured}'", "log_leaves_pkey"),
    "swept": (
        retention.LIST_COMPUTED_AFTER,
        "'0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e', 500",
        "retention_pkey",
    ),
    "syncs": (holds.LIST_SYNCS, f"{NOW}, 50", "legal_hold_syncs_due_idx"),
    "holds of a clip": (
        holds.LIST_HOLDS,
        "'0199c0de-5f0a-7b7c-8d1e-2f3a4b5c6d7e'",
        "holds_clip_idx",
    ),
}
FILL = """
    ALTER TABLE retention DROP CONSTRAINT retention_clip_fkey;
    ALTER TABLE erasures DROP CONSTRAINT erasures_clip_fkey;
    ALTER TABLE holds DROP CONSTRAINT holds_clip_fkey;
    INSERT INTO retention
    SELECT gen_random_uuid(), 'default/1', 'received', now(), 'why', due, due, n % 3 = 0, 1, now()
      FROM (SELECT n, timestamptz '2026-01-01' + n * interval '1 hour' AS due
              FROM generate_series(1, 20000) AS n) AS days;
    INSERT INTO erasures
    SELECT gen_random_uuid(), CASE WHEN n % 50 = 0 THEN 'notice' ELSE 'executed' END, day, day, day,
           day, 0, day
      FROM (SELECT n, timestamptz '2024-01-01' + n * interval '1 hour' AS day
              FROM generate_series(1, 20000) AS n) AS days;
    INSERT INTO holds (hold_id, clip_id, kind, authority, reason, placed_by, placed_at)
    SELECT gen_random_uuid(), gen_random_uuid(), 'case', 'C-1', 'why', 'P-1', now()
      FROM generate_series(1, 20000);
    INSERT INTO legal_hold_syncs
    SELECT gen_random_uuid(), timestamptz '2026-01-01' + n * interval '1 hour', gen_random_uuid()
      FROM generate_series(1, 20000) AS n;
    ANALYZE retention; ANALYZE erasures; ANALYZE holds; ANALYZE legal_hold_syncs;
"""


@pytest.fixture
async def filled(ledger_owner_dsn):
    connection = await asyncpg.connect(ledger_owner_dsn)
    await connection.execute(FILL)
    yield connection
    await connection.close()


async def test_each_question_of_the_jobs_is_an_index_range(filled):
    plans = {}
    for name, (statement, arguments, index) in ASKED.items():
        await filled.execute(f"PREPARE asked AS {statement}")
        if name == "touched":
            # The log of this ledger is empty: it is not size that decides there.
            await filled.execute("SET enable_seqscan = off")
        rows = await filled.fetch(f"EXPLAIN EXECUTE asked({arguments})")
        await filled.execute("DEALLOCATE asked")
        await filled.execute("RESET enable_seqscan")
        plans[name] = (index, "\n".join(row[0] for row in rows))

    missed = {name: plan for name, (index, plan) in plans.items() if index not in plan}
    assert missed == {}
