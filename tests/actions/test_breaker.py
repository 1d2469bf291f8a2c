"""The forecast, what is held against it, and who lets the erasing go on."""

from datetime import timedelta
from uuid import UUID

import pytest

from ingest_service.actions.forecast_erasure import forecast_erasure
from ingest_service.actions.halt_erasure import list_halts, release_halt
from ingest_service.errors import AnotherPersonNeeded, HaltNotFound
from ingest_service.ledger.connection import reading
from tests.actions.life import ANNA, BEN, CARA, DAY, Life


async def release(life: Life, halt, principal):
    return await release_halt(
        halt.halt_id, principal, authority="OPS-1", pool=life.pool, now=life.clock
    )


async def forecast(life: Life, days: float):
    until = life.clock() + timedelta(days=days)
    return await forecast_erasure(until, ANNA, pool=life.pool, now=life.clock)


async def secure_some(life: Life, count: int, **announced):
    made = {"evidential_state": "non_evidential", **announced}
    return [await life.secure(**made) for _ in range(count)]


async def fill_notices(life: Life) -> None:
    """The day before their dates: what is due tomorrow is forecast."""
    life.later(30)
    await life.work()


async def list_types(life: Life) -> list[str]:
    async with reading(life.pool) as connection:
        rows = await connection.fetch("SELECT type FROM custody_events WHERE clip_id IS NULL")
    return [row["type"] for row in rows]


async def test_the_forecast_counts_by_day_category_and_borough(life):
    await secure_some(life, 2, category="traffic")
    await secure_some(life, 1)
    held = (await secure_some(life, 1))[0]
    await life.hold(held.clip_id)
    await life.secure(evidential_state="evidential")

    lines = await forecast(life, 40)

    due_on = (life.clock() + 31 * DAY).date()
    found = {(line.category, line.borough): line.clip_count for line in lines}
    assert found == {(None, "Croydon"): 1, ("traffic", "Croydon"): 2}
    assert sum(line.total_bytes for line in lines) == 3 * 112
    assert {line.due_on for line in lines} == {due_on}


async def test_a_forecast_erases_nothing(life):
    [clip] = await secure_some(life, 1)
    life.later(60)

    await forecast(life, 1)

    assert (await life.get(clip.clip_id)).state == "secured"


async def test_a_forecast_is_recorded_once_a_day(life):
    made = [await life.forecast(), await life.forecast()]
    life.later(1)
    made.append(await life.forecast())

    assert made == [True, False, True]
    assert (await list_types(life)).count("erase.forecast") == 2


async def test_what_was_forecast_is_erased(life):
    life.set(deviation_clips=0)
    clips = await secure_some(life, 3)
    await fill_notices(life)
    life.later(1.5)

    assert await life.work() is None
    states = {(await life.get(clip.clip_id)).state for clip in clips}
    assert states == {"erase_pending"}


async def test_more_than_was_forecast_halts_everything(life):
    life.set(deviation_clips=0)
    clips = await secure_some(life, 3)
    await fill_notices(life)
    # Somebody, or something, moves dates after the forecast was made.
    async with reading(life.pool) as connection:
        await connection.execute("UPDATE retention SET due_at = due_at - interval '5 days'")
    life.later(1.5)

    halt = await life.work()

    assert halt is not None
    states = {(await life.get(clip.clip_id)).state for clip in clips}
    assert states == {"secured"}
    assert (await list_types(life)).count("erase.batch_halted") == 1


async def test_a_halt_does_not_end_by_itself(life):
    life.set(deviation_clips=0)
    clips = await secure_some(life, 1)
    life.later(32)
    first = await life.work()
    life.later(5)
    await life.hold(clips[0].clip_id)

    assert (await life.work()).halt_id == first.halt_id


async def test_a_halt_stops_deletions_too(life):
    life.set(deviation_clips=0)
    await secure_some(life, 1)
    await fill_notices(life)
    life.later(1.5)
    await life.work()
    [other] = await secure_some(life, 1)
    async with reading(life.pool) as connection:
        await connection.execute("UPDATE retention SET due_at = now() WHERE due_at IS NOT NULL")
    life.later(8)

    assert await life.work() is not None
    states = await _count_states(life)
    assert states == {"erase_pending": 1, "secured": 1}
    assert (await life.get(other.clip_id)).state == "secured"


async def _count_states(life: Life) -> dict[str, int]:
    async with reading(life.pool) as connection:
        rows = await connection.fetch("SELECT state, count(*) AS n FROM clips GROUP BY state")
    return {row["state"]: row["n"] for row in rows}


async def test_two_people_release_a_halt_and_what_was_found_is_erased(life):
    life.set(deviation_clips=0)
    [clip] = await secure_some(life, 1)
    life.later(32)
    halt = await life.work()

    first = await release(life, halt, ANNA)
    still = await life.work()
    second = await release(life, halt, BEN)
    after = await life.work()

    assert (first.released_at, still.halt_id) == (None, halt.halt_id)
    assert (second.first_released_by, second.released_by) == ("P-anna", "P-ben")
    assert after is None
    assert (await life.get(clip.clip_id)).state == "erase_pending"


async def test_one_person_is_not_two(life):
    life.set(deviation_clips=0)
    await secure_some(life, 1)
    life.later(32)
    halt = await life.work()
    await release(life, halt, ANNA)

    with pytest.raises(AnotherPersonNeeded):
        await release(life, halt, ANNA)
    assert await life.work() is not None


async def test_a_released_halt_stays_released(life):
    life.set(deviation_clips=0)
    await secure_some(life, 1)
    life.later(32)
    halt = await life.work()
    await release(life, halt, ANNA)
    released = await release(life, halt, BEN)

    assert await release(life, halt, CARA) == released
    assert [each.halt_id for each in await list_halts(pool=life.pool, now=life.clock)] == [
        halt.halt_id
    ]


async def test_one_more_than_was_released_halts_again(life):
    life.set(deviation_clips=0)
    await secure_some(life, 2)
    # Both are due on one day.
    async with reading(life.pool) as connection:
        await connection.execute("UPDATE retention SET due_at = date_trunc('day', now())")
        await connection.execute(
            "UPDATE retention SET due_at = NULL WHERE clip_id = (SELECT max(clip_id::text)::uuid"
            " FROM retention)"
        )
    life.later(32)
    halt = await life.work()
    await release(life, halt, ANNA)
    await release(life, halt, BEN)
    async with reading(life.pool) as connection:
        await connection.execute(
            "UPDATE retention SET due_at = date_trunc('day', now()) WHERE due_at IS NULL"
        )

    again = await life.work()

    assert again is not None
    assert again.halt_id != halt.halt_id


async def test_more_than_is_set_for_a_day_halts_however_expected(life):
    life.set(clips_per_day_max=2)
    await secure_some(life, 3)
    await fill_notices(life)
    life.later(1.5)

    halt = await life.work()

    assert halt is not None
    assert any(name.startswith("scheduled on") for name in halt.excess)


async def test_a_halt_that_never_was_is_not_released(life):
    life.set(deviation_clips=0)
    await secure_some(life, 1)
    life.later(32)
    halt = await life.work()

    with pytest.raises(HaltNotFound):
        await release_halt(
            UUID(int=5),
            ANNA,
            authority="OPS-1",
            pool=life.pool,
            now=life.clock,
        )
    assert halt is not None


# --- the chase ----------------------------------------------------------------------------


async def test_an_unflagged_felony_clip_is_chased_before_it_expires(life):
    """An incident elsewhere: an unflagged felony clip was auto-deleted."""
    clip = await life.secure()
    life.later(24.5)

    await life.work()
    types = await life.types(clip.clip_id)
    await life.asserted(clip.clip_id, "evidential_state.changed", evidential_state="evidential")
    life.later(60)
    await life.work()

    assert types[-1] == "expiry.warned"
    assert life.bytes_of(clip) is not None


async def test_a_clip_is_chased_once_for_each_date(life):
    clip = await life.secure()
    life.later(24.5)
    for _ in range(3):
        await life.work()
        life.later(0.1)

    assert (await life.types(clip.clip_id)).count("expiry.warned") == 1


async def test_a_classified_clip_is_not_chased(life):
    clip = await life.secure(evidential_state="non_evidential")
    life.later(30)
    await life.work()

    assert "expiry.warned" not in await life.types(clip.clip_id)


async def test_a_held_clip_is_not_chased(life):
    clip = await life.secure()
    await life.hold(clip.clip_id)
    life.later(30)
    await life.work()

    assert "expiry.warned" not in await life.types(clip.clip_id)


async def test_between_the_chase_and_the_announcement_lie_the_days_that_are_set(life):
    """The worker was away: nobody was told in time, so the date waits for the telling."""
    clip = await life.secure()
    life.later(90)

    await life.work()
    told = await life.get(clip.clip_id)
    life.later(6.9)
    await life.work()
    before = await life.get(clip.clip_id)
    life.later(0.2)
    await life.work()

    assert (told.state, before.state) == ("secured", "secured")
    assert (await life.get(clip.clip_id)).state == "erase_pending"


async def test_nobody_erases_what_nobody_was_told_of(life):
    clip = await life.secure()
    life.later(90)

    assert await life.schedule() == 0
    assert (await life.get(clip.clip_id)).state == "secured"
