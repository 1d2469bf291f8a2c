"""Disclosures: all or nothing, held while the link lives, ended once."""

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from ingest_service.actions.disclose_clips import DisclosureOrder, disclose_clips
from ingest_service.actions.find_disclosures import get_visible_disclosure
from ingest_service.actions.revoke_disclosure import revoke_disclosure
from ingest_service.actions.settle_disclosure import settle_due_disclosures
from ingest_service.actions.use_link import Use, record_use
from ingest_service.domain.disclosure import DisclosureRules, Recipient, hash_link_token
from ingest_service.errors import (
    ClipsNotDisclosable,
    DisclosureEnded,
    DisclosureNotFound,
    DisclosureTooWide,
    ErasureBegun,
    HoldNeeded,
    InvalidRequest,
    LinkEnded,
    TermsNotAccepted,
)
from ingest_service.ledger.connection import reading
from ingest_service.ledger.queries import ClipFilter
from tests.actions.engine import register_docks
from tests.actions.life import ANNA, BEN, DAY, Life
from tests.actions.test_holds import count_waiting, race
from tests.fakes import MemoryVault

CPS = Recipient("cps", "CPS London", "Ada Prosecutor", "URN-1")


@pytest.fixture
async def life(pool):
    await register_docks(pool)
    return Life(pool, MemoryVault(part_bytes_min=1))


def order(clips, life, **changed):
    made = DisclosureOrder(
        CPS,
        clips,
        "prosecution",
        "CPIA 1996 s.3",
        expires_at=life.clock() + 30 * DAY,
        allows=["pack", "clips"],
        terms="For the trial only.",
    )
    return replace(made, **changed)


async def disclose(life, *clips, principal=ANNA, rules=None, **changed):
    listed = changed.pop("filter", None) or [clip.clip_id for clip in clips]
    return await disclose_clips(
        order(listed, life, **changed),
        principal,
        pool=life.pool,
        vault=life.vault,
        now=life.clock,
        rules=rules or DisclosureRules(),
        locks_objects=life.locks_objects,
    )


async def settle(life, **rules):
    return await settle_due_disclosures(
        pool=life.pool,
        now=life.clock,
        disclosing=DisclosureRules(**rules),
        rules=life.rules,
        locks_objects=life.locks_objects,
    )


async def revoke(life, disclosure, principal=ANNA):
    return await revoke_disclosure(
        disclosure.disclosure_id, principal, authority="CASE-1", pool=life.pool, now=life.clock
    )


async def leaves(life, clip_id):
    async with reading(life.pool) as connection:
        rows = await connection.fetch(
            "SELECT leaf FROM custody_events WHERE clip_id = $1 ORDER BY clip_seq", clip_id
        )
    return [json.loads(row["leaf"]) for row in rows]


async def count(life, table):
    async with reading(life.pool) as connection:
        return await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - ours


async def test_every_clip_is_held_and_told_of_it(life):
    clips = [await life.secure(), await life.secure()]

    made, _ = await disclose(life, *clips)

    for clip in clips:
        assert (await life.get(clip.clip_id)).is_held
        assert (await life.types(clip.clip_id))[-2:] == ["hold.placed", "disclosure.created"]
    record = await get_visible_disclosure(made.disclosure_id, ANNA, pool=life.pool)
    assert [each.clip_id for each in record.clips] == sorted(clip.clip_id for clip in clips)


async def test_names_are_in_the_table_and_not_in_the_log(life):
    clip = await life.secure()

    made, _ = await disclose(life, clip)

    leaf = (await leaves(life, clip.clip_id))[-1]
    assert "Ada" not in json.dumps(leaf)
    assert "London" not in json.dumps(leaf)
    hashed = hashlib.sha256(made.salt + b"Ada Prosecutor").hexdigest()
    assert leaf["facts"]["counterparty"]["person_sha256"] == hashed
    assert made.person == "Ada Prosecutor"


async def test_of_the_token_only_the_hash_is_kept(life):
    _, token = await disclose(life, await life.secure())

    async with reading(life.pool) as connection:
        row = await connection.fetchrow("SELECT * FROM disclosures")
    assert row["token_sha256"] == hash_link_token(token)
    assert token not in repr(dict(row))
    assert len(token) >= 43


@pytest.mark.parametrize("trouble", ["unknown", "erased", "receiving", "another borough"])
async def test_one_bad_clip_and_nothing_is_disclosed(life, trouble):
    good = await life.secure()
    principal, bad_id = ANNA, uuid4()
    if trouble == "erased":
        bad = await life.announced()
        await life.erase()
        bad_id = bad.clip_id
    elif trouble == "receiving":
        bad_id = (await life.receive()).clip_id
    elif trouble == "another borough":
        principal = replace(ANNA, boroughs=frozenset({"Elsewhere"}))
        bad_id = good.clip_id
    before = await count(life, "custody_events")

    with pytest.raises(ClipsNotDisclosable) as refused:
        await disclose(life, filter=[good.clip_id, bad_id], principal=principal)

    assert str(bad_id) in [each["clip_id"] for each in refused.value.clips]
    assert await count(life, "custody_events") == before
    assert await count(life, "disclosures") == await count(life, "holds") == 0


async def test_a_case_is_resolved_once(life):
    first = await life.secure(crime_ref="01/1/26")
    await life.secure(crime_ref="02/2/26")

    made, _ = await disclose(life, filter=ClipFilter(crime_ref="01/1/26"))
    await life.secure(crime_ref="01/1/26")

    record = await get_visible_disclosure(made.disclosure_id, ANNA, pool=life.pool)
    assert [each.clip_id for each in record.clips] == [first.clip_id]


async def test_a_case_without_clips_is_nothing_to_disclose(life):
    with pytest.raises(InvalidRequest):
        await disclose(life, filter=ClipFilter(crime_ref="none"))


async def test_too_many_clips_are_refused(life):
    clips = [await life.secure(), await life.secure()]

    with pytest.raises(DisclosureTooWide):
        await disclose(life, *clips, rules=DisclosureRules(clips_max=1))
    assert await count(life, "holds") == 0


@pytest.mark.parametrize("days", [-1, 0, 91])
async def test_it_ends_in_the_future_and_in_time(life, days):
    clip = await life.secure()

    with pytest.raises(InvalidRequest):
        await disclose(life, clip, expires_at=life.clock() + days * DAY)


async def test_an_erasure_that_was_announced_is_called_off(life):
    clip = await life.announced()

    await disclose(life, clip)

    assert (await life.get(clip.clip_id)).state == "secured"
    types = await life.types(clip.clip_id)
    assert types[-3:] == ["hold.placed", "erase.restored", "disclosure.created"]


@pytest.mark.parametrize("is_disclosure_first", [True, False])
async def test_disclosure_against_erase(life, is_disclosure_first):
    """Either the disclosure is refused, as a whole, or the bytes are there."""
    other, clip = await life.secure(), await life.announced()
    life.later(7)
    contenders = [disclose(life, other, clip), life.intend()]

    answers = await race(life, clip, *(contenders if is_disclosure_first else contenders[::-1]))
    await life.publish()
    await life.execute()

    is_refused = any(isinstance(each, (ClipsNotDisclosable, ErasureBegun)) for each in answers)
    assert is_refused is not is_disclosure_first
    assert (life.bytes_of(clip) is None) is is_refused
    assert (await life.get(other.clip_id)).is_held is not is_refused
    assert await count(life, "disclosures") == (0 if is_refused else 1)


async def test_nothing_disclosed_is_erased_while_the_link_lives(life):
    clip = await life.secure(evidential_state="non_evidential")
    await disclose(life, clip, expires_at=life.clock() + 80 * DAY)

    life.later(79)
    await life.work()

    assert (await life.get(clip.clip_id)).state == "secured"


async def test_nobody_releases_what_an_open_link_needs(life):
    clip = await life.secure()
    made, _ = await disclose(life, clip)
    record = await get_visible_disclosure(made.disclosure_id, ANNA, pool=life.pool)
    [kept] = record.clips

    with pytest.raises(HoldNeeded):
        await life.release(kept.hold_id, BEN)
    await revoke(life, made)
    await life.release(kept.hold_id, BEN)

    assert not (await life.get(clip.clip_id)).is_held


async def test_uploads_that_were_given_up_keep_no_case_closed(life):
    kept = await life.secure(crime_ref="03/3/26")
    gone = await life.receive(crime_ref="03/3/26")
    async with reading(life.pool) as connection:
        await connection.execute(
            "UPDATE clips SET state = 'expired' WHERE clip_id = $1", gone.clip_id
        )

    made, _ = await disclose(life, filter=ClipFilter(crime_ref="03/3/26"))

    record = await get_visible_disclosure(made.disclosure_id, ANNA, pool=life.pool)
    assert [each.clip_id for each in record.clips] == [kept.clip_id]


# --- uses of the link against its end --------------------------------------------------------


async def take_part(life, made, clip):
    await record_use(made, Use("clip", "192.0.2.1"), [clip.clip_id], pool=life.pool, now=life.clock)


@asynccontextmanager
async def row_of_disclosure(life, made):
    """Somebody else has the disclosure's row: whoever wants it waits in line."""
    async with life.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "SELECT FROM disclosures WHERE disclosure_id = $1 FOR UPDATE", made.disclosure_id
        )
        yield
        await transaction.rollback()


@pytest.mark.parametrize("is_use_first", [True, False])
async def test_a_use_against_the_revocation(life, is_use_first):
    """Once a revocation has answered nothing is recorded, and so nothing leaves."""
    clip = await life.secure()
    made, _ = await disclose(life, clip)
    accept = Use("accept", "192.0.2.1")
    await record_use(made, accept, pool=life.pool, now=life.clock, accepted_by="Ada")
    contenders = [take_part(life, made, clip), revoke(life, made)]

    tasks = []
    async with row_of_disclosure(life, made):
        ordered = contenders if is_use_first else contenders[::-1]
        for number, contender in enumerate(ordered, 1):
            tasks.append(asyncio.create_task(contender))
            await count_waiting(life, number)
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    told = [name for name in await life.types(clip.clip_id) if name.startswith("disclosure.")]
    if is_use_first:
        assert told == ["disclosure.created", "disclosure.accessed", "disclosure.revoked"]
    else:
        assert isinstance(answers[1], LinkEnded)
        assert told == ["disclosure.created", "disclosure.revoked"]


async def test_nothing_is_recorded_of_a_clip_before_the_terms_are_accepted(life):
    clip = await life.secure()
    made, _ = await disclose(life, clip)

    with pytest.raises(TermsNotAccepted):
        await take_part(life, made, clip)
    assert "disclosure.accessed" not in await life.types(clip.clip_id)


# --- the end ---------------------------------------------------------------------------------


async def test_its_expiry_is_told_once_and_its_holds_end(life):
    clip = await life.secure(evidential_state="non_evidential")
    await disclose(life, clip)
    assert await settle(life) == 0
    life.later(31)

    assert await settle(life) == 1
    assert await settle(life) == 0

    types = await life.types(clip.clip_id)
    assert types[-2:] == ["hold.released", "disclosure.expired"]
    assert not (await life.get(clip.clip_id)).is_held


async def test_a_clip_is_erased_after_the_link_is_gone(life):
    clip = await life.secure(evidential_state="non_evidential")
    await disclose(life, clip)
    life.later(40)
    await settle(life)

    await life.work()
    life.later(8)
    await life.work()

    assert (await life.get(clip.clip_id)).state == "erased"


async def test_holds_stay_where_policy_keeps_them(life):
    clip = await life.secure()
    await disclose(life, clip)
    life.later(31)

    await settle(life, keeps_holds=True)

    assert (await life.get(clip.clip_id)).is_held
    assert (await life.types(clip.clip_id))[-1] == "disclosure.expired"


async def test_revoking_releases_no_hold_before_its_date(life):
    clip = await life.secure()
    made, _ = await disclose(life, clip)

    revoked = await revoke(life, made)

    assert revoked.state_at(life.clock()) == "revoked"
    assert (await life.types(clip.clip_id))[-1] == "disclosure.revoked"
    assert (await life.get(clip.clip_id)).is_held
    life.later(31)
    await settle(life)
    assert (await life.types(clip.clip_id))[-1] == "hold.released"


async def test_what_has_ended_is_not_revoked(life):
    made, _ = await disclose(life, await life.secure())
    await revoke(life, made)
    with pytest.raises(DisclosureEnded, match="revoked"):
        await revoke(life, made, BEN)

    late, _ = await disclose(life, await life.secure())
    life.later(31)
    with pytest.raises(DisclosureEnded, match="expired"):
        await revoke(life, late)


async def test_another_boroughs_disclosure_does_not_exist(life):
    made, _ = await disclose(life, await life.secure())
    stranger = replace(BEN, boroughs=frozenset({"Elsewhere"}))

    with pytest.raises(DisclosureNotFound):
        await get_visible_disclosure(made.disclosure_id, stranger, pool=life.pool)
    with pytest.raises(DisclosureNotFound):
        await revoke(life, made, stranger)


async def test_the_store_holds_the_bytes_too(life):
    life.locks_objects = True
    clip = await life.secure()
    await disclose(life, clip)

    stored = life.vault._find(clip.object_key, clip.object_version)
    assert stored.is_held


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE disclosures SET person = 'somebody else'",
        "UPDATE disclosures SET expires_at = expires_at + interval '1 day'",
        "UPDATE disclosures SET revoked_at = now(), revoked_by = 'x', revoked_authority = 'x'",
        "DELETE FROM disclosures",
        "UPDATE disclosure_clips SET clip_id = gen_random_uuid()",
        "DELETE FROM disclosure_clips",
    ],
)
async def test_even_the_owner_changes_no_disclosure(life, ledger_owner_dsn, change):
    made, _ = await disclose(life, await life.secure())
    await revoke(life, made)
    connection = await asyncpg.connect(ledger_owner_dsn)

    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(change)
    await connection.close()
