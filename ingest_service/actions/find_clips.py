"""Find clips for those who may see them."""

import base64
import binascii
from dataclasses import replace
from typing import Final
from uuid import UUID

from ingest_service.domain.clip import Clip
from ingest_service.domain.principal import Principal
from ingest_service.errors import ClipNotFound, InvalidCursor
from ingest_service.ledger import clips, queries, uploads
from ingest_service.ledger.connection import Pool, reading
from ingest_service.ledger.queries import ClipFilter

_CURSOR_MARK: Final = b"c1"


async def list_clips(
    asked: ClipFilter, principal: Principal, *, cursor: str | None, limit: int, pool: Pool
) -> tuple[list[Clip], str | None]:
    """Return a page of clips, newest first, and the cursor of the next page (None: the end).

    Raises:
        InvalidCursor: the cursor was not made here.
    """
    limits = None if principal.boroughs is None else sorted(principal.boroughs)
    before = None if cursor is None else _read_cursor(cursor)
    async with reading(pool) as connection:
        found = await queries.list_clips(
            connection, replace(asked, boroughs=limits), before=before, limit=limit + 1
        )
    page = found[:limit]
    return page, _make_cursor(page[-1].clip_id) if len(found) > limit else None


async def get_visible_clip(clip_id: UUID, principal: Principal, *, pool: Pool) -> Clip:
    """Return a clip that exists for this principal: a station sees its own, others by borough.

    Raises:
        ClipNotFound: it does not exist, or not for this principal.
    """
    async with reading(pool) as connection:
        clip = await clips.find_clip(connection, clip_id)
        if clip is None:
            raise ClipNotFound(str(clip_id))
        if principal.kind == "station":
            upload = await uploads.find_clip_upload(connection, clip_id)
            if upload is None or upload.station_id != principal.id:
                raise ClipNotFound(str(clip_id))
    if not principal.may_see_borough(clip.borough):
        raise ClipNotFound(str(clip_id))
    return clip


async def count_received(clip: Clip, *, pool: Pool) -> int | None:
    """Return the durable bytes of a clip that is still coming in; None when it is complete."""
    if clip.state not in ("receiving", "finishing"):
        return None
    async with reading(pool) as connection:
        upload = await uploads.find_upload(connection, clip.upload_id)
    return None if upload is None else upload.offset_bytes


def _make_cursor(clip_id: UUID) -> str:
    return base64.urlsafe_b64encode(_CURSOR_MARK + clip_id.bytes).decode().rstrip("=")


def _read_cursor(cursor: str) -> UUID:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidCursor from error
    if not raw.startswith(_CURSOR_MARK) or len(raw) != len(_CURSOR_MARK) + 16:
        raise InvalidCursor
    return UUID(bytes=raw[len(_CURSOR_MARK) :])
