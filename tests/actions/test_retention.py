"""When clips are to be erased: computed after they were secured, and whenever it may change."""

from dataclasses import replace
from datetime import timedelta

import pytest

from ingest_service.actions.compute_retention import Dating, compute_next
from ingest_service.actions.explain_retention import explain_retention
from ingest_service.actions.make_policy import approve_policy, list_policies, make_policy
from ingest_service.actions.read_back_clip import read_back_clip
from ingest_service.domain.retention import Rule
from ingest_service.errors import AnotherPersonNeeded, PolicyConflict, PolicyNotFound
from ingest_service.ledger.connection import reading
from ingest_service.ledger.policy_book import PolicyBook
from tests.actions.life import ANNA, BEN, CARA, DAY, Life

KEEP_DRUGS = (Rule("drugs", None, 90),)


async def make(life: Life, rules=KEEP_DRUGS, policy_id="crime", **options):
    return await make_policy(
        policy_id,
        rules,
        ANNA,
        **{"effective_from": None, "reason": "the board", "pool": life.pool, "now": life.clock}
        | options,
    )


async def approve(life: Life, policy, principal=BEN):
    return await approve_policy(
        policy.policy_id, policy.version, principal, pool=life.pool, now=life.clock
    )


async def explain(life: Life, clip):
    return await explain_retention(clip.clip_id, pool=life.pool, rules=life.rules, now=life.clock)


async def test_a_secured_clip_gets_its_date_in_the_row_and_in_its_chain(life):
    clip = await life.secure()

    assert clip.erase_due_at == clip.secured_at + 31 * DAY
    assert (await life.types(clip.clip_id))[-1] == "retention.computed"


async def date_at_once(life: Life, clip, policies=None):
    """Read a clip back as the job does, which knows the policies."""
    if policies is None:
        policies = await PolicyBook().list_in_force(life.pool, life.clock())
    return await read_back_clip(
        clip.clip_id,
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        dating=Dating(policies, life.rules),
    )


async def test_a_clip_is_secured_and_dated_by_one_statement(life):
    clip = await life.receive()

    assert await date_at_once(life, clip) == "secured"

    secured = await life.get(clip.clip_id)
    assert secured.erase_due_at == secured.secured_at + 31 * DAY
    types = await life.types(clip.clip_id)
    assert types[-2:] == ["clip.secured", "retention.computed"]


async def test_a_date_that_was_decided_at_once_is_what_the_job_would_have_decided(life):
    clip = await life.receive()
    await date_at_once(life, clip)
    at_once = await life.living(clip.clip_id)
    types = await life.types(clip.clip_id)

    await life.compute()

    assert await life.types(clip.clip_id) == types
    later = await life.secure(recording_id="dated by the job")
    by_job = await life.living(later.clip_id)
    for each in (at_once, by_job):
        assert each.due_at == each.erase_due_at == each.secured_at + 31 * DAY
    assert (at_once.policy, at_once.reason, at_once.is_unclassified) == (
        by_job.policy,
        by_job.reason,
        by_job.is_unclassified,
    )


async def test_a_date_by_a_policy_that_was_just_replaced_is_mended_by_the_job(life):
    old = await PolicyBook().list_in_force(life.pool, life.clock())
    await approve(life, await make(life))
    clip = await life.receive(category="drugs")

    await date_at_once(life, clip, old)
    await life.compute()

    mended = await life.get(clip.clip_id)
    assert mended.erase_due_at == clip.announced_at + 90 * DAY


async def test_what_is_kept_or_held_is_left_to_the_job(life):
    kept = await life.receive(evidential_state="evidential")
    held = await life.receive(recording_id="held")
    await life.hold(held.clip_id)

    for clip in (kept, held):
        await date_at_once(life, clip)
        assert (await life.types(clip.clip_id))[-1] == "clip.secured"
        assert (await life.get(clip.clip_id)).erase_due_at is None


async def test_a_clip_that_differs_gets_no_date(life):
    clip = await life.receive()
    life.vault.tamper(clip.object_key, bytes(len(life.footage)))

    assert await date_at_once(life, clip) == "quarantined"

    assert "retention.computed" not in await life.types(clip.clip_id)
    assert (await life.living(clip.clip_id)).computed_at is None


async def test_policies_are_asked_for_again_when_they_may_have_changed(life):
    seconds = iter([0.0, 9.0, 10.0, 10.0])
    book = PolicyBook(fresh_s=10, monotonic=lambda: next(seconds))
    first = await book.list_in_force(life.pool, life.clock())
    await approve(life, await make(life))

    remembered = await book.list_in_force(life.pool, life.clock())
    read_anew = await book.list_in_force(life.pool, life.clock())

    assert remembered == first
    assert [policy.name for policy in read_anew] == ["crime/1", *(p.name for p in first)]


async def test_a_clip_that_is_not_secured_has_no_date(life):
    clip = await life.receive()
    await life.compute()

    assert (await life.get(clip.clip_id)).erase_due_at is None


@pytest.mark.parametrize("state", ["evidential", "policing_purpose"])
async def test_what_is_kept_has_no_date(life, state):
    clip = await life.secure(evidential_state=state)

    assert clip.erase_due_at is None
    assert (await life.types(clip.clip_id))[-1] == "retention.computed"


async def test_the_same_date_is_not_recorded_twice(life):
    clip = await life.secure()
    before = await life.types(clip.clip_id)

    await life.asserted(clip.clip_id, "category.changed", category="traffic")
    await life.compute()

    assert await life.types(clip.clip_id) == [*before, "category.changed"]


async def test_a_category_that_keeps_longer_moves_the_date(life):
    await approve(life, await make(life))
    clip = await life.secure()

    await life.asserted(clip.clip_id, "category.changed", category="drugs")
    await life.compute()

    later = await life.get(clip.clip_id)
    assert later.erase_due_at == clip.announced_at + 90 * DAY
    assert (await life.living(clip.clip_id)).policy == "crime/1"


async def test_a_clip_that_becomes_evidence_loses_its_date(life):
    clip = await life.secure()

    await life.asserted(clip.clip_id, "evidential_state.changed", evidential_state="evidential")
    await life.compute()

    assert (await life.get(clip.clip_id)).erase_due_at is None


async def test_a_new_policy_reaches_every_clip(life):
    clips = [await life.secure(category="drugs") for _ in range(3)]
    await approve(life, await make(life))

    await life.compute()

    for clip in clips:
        assert (await life.get(clip.clip_id)).erase_due_at == clip.announced_at + 90 * DAY


async def test_a_policy_that_nobody_has_approved_changes_nothing(life):
    clip = await life.secure(category="drugs")
    await make(life)

    await life.compute()

    assert (await life.get(clip.clip_id)).erase_due_at == clip.erase_due_at


async def test_a_policy_is_in_force_from_its_day_on(life):
    clip = await life.secure(category="drugs")
    await approve(life, await make(life, effective_from=life.clock() + 5 * DAY))
    await life.compute()
    before = await life.get(clip.clip_id)

    life.later(6)
    await life.compute()

    assert before.erase_due_at == clip.erase_due_at
    assert (await life.get(clip.clip_id)).erase_due_at == clip.announced_at + 90 * DAY


async def test_who_made_a_policy_does_not_approve_it(life):
    policy = await make(life)

    with pytest.raises(AnotherPersonNeeded):
        await approve(life, policy, ANNA)


async def test_a_policy_is_approved_once(life):
    policy = await make(life)
    first = await approve(life, policy)

    assert await approve(life, policy) == first
    with pytest.raises(PolicyConflict):
        await approve(life, policy, CARA)


async def test_a_policy_that_was_never_made_is_not_approved(life):
    with pytest.raises(PolicyNotFound):
        await approve(life, replace(await make(life), version=7))


async def test_every_version_of_a_policy_stays(life):
    await make(life)
    await make(life, (Rule("drugs", None, 60),))

    found = await list_policies(pool=life.pool)
    assert [policy.name for policy in found] == ["crime/1", "crime/2", "default/1"]


async def test_why_names_what_won_and_what_lost(life):
    await approve(life, await make(life))
    clip = await life.secure(category="drugs")

    explained = await explain(life, clip)

    assert explained.decision.won.name == "crime/1"
    assert explained.decision.erase_due_at == clip.announced_at + 90 * DAY
    assert [each.name for each in explained.decision.lost] == ["default/1", "floor/secured"]


async def test_why_agrees_with_what_is_recorded(life):
    clip = await life.secure()

    explained = await explain(life, clip)

    assert explained.decision.erase_due_at == clip.erase_due_at
    assert explained.clip.reason == explained.decision.reason


async def test_an_edited_recorded_on_date_does_not_move_the_deletion_date(life):
    """An incident elsewhere: an edited 'recorded on' date moved the deletion date."""
    honest = await life.secure()
    now = life.clock()
    years_ago = (now - timedelta(days=900)).isoformat()
    edited = await life.secure(started_at=years_ago, clock_state="synced", clock_offset_ms=0)

    assert edited.erase_due_at - edited.secured_at == honest.erase_due_at - honest.secured_at


async def test_a_worker_that_comes_second_has_nothing_to_do(life):
    await life.receive()
    await life.publish()

    async with life.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM retention_progress FOR UPDATE")
        looked_at = await compute_next(pool=life.pool, rules=life.rules, now=life.clock)

    assert looked_at == 0


async def test_a_worker_that_dies_leaves_its_batch_to_the_next(life, monkeypatch):
    clip = await life.receive()
    assert await life.process.read_back(clip.clip_id) == "secured"
    await life.publish()
    async with reading(life.pool) as connection:
        await connection.execute("SELECT 1")

    class Died(Exception):
        pass

    def die():
        raise Died

    with pytest.raises(Died):
        await compute_next(pool=life.pool, rules=life.rules, now=die)
    await life.compute()

    assert (await life.get(clip.clip_id)).erase_due_at is not None
