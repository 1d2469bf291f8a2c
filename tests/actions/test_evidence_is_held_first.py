"""What is said to be evidence is held by the store before the answer: vault, ledger, answer."""

import asyncio

import pytest

from ingest_service.actions.assert_metadata import AssertTools, assert_metadata
from ingest_service.actions.sync_legal_holds import sync_legal_holds
from ingest_service.domain.assertion import Statement
from ingest_service.domain.custody import Actor
from ingest_service.errors import VaultUnavailable
from ingest_service.ledger.directory import Directory
from tests.actions.engine import hold_at
from tests.actions.life import ANNA, Life

HOURS_2 = 2 / 24


@pytest.fixture
def locking(life: Life) -> Life:
    life.locks_objects = True
    life.set(locks_objects=True)
    return life


async def say(life: Life, clip, state: str):
    tools = AssertTools(life.pool, life.vault, Directory(), life.rules, life.clock)
    said = Statement({"evidential_state": state}, Actor.of(ANNA), "test")
    return await assert_metadata(clip.clip_id, said, tools=tools)


async def sync(life: Life) -> None:
    while await sync_legal_holds(pool=life.pool, vault=life.vault, now=life.clock):
        pass


def is_locked(life: Life, clip) -> bool:
    return life.vault._find(clip.object_key, clip.object_version).is_held


async def test_evidence_is_held_by_the_store_when_the_answer_is_given(locking):
    clip = await locking.secure(evidential_state="non_evidential")

    await say(locking, clip, "evidential")

    assert is_locked(locking, clip)


async def test_who_is_killed_between_store_and_ledger_has_held_the_bytes_and_said_nothing(locking):
    clip = await locking.secure(evidential_state="non_evidential")

    saying, _ = await hold_at(locking.vault, "set_legal_hold", say(locking, clip, "evidential"))
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)

    assert is_locked(locking, clip)
    assert (await locking.get(clip.clip_id)).evidential_state == "non_evidential"


async def test_a_hold_for_what_was_never_said_comes_off_again(locking):
    clip = await locking.secure(evidential_state="non_evidential")
    saying, _ = await hold_at(locking.vault, "set_legal_hold", say(locking, clip, "evidential"))
    saying.cancel()
    await asyncio.gather(saying, return_exceptions=True)

    locking.later(HOURS_2)
    await sync(locking)

    assert not is_locked(locking, clip)


@pytest.mark.parametrize("failure", ["lost", "stored"])
async def test_evidence_that_the_store_does_not_hold_is_not_recorded(locking, failure):
    clip = await locking.secure(evidential_state="non_evidential")
    locking.vault.fail_next("set_legal_hold", failure)

    with pytest.raises(VaultUnavailable):
        await say(locking, clip, "evidential")
    assert (await locking.get(clip.clip_id)).evidential_state == "non_evidential"


async def test_the_store_does_not_let_go_before_the_date_is_computed(locking):
    clip = await locking.secure(evidential_state="non_evidential")
    await say(locking, clip, "evidential")

    await sync(locking)
    before = is_locked(locking, clip)
    await locking.compute()
    locking.later(HOURS_2)
    await sync(locking)

    assert (before, is_locked(locking, clip)) == (True, True)


async def test_what_keeps_no_clip_does_not_ask_the_store(locking):
    clip = await locking.secure(evidential_state="evidential")
    await sync(locking)

    await say(locking, clip, "non_evidential")
    await locking.compute()
    await sync(locking)

    assert not is_locked(locking, clip)


async def test_evidence_whose_bytes_are_lost_can_still_be_said_to_be_evidence(locking):
    clip = await locking.secure(evidential_state="non_evidential")
    locking.vault._versions[clip.object_key].clear()

    await say(locking, clip, "evidential")

    assert (await locking.get(clip.clip_id)).evidential_state == "evidential"
