"""Faults that are planted behind the service's back, each of which the judge must find."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

import asyncpg

from ingest_service.dev.year.book import Book
from ingest_service.dev.year.cameras import SWEPT_AFTER_DAYS
from ingest_service.domain.bytestream import BytesBody
from ingest_service.domain.upload import clip_prefix, tail_key_for
from ingest_service.vault import Vault

Plant = Literal[
    "erase-held",
    "erase-early",
    "lose-object",
    "keep-bytes",
    "keep-half",
    "count-lost",
    "forge-event",
    "blind-breaker",
]
PLANTS: Final[tuple[Plant, ...]] = get_args(Plant)
_FOOTAGE: Final = b"footage"

# As the owner of the ledger, with the triggers that refuse it out of the way.
_BEHIND: Final = "SET LOCAL session_replication_role = replica"
_FORGET_HOLDS: Final = "DELETE FROM holds WHERE clip_id = $1"
_UNHOLD: Final = "UPDATE clips SET is_held = false WHERE clip_id = $1"
_MAKE_DUE: Final = "UPDATE retention SET due_at = erase_due_at WHERE clip_id = $1"
_AGE_CLIP: Final = """
    UPDATE clips
       SET announced_at = announced_at - interval '20 days',
           started_at = started_at - interval '20 days',
           started_at_corrected = started_at_corrected - interval '20 days',
           secured_at = secured_at - interval '20 days',
           erase_due_at = erase_due_at - interval '20 days'
     WHERE clip_id = $1
"""
_AGE_DATES: Final = """
    UPDATE retention
       SET basis_at = basis_at - interval '20 days',
           erase_due_at = erase_due_at - interval '20 days',
           due_at = due_at - interval '20 days'
     WHERE clip_id = $1
"""
_FORGE: Final = r"""
    WITH forged AS (
        SELECT event_id AS forged_id,
               convert_to(replace(convert_from(leaf, 'UTF8'), 'rec-', 'reC-'), 'UTF8')
                   AS forged_leaf
          FROM custody_events
         WHERE type = 'clip.secured'
           AND clip_id = $1
    )
    UPDATE custody_events
       SET leaf = forged_leaf, leaf_hash = sha256('\x00'::bytea || forged_leaf)
      FROM forged
     WHERE event_id = forged_id
"""
_FIND_SECURED: Final = """
    SELECT clip_id FROM custody_events WHERE type = 'clip.secured' ORDER BY event_id LIMIT 1
"""
# Half of it came, and the ledger is made to say that all of it did.
_COUNT_LOST: Final = """
    UPDATE clips
       SET state = 'secured', sha256 = sha256_device, sha256_readback = sha256_device,
           bucket = 'evidence', object_key = 'clips/' || clip_id, object_version = 'v1',
           sealed_at = announced_at, secured_at = announced_at
     WHERE clip_id = $1
"""
_FIND_OBJECT: Final = "SELECT object_key, object_version FROM clips WHERE clip_id = $1"
_FIND_ERASED: Final = "SELECT clip_id FROM erasures WHERE phase = 'executed' LIMIT 1"


class Planter:
    """Plants faults, each once, as soon as there is a clip that it fits.

    left       those that are not planted yet
    owner_dsn  who may do anything in the ledger
    """

    def __init__(self, plants: Sequence[Plant], owner_dsn: str, vault: Vault, book: Book) -> None:
        # It is no deed: the rules of the service are such from the first day.
        self.left = [plant for plant in plants if plant != "blind-breaker"]
        self._owner_dsn = owner_dsn
        self._vault = vault
        self._book = book

    async def plant_all(self, day: int, now: datetime) -> None:
        """Plant what is left, where a clip fits it by now."""
        if not self.left:
            return
        owner = await asyncpg.connect(self._owner_dsn)
        try:
            self.left = [
                plant for plant in self.left if not await self._plant(plant, owner, day, now)
            ]
        finally:
            await owner.close()

    async def _plant(
        self, plant: Plant, owner: "asyncpg.Connection[asyncpg.Record]", day: int, now: datetime
    ) -> bool:
        swept = day - SWEPT_AFTER_DAYS
        match plant:
            case "erase-held":
                changes = (_FORGET_HOLDS, _UNHOLD, _MAKE_DUE)
                return await _change(owner, self._book.pick("held", now), *changes)
            case "erase-early":
                return await _change(owner, self._book.pick("young", now), _AGE_CLIP, _AGE_DATES)
            case "count-lost":
                return await _change(owner, self._book.pick_broken_off("lost", swept), _COUNT_LOST)
            case "forge-event":
                return await _change(owner, await owner.fetchval(_FIND_SECURED), _FORGE)
            case "lose-object":
                return await self._lose(owner, self._book.pick("kept", now))
            case _:
                return await self._keep(await self._name_leftover(plant, owner, swept))

    async def _name_leftover(
        self, plant: Plant, owner: "asyncpg.Connection[asyncpg.Record]", swept: int
    ) -> str | None:
        """Return the key of bytes that should be gone; None: nothing is gone yet."""
        if plant == "keep-bytes":
            clip_id = await owner.fetchval(_FIND_ERASED)
            return None if clip_id is None else f"{clip_prefix(clip_id)}kept"
        upload_id = self._book.pick_broken_off("swept", swept)
        return None if upload_id is None else tail_key_for(upload_id, 1, 0, len(_FOOTAGE))

    async def _keep(self, key: str | None) -> bool:
        if key is None:
            return False
        await self._vault.put_object(key, BytesBody([_FOOTAGE]))
        return True

    async def _lose(
        self, owner: "asyncpg.Connection[asyncpg.Record]", clip_id: UUID | None
    ) -> bool:
        row = None if clip_id is None else await owner.fetchrow(_FIND_OBJECT, clip_id)
        if row is None:
            return False
        await self._vault.delete(row["object_key"], row["object_version"])
        return True


async def _change(
    owner: "asyncpg.Connection[asyncpg.Record]", clip_id: UUID | None, *statements: str
) -> bool:
    if clip_id is None:
        return False
    async with owner.transaction():
        await owner.execute(_BEHIND)
        for statement in statements:
            await owner.execute(statement, clip_id)
    return True
