"""Holds: what is held stays; of a hold and an erasure that meet, exactly one succeeds."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ingest_service.actions.hold_for_purpose import hold_for_purpose
from ingest_service.actions.place_hold import Order, hold_objects
from ingest_service.actions.place_holds_in_bulk import place_holds, preview_hold
from ingest_service.actions.read_back_clip import read_back_clip
from ingest_service.actions.sync_legal_holds import sync_legal_holds
from ingest_service.domain.custody import Actor
from ingest_service.domain.principal import Principal
from ingest_service.domain.retention import ObjectLock
from ingest_service.errors import (
    AnotherPersonNeeded,
    ErasureBegun,
    HoldNotFound,
    HoldReleased,
    HoldTooWide,
    PreviewOutdated,
    StoredBytesLost,
    VaultUnavailable,
)
from ingest_service.ledger import holds
from ingest_service.ledger.connection import reading
from ingest_service.ledger.queries import ClipFilter
from tests.actions.engine import hold_at, wait_for_a_lock
from tests.actions.life import ANNA, BEN, CARA, DAY, Life


def is_locked(life: Life, clip) -> bool:
    return life.vault._find(clip.object_key, clip.object_version).is_held


async def list_holds(life: Life, clip):
    async with reading(life.pool) as connection:
        return await holds.list_holds(connection, clip.clip_id)


async def sync(life: Life) -> int:
    return await sync_legal_holds(pool=life.pool, vault=life.vault, now=life.clock)


# --- placing and releasing ----------------------------------------------------------------


async def test_a_held_clip_is_not_announced_for_erasure(life):
    clip = await life.secure(evidential_state="non_evidential")
    await life.hold(clip.clip_id)
    life.later(100)

    assert await life.schedule() == 0
    assert (await life.get(clip.clip_id)).is_held


async def test_nobody_walks_over_held_clips_again_and_again(life):
    clip = await life.secure(evidential_state="non_evidential")

    await life.hold(clip.clip_id)

    assert (await life.living(clip.clip_id)).due_at is None


async def test_a_hold_calls_an_announced_erasure_off(life):
    clip = await life.announced()

    await life.hold(clip.clip_id)

    held = await life.get(clip.clip_id)
    assert (held.state, held.is_held) == ("secured", True)
    assert (await life.types(clip.clip_id))[-2:] == ["hold.placed", "erase.restored"]
    life.later(100)
    await life.work()
    assert life.bytes_of(clip) is not None


async def test_a_clip_is_held_until_its_last_hold_is_released(life):
    clip = await life.secure()
    first = await life.hold(clip.clip_id)
    second = await life.hold(clip.clip_id, kind="complaint")

    await life.release(first.hold_id)
    between = await life.get(clip.clip_id)
    await life.release(second.hold_id)

    assert between.is_held
    assert not (await life.get(clip.clip_id)).is_held


async def test_a_clip_is_erased_after_its_release_with_a_notice_of_its_own(life):
    clip = await life.secure(evidential_state="non_evidential")
    hold = await life.hold(clip.clip_id)
    life.later(200)
    await life.release(hold.hold_id)

    await life.work()
    announced = await life.get(clip.clip_id)
    life.later(7)
    await life.work()

    assert announced.state == "erase_pending"
    assert (await life.get(clip.clip_id)).state == "erased"


async def test_who_placed_a_hold_does_not_release_it(life):
    clip = await life.secure()
    hold = await life.hold(clip.clip_id, ANNA)

    with pytest.raises(AnotherPersonNeeded):
        await life.release(hold.hold_id, ANNA)
    assert (await life.get(clip.clip_id)).is_held


async def test_where_policy_says_so_one_person_may_do_both(life):
    life.set(by_another=frozenset({"evidence"}))
    clip = await life.secure()
    hold = await life.hold(clip.clip_id, ANNA, kind="complaint")

    await life.release(hold.hold_id, ANNA)

    assert not (await life.get(clip.clip_id)).is_held


async def test_a_hold_is_released_once(life):
    clip = await life.secure()
    hold = await life.hold(clip.clip_id)
    released = await life.release(hold.hold_id, BEN)

    assert await life.release(hold.hold_id, BEN) == released
    with pytest.raises(HoldReleased):
        await life.release(hold.hold_id, CARA)
    assert (await life.types(clip.clip_id)).count("hold.released") == 1


async def test_a_hold_of_another_borough_does_not_exist(life):
    clip = await life.secure()
    hold = await life.hold(clip.clip_id)
    stranger = Principal("person", "P-x", frozenset(), boroughs=frozenset({"Brent"}))

    with pytest.raises(HoldNotFound):
        await life.release(hold.hold_id, stranger)


async def test_the_reason_of_a_hold_stays_out_of_the_log(life):
    clip = await life.secure()
    await life.hold(clip.clip_id, reason="Mr Miller complained")

    async with reading(life.pool) as connection:
        leaf = await connection.fetchval(
            "SELECT leaf FROM custody_events WHERE type = 'hold.placed' AND clip_id = $1",
            clip.clip_id,
        )
    assert b"CASE-1" in leaf
    assert b"Miller" not in leaf


async def test_a_clip_that_is_coming_in_is_held_once_it_is_secured(life):
    clip = await life.receive(evidential_state="non_evidential")
    await life.hold(clip.clip_id)

    await life.process.read_back(clip.clip_id)
    await life.compute()
    life.later(100)
    await life.work()

    secured = await life.get(clip.clip_id)
    assert (secured.state, secured.is_held) == ("secured", True)
    assert life.bytes_of(clip) is not None


async def test_what_is_being_deleted_cannot_be_held(life):
    clip = await life.announced()
    life.later(7)
    await life.intend()

    with pytest.raises(ErasureBegun):
        await life.hold(clip.clip_id)
    assert await list_holds(life, clip) == []


async def test_what_was_erased_cannot_be_held(life):
    clip = await life.announced()
    await life.erase()

    with pytest.raises(ErasureBegun):
        await life.hold(clip.clip_id)


# --- the store's own hold -----------------------------------------------------------------


async def test_the_store_holds_before_the_ledger_does(life):
    life.locks_objects = True
    clip = await life.secure()

    task, halt = await hold_at(life.vault, "set_legal_hold", life.hold(clip.clip_id))
    between = is_locked(life, clip), (await life.get(clip.clip_id)).is_held
    halt.let_go()
    await task

    assert between == (True, False)
    assert (await life.get(clip.clip_id)).is_held


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_a_hold_that_the_store_did_not_answer_is_no_hold_and_leaves_nothing(life, failure):
    life.locks_objects = True
    clip = await life.secure()
    life.vault.fail_next("set_legal_hold", failure)

    with pytest.raises(VaultUnavailable):
        await life.hold(clip.clip_id)
    held = (await life.get(clip.clip_id)).is_held
    life.later(1)
    await sync(life)

    assert not held
    assert not is_locked(life, clip)


async def test_a_hold_on_bytes_that_are_not_there_is_refused(life):
    life.locks_objects = True
    clip = await life.secure()
    life.vault._versions[clip.object_key].clear()

    with pytest.raises(StoredBytesLost):
        await life.hold(clip.clip_id)
    assert not (await life.get(clip.clip_id)).is_held


async def test_the_store_lets_go_after_the_last_release(life):
    life.locks_objects = True
    clip = await life.secure()
    hold = await life.hold(clip.clip_id)
    other = await life.hold(clip.clip_id, kind="legal")

    await life.release(hold.hold_id)
    await sync(life)
    between = is_locked(life, clip)
    await life.release(other.hold_id)
    await sync(life)

    assert between
    assert not is_locked(life, clip)
    assert await sync(life) == 0


async def test_a_hold_that_is_placed_while_the_store_lets_go_is_set_again(life):
    life.locks_objects = True
    clip = await life.secure()
    hold = await life.hold(clip.clip_id)
    await sync(life)
    await life.release(hold.hold_id)

    letting_go, halt = await hold_at(life.vault, "set_legal_hold", sync(life), moment="asked")
    await life.hold(clip.clip_id, kind="legal")
    halt.let_go()
    await letting_go
    while await sync(life):
        pass

    assert is_locked(life, clip)


async def test_a_hold_that_dies_while_the_store_lets_go_leaves_nothing(life):
    life.locks_objects = True
    clip = await life.secure()
    hold = await life.hold(clip.clip_id)
    await sync(life)
    await life.release(hold.hold_id)

    letting_go, halt = await hold_at(life.vault, "set_legal_hold", sync(life))
    await hold_objects(
        [await life.living(clip.clip_id)], pool=life.pool, vault=life.vault, now=life.clock
    )
    halt.let_go()
    await letting_go
    between = is_locked(life, clip)
    life.later(1)
    await sync(life)

    assert (between, is_locked(life, clip)) == (True, False)


async def test_what_was_held_before_there_was_an_object_is_locked_before_it_is_secured(life):
    clip = (
        await life.process.announce({"device_serial": "B", "recording_id": "r", "size_bytes": 0})
    ).clip
    life.locks_objects = True
    await life.hold(clip.clip_id)
    await life.process.seal(clip.clip_id)

    await read_back_clip(
        clip.clip_id,
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        lock=ObjectLock("governance", DAY),
    )

    secured = await life.get(clip.clip_id)
    assert secured.state == "secured"
    assert is_locked(life, secured)


async def test_the_store_holds_what_is_evidence_until_it_is_none(life):
    life.set(locks_objects=True)
    clip = await life.secure()
    await life.asserted(clip.clip_id, "evidential_state.changed", evidential_state="evidential")
    await life.compute()
    await sync(life)
    between = is_locked(life, clip)
    await life.asserted(clip.clip_id, "evidential_state.changed", evidential_state="non_evidential")
    await life.compute()
    await sync(life)

    assert between
    assert not is_locked(life, clip)
    assert await sync(life) == 0


async def test_evidence_stays_locked_after_its_last_hold_is_released(life):
    life.set(locks_objects=True)
    life.locks_objects = True
    clip = await life.secure(evidential_state="evidential")
    hold = await life.hold(clip.clip_id)
    await life.release(hold.hold_id)
    await sync(life)

    assert is_locked(life, clip)


# --- races: whoever is second sees what the first one did ----------------------------------


@asynccontextmanager
async def row_of(life: Life, clip):
    """Somebody else has the clip's row: whoever wants it waits in line."""
    async with life.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM clips WHERE clip_id = $1 FOR UPDATE", clip.clip_id)
        yield
        await transaction.rollback()


async def count_waiting(life: Life, wanted: int) -> None:
    async with life.pool.acquire() as connection, asyncio.timeout(10):
        while (  # noqa: ASYNC110 - Postgres tells nobody of a wait
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            < wanted
        ):
            await asyncio.sleep(0.01)


async def race(life: Life, clip, *contenders):
    """Let them all wait for the clip's row, in this order, and then go; return what became."""
    tasks = []
    async with row_of(life, clip):
        for number, contender in enumerate(contenders, 1):
            tasks.append(asyncio.create_task(contender))
            await count_waiting(life, number)
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("is_hold_first", [True, False])
async def test_hold_against_erase(life, is_hold_first):
    clip = await life.announced()
    life.later(7)
    contenders = [life.hold(clip.clip_id), life.intend()]

    answers = await race(life, clip, *(contenders if is_hold_first else contenders[::-1]))
    await life.publish()
    await life.execute()

    held = (await life.get(clip.clip_id)).is_held
    refusals = [answer for answer in answers if isinstance(answer, ErasureBegun)]
    assert held is is_hold_first
    assert len(refusals) == (0 if is_hold_first else 1)
    assert (life.bytes_of(clip) is not None) is held


@pytest.mark.parametrize("is_release_first", [True, False])
async def test_release_against_erase(life, is_release_first):
    """Releasing one of two holds, or the erasing that has read the clip before, deletes nothing."""
    clip = await life.secure(evidential_state="non_evidential")
    hold = await life.hold(clip.clip_id)
    await life.hold(clip.clip_id, kind="legal")
    life.later(100)
    # As if the announcing had found the clip before it was held.
    async with reading(life.pool) as connection:
        await connection.execute("UPDATE retention SET due_at = erase_due_at")
    contenders = [life.release(hold.hold_id), life.schedule()]

    await race(life, clip, *(contenders if is_release_first else contenders[::-1]))
    await life.work()
    announced = (await life.get(clip.clip_id)).state
    life.later(8)
    await life.work()

    assert announced == "secured"
    assert (await life.get(clip.clip_id)).is_held
    assert life.bytes_of(clip) is not None


@pytest.mark.parametrize("is_hold_first", [True, False])
async def test_disclosure_against_erase(life, is_hold_first):
    """Who discloses holds first: either that is refused, or the bytes are there."""
    clip = await life.announced()
    life.later(7)
    disclose = hold_for_purpose(
        clip.clip_id,
        "disclosure",
        Actor.of(ANNA),
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        rules=life.rules.__class__(purposes={"disclosure": "case"}),
        locks_objects=False,
    )
    contenders = [disclose, life.intend()]

    answers = await race(life, clip, *(contenders if is_hold_first else contenders[::-1]))
    await life.publish()
    await life.execute()

    is_refused = any(isinstance(answer, ErasureBegun) for answer in answers)
    assert is_refused is not is_hold_first
    assert (life.bytes_of(clip) is None) is is_refused


@pytest.mark.parametrize("is_hold_first", [True, False])
async def test_hold_against_the_announcing(life, is_hold_first):
    clip = await life.secure(evidential_state="non_evidential")
    life.later(32)
    contenders = [life.hold(clip.clip_id), life.schedule()]

    await race(life, clip, *(contenders if is_hold_first else contenders[::-1]))

    held = await life.get(clip.clip_id)
    assert (held.state, held.is_held) == ("secured", True)


async def test_of_two_releases_at_once_one_counts(life):
    clip = await life.secure()
    hold = await life.hold(clip.clip_id)

    answers = await race(
        life, clip, life.release(hold.hold_id, BEN), life.release(hold.hold_id, CARA)
    )

    assert [type(answer) for answer in answers].count(HoldReleased) == 1
    assert (await life.types(clip.clip_id)).count("hold.released") == 1


async def test_a_hold_that_waits_for_a_reader_is_placed_all_the_same(life):
    """Between the reading of the clip and its lock the chain grows."""
    clip = await life.secure()
    async with row_of(life, clip):
        placing = asyncio.create_task(life.hold(clip.clip_id))
        await wait_for_a_lock(life.pool)

    await placing

    assert (await life.get(clip.clip_id)).is_held


# --- placed by events ---------------------------------------------------------------------


async def view(life: Life, clip, purpose):
    return await hold_for_purpose(
        clip.clip_id,
        purpose,
        Actor.of(ANNA),
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        rules=life.rules,
        locks_objects=False,
    )


async def test_clips_viewed_in_a_complaint_are_not_auto_deleted(life):
    """An incident elsewhere: clips viewed in a complaint, then auto-deleted at 30 days."""
    viewed, other = [await life.secure(evidential_state="non_evidential") for _ in range(2)]
    await view(life, viewed, "Complaint")

    life.later(32)
    await life.work()
    life.later(8)
    await life.work()

    assert (life.bytes_of(viewed) is None, life.bytes_of(other) is None) == (False, True)


async def test_looking_twice_is_one_hold(life):
    clip = await life.secure()

    first = await view(life, clip, "complaint")

    assert await view(life, clip, "complaint") == first
    assert len(await list_holds(life, clip)) == 1


async def test_a_purpose_that_asks_for_none_places_none(life):
    clip = await life.secure()

    assert await view(life, clip, "training") is None
    assert await list_holds(life, clip) == []


# --- in bulk ------------------------------------------------------------------------------

ORDER = Order("legal", "ORDER-7", "preservation order", Actor.of(ANNA))


def describe(asked: ClipFilter, order=ORDER):
    return {"filter": {"incident": asked.incident}, "kind": order.kind}


async def preview(life: Life, asked: ClipFilter, principal=ANNA):
    return await preview_hold(asked, describe(asked), principal, pool=life.pool, now=life.clock)


async def place(life: Life, token, asked: ClipFilter, principal=ANNA, **options):
    made = {"confirm_count": None, "order": ORDER, **options}
    order = made.pop("order")
    return await place_holds(
        token,
        asked,
        describe(asked, order),
        order,
        principal,
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        locks_objects=life.locks_objects,
        **made,
    )


async def held_ids(life: Life) -> set:
    async with reading(life.pool) as connection:
        return {row["clip_id"] for row in await connection.fetch("SELECT clip_id FROM holds")}


INCIDENT = ClipFilter(incident="I-1")


async def test_preserve_everything_holds_everything_that_was_counted(life):
    """An incident elsewhere: 'preserve' ticked instead of 'preserve everything', 25 % lost."""
    asked_for = [await life.secure(incident_id="I-1") for _ in range(3)]
    await life.secure(incident_id="I-2")
    counted = await preview(life, INCIDENT)

    before = await held_ids(life)
    placed = await place(life, counted.token, INCIDENT)

    assert (counted.clip_count, counted.total_bytes) == (3, 3 * 112)
    assert before == set()
    assert (placed.placed_count, placed.is_complete) == (3, True)
    assert await held_ids(life) == {clip.clip_id for clip in asked_for}


async def test_a_bulk_hold_that_is_sent_again_places_nothing_twice(life):
    await life.secure(incident_id="I-1")
    await life.secure(incident_id="I-2")
    counted = await preview(life, INCIDENT)
    first = await place(life, counted.token, INCIDENT)

    again = await place(life, counted.token, INCIDENT)

    assert again.placed_count == first.placed_count == 1


async def test_a_bulk_hold_goes_on_where_it_broke_off(life, monkeypatch):
    monkeypatch.setattr("ingest_service.actions.place_holds_in_bulk.BATCH_CLIPS", 2)
    monkeypatch.setattr("ingest_service.actions.place_holds_in_bulk.CALL_CLIPS", 4)
    for _ in range(5):
        await life.secure(incident_id="I-1")
    await life.secure(incident_id="I-2")
    counted = await preview(life, INCIDENT)

    first = await place(life, counted.token, INCIDENT)
    second = await place(life, counted.token, INCIDENT)

    assert (first.placed_count, first.is_complete) == (4, False)
    assert (second.placed_count, second.is_complete) == (5, True)


@pytest.mark.parametrize("wrong", ["filter", "order", "person", "token", "count", "late"])
async def test_a_token_holds_exactly_what_was_counted(life, wrong):
    await life.secure(incident_id="I-1")
    await life.secure(incident_id="I-2")
    counted = await preview(life, INCIDENT)
    asked, principal, token, options = INCIDENT, ANNA, counted.token, {}
    if wrong == "filter":
        asked = ClipFilter(incident="I-2")
    elif wrong == "order":
        options["order"] = Order("case", "ORDER-7", "x", Actor.of(ANNA))
    elif wrong == "person":
        principal = BEN
    elif wrong == "token":
        token = "guessed"  # noqa: S105 - no password
    elif wrong == "count":
        async with reading(life.pool) as connection:
            await connection.execute("UPDATE clips SET incident_id = 'I-1'")
    else:
        life.later(0.1)

    with pytest.raises(PreviewOutdated):
        await place(life, token, asked, principal, **options)
    assert await held_ids(life) == set()


async def test_clips_that_came_after_the_dry_run_are_not_held(life):
    first = await life.secure(incident_id="I-1")
    await life.secure(incident_id="I-2")
    counted = await preview(life, INCIDENT)
    await life.secure(incident_id="I-1")

    await place(life, counted.token, INCIDENT)

    assert await held_ids(life) == {first.clip_id}


@pytest.mark.parametrize("asked", [ClipFilter(), ClipFilter(borough="Croydon")])
@pytest.mark.parametrize("confirmed", [None, 1, 3])
async def test_a_filter_that_matches_everything_needs_the_number(life, asked, confirmed):
    for _ in range(2):
        await life.secure()
    counted = await preview(life, asked)

    with pytest.raises(HoldTooWide):
        await place(life, counted.token, asked, confirm_count=confirmed)
    placed = await place(life, counted.token, asked, confirm_count=2)

    assert placed.placed_count == 2


async def test_a_bulk_hold_tells_of_clips_that_were_too_far_gone(life):
    going = await life.announced(incident_id="I-1")
    life.later(7)
    await life.intend()
    await life.secure(incident_id="I-1")
    await life.secure()
    counted = await preview(life, INCIDENT)

    placed = await place(life, counted.token, INCIDENT)

    assert (placed.placed_count, placed.refused) == (1, [going.clip_id])


async def test_a_bulk_hold_reaches_the_store_first(life):
    life.locks_objects = True
    clips = [await life.secure(incident_id="I-1") for _ in range(2)]
    await life.secure()
    counted = await preview(life, INCIDENT)

    await place(life, counted.token, INCIDENT)

    assert all(is_locked(life, clip) for clip in clips)


async def test_a_bulk_hold_stays_within_the_boroughs_of_who_asks(life):
    await life.secure(incident_id="I-1")
    stranger = Principal("person", "P-x", frozenset(), boroughs=frozenset({"Brent"}))

    assert (await preview(life, INCIDENT, stranger)).clip_count == 0


def test_a_bulk_hold_knows_every_filter():
    assert {*holds.BOUND, *holds.NUMBERED} == set(ClipFilter.__dataclass_fields__)
