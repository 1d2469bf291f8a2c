"""Holds and erasure against a real store with versions and object lock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingest_service.actions.sync_legal_holds import sync_legal_holds
from tests.actions.engine import make_footage
from tests.actions.life import Life

pytestmark = pytest.mark.s3


@pytest.fixture
def life(real_life):
    return replace(real_life, footage=make_footage(30, "whole"), locks_objects=True)


async def is_there(life: Life, clip) -> bool:
    return await life.vault.get_facts(clip.object_key, clip.object_version) is not None


async def test_an_erased_clip_is_gone_with_every_version(life):
    clip = await life.announced()

    await life.erase()

    assert not await is_there(life, clip)
    assert [key async for key in life.vault.list_keys(f"clips/{clip.clip_id}/")] == []
    assert (await life.get(clip.clip_id)).state == "erased"


async def test_a_held_object_is_refused_by_the_store_itself(life):
    """The ledger lost its hold: the store is the second guard."""
    clip = await life.announced()
    await life.vault.set_legal_hold(clip.object_key, clip.object_version, is_on=True)
    life.later(7)
    await life.intend()
    await life.publish()

    outcome = await life.execute()

    assert (outcome.blocked, outcome.executed) == (1, 0)
    assert await is_there(life, clip)


async def test_a_retained_object_is_refused_until_its_time(life):
    clip = await life.announced()
    until = datetime.now(UTC) + timedelta(hours=1)
    await life.vault.retain(clip.object_key, clip.object_version, until=until, mode="compliance")
    life.later(7)
    await life.intend()
    await life.publish()

    outcome = await life.execute()

    assert outcome.blocked == 1
    assert await is_there(life, clip)


async def test_the_store_lets_go_after_the_release_and_the_clip_is_erased(life):
    clip = await life.secure(evidential_state="non_evidential")
    hold = await life.hold(clip.clip_id)
    await life.release(hold.hold_id)
    while await sync_legal_holds(pool=life.pool, vault=life.vault, now=life.clock):
        pass

    life.later(32)
    await life.work()
    life.later(7)
    await life.work()

    assert (await life.get(clip.clip_id)).state == "erased"
    assert not await is_there(life, clip)
