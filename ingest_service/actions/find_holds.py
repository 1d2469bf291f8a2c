"""Find the holds of clips, for those who may see them."""

from uuid import UUID

from ingest_service.domain.holds import Hold
from ingest_service.domain.principal import Principal
from ingest_service.errors import (
    ANOTHER_BOROUGH,
    HoldNotFound,
)
from ingest_service.ledger import clips, holds
from ingest_service.ledger.connection import Pool, reading


async def list_holds(clip_id: UUID, *, pool: Pool) -> list[Hold]:
    """Return a clip's holds, released ones too; oldest first."""
    async with reading(pool) as connection:
        return await holds.list_holds(connection, clip_id)


async def get_visible_hold(hold_id: UUID, principal: Principal, *, pool: Pool) -> Hold:
    """Return a hold that exists for this principal.

    Raises:
        HoldNotFound: it does not exist, or its clip is in another borough.
    """
    async with reading(pool) as connection:
        hold = await holds.find_hold(connection, hold_id)
        clip = None if hold is None else await clips.find_clip(connection, hold.clip_id)
    if hold is None or clip is None:
        raise HoldNotFound(str(hold_id))
    if not principal.may_see_borough(clip.borough):
        raise HoldNotFound(str(hold_id)).hiding(ANOTHER_BOROUGH)
    return hold
